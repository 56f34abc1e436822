//! Quiescence (docs/adr/006): when the replicas of an idle partition may switch their ticks off, and what ends that. Pure: where a
//! log stands and who lives is given. Invariant: a leader sleeps only if every living member, and with it a majority of the voters,
//! holds exactly its log, committed and applied, and has said that it sleeps too. Who sleeps trusts the heartbeats between nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::planted::{self, Bug};
use model::{GroupId, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::types::Position;

/// Between the turns of two followers to campaign for the place of a leader that is gone.
const TURN: Duration = Duration::from_millis(500);

/// What a node knows of another by its heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Changes with every start of its process.
    pub boot: u64,
    /// Whether it says that it hears this start of this node.
    pub hears_us: bool,
    /// The groups that it says it leads, and in which term.
    pub leads: Arc<BTreeMap<GroupId, u64>>,
}

/// The other nodes that live, by their heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around(pub BTreeMap<NodeId, Neighbour>);

impl Around {
    /// The start of a node's process that lives, and hears us if it must.
    pub(crate) fn boot(&self, node: NodeId, must_hear: bool) -> Option<u64> {
        self.0.get(&node).filter(|neighbour| neighbour.hears_us || !must_hear).map(|neighbour| neighbour.boot)
    }

    /// The term in which `node` says that it leads `group`.
    pub(crate) fn leads(&self, node: NodeId, group: GroupId) -> Option<u64> {
        self.0.get(&node)?.leads.get(&group).copied()
    }
}

/// Where a replica stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) term: u64,
    /// The leader of that term, once it is elected.
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) last: Option<u64>,
    pub(crate) committed: Option<Position>,
    pub(crate) applied: Option<Position>,
}

impl Standing {
    /// The last entry, if it is committed and applied.
    fn settled(&self) -> Option<Position> {
        if planted::is(Bug::SleepUnasked) {
            return self.last.map(|index| Position { term: self.term, index });
        }
        let whole = self.committed == self.applied && self.applied.map(|at| at.index) == self.last;
        self.applied.filter(|_| whole)
    }
}

/// What the replicas of a sleeping group agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pact {
    pub(crate) leader: ReplicaId,
    pub(crate) term: u64,
    pub(crate) last: Position,
}

/// Another member, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) replica: ReplicaId,
    pub(crate) votes: bool,
    pub(crate) matched: Option<Position>,
}

/// The starts of the processes that a sleeper relies on; `None` of a node that is dead.
pub(crate) type Eyes = Vec<(NodeId, Option<u64>)>;

/// The pact that the leader `me` may offer to its other members, and whom it relies on: the living have to agree, and with me be a
/// majority. `lives` gives the starts of nodes that live and hear us.
pub(crate) fn offer(
    me: ReplicaId,
    standing: &Standing,
    others: &[Member],
    lives: impl Fn(NodeId) -> Option<u64>,
) -> Option<(Pact, Eyes)> {
    let last = standing.settled().filter(|_| standing.leader == Some(me))?;
    let eyes: Eyes = others.iter().map(|other| (other.replica.node(), lives(other.replica.node()))).collect();
    let living = || others.iter().zip(&eyes).filter(|(_, (_, boot))| boot.is_some()).map(|(other, _)| other);
    let voters = 1 + others.iter().filter(|other| other.votes).count();
    let majority = (1 + living().filter(|other| other.votes).count()) * 2 > voters;
    let held = living().all(|other| other.matched == Some(last)) || planted::is(Bug::SleepUnasked);
    (majority && held).then_some((Pact { leader: me, term: standing.term, last }, eyes))
}

/// Whether a follower that stands so may sleep under `pact`.
pub(crate) fn accept(pact: &Pact, standing: &Standing) -> Result<(), &'static str> {
    if (standing.leader, standing.term) != (Some(pact.leader), pact.term) {
        return Err("it follows another leader");
    }
    if standing.settled() != Some(pact.last) && !planted::is(Bug::SleepUnasked) {
        return Err("its log is another one, or not applied");
    }
    Ok(())
}

/// Whether something has happened to those whom a sleeper relies on. A leader relies on members that hear it, a follower on a
/// leader that says it leads.
pub(crate) fn disturbed(group: GroupId, me: ReplicaId, pact: &Pact, eyes: &Eyes, around: &Around) -> bool {
    let leads = pact.leader == me;
    if !leads && planted::is(Bug::DeathUnnoticed) {
        return false;
    }
    let other_start = eyes.iter().any(|(node, boot)| around.boot(*node, leads) != *boot);
    let claimed = eyes.iter().any(|(node, _)| around.leads(*node, group).is_some_and(|term| term > pact.term));
    let unled = !leads && around.leads(pact.leader.node(), group) != Some(pact.term);
    other_start || claimed || unled
}

