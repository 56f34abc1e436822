//! S4: an acknowledged record is found at its acknowledged offset, whatever happened in between, unless it was asked to be
//! deleted; and nothing is found that nobody sent. What Kafka promises of acks=all, and Jepsen's "lost write" and "phantom".

use std::collections::{BTreeMap, BTreeSet};

use crate::history::operation::Action;
use crate::history::{History, Place, Serial};

/// Every acknowledged place that is not deleted must hold the record that was acknowledged there.
pub fn check(history: &History) -> Vec<String> {
    let found: BTreeMap<_, _> = history.read.found.iter().copied().collect();
    let mut violations = Vec::new();
    for (place, serial) in &history.acknowledged {
        let deleted = history.read.starts.get(&place.partition).is_some_and(|start| place.offset < *start);
        match found.get(place) {
            Some(there) if there == serial => {}
            Some(other) => violations.push(format!("{}, which holds {other}", promise(history, *place, *serial))),
            None if deleted => {}
            None => violations.push(format!("{}, which does not exist", promise(history, *place, *serial))),
        }
    }
    let sent = sent(history);
    let phantoms = history.read.found.iter().filter(|(_, serial)| !sent.contains(serial));
    violations.extend(phantoms.map(|(place, serial)| format!("{serial} is at {place} and was never sent")));
    violations
}

fn promise(history: &History, place: Place, serial: Serial) -> String {
    let at = history.times.get(&place).copied().unwrap_or_default();
    format!("{serial} was acknowledged at {:.3}s at {place}", at.as_secs_f64())
}

fn sent(history: &History) -> BTreeSet<Serial> {
    let sends = history.operations.iter().filter_map(|operation| match &operation.action {
        Action::Send { records, .. } => Some(records),
        _ => None,
    });
    sends.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;

    #[test]
    fn a_lost_a_changed_and_an_invented_record_are_seen() {
        let good = sample::ledger();
        assert!(check(&good).is_empty());
        let mut lost = sample::ledger();
        lost.read.found.pop();
        assert_eq!(check(&lost).len(), 1);
        let mut changed = sample::ledger();
        changed.read.found[1].1 = changed.read.found[0].1;
        assert_eq!(check(&changed).len(), 1);
        let mut invented = sample::ledger();
        let last = invented.read.found.len() as i64;
        invented.read.found.push((sample::place(last), Serial { producer: 9, number: 9 }));
        assert_eq!(check(&invented).len(), 1);
    }

    #[test]
    fn what_was_deleted_may_be_gone() {
        let mut history = sample::ledger();
        history.read.found.remove(0);
        assert_eq!(check(&history).len(), 1);
        history.read.starts.insert(sample::place(0).partition, 1);
        assert!(check(&history).is_empty());
    }
}
