//! Changing the members of a group towards those wanted, one step after the other, from whatever is found: [`next`] decides from
//! what the leader sees, so that another leader goes on where one died. A pure function, and what carries a step out.
//! Invariants: nobody votes before it has caught up in bytes; a joint configuration is entered only with majorities that live and
//! are caught up on both sides; a leader that leaves hands over first.

use std::collections::{BTreeMap, BTreeSet};

use model::planted::{self, Bug};
use model::{NodeId, ReplicaId};

use crate::{Error, Group, Metrics};

/// A replica is caught up when no more than this many of the bytes that were committed a moment ago are missing.
pub(crate) const CAUGHT_UP_BYTES: u64 = 1 << 20;

/// Who shall be a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// Those who vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Those who only receive.
    pub learners: BTreeSet<ReplicaId>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the members are those wanted, and committed.
    Done,
    /// Nothing now, for the reason given.
    Wait(&'static str),
    /// Let a replica receive.
    AddLearner(ReplicaId),
    /// Let a replica receive no more.
    RemoveLearner(ReplicaId),
    /// Make exactly these the voters; those who voted and are none of them leave.
    Vote(BTreeSet<ReplicaId>),
    /// Hand leadership to the voter on this node.
    HandOver(NodeId),
}

/// The members of a group as its leader sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The leader itself.
    pub me: ReplicaId,
    /// Who votes: two sets while a change is under way.
    pub voters: Vec<BTreeSet<ReplicaId>>,
    /// Who only receives.
    pub learners: BTreeSet<ReplicaId>,
    /// Whether these members are committed.
    pub is_committed: bool,
    /// The replicas of nodes that live.
    pub alive: BTreeSet<ReplicaId>,
    /// Of each replica that has answered: bytes that it lacks of what was committed a moment ago.
    pub missing: BTreeMap<ReplicaId, u64>,
}

impl Sight {
    /// Whether a replica could carry the group.
    fn is_fit(&self, replica: ReplicaId) -> bool {
        let has_bytes = self.missing.get(&replica).is_some_and(|bytes| *bytes <= CAUGHT_UP_BYTES);
        replica == self.me || (self.alive.contains(&replica) && has_bytes)
    }

    fn majority_is_fit(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        voters.iter().filter(|voter| self.is_fit(**voter)).count() > voters.len() / 2
    }

    fn may_vote(&self, learner: ReplicaId) -> bool {
        self.is_fit(learner) || planted::is(Bug::LearnerNotCaughtUp)
    }
}

/// The next step from `sight` to `goal`.
pub fn next(sight: &Sight, goal: &Goal) -> Step {
    let Some(current) = sight.voters.last().filter(|_| sight.is_committed) else {
        return Step::Wait("the last change is not committed yet");
    };
    if sight.voters.len() > 1 {
        return leave_joint(sight, current);
    }
    let wanted = |replica: &ReplicaId| goal.voters.contains(replica) || goal.learners.contains(replica);
    if let Some(stray) = sight.learners.iter().find(|learner| !wanted(learner)) {
        return Step::RemoveLearner(*stray);
    }
    let is_member = |replica: &ReplicaId| current.contains(replica) || sight.learners.contains(replica);
    let is_missing = |replica: &&ReplicaId| !is_member(replica);
    let mut newcomers = goal.voters.iter().chain(&goal.learners).filter(is_missing);
    if let Some(newcomer) = newcomers.find(|replica| sight.alive.contains(replica)) {
        return Step::AddLearner(*newcomer);
    }
    if goal.voters.iter().any(|replica| is_missing(&replica)) {
        return Step::Wait("a node that shall receive is not alive");
    }
    if *current == goal.voters { Step::Done } else { vote(sight, current, goal) }
}

