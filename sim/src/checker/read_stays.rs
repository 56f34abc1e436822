//! S2, as a client sees it: what a reader was served below the high watermark is never another record later. That two readers
//! were served different records is seen at once, by `history::see`.

use std::collections::BTreeMap;

use crate::history::History;

/// Whatever a reader saw must still be there at the end, unless it was asked to be deleted.
pub fn check(history: &History) -> Vec<String> {
    let found: BTreeMap<_, _> = history.read.found.iter().copied().collect();
    let kept = history
        .seen
        .iter()
        .filter(|(place, _)| history.read.starts.get(&place.partition).is_none_or(|start| place.offset >= *start));
    let changed = kept.filter(|(place, serial)| found.get(place) != Some(serial));
    let now = |place| found.get(place).map_or("nothing".to_owned(), ToString::to_string);
    changed.map(|(place, serial)| format!("{serial} was read at {place}, where now is {}", now(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;

    #[test]
    fn a_record_that_was_read_and_is_gone_is_seen() {
        let mut history = sample::ledger();
        history.seen.insert(sample::place(1), history.read.found[1].1);
        assert!(check(&history).is_empty());
        history.read.found.remove(1);
        assert_eq!(check(&history).len(), 1);
        history.read.starts.insert(sample::place(1).partition, 2);
        assert!(check(&history).is_empty(), "it was deleted");
    }
}
