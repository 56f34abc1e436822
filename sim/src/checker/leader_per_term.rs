//! S1: a term has one leader, elected by votes that no crash can take back; and what a replica knows of its term and of the
//! commit never goes back while it runs. From the Raft paper's Election Safety, and section 5.1 on votes in stable storage.

use std::collections::{BTreeMap, BTreeSet};

use model::{GroupId, ReplicaId};
use raft::Mark;

use super::majority;

/// Who was seen leading which term.
#[derive(Default)]
pub struct LeaderPerTerm {
    leaders: BTreeMap<(GroupId, u64), u32>,
}

impl LeaderPerTerm {
    /// `node` leads `group` in `term`; `durable_term` says what each node has durably voted in. Some words where that
    /// must not be.
    pub fn lead(
        &mut self,
        (group, term): (GroupId, u64),
        node: u32,
        voter_sets: &[BTreeSet<ReplicaId>],
        durable_term: impl Fn(u32) -> Option<u64>,
    ) -> Option<String> {
        if let Some(leader) = self.leaders.insert((group, term), node) {
            return (leader != node)
                .then(|| format!("nodes {leader} and {node} both lead group {group} in term {term}"));
        }
        let voted = |voter: ReplicaId| durable_term(voter.node().0).is_some_and(|voted| voted >= term);
        let elected = voter_sets.iter().all(|set| majority(set, voted));
        (!elected).then(|| {
            let votes: Vec<_> = voter_sets.iter().flatten().map(|voter| (voter.node().0, durable_term(voter.node().0))).collect();
            format!("node {node} leads group {group} in term {term}, but the disks hold only these votes (node, term): {votes:?}")
        })
    }
}

/// Whether a replica that ran on from `before` to `now` forgot something.
pub fn went_back(before: &Mark, now: &Mark) -> bool {
    now.term < before.term || now.committed < before.committed
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    fn voters() -> Vec<BTreeSet<ReplicaId>> {
        vec![(1..=3).map(|node| ReplicaId::new(NodeId(node), 1)).collect()]
    }

    #[test]
    fn two_leaders_of_a_term_are_seen() {
        let mut checker = LeaderPerTerm::default();
        let mut lead = |term, node| checker.lead((GroupId(1), term), node, &voters(), |_| Some(9));
        assert_eq!(lead(3, 1), None);
        assert_eq!(lead(3, 1), None);
        assert_eq!(lead(4, 2), None);
        assert!(lead(3, 2).is_some());
    }

    #[test]
    fn a_leader_without_votes_on_disks_is_seen() {
        let mut checker = LeaderPerTerm::default();
        let synced = |node: u32| if node == 1 { Some(7) } else { Some(6) };
        assert!(checker.lead((GroupId(1), 7), 1, &voters(), synced).is_some());
        assert_eq!(checker.lead((GroupId(1), 6), 1, &voters(), synced), None);
    }

    #[test]
    fn a_step_back_is_seen() {
        let before = Mark { term: 4, committed: Some(9), ..Mark::default() };
        assert!(went_back(&before, &Mark { term: 3, ..before }));
        assert!(went_back(&before, &Mark { committed: Some(8), ..before }));
        assert!(!went_back(&before, &Mark { term: 5, committed: Some(9), ..before }));
    }
}
