//! S5: offsets of a partition have no gap and no repetition from its log start on, which is 0 or where deletion of records was
//! asked for: at least what was acknowledged, at most what was asked. Kafka's meaning of an offset. What a client may rely on while
//! it reads (high watermark and log start never go back) is watched by `workload::read`.

use crate::history::History;
use crate::workload::LEDGER;

/// Reads in order must meet the offsets start, start + 1, ... of each partition.
pub fn check(history: &History) -> Vec<String> {
    let mut next = history.read.starts.clone();
    let mut violations = Vec::new();
    for (place, serial) in &history.read.found {
        let expected = next.entry(place.partition).or_default();
        if place.offset != *expected {
            violations.push(format!("{serial} is at {place} where {expected} was due"));
        }
        *expected = place.offset + 1;
    }
    for (partition, start) in &history.read.starts {
        let deleted = history.deleted.get(partition).copied().unwrap_or_default();
        // What retention may delete is watched by `log_start_allowed`.
        if partition.topic == LEDGER {
            continue;
        }
        if *start < deleted.acknowledged || *start > deleted.asked {
            let (acknowledged, asked) = (deleted.acknowledged, deleted.asked);
            violations.push(format!(
                "{partition} begins at {start}, but deletion was acknowledged up to {acknowledged} and asked up to {asked}"
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;
    use crate::history::{Deleted, Partition};
    use crate::workload::AUDIT;

    #[test]
    fn a_gap_and_a_repetition_are_seen() {
        assert!(check(&sample::ledger()).is_empty());
        let mut gap = sample::ledger();
        gap.read.found.remove(1);
        assert_eq!(check(&gap).len(), 1);
        let mut twice = sample::ledger();
        twice.read.found.insert(1, twice.read.found[0]);
        assert!(!check(&twice).is_empty());
    }

    #[test]
    fn a_start_that_nobody_asked_for_is_seen() {
        let mut history = sample::ledger();
        let partition = Partition { topic: AUDIT, index: 0 };
        history.read.starts.insert(partition, 1);
        assert_eq!(check(&history).len(), 1);
        history.deleted.insert(partition, Deleted { asked: 2, acknowledged: 1, epoch: 1 });
        assert!(check(&history).is_empty());
        history.deleted.insert(partition, Deleted { asked: 2, acknowledged: 2, epoch: 1 });
        assert_eq!(check(&history).len(), 1);
    }
}
