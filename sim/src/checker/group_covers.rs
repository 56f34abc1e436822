//! S8: a group processes every acknowledged record of its topic at least once, however often partitions change hands: whoever takes one
//! over goes on where the commit says, and nobody committed what nobody processed.

use crate::history::History;
use crate::workload::groups::GROUPS;

/// Acknowledged records that no member of a group processed.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let mut violations = Vec::new();
    for group in GROUPS {
        for (partition, produced) in &groups.produced {
            let nothing = std::collections::BTreeSet::new();
            let consumed = groups.consumed.get(&(group.name, *partition)).unwrap_or(&nothing);
            let mut skipped = produced.difference(consumed);
            if let Some(first) = skipped.next() {
                let others = skipped.count();
                let name = group.name;
                violations.push(format!(
                    "group {name} never got record {first} of partition {partition}, nor {others} others"
                ));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_record_is_seen() {
        let mut history = History::default();
        history.groups.produced.entry(1).or_default().extend([0, 1, 2]);
        assert_eq!(check(&history).len(), GROUPS.len());
        for group in GROUPS {
            history.groups.consumed.entry((group.name, 1)).or_default().extend([0, 1, 2, 3]);
        }
        assert!(check(&history).is_empty());
        history.groups.consumed.entry((GROUPS[0].name, 1)).or_default().remove(&1);
        assert_eq!(check(&history).len(), 1);
    }
}
