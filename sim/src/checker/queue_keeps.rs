//! S9: what was confirmed is in the queue's log, once; an attempt of unknown outcome at most once; nothing that nobody published is. And
//! each message comes to one end: with a consumer that acknowledged it, or in the log of the dead letters.

use std::collections::BTreeMap;

use crate::history::History;
use crate::history::queues::{Outcome, Queues};

/// Messages that vanished, or that are there twice.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let mut violations = Vec::new();
    for (name, log) in &queues.logs {
        let published = |number: &usize| queues.publications.get(*number).filter(|one| one.queue == *name).is_some();
        let own = log.iter().filter(|logged| logged.death.is_none());
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        own.for_each(|logged| *counts.entry(logged.number).or_default() += 1);
        let foreign = counts.keys().filter(|number| !published(number));
        violations.extend(foreign.map(|number| format!("nobody published message {number}, which is in {name}")));
        let twice = counts.iter().filter(|(_, count)| **count > 1);
        violations.extend(twice.map(|(number, count)| format!("message {number} is in {name} {count} times")));
        violations.extend(lost(queues, name, &counts));
    }
    violations
}

/// What was confirmed and is not in the log of `name`.
fn lost(queues: &Queues, name: &str, counts: &BTreeMap<usize, usize>) -> Vec<String> {
    let confirmed = queues.publications.iter().enumerate().filter_map(|(number, one)| match one.ended {
        Some((at, Outcome::Confirmed)) if one.queue == name => Some((number, at)),
        _ => None,
    });
    let lost = confirmed.filter(|(number, _)| !counts.contains_key(number));
    lost.map(|(number, at)| format!("message {number} was confirmed at {at:?}, and is not in {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::QueueSample;

    #[test]
    fn what_vanished_and_what_is_there_twice_are_seen() {
        let mut sample = QueueSample::default();
        let (kept, unknown) = (sample.publish("q", 1, Outcome::Confirmed), sample.publish("q", 2, Outcome::Unknown));
        sample.log("q", kept, None);
        assert!(check(&sample.history).is_empty());
        sample.log("q", unknown, None);
        assert!(check(&sample.history).is_empty());
        sample.log("q", unknown, None);
        assert_eq!(check(&sample.history).len(), 1, "there twice");
        sample.publish("q", 3, Outcome::Confirmed);
        assert_eq!(check(&sample.history).len(), 2, "vanished");
        sample.log("q", 99, None);
        assert_eq!(check(&sample.history).len(), 3, "from nowhere");
    }
}
