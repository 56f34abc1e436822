//! S5: offsets of a partition begin at 0 and have no gap and no repetition.

use std::collections::BTreeMap;

use crate::history::History;

/// Reads in order must meet the offsets 0, 1, 2, ... of each partition.
pub fn check(history: &History) -> Vec<String> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (place, serial) in &history.found {
        let expected = next.entry(place.partition).or_default();
        if place.offset != *expected {
            violations.push(format!(
                "partition {}: {serial:?} at offset {} after a gap: {expected} was due",
                place.partition, place.offset
            ));
        }
        *expected = place.offset + 1;
    }
    violations
}
