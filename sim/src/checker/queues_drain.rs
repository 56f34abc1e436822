//! L7: once everything is healed publishers are confirmed at once, and all that was confirmed comes to an end: consumers that only
//! acknowledge empty every queue within seconds. The numbers are ours: retries of the workload wait 0.8 s at most.

use std::time::Duration;

use crate::history::History;
use crate::history::queues::Queues;
use crate::nemesis::HEAL;
use crate::probe::GRACE;
use crate::workload::UNTIL;

/// How long queues may take to be empty behind the last publish.
const DRAIN: Duration = Duration::from_secs(6);

/// Queues that did not become empty, and publishers that were not confirmed.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    if queues.kinds.is_empty() {
        return Vec::new();
    }
    let mut violations: Vec<String> = unconfirmed(queues).collect();
    if queues.drained.is_none_or(|at| at > UNTIL + DRAIN) {
        violations.push(format!("the queues were not empty by {:?}, but {:?}", UNTIL + DRAIN, queues.drained));
        let last = |number| queues.deliveries.iter().rev().find(|delivery| delivery.number == number);
        violations.extend(queues.open().take(3).map(|number| match last(number) {
            Some(delivery) => format!("nobody is done with it: {}", queues.words(delivery)),
            None => format!("message {number} of {} was never delivered", queues.publications[number].queue),
        }));
    }
    violations
}

fn unconfirmed(queues: &Queues) -> impl Iterator<Item = String> + '_ {
    let numbered = queues.publications.iter().enumerate();
    let waiting = numbered.filter(|(_, one)| one.ended.is_none()).map(|(number, one)| (number, one.sent));
    let late = queues.unconfirmed.iter().copied().chain(waiting).filter(|(_, sent)| *sent >= HEAL + GRACE);
    let queue = |number: usize| queues.publications[number].queue;
    late.map(move |(number, sent)| {
        format!("message {number} of {}, sent at {sent:?}, was not confirmed", queue(number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{QueueSample, at};
    use crate::history::queues::Outcome;

    #[test]
    fn queues_that_keep_something_are_seen() {
        let mut sample = QueueSample::default();
        sample.publish("strict", 1, Outcome::Confirmed);
        assert_eq!(check(&sample.history).len(), 2, "not empty, and why");
        sample.history.queues.drained = Some(UNTIL);
        assert!(check(&sample.history).is_empty());
        let late = (HEAL + GRACE).as_secs() + 1;
        sample.publish("strict", late, Outcome::Unknown);
        assert_eq!(check(&sample.history).len(), 1);
        sample.history.queues.drained = Some(UNTIL + 2 * DRAIN + at(0));
        assert_eq!(check(&sample.history).len(), 3);
    }
}
