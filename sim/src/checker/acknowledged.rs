//! S4: an acknowledged record is found at its acknowledged offset, whatever happened in between.

use std::collections::BTreeMap;

use crate::history::History;

/// Every acknowledged place must hold the record that was acknowledged there.
pub fn check(history: &History) -> Vec<String> {
    let found: BTreeMap<_, _> = history.found.iter().copied().collect();
    let mut violations = Vec::new();
    for (place, serial) in &history.acknowledged {
        match found.get(place) {
            Some(there) if there == serial => {}
            Some(other) => violations.push(format!("{serial:?} was acknowledged at {place:?}, which holds {other:?}")),
            None => violations.push(format!("{serial:?} was acknowledged at {place:?}, which does not exist")),
        }
    }
    violations
}
