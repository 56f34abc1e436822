//! L1: five seconds after everything is healed each group has one leader whom all its replicas follow, every replica that the
//! metadata places runs and has what was committed seconds ago, and nothing runs that was deleted. Numbers from
//! reference/simulation.md section 4. Nodes with lasting damage may stay out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::GroupId;
use raft::Mark;

use crate::history::operation::{Action, Kind};
use crate::history::{History, Partition};
use crate::nemesis::HEAL;
use crate::probe::GRACE;
use crate::workload::partitions;

/// The replicas of one group on the nodes that should be well.
#[derive(Default)]
pub struct Replicas {
    /// Nodes that the metadata places it on.
    pub placed: BTreeSet<u32>,
    /// What runs: the mark, and the last entry applied.
    pub running: BTreeMap<u32, (Mark, u64)>,
    /// Last entry that must be applied by now.
    pub due: u64,
}

/// How long a group may have no leader: leaderships are handed over as long as the cluster runs.
const HANDED_OVER: Duration = Duration::from_millis(500);

/// The checker of the groups of one run.
#[derive(Default)]
pub struct WorksAfterHealing {
    has_looked: bool,
    /// When every group was led last.
    led_at: Duration,
}

impl WorksAfterHealing {
    /// Whether it has not looked yet.
    pub fn is_new(&self) -> bool {
        !self.has_looked
    }

    /// Looks at all groups, once that is due. They run and have what is due at the first and at the `last` look, and are led at all of them.
    pub fn look(&mut self, at: Duration, groups: &BTreeMap<GroupId, Replicas>, last: bool) -> Vec<String> {
        let of_all = |check: fn(GroupId, &Replicas) -> Vec<String>| -> Vec<String> {
            groups.iter().flat_map(|(group, replicas)| check(*group, replicas)).collect()
        };
        let first = !std::mem::replace(&mut self.has_looked, true);
        let mut violations = if first || last { of_all(running) } else { Vec::new() };
        let leaderless = of_all(led);
        if leaderless.is_empty() {
            self.led_at = at;
        } else if at > self.led_at.max(HEAL + GRACE) + HANDED_OVER {
            // Said again if it lasts as long again.
            self.led_at = at;
            violations.extend(leaderless);
        }
        violations
    }
}

/// What does not run, or does not have what is due.
fn running(group: GroupId, replicas: &Replicas) -> Vec<String> {
    let mut violations = Vec::new();
    for node in &replicas.placed {
        match replicas.running.get(node) {
            None => violations.push(format!("group {group} does not run on node {node}")),
            Some((mark, _)) if mark.stopped => violations.push(format!("group {group} has stopped on node {node}")),
            Some((_, applied)) if *applied < replicas.due => {
                let due = replicas.due;
                violations.push(format!("group {group} on node {node} has applied {applied} only, {due} is due"));
            }
            Some(_) => {}
        }
    }
    let strays = replicas.running.keys().filter(|node| !replicas.placed.contains(node));
    violations.extend(strays.map(|node| format!("group {group} runs on node {node}, where nothing places it")));
    violations
}

/// Whether the replicas follow no leader, or several.
fn led(group: GroupId, replicas: &Replicas) -> Vec<String> {
    let marks = || {
        replicas.running.iter().filter(|(node, _)| replicas.placed.contains(node)).map(|(node, (mark, _))| (node, mark))
    };
    let leaders: Vec<u32> = marks().filter(|(_, mark)| mark.is_leader).map(|(node, _)| *node).collect();
    let followed: BTreeSet<_> = marks().map(|(_, mark)| mark.leader.map(|leader| leader.node().0)).collect();
    let is_led = replicas.placed.is_empty() || (leaders.len() <= 1 && followed.len() == 1 && !followed.contains(&None));
    let words = || format!("group {group} is led by nodes {leaders:?}, its replicas follow {followed:?}");
    (!is_led).then(words).into_iter().collect()
}

