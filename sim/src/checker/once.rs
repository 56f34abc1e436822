//! S12: a record of an idempotent producer is in the log at most once, however often it was retried, and in its order.

use std::collections::BTreeMap;

use crate::history::{History, Serial};

/// No serial at two places; per producer and partition, serials rise with offsets.
pub fn check(history: &History) -> Vec<String> {
    let mut places: BTreeMap<Serial, _> = BTreeMap::new();
    let mut last: BTreeMap<(i32, u32), u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (place, serial) in &history.found {
        if let Some(first) = places.insert(*serial, *place) {
            violations.push(format!("{serial:?} is at {first:?} and at {place:?}"));
        }
        let before = last.insert((place.partition, serial.producer), serial.number);
        if before.is_some_and(|before| before > serial.number) {
            violations.push(format!("{serial:?} at {place:?} stands behind number {before:?} of its producer"));
        }
    }
    violations
}