/// How long a follower waits before it campaigns for the place of a leader that is gone, so that not all do at once: the same order
/// of voters in everybody's eyes, another one in each group.
pub(crate) fn turn(group: GroupId, me: ReplicaId, leader: ReplicaId, voters: &BTreeSet<ReplicaId>) -> Duration {
    let others: Vec<ReplicaId> = voters.iter().copied().filter(|voter| *voter != leader).collect();
    let first = group.0 as usize % others.len().max(1);
    let place = others.iter().position(|voter| *voter == me).unwrap_or(others.len());
    let turns = if place < others.len() { (place + others.len() - first) % others.len() } else { place };
    TURN * turns as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1024);

    fn replica(node: u32) -> ReplicaId {
        ReplicaId::new(NodeId(node), 1)
    }

    fn at(index: u64) -> Position {
        Position { term: 7, index }
    }

    fn standing(last: u64) -> Standing {
        Standing { term: 7, leader: Some(replica(1)), last: Some(last), committed: Some(at(9)), applied: Some(at(9)) }
    }

    fn members(second: u64, third: u64) -> [Member; 2] {
        [(2, second), (3, third)].map(|(node, index)| Member {
            replica: replica(node),
            votes: true,
            matched: Some(at(index)),
        })
    }

    fn pact() -> Pact {
        Pact { leader: replica(1), term: 7, last: at(9) }
    }

    #[test]
    fn a_leader_sleeps_with_a_majority_that_holds_everything() {
        let all = |node: NodeId| Some(u64::from(node.0) * 10);
        let offered = offer(replica(1), &standing(9), &members(9, 9), all);
        assert_eq!(offered, Some((pact(), vec![(NodeId(2), Some(20)), (NodeId(3), Some(30))])));
        assert_eq!(offer(replica(1), &standing(9), &members(9, 8), all), None, "a living member lacks an entry");
        assert_eq!(offer(replica(1), &standing(10), &members(9, 9), all), None, "an entry is not committed");
        assert_eq!(offer(replica(2), &standing(9), &members(9, 9), all), None, "only the leader");
        let committed = Standing { applied: Some(at(8)), ..standing(9) };
        assert_eq!(offer(replica(1), &committed, &members(9, 9), all), None, "an entry is not applied");
        let third_dead = |node: NodeId| (node.0 == 2).then_some(20);
        let (_, eyes) = offer(replica(1), &standing(9), &members(9, 3), third_dead).unwrap();
        assert_eq!(eyes, [(NodeId(2), Some(20)), (NodeId(3), None)], "the dead are not waited for, but watched for");
        assert_eq!(offer(replica(1), &standing(9), &members(9, 9), |_| None), None, "no majority lives");
        assert!(offer(replica(1), &standing(9), &[], |_| None).is_some(), "alone");
    }

    #[test]
    fn a_follower_sleeps_with_the_very_log_of_its_leader() {
        assert_eq!(accept(&pact(), &standing(9)), Ok(()));
        assert!(accept(&pact(), &standing(10)).is_err());
        assert!(accept(&Pact { last: at(8), ..pact() }, &standing(9)).is_err());
        assert!(accept(&Pact { last: Position { term: 6, index: 9 }, ..pact() }, &standing(9)).is_err());
        assert!(accept(&Pact { term: 8, ..pact() }, &standing(9)).is_err());
        assert!(accept(&Pact { leader: replica(2), ..pact() }, &standing(9)).is_err());
        assert!(accept(&pact(), &Standing { leader: None, ..standing(9) }).is_err());
    }

    #[test]
    fn what_happens_to_a_relied_on_node_disturbs() {
        let lives = |boot, hears_us, leads: Option<u64>| Neighbour {
            boot,
            hears_us,
            leads: Arc::new(leads.map(|term| (GROUP, term)).into_iter().collect()),
        };
        let mut around = Around::default();
        around.0.insert(NodeId(1), lives(10, false, Some(7)));
        let eyes = vec![(NodeId(1), Some(10))];
        let follower = |around: &Around| disturbed(GROUP, replica(2), &pact(), &eyes, around);
        assert!(!follower(&around));
        around.0.insert(NodeId(1), lives(11, false, Some(7)));
        assert!(follower(&around), "another start");
        around.0.insert(NodeId(1), lives(10, false, None));
        assert!(follower(&around), "it does not lead");
        around.0.insert(NodeId(1), lives(10, false, Some(8)));
        assert!(follower(&around), "it leads another term");
        around.0.clear();
        assert!(follower(&around), "dead");
        let eyes = vec![(NodeId(2), Some(20)), (NodeId(3), None)];
        let leader = |around: &Around| disturbed(GROUP, replica(1), &pact(), &eyes, around);
        around.0.insert(NodeId(2), lives(20, true, None));
        assert!(!leader(&around));
        around.0.insert(NodeId(2), lives(20, false, None));
        assert!(leader(&around), "it does not hear us");
        around.0.insert(NodeId(2), lives(20, true, Some(8)));
        assert!(leader(&around), "it leads a later term");
        around.0.insert(NodeId(2), lives(20, true, None));
        around.0.insert(NodeId(3), lives(30, true, None));
        assert!(leader(&around), "a dead one is back");
    }

    #[test]
    fn the_turns_of_followers_differ_and_begin_at_once() {
        let voters = BTreeSet::from([1, 2, 3].map(replica));
        for group in [GroupId(4), GroupId(5)] {
            let mut turns = [2, 3].map(|node| turn(group, replica(node), replica(1), &voters));
            turns.sort();
            assert_eq!(turns, [Duration::ZERO, TURN]);
        }
        let first = |group| turn(GroupId(group), replica(2), replica(1), &voters).is_zero();
        assert_ne!(first(4), first(5), "the burden is shared");
        assert!(turn(GroupId(4), replica(9), replica(1), &voters) > TURN, "learners last");
    }
}