/// Every partition must have taken a batch that was begun when all had been well for a while.
pub fn fresh_writes(history: &History) -> Vec<String> {
    let healed = u64::try_from((HEAL + GRACE).as_nanos()).unwrap_or(u64::MAX);
    let mut begun = BTreeMap::new();
    let mut fresh = BTreeSet::new();
    for operation in &history.operations {
        let Action::Send { topic, partition, .. } = operation.action else { continue };
        match operation.kind {
            Kind::Invoke => drop(begun.insert(operation.process, operation.time)),
            Kind::Ok if begun.get(&operation.process).is_some_and(|begun| *begun >= healed) => {
                fresh.insert(Partition { topic, index: partition });
            }
            _ => {}
        }
    }
    let stale = partitions().filter(|partition| !fresh.contains(partition));
    stale.map(|partition| format!("{partition} took no batch that was begun after {:?}", HEAL + GRACE)).collect()
}

#[cfg(test)]
mod tests {
    use model::{NodeId, ReplicaId};

    use super::*;
    use crate::workload::produce::sending;

    fn healthy() -> Replicas {
        let leader = Some(ReplicaId::new(NodeId(2), 1));
        let mark = |node| Mark { is_leader: node == 2, leader, ..Mark::default() };
        Replicas { placed: (1..=3).collect(), running: (1..=3).map(|node| (node, (mark(node), 10))).collect(), due: 8 }
    }

    /// What is wrong at the first look, and what is new after another half second and more.
    fn broken(change: impl FnOnce(&mut Replicas)) -> (usize, usize) {
        let mut replicas = healthy();
        change(&mut replicas);
        let (groups, mut checker) = ([(GroupId(1), replicas)].into(), WorksAfterHealing::default());
        let first = checker.look(HEAL + GRACE, &groups, false).len();
        (first, checker.look(HEAL + GRACE + HANDED_OVER * 2, &groups, false).len())
    }

    fn of(replicas: &mut Replicas, node: u32) -> &mut (Mark, u64) {
        replicas.running.get_mut(&node).expect("it runs")
    }

    #[test]
    fn a_partition_that_takes_nothing_new_is_seen() {
        let mut history = History::default();
        let all = partitions().count();
        assert_eq!(fresh_writes(&history).len(), all);
        for (process, partition) in (0..).zip(partitions()) {
            let begun = if process == 0 { HEAL } else { HEAL + GRACE };
            history.record(begun, process, Kind::Invoke, sending(partition, &[], None), None);
            history.record(HEAL + 2 * GRACE, process, Kind::Ok, sending(partition, &[], Some(0)), None);
        }
        assert_eq!(fresh_writes(&history).len(), 1);
    }

    #[test]
    fn whatever_is_not_well_is_seen() {
        assert_eq!(broken(|_| {}), (0, 0));
        assert_eq!(broken(|replicas| replicas.running.retain(|node, _| *node != 1)), (1, 0));
        assert_eq!(broken(|replicas| of(replicas, 1).0.stopped = true), (1, 0));
        assert_eq!(broken(|replicas| of(replicas, 1).1 = 7), (1, 0));
        assert_eq!(broken(|replicas| of(replicas, 1).0.leader = None), (0, 1));
        assert_eq!(broken(|replicas| of(replicas, 1).0.is_leader = true), (0, 1));
        assert_eq!(broken(|replicas| replicas.placed = (1..=2).collect()), (1, 0));
    }

    #[test]
    fn a_hand_over_is_no_loss_and_what_lasts_is_seen_at_any_time() {
        let (well, at) = (BTreeMap::from([(GroupId(1), healthy())]), HEAL + GRACE);
        let mut on_its_way = healthy();
        of(&mut on_its_way, 1).0.leader = None;
        let on_its_way = BTreeMap::from([(GroupId(1), on_its_way)]);
        let mut checker = WorksAfterHealing::default();
        for (halves, groups) in [(0, &on_its_way), (1, &well), (9, &well), (10, &on_its_way)] {
            assert_eq!(checker.look(at + HANDED_OVER * halves, groups, false), [""; 0]);
        }
        assert_eq!(checker.look(at + HANDED_OVER * 11, &on_its_way, true).len(), 1);
        let nowhere = BTreeMap::from([(GroupId(1), Replicas { running: BTreeMap::new(), ..healthy() })]);
        assert!(!checker.look(at + HANDED_OVER * 12, &nowhere, true).is_empty(), "the last look asks for all");
    }
}
