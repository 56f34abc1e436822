//! Which followers of a led partition are in sync, by Kafka's rule (`replica.lag.time.max.ms`): those that were at the end
//! of their leader's log not long ago, and answered since. Entries behind are no lag: under load every follower is a few
//! behind. Pure: time is given. A new leader counts everybody as in sync at first; the dead are for others to judge.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::NodeId;
use tokio::time::Instant;

/// What a leader remembers of its followers, for one term.
#[derive(Default)]
pub struct Lag {
    term: u64,
    followers: BTreeMap<NodeId, Follower>,
}

struct Follower {
    /// The end of the leader's log at an earlier look, not reached when last seen.
    goal: (u64, Instant),
    /// When the follower held all that the leader had.
    caught_up: Instant,
}

impl Lag {
    /// Whether it is of this term.
    pub fn is_of(&self, term: u64) -> bool {
        self.term == term
    }

    /// Looks where the followers stand at `now`; names those that were not at the end for longer than `max`.
    pub fn look(&mut self, metrics: &raft::Metrics, now: Instant, max: Duration) -> BTreeSet<NodeId> {
        if self.term != metrics.status.term || !metrics.status.is_leader {
            *self = Lag { term: metrics.status.term, followers: BTreeMap::new() };
        }
        let end = metrics.last.unwrap_or(0);
        let leader = metrics.status.leader;
        let followers = metrics.matched.iter().filter(|(replica, _)| Some(replica.node()) != leader);
        let followers: BTreeMap<NodeId, _> = followers.map(|(replica, at)| (replica.node(), (replica, *at))).collect();
        self.followers.retain(|node, _| followers.contains_key(node));
        for (node, (replica, matched)) in followers {
            let follower = self.followers.entry(node).or_insert(Follower { goal: (end, now), caught_up: now });
            let (goal, set) = follower.goal;
            let ago = metrics.heard_ago.get(replica).copied().flatten();
            let heard = ago.and_then(|ago| now.checked_sub(ago)).unwrap_or(follower.caught_up);
            if matched.unwrap_or(0) >= goal {
                let reached = if matched.unwrap_or(0) >= end { now } else { set };
                follower.caught_up = follower.caught_up.max(reached.min(heard));
                follower.goal = (end, now);
            }
        }
        let late = |follower: &Follower| now.duration_since(follower.caught_up) > max;
        let late = self.followers.iter().filter(|(_, follower)| late(follower)).map(|(node, _)| *node);
        // Who does not vote yet catches up.
        late.chain(metrics.status.learners.iter().map(|learner| learner.node())).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::ReplicaId;

    use super::*;

    const MAX: Duration = Duration::from_secs(30);

    /// Node 1 leads `term` with a log that ends at `end`; nodes 2 and 3 hold so much of it.
    fn metrics(term: u64, end: u64, second: u64, third: u64) -> raft::Metrics {
        let replica = |node| ReplicaId::new(NodeId(node), 1);
        let status = raft::Status { leader: Some(NodeId(1)), term, is_leader: true, ..raft::Status::default() };
        let matched = [(1, 0), (2, second), (3, third)].map(|(node, at)| (replica(node), Some(at)));
        let heard_ago = [1, 2, 3].map(|node| (replica(node), Some(Duration::ZERO))).into();
        raft::Metrics { status, last: Some(end), matched: matched.into(), heard_ago, ..raft::Metrics::default() }
    }

    #[test]
    fn always_a_little_behind_is_in_sync_and_standing_still_is_not() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        for second in 0..100 {
            let end = 1_000 * (second + 1);
            let behind = lag.look(&metrics(7, end, end - 900, 500), start + Duration::from_secs(second), MAX);
            let expected = if second > 30 { vec![NodeId(3)] } else { vec![] };
            assert_eq!(behind.into_iter().collect::<Vec<_>>(), expected, "second {second}");
        }
    }

    #[test]
    fn a_follower_that_falls_back_more_and_more_is_not_in_sync() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let behind: Vec<_> = (0..100)
            .map(|second| {
                lag.look(
                    &metrics(7, 1_000 * second, 500 * second, 1_000 * second),
                    start + Duration::from_secs(second),
                    MAX,
                )
            })
            .collect();
        assert!(behind[30].is_empty() && behind[99] == BTreeSet::from([NodeId(2)]), "{behind:?}");
    }

    #[test]
    fn who_does_not_answer_is_not_in_sync_though_the_log_is_idle() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        assert!(lag.look(&metrics(7, 50, 50, 50), start, MAX).is_empty());
        let later = start + Duration::from_secs(40);
        let mut silent = metrics(7, 50, 50, 50);
        silent.heard_ago.insert(ReplicaId::new(NodeId(2), 1), Some(Duration::from_secs(35)));
        silent.heard_ago.insert(ReplicaId::new(NodeId(3), 1), None);
        assert_eq!(lag.look(&silent, later, MAX), BTreeSet::from([NodeId(2), NodeId(3)]));
        assert!(lag.look(&metrics(7, 50, 50, 50), later, MAX).is_empty());
    }

    #[test]
    fn who_reaches_the_end_is_in_sync_again_and_an_idle_log_makes_nobody_late() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let mut look = |second, metrics| lag.look(&metrics, start + Duration::from_secs(second), MAX);
        assert!(look(0, metrics(7, 50, 10, 50)).is_empty());
        assert_eq!(look(60, metrics(7, 50, 49, 50)), BTreeSet::from([NodeId(2)]));
        assert!(look(61, metrics(7, 50, 50, 50)).is_empty());
        assert!(look(1_000, metrics(7, 50, 50, 50)).is_empty());
        assert!(look(1_001, metrics(8, 90, 50, 50)).is_empty(), "a new term begins anew");
    }
}