/// Out of a joint configuration that another leader began. Whoever was elected in it may be one of those who leave.
fn leave_joint(sight: &Sight, current: &BTreeSet<ReplicaId>) -> Step {
    let heir = || current.iter().find(|voter| sight.is_fit(**voter));
    match current.contains(&sight.me) {
        true => Step::Vote(current.clone()),
        false => heir().map_or(Step::Wait("nobody can take over yet"), |heir| Step::HandOver(heir.node())),
    }
}

/// From the voters that there are to those wanted, all of which are members.
fn vote(sight: &Sight, current: &BTreeSet<ReplicaId>, goal: &Goal) -> Step {
    if !goal.voters.difference(current).all(|learner| sight.may_vote(*learner)) {
        return Step::Wait("a new replica is catching up");
    }
    if !sight.majority_is_fit(&goal.voters) && !planted::is(Bug::LearnerNotCaughtUp) {
        return Step::Wait("no majority of the wanted replicas is alive and caught up");
    }
    if goal.voters.contains(&sight.me) {
        return Step::Vote(goal.voters.clone());
    }
    let heir = current.intersection(&goal.voters).find(|voter| sight.is_fit(**voter));
    match heir {
        Some(heir) => Step::HandOver(heir.node()),
        None => {
            // Whoever takes over must vote before.
            let with_me: BTreeSet<ReplicaId> = goal.voters.iter().copied().chain([sight.me]).collect();
            if *current == with_me { Step::Wait("nobody can take over yet") } else { Step::Vote(with_me) }
        }
    }
}

impl Group {
    /// What this leader sees of its members and of those that are to become members.
    fn sight(&self, metrics: &Metrics, goal: &Goal, committed: u64, is_alive: impl Fn(NodeId) -> bool) -> Sight {
        let members = metrics.voter_sets.iter().flatten().chain(&metrics.status.learners);
        let all: BTreeSet<ReplicaId> = members.chain(&goal.voters).chain(&goal.learners).copied().collect();
        let missing = |replica: &ReplicaId| {
            let matched = metrics.matched.get(replica).copied().flatten()?;
            Some((*replica, self.bytes_between(matched, committed)))
        };
        Sight {
            me: self.replica(),
            voters: metrics.voter_sets.clone(),
            learners: metrics.status.learners.clone(),
            is_committed: self.mark().members <= metrics.committed,
            missing: all.iter().filter_map(missing).collect(),
            alive: all.into_iter().filter(|replica| is_alive(replica.node())).collect(),
        }
    }

    /// What this leader should do next so that the members become those of `goal`. `committed` is the entry that was committed
    /// a moment ago: what came since nobody can be blamed for lacking.
    ///
    /// # Errors
    /// `NotLeader`.
    pub fn plan(&self, goal: &Goal, committed: u64, is_alive: impl Fn(NodeId) -> bool) -> Result<Step, Error> {
        let metrics = self.metrics();
        if !metrics.status.is_leader {
            return Err(Error::NotLeader { leader: metrics.status.leader });
        }
        Ok(next(&self.sight(&metrics, goal, committed, is_alive), goal))
    }

