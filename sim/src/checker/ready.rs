//! L1 EveryNodeReady: when nothing has been wrong for ten seconds, every node serves as `/readyz` says it: a member of the cluster
//! and caught up on all that is placed on it. A node with lasting damage is excused: it may be refused;
//! not one with a lost disk, which gets new replicas.

use std::time::Duration;

use crate::cluster::View;
use crate::history::History;
use crate::schedule::Schedule;

/// How long the nodes may take.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The checker of one run.
pub struct EveryNodeReady {
    /// Spans without a fault, longer than [`READY_WITHIN`], in order.
    calm: Vec<(Duration, Duration)>,
    damaged: Option<u32>,
    /// Nodes that founded the cluster.
    founders: u32,
}

impl EveryNodeReady {
    /// For a run with these faults that lasts until `end`.
    pub fn new(schedule: &Schedule, founders: u32, end: Duration) -> Self {
        let ms = Duration::from_millis;
        let (mut calm, mut over) = (Vec::new(), Duration::ZERO);
        for act in &schedule.acts {
            calm.push((over, ms(act.at_ms)));
            over = over.max(ms(act.over_ms()));
        }
        calm.push((over, end));
        calm.retain(|(from, until)| *until >= *from + READY_WITHIN);
        calm.reverse();
        Self { calm, damaged: schedule.beyond_repair(), founders }
    }

    /// Looks; says so when all nodes are ready again, and what breaks if they are not in time.
    pub fn look(&mut self, at: Duration, views: &[View], history: &mut History) {
        let Some((from, _)) = self.calm.last().copied().filter(|(from, _)| at >= *from) else { return };
        let unready = views.iter().find_map(|view| Some((view.node, self.unready(view)?)));
        match unready {
            None => {
                history.tell(at, format!("every node is ready, {:.3}s after the last fault", (at - from).as_secs_f64()))
            }
            Some(_) if at < from + READY_WITHIN => return,
            Some((node, why)) => {
                let within = READY_WITHIN.as_secs();
                history.violate(
                    at,
                    format!("L1 EveryNodeReady: node {node} is not, {within} s after the last fault: {why}"),
                );
            }
        }
        self.calm.pop();
    }

    /// Whether nothing is wrong and not every node is ready yet: a run does not end before.
    pub fn waits(&self, at: Duration) -> bool {
        self.calm.last().is_some_and(|(from, _)| at >= *from)
    }

    fn unready(&self, view: &View) -> Option<String> {
        match &view.broker {
            _ if self.damaged == Some(view.node) => None,
            None if view.node > self.founders => None,
            None => Some("it does not run".to_owned()),
            Some(broker) => {
                Some(broker.readiness()).filter(|readiness| !readiness.ready).map(|readiness| readiness.reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::State;
    use crate::fault::Fault;
    use crate::schedule::Act;

    fn down(node: u32) -> View {
        View { node, state: State::Down, broker: None }
    }

    fn schedule(faults: &[(u64, Fault)]) -> Schedule {
        let act = |(at_ms, fault): &(u64, Fault)| Act {
            scenario: String::new(),
            at_ms: *at_ms,
            until_ms: Some(at_ms + 1_000),
            fault: fault.clone(),
        };
        Schedule::new(faults.iter().map(act).collect())
    }

    #[test]
    fn a_founder_that_stays_down_breaks_the_promise_once() {
        let faults = schedule(&[(6_000, Fault::Kill { node: 1 })]);
        let mut checker = EveryNodeReady::new(&faults, 3, Duration::from_secs(60));
        let mut history = History::default();
        (0..600).for_each(|step| checker.look(Duration::from_millis(step * 100), &[down(2)], &mut history));
        assert_eq!(history.violations.len(), 1);
        assert!(history.violations[0].contains("node 2"), "{:?}", history.violations);
    }

    #[test]
    fn strangers_and_the_damaged_are_excused() {
        let faults = schedule(&[(6_000, Fault::Kill { node: 2 }), (6_500, Fault::Truncate { node: 2 })]);
        let mut checker = EveryNodeReady::new(&faults, 3, Duration::from_secs(60));
        let mut history = History::default();
        let views = [down(2), down(4)];
        (0..600).for_each(|step| checker.look(Duration::from_millis(step * 100), &views, &mut history));
        assert!(history.violations.is_empty(), "{:?}", history.violations);
    }
}
