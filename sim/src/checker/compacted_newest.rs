//! S4 for a compacted topic: an acknowledged record may be missing only if a newer one of its key is in the log, or it is a tombstone
//! older than `delete.retention.ms`; and who followed the topic from its beginning has what a new reader finds. What Kafka promises of
//! log compaction.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{History, Partition};
use crate::workload::table::TOMBSTONE_MS;

/// Every acknowledged record is there, or replaced by a newer one.
pub fn check(history: &History) -> Vec<String> {
    let table = &history.table;
    let mut newest: BTreeMap<(Partition, &str), i64> = BTreeMap::new();
    let acknowledged = table.acknowledged.iter().map(|(place, (entry, _))| (place, entry));
    for (place, entry) in acknowledged.chain(&table.found) {
        let offset = newest.entry((place.partition, &entry.key)).or_insert(place.offset);
        *offset = place.offset.max(*offset);
    }
    // A clock that jumps ends the time of tombstones.
    let jumps = history.coverage.faults.contains_key("ClockJump");
    let mut violations = Vec::new();
    for (place, (entry, at)) in &table.acknowledged {
        let replaced = newest[&(place.partition, entry.key.as_str())] > place.offset;
        let deleted = table.unknown.iter().any(|(partition, key)| (*partition, key) == (place.partition, &entry.key));
        let age = history.elapsed().saturating_sub(*at);
        let expired = entry.number.is_none() && (jumps || age >= Duration::from_millis(TOMBSTONE_MS));
        if !table.found.contains_key(place) && !replaced && !deleted && !expired {
            violations
                .push(format!("{entry:?}, acknowledged at {place} {age:?} before the end, is gone and the newest"));
        }
    }
    let mut found: BTreeMap<(Partition, &String), (i64, Option<u64>)> = BTreeMap::new();
    found.extend(table.found.iter().map(|(at, entry)| ((at.partition, &entry.key), (at.offset, entry.number))));
    for ((partition, key), (offset, number)) in &table.followed {
        let there = found.get(&(*partition, key)).copied();
        if there != Some((*offset, *number)) && (number.is_some() || there.is_some()) {
            violations.push(format!("{key} of {partition} is {number:?} at {offset} to who followed, now {there:?}"));
        }
    }
    for ((partition, key), there) in found.into_iter().filter(|(_, (_, number))| number.is_some()) {
        if !table.followed.contains_key(&(partition, key.clone())) {
            violations.push(format!("{key} of {partition} is {there:?}, and who followed never had it"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Place;
    use crate::workload::table::Entry;

    const PARTITION: Partition = Partition { topic: "table", index: 0 };

    fn history(records: &[(&str, Option<u64>, bool)]) -> History {
        let mut history = History::default();
        history.tell(Duration::from_secs(60), "it is late");
        for (offset, (key, number, found)) in (0..).zip(records) {
            let (place, entry) =
                (Place { partition: PARTITION, offset }, Entry { key: (*key).to_owned(), number: *number });
            history.table.acknowledged.insert(place, (entry.clone(), Duration::from_secs(50)));
            history.table.followed.insert((PARTITION, entry.key.clone()), (offset, *number));
            if *found {
                history.table.found.insert(place, entry);
            }
        }
        history
    }

    #[test]
    fn only_what_is_replaced_or_an_old_tombstone_may_be_gone() {
        assert!(check(&history(&[("a", Some(1), false), ("b", Some(2), true), ("a", Some(3), true)])).is_empty());
        assert_eq!(check(&history(&[("a", Some(1), true), ("a", Some(3), false)])).len(), 2);
        assert_eq!(check(&history(&[("a", Some(1), false)])).len(), 2);
        let mut deleted = history(&[("a", Some(1), false), ("a", None, false)]);
        assert!(check(&deleted).is_empty());
        deleted.table.acknowledged.values_mut().for_each(|(_, at)| *at = Duration::from_secs(58));
        assert_eq!(check(&deleted).len(), 1, "too early");
        deleted.table.unknown.push((PARTITION, "a".to_owned()));
        assert!(check(&deleted).is_empty());
    }

    #[test]
    fn who_followed_has_what_is_found() {
        let mut history = history(&[("a", Some(1), true), ("b", Some(2), true)]);
        history.table.followed.insert((PARTITION, "a".to_owned()), (7, Some(9)));
        assert_eq!(check(&history).len(), 1);
        history.table.followed.remove(&(PARTITION, "b".to_owned()));
        assert_eq!(check(&history).len(), 2);
    }
}
