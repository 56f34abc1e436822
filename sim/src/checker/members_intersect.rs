//! S13: two configurations that follow each other have a common set of voters, so that no two majorities can miss each other;
//! and only a voter leads: never a learner, never one that was removed. From the Raft paper, section 6. That learners count in
//! no majority is [`super::committed_durable`]'s to see.

use std::collections::{BTreeMap, BTreeSet};

use model::{GroupId, ReplicaId};

type VoterSets = Vec<BTreeSet<ReplicaId>>;

/// The configuration that each group's leader was last seen with.
#[derive(Default)]
pub struct MembersIntersect {
    last: BTreeMap<GroupId, (u64, VoterSets)>,
}

impl MembersIntersect {
    /// `leader` leads `group` in `term` with these voters. A leader cannot be seen skipping a configuration: between two lies a
    /// round of messages.
    pub fn see(&mut self, group: GroupId, term: u64, leader: ReplicaId, sets: &VoterSets) -> Option<String> {
        let before = self.last.insert(group, (term, sets.clone()));
        let (before, same_leader) = match before {
            Some((last_term, _)) if last_term > term => return None,
            Some((last_term, before)) => (before, last_term == term),
            None => (sets.clone(), true),
        };
        if same_leader && !before.iter().any(|set| sets.contains(set)) {
            return Some(format!("the voters of group {group} went from {before:?} to {sets:?} at once"));
        }
        let votes = before.iter().chain(sets).any(|set| set.contains(&leader));
        (!votes).then(|| format!("replica {leader} leads group {group} in term {term}, whose voters are {sets:?}"))
    }
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), 1)
    }

    fn set(nodes: &[u32]) -> BTreeSet<ReplicaId> {
        nodes.iter().map(|node| replica(*node)).collect()
    }

    #[test]
    fn a_jump_without_a_joint_configuration_is_seen() {
        let group = GroupId(0);
        let (old, new) = (set(&[1, 2, 3]), set(&[3, 4, 5]));
        let mut checker = MembersIntersect::default();
        for sets in [vec![old.clone()], vec![old.clone(), new.clone()], vec![new.clone()]] {
            assert_eq!(checker.see(group, 2, replica(3), &sets), None);
        }
        assert!(checker.see(group, 2, replica(3), &vec![old]).is_some());
    }

    #[test]
    fn a_learner_that_leads_is_seen() {
        let mut checker = MembersIntersect::default();
        assert!(checker.see(GroupId(0), 2, replica(4), &vec![set(&[1, 2, 3])]).is_some());
    }
}