    /// Takes a step; returns when it is committed, or another leads. There is nothing to take when there is nothing to do.
    ///
    /// # Errors
    /// `NotLeader`, `Membership`, `Stopped`; `Timeout` when nobody took over.
    pub async fn take(&self, step: Step) -> Result<(), Error> {
        match step {
            Step::Done | Step::Wait(_) => Ok(()),
            Step::AddLearner(replica) => self.add_learner(replica).await,
            Step::RemoveLearner(replica) => self.remove_learner(replica).await,
            Step::Vote(voters) => self.change_voters(voters).await,
            Step::HandOver(node) => self.transfer_leader(node).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(ids: &str) -> BTreeSet<ReplicaId> {
        let one = |text: &str| {
            let (node, revision) = text.split_once('.').unwrap_or((text, "1"));
            ReplicaId::new(NodeId(node.parse().unwrap()), revision.parse().unwrap())
        };
        ids.split_whitespace().map(one).collect()
    }

    /// `members`: voters, and behind a `+` the learners; two sets of voters are parted by `&`. Node 1 leads unless a `*` stands
    /// before another; `!` marks the dead, `?` those who lack much, `~` those who never answered.
    fn sight(members: &str) -> Sight {
        let plain = |text: &str| text.replace(['*', '!', '?', '~'], "");
        let marked = |mark: char| -> BTreeSet<ReplicaId> {
            members
                .split_whitespace()
                .filter(|word| word.contains(mark))
                .flat_map(|word| replicas(&plain(word)))
                .collect()
        };
        let (voters, learners) = members.split_once('+').unwrap_or((members, ""));
        let voters: Vec<_> = voters.split('&').map(|set| replicas(&plain(set))).collect();
        let all: BTreeSet<_> = (1..=9).flat_map(|node| replicas(&format!("{node} {node}.2"))).collect();
        let lack = |replica: &ReplicaId| if marked('?').contains(replica) { CAUGHT_UP_BYTES + 1 } else { 9 };
        Sight {
            me: marked('*').first().copied().unwrap_or(ReplicaId::new(NodeId(1), 1)),
            voters,
            learners: replicas(&plain(learners)),
            is_committed: true,
            alive: all.difference(&marked('!')).copied().collect(),
            missing: all.difference(&marked('~')).map(|replica| (*replica, lack(replica))).collect(),
        }
    }

    fn goal(ids: &str) -> Goal {
        let (voters, learners) = ids.split_once('+').unwrap_or((ids, ""));
        Goal { voters: replicas(voters), learners: replicas(learners) }
    }

    #[test]
    fn one_step_from_wherever_it_stands() {
        let add = |ids| Step::AddLearner(replicas(ids).pop_first().unwrap());
        let vote = |ids| Step::Vote(replicas(ids));
        let over = |node| Step::HandOver(NodeId(node));
        let catching_up = Step::Wait("a new replica is catching up");
        let dead = Step::Wait("a node that shall receive is not alive");
        let weak = Step::Wait("no majority of the wanted replicas is alive and caught up");
        let table = [
            ("1 2 3", "1 2 3", Step::Done),
            // Growing: both learn, then both vote at once.
            ("1 2 3", "1 2 3 4 5", add("4")),
            ("1 2 3 + 4", "1 2 3 4 5", add("5")),
            ("1 2 3 + ?4 5", "1 2 3 4 5", catching_up.clone()),
            ("1 2 3 + ~4 5", "1 2 3 4 5", catching_up.clone()),
            ("1 2 3 + 4 !5", "1 2 3 4 5", catching_up.clone()),
            ("1 2 3 + 4 5", "1 2 3 4 5", vote("1 2 3 4 5")),
            // The dead are waited for, but nobody waits behind them.
            ("1 2 3 !4", "1 2 3 4", Step::Done),
            ("1 2 3 & 1 2 3 4", "1 2 3", vote("1 2 3 4")),
            // A leader that was elected in a joint configuration and is to leave.
            ("1 2 *3 & 1 2 4", "1 2 4", over(1)),
            ("!1 ?2 *3 & !1 ?2 4", "1 2 4", over(4)),
            ("!1 ?2 *3 & !1 ?2 ~4", "1 2 4", Step::Wait("nobody can take over yet")),
            // Shrinking needs a majority of those who stay.
            ("1 2 3 4 5", "1 2 3", vote("1 2 3")),
            ("1 2 !3", "1 2", vote("1 2")),
            ("1 !2 3", "1 2", weak.clone()),
            ("1 ?2 3", "1 2", weak.clone()),
            ("1 2 !3", "1", vote("1")),
            // A move; the one that stays may be dead.
            ("1 2 3", "1 2 4", add("4")),
            ("1 !2 3 + 4", "1 2 4", vote("1 2 4")),
            ("1 !2 3 + ?4", "1 2 4", catching_up.clone()),
            // The leader leaves: an heir that is fit first, or one that must vote before.
            ("1 2 3 + 4", "2 3 4", over(2)),
            ("1 !2 3 + 4", "2 3 4", over(3)),
            ("1 ?2 3 + 4", "2 3 4", over(3)),
            ("1 *2 3 + 4", "2 3 4", vote("2 3 4")),
            ("1 2 3 + 4 5 6", "4 5 6", vote("1 4 5 6")),
            ("1 4 5 6", "4 5 6", over(4)),
            ("1 *4 5 6", "4 5 6", vote("4 5 6")),
            ("1 + 2", "2", vote("1 2")),
            ("1 2", "2", over(2)),
            ("1 ?2", "2", weak),
            // A second target, or none any more: strays leave first.
            ("1 2 3 + 4", "1 2 5", Step::RemoveLearner(replicas("4").pop_first().unwrap())),
            ("1 2 4", "1 2 3", add("3")),
            // A new replica on the same node, whose old one is dead.
            ("1 2 !3", "1 2 3.2", add("3.2")),
            ("1 2 !3 + 3.2", "1 2 3.2", vote("1 2 3.2")),
            ("!1 *2 3 + 1.2", "1.2 2 3", vote("1.2 2 3")),
            // Learners that are wanted as such.
            ("1 2 3", "1 2 3 + 4", add("4")),
            ("1 2 3 + ?4", "1 2 3 + 4", Step::Done),
            ("1 2 3 + !4.2 4", "1 2 3 + 4.2", Step::RemoveLearner(replicas("4").pop_first().unwrap())),
        ];
        for (members, wanted, step) in table {
            assert_eq!(next(&sight(members), &goal(wanted)), step, "{members} -> {wanted}");
        }
        let none = Sight { alive: BTreeSet::new(), ..sight("1 2 3") };
        assert_eq!(next(&none, &goal("1 2 3 4")), dead);
        let uncommitted = Sight { is_committed: false, ..sight("1 2 3") };
        assert_eq!(next(&uncommitted, &goal("1 2 3")), Step::Wait("the last change is not committed yet"));
    }

    /// Whatever is found and whatever is wanted: with everybody alive and caught up, a handful of steps leads there, with no
    /// fewer voters on the way than at either end.
    #[test]
    fn every_way_ends() {
        let sets: Vec<BTreeSet<ReplicaId>> =
            ["1", "1 2", "1 2 3", "2 3 4", "1 2 3 4 5", "4 5 6", "1.2 2 3"].map(replicas).into();
        for (from, to) in sets.iter().flat_map(|from| sets.iter().map(move |to| (from, to))) {
            let Some(me) = from.first().copied() else { continue };
            let mut sight = Sight { me, voters: vec![from.clone()], is_committed: true, ..Sight::default() };
            let goal = Goal { voters: to.clone(), learners: BTreeSet::new() };
            let mut steps = Vec::new();
            loop {
                sight.alive = from.union(to).copied().collect();
                sight.missing = sight.alive.iter().map(|replica| (*replica, 0)).collect();
                let step = next(&sight, &goal);
                steps.push(step.clone());
                assert!(steps.len() < 12, "{from:?} -> {to:?}: {steps:?}");
                match step {
                    Step::Done => break,
                    Step::Wait(why) => panic!("{from:?} -> {to:?} waits: {why}"),
                    Step::AddLearner(replica) => drop(sight.learners.insert(replica)),
                    Step::RemoveLearner(replica) => drop(sight.learners.remove(&replica)),
                    Step::Vote(voters) => {
                        assert!(voters.len() >= from.len().min(to.len()), "{from:?} -> {to:?}: {steps:?}");
                        sight.learners.retain(|learner| !voters.contains(learner));
                        sight.voters = vec![voters];
                    }
                    Step::HandOver(node) => {
                        let heir = sight.voters[0].iter().find(|voter| voter.node() == node && to.contains(voter));
                        sight.me = *heir.expect("an heir that stays");
                    }
                }
            }
            assert_eq!(sight.voters, std::slice::from_ref(to), "{from:?} -> {to:?}");
        }
    }
}
