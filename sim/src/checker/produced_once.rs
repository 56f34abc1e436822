//! S12: a record of an idempotent producer is in the log at most once, however often it was retried, and in its order, with up to
//! five batches on their way at once (KIP-98). That no retry is told of a missing predecessor is watched by `workload::produce`.

use std::collections::BTreeMap;

use crate::history::{History, Partition, Place, Serial};

/// No serial at two places; per producer and partition, serials rise with offsets.
pub fn check(history: &History) -> Vec<String> {
    let mut places: BTreeMap<Serial, _> = BTreeMap::new();
    let mut last: BTreeMap<(Partition, u32), u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (place, serial) in all(history).filter(|(_, serial)| is_idempotent(history, serial.producer)) {
        if let Some(first) = places.insert(serial, place) {
            violations.push(format!("{serial} is at {first} and at {place}"));
        }
        let before = last.insert((place.partition, serial.producer), serial.number);
        if let Some(before) = before.filter(|before| *before > serial.number) {
            violations.push(format!("{serial} at {place} stands behind its number {before}"));
        }
    }
    violations
}

/// What was ever read, in order: retention may have deleted it since.
fn all(history: &History) -> impl Iterator<Item = (Place, Serial)> {
    let mut all = history.seen.clone();
    all.extend(history.read.found.iter().copied());
    all.into_iter()
}

/// Producers that never retry have all their batches in the list of those.
fn is_idempotent(history: &History, producer: u32) -> bool {
    let all = Serial { producer, number: 0 }..=Serial { producer, number: u64::MAX };
    history.loose.range(all).next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;

    #[test]
    fn a_duplicate_and_a_wrong_order_are_seen() {
        assert!(check(&sample::ledger()).is_empty());
        let mut twice = sample::ledger();
        twice.read.found.push((sample::place(9), twice.read.found[2].1));
        assert!(!check(&twice).is_empty());
        let mut swapped = sample::ledger();
        let (first, second) = (swapped.read.found[0].1, swapped.read.found[1].1);
        (swapped.read.found[0].1, swapped.read.found[1].1) = (second, first);
        assert_eq!(check(&swapped).len(), 1);
        twice.loose.insert(first, 1);
        assert!(check(&twice).is_empty(), "without idempotence it may be there twice");
    }
}
