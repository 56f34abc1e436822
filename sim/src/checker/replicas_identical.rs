//! S6: when all is healed and quiet, every replica holds every committed entry, byte for byte, durably. From Raft's State Machine
//! Safety, and from what a data folder promises to whoever restores from it. Reads disks, believes no node.

use model::GroupId;

use super::committed_stays::{CommittedStays, Copy};

/// `replicas` are (node, group, last entry that it had time to store); `held` is what a node's disk holds; up to `passed` a
/// group's entries may be gone, and are from a disk up to its own purge mark.
pub fn check(
    committed: &CommittedStays,
    replicas: &[(u32, GroupId, u64)],
    held: impl Fn(u32, GroupId, u64) -> Option<Copy>,
    purged: impl Fn(u32, GroupId) -> u64,
    passed: impl Fn(GroupId) -> u64,
) -> Vec<String> {
    let mut violations = Vec::new();
    for (node, group, last) in replicas {
        let free = purged(*node, *group).min(passed(*group));
        let wrong =
            committed.entries(*group).take_while(|(index, _)| index <= last).find_map(|(index, _)| {
                match held(*node, *group, index) {
                    Some(copy) => committed.compare(*group, index, *node, &copy),
                    None if index <= free => None,
                    None => Some(format!("the disk of node {node} lacks the committed entry {index} of group {group}")),
                }
            });
        violations.extend(wrong);
    }
    violations
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_hole_and_a_difference_are_seen() {
        let (group, mut committed) = (GroupId(1), CommittedStays::default());
        let copy = |index: u64| (1, Bytes::from(index.to_string()));
        (0..10).for_each(|index| committed.commit(group, index, copy(index)));
        let purged = |upto: u64, passed: u64| {
            let held = |_, _, index| (index > upto).then(|| copy(index));
            super::check(&committed, &[(2, group, 8)], held, |_, _| upto, |_| passed)
        };
        let check = |held: &dyn Fn(u64) -> Option<Copy>| {
            super::check(&committed, &[(2, group, 8)], |_, _, index| held(index), |_, _| 0, |_| 0)
        };
        assert!(check(&|index| Some(copy(index))).is_empty());
        assert!(check(&|index| (index != 9).then(|| copy(index))).is_empty(), "not due yet");
        assert_eq!(check(&|index| (index != 4).then(|| copy(index))).len(), 1);
        assert_eq!(check(&|_| Some(copy(5))).len(), 1);
        assert!(purged(3, 3).is_empty() && purged(3, 7).is_empty());
        assert_eq!(purged(3, 2).len(), 1, "beyond the log start");
    }
}
