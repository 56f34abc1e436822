//! S3: an entry that any replica takes for committed is durable on a majority of the voters (of both sets while members
//! change), counting only what the disks have synced: never what a node claims. From the Raft paper, sections 5.3 and 6.

use std::collections::BTreeSet;

use model::ReplicaId;

use super::committed_stays::Copy;
use super::majority;

/// The version of an entry that a majority holds durably, given what each node's disk holds; else words. `damaged` nodes may have
/// lost what they held: with their voices the majority must be complete. Then two copies can pass: that of the node which `tells`
/// of the commit is the committed one, another may be left from a leader that was deposed.
pub fn check(
    voter_sets: &[BTreeSet<ReplicaId>],
    held: impl Fn(u32) -> Option<Copy>,
    damaged: &BTreeSet<u32>,
    tells: u32,
) -> Result<Copy, String> {
    let voters: BTreeSet<u32> = voter_sets.iter().flatten().map(|voter| voter.node().0).collect();
    let mut copies: Vec<(u32, Option<Copy>)> = voters.iter().map(|node| (*node, held(*node))).collect();
    copies.sort_by_key(|(node, _)| *node != tells);
    let holds = |voter: ReplicaId, wanted: &Copy| {
        let node = voter.node().0;
        damaged.contains(&node) || copies.iter().any(|(holder, copy)| *holder == node && copy.as_ref() == Some(wanted))
    };
    let durable = copies
        .iter()
        .filter_map(|(_, copy)| copy.as_ref())
        .find(|copy| voter_sets.iter().all(|set| majority(set, |voter| holds(voter, copy))));
    durable.cloned().ok_or_else(|| {
        let held = copies.iter().map(|(node, copy)| match copy {
            Some((term, _)) => format!("the disk of node {node} holds one of term {term}"),
            None => format!("the disk of node {node} holds none"),
        });
        held.collect::<Vec<_>>().join(", ")
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::NodeId;

    use super::*;

    fn voters(nodes: std::ops::RangeInclusive<u32>) -> BTreeSet<ReplicaId> {
        nodes.map(|node| ReplicaId::new(NodeId(node), 1)).collect()
    }

    fn copy(term: u64) -> Option<Copy> {
        Some((term, Bytes::from_static(b"entry")))
    }

    #[test]
    fn a_majority_of_equal_copies_is_durable() {
        let held = |node| if node == 3 { None } else { copy(2) };
        assert_eq!(check(&[voters(1..=3)], held, &BTreeSet::new(), 1).ok(), copy(2));
    }

    #[test]
    fn one_copy_or_two_different_ones_are_not() {
        let one = |node| if node == 1 { copy(2) } else { None };
        assert!(check(&[voters(1..=3)], one, &BTreeSet::new(), 1).is_err());
        let different = |node| if node == 3 { None } else { copy(u64::from(node)) };
        assert!(check(&[voters(1..=3)], different, &BTreeSet::new(), 1).is_err());
        assert!(check(&[voters(1..=3)], one, &BTreeSet::from([2]), 1).is_ok(), "node 2 lost its disk");
        let deposed = |node| if node == 3 { None } else { copy(u64::from(node)) };
        assert_eq!(check(&[voters(1..=3)], deposed, &BTreeSet::from([3]), 2).ok(), copy(2));
    }

    #[test]
    fn a_joint_configuration_needs_both_majorities() {
        let held = |node| if node <= 2 { copy(2) } else { None };
        assert!(check(&[voters(1..=3)], held, &BTreeSet::new(), 1).is_ok());
        assert!(check(&[voters(1..=3), voters(1..=5)], held, &BTreeSet::new(), 1).is_err());
    }
}
