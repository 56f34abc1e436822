//! S2, as a client sees it: what a reader was served below the high watermark is never another record later.

use std::collections::BTreeMap;

use crate::history::History;

/// Whatever the tailing reader saw must still be there at the end.
pub fn check(history: &History) -> Vec<String> {
    let found: BTreeMap<_, _> = history.found.iter().copied().collect();
    let changed = history.seen.iter().filter(|(place, serial)| found.get(place) != Some(serial));
    changed
        .map(|(place, serial)| format!("{serial:?} was read at {place:?}, where now is {:?}", found.get(place)))
        .collect()
}
