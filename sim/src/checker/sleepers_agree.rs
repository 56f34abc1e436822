//! S15: replicas that sleep agree on what they sleep on. A sleeping leader has nothing uncommitted or unapplied, a sleeping follower
//! neither, and both stand at the same entry; a group has one sleeping leader. Where the network or the process of a node stood
//! still it may learn late that the others went on, but not later than [`LATE`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{GroupId, ReplicaId};

/// When a sleeper that was left behind must have noticed: a node is dead after 0.5 s, a follower waits up to 0.5 s for its turn, what
/// links hold back comes up to a second late.
pub const LATE: Duration = Duration::from_secs(3);

/// A replica that sleeps, on a node that runs.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper {
    /// Its node.
    pub node: u32,
    /// Whom it follows, which may be itself.
    pub leader: ReplicaId,
    /// In which term.
    pub term: u64,
    /// The last entry in its log, the last committed and the last applied one.
    pub stands: [Option<u64>; 3],
}

impl Sleeper {
    fn leads(&self) -> bool {
        self.leader.node().0 == self.node
    }
}

/// Since when which sleepers disagree.
#[derive(Default)]
pub struct SleepersAgree {
    since: BTreeMap<(GroupId, u32), Duration>,
}

impl SleepersAgree {
    /// Looks at all the sleepers of a group.
    pub fn look(&mut self, at: Duration, group: GroupId, sleepers: &[Sleeper]) -> Vec<String> {
        let mut words = Vec::new();
        for sleeper in sleepers {
            let [last, committed, applied] = sleeper.stands;
            if last != committed || last != applied {
                words.push(format!("group {group} sleeps with something left to do: {sleeper:?}"));
            }
        }
        let newest = sleepers.iter().filter(|sleeper| sleeper.leads()).max_by_key(|leader| leader.term);
        let differs = |sleeper: &&Sleeper| {
            newest.is_some_and(|leader| (sleeper.leader, sleeper.stands) != (leader.leader, leader.stands))
        };
        let strays: BTreeSet<u32> = sleepers.iter().filter(differs).map(|sleeper| sleeper.node).collect();
        self.since.retain(|(of, node), _| *of != group || strays.contains(node));
        for node in strays {
            let since = *self.since.entry((group, node)).or_insert(at);
            if at >= since + LATE {
                words.push(format!(
                    "node {node} sleeps apart from the leader of group {group} since {since:?}: {sleepers:?}"
                ));
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    fn sleeper(node: u32, leader: u32, term: u64, last: u64) -> Sleeper {
        Sleeper { node, leader: ReplicaId::new(NodeId(leader), 1), term, stands: [Some(last); 3] }
    }

    #[test]
    fn who_sleeps_on_another_log_for_long_is_seen() {
        let mut checker = SleepersAgree::default();
        let mut look =
            |second, sleepers: &[Sleeper]| checker.look(Duration::from_secs(second), GroupId(1), sleepers).len();
        let good = [sleeper(1, 1, 7, 9), sleeper(2, 1, 7, 9)];
        assert_eq!(look(0, &good), 0);
        let behind = [sleeper(1, 1, 7, 9), sleeper(2, 1, 7, 8)];
        assert_eq!((look(1, &behind), look(3, &behind), look(4, &behind)), (0, 0, 1));
        assert_eq!((look(5, &good), look(6, &behind)), (0, 0));
        let two = [sleeper(1, 1, 7, 9), sleeper(2, 2, 8, 9)];
        assert_eq!((look(20, &two), look(24, &two)), (0, 1), "two leaders");
        assert_eq!(look(30, &[sleeper(2, 1, 7, 9)]), 0, "its leader is awake");
    }

    #[test]
    fn who_sleeps_with_work_left_is_seen_at_once() {
        let mut checker = SleepersAgree::default();
        let uncommitted = Sleeper { stands: [Some(9), Some(8), Some(8)], ..sleeper(1, 1, 7, 9) };
        assert_eq!(checker.look(Duration::ZERO, GroupId(1), &[uncommitted]).len(), 1);
    }
}
