//! A group of the consumer protocol (KIP-848): members say what they subscribe to, the group has a target, and each member is
//! brought to its part of it by its heartbeats, without stopping the others.
//! Invariants: a partition has at most one owner, which is who must give it up before the next one gets it; epochs only rise.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ClassicSide, Code, Migration, Who};
use crate::assign::{Assignment, Assignor, Case, Spot};
use crate::check;
use crate::ids::TopicId;
use crate::limits::GROUP_METADATA_BYTES_MAX;
use crate::machine::At;
use crate::planted::{self, Bug};

/// Epoch of a request that joins.
pub const JOINS: i32 = 0;
/// Epoch of a request that leaves.
pub const LEAVES: i32 = -1;
/// Epoch of a static member that leaves and will come back (and of the member while it is away).
pub const LEAVES_FOR_NOW: i32 = -2;

/// What a member subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Topic names.
    pub names: Vec<String>,
    /// A regular expression of topic names.
    pub pattern: Option<String>,
    /// The topics that exist of these, as the coordinator's image has them.
    pub topics: BTreeSet<TopicId>,
    /// How it wants the group to assign.
    pub assignor: Option<Assignor>,
}

/// Kafka's ConsumerGroupHeartbeat. What is `None` is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who; the generation is the member epoch, or one of [`JOINS`], [`LEAVES`], [`LEAVES_FOR_NOW`].
    pub who: Who,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: Option<i32>,
    /// What it subscribes to.
    pub subscription: Option<Subscription>,
    /// Partitions of the topics that it subscribes to.
    pub topics: Vec<(TopicId, i32)>,
    /// What it has.
    pub owned: Option<BTreeSet<Spot>>,
    /// `group.consumer.max.size` of the proposing coordinator.
    pub members_max: u32,
    /// Its side of the classic protocol, if it speaks that.
    pub classic: Option<ClassicSide>,
    /// Of a member that joins a group of the classic protocol: topics that the members there subscribe to.
    pub named: Vec<(String, TopicId)>,
    /// `group.consumer.migration.policy` of the proposing coordinator.
    pub migration: Migration,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beaten {
    /// The member's epoch from now on.
    pub epoch: i32,
    /// What it should have, if that is news to it.
    pub assigned: Option<BTreeSet<Spot>>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// What it subscribes to.
    pub subscription: Subscription,
    /// The group epoch that it has reached; [`LEAVES_FOR_NOW`] while it is away.
    pub epoch: i32,
    /// The one before: an answer may have been lost.
    pub epoch_before: i32,
    /// What it may read.
    pub assigned: BTreeSet<Spot>,
    /// What it must give up before it gets more.
    pub revoking: BTreeSet<Spot>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicSide>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Raised by each change of members, subscriptions or partitions; the target is of this epoch.
    pub epoch: i32,
    /// By member id.
    pub members: BTreeMap<String, ConsumerMember>,
    /// Partitions of what is subscribed to.
    pub topics: BTreeMap<TopicId, i32>,
    /// Who should have what.
    pub target: Assignment,
    /// Who may still be reading what.
    pub owners: BTreeMap<Spot, String>,
    /// When the last member left, the leader's wall clock, ms since 1970.
    pub since_ms: i64,
    /// With how many members, all of the classic protocol, it becomes a group of that protocol; 0: it does not.
    pub downgrade_max: u32,
}

/// Where a member goes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    assigned: BTreeSet<Spot>,
    revoking: BTreeSet<Spot>,
    epoch: i32,
}

impl Consumer {
    /// The target is made in the moment the group changes, so that a group is never seen assigning.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            return "Empty";
        }
        let arrived = |(id, member): (&String, &ConsumerMember)| {
            member.epoch == self.epoch && self.target.get(id) == Some(&member.assigned)
        };
        if self.members.iter().all(arrived) { "Stable" } else { "Reconciling" }
    }

    /// The answer to a heartbeat that changes nothing; `None`: it must be applied.
    pub fn unchanged(&self, beat: &Beat) -> Option<Result<Beaten, Code>> {
        if beat.who.generation <= JOINS {
            return None;
        }
        let member = match self.current(&beat.who, beat.owned.as_ref()) {
            Ok(member) => member,
            Err(code) => return Some(Err(code)),
        };
        let same = beat.subscription.as_ref().is_none_or(|subscription| *subscription == member.subscription)
            && beat.rebalance_timeout_ms.is_none_or(|timeout| timeout == member.rebalance_timeout_ms)
            && member.classic == beat.classic
            && self.downgrade_max == beat.migration.downgrade_max
            && self.has_all(&beat.topics);
        let stays = same && self.next(&beat.who.member, beat.owned.as_ref()).is_none();
        stays.then(|| Ok(self.answer(beat, &BTreeSet::new(), false)))
    }

    /// Applies a heartbeat.
    pub(super) fn beat(&mut self, at: At, beat: Beat) -> Result<Beaten, Code> {
        match beat.who.generation {
            LEAVES | LEAVES_FOR_NOW => return self.leave(at, &beat.who),
            JOINS => {}
            _ => drop(self.current(&beat.who, beat.owned.as_ref())?),
        }
        if !self.has_room(&beat) {
            return Err(Code::GroupMaxSizeReached);
        }
        if beat.who.generation == JOINS {
            self.admit(&beat)?;
        }
        let mut changed = beat.who.generation == JOINS && !self.target.contains_key(&beat.who.member);
        changed |= !self.has_all(&beat.topics);
        let Some(member) = self.members.get_mut(&beat.who.member) else { return Err(Code::UnknownMemberId) };
        member.classic.clone_from(&beat.classic);
        self.downgrade_max = beat.migration.downgrade_max;
        member.rebalance_timeout_ms = beat.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms);
        if let Some(subscription) =
            beat.subscription.clone().filter(|subscription| *subscription != member.subscription)
        {
            member.subscription = subscription;
            changed = true;
        }
        let had = member.assigned.clone();
        if changed {
            self.topics.extend(beat.topics.iter().copied());
            self.retarget();
        }
        // Giving up what it does not have any more may be followed by getting something else at once.
        while let Some(next) = self.next(&beat.who.member, beat.owned.as_ref()) {
            self.go(&beat.who.member, next);
        }
        Ok(self.answer(&beat, &had, true))
    }

    /// The topics of the image have changed: what each member's subscription means now.
    pub(super) fn refresh(&mut self, topics: &[(TopicId, i32)], members: Vec<(String, BTreeSet<TopicId>)>) {
        let topics = topics.iter().copied().collect();
        let mut changed = self.topics != topics;
        self.topics = topics;
        for (id, topics) in members {
            if let Some(member) = self.members.get_mut(&id) {
                changed |= member.subscription.topics != topics;
                member.subscription.topics = topics;
            }
        }
        if changed {
            self.retarget();
        }
    }

    /// Removes a member and frees what it had. Those who go back to the classic protocol keep their epoch as generation.
    pub(super) fn remove(&mut self, at: At, id: &str) {
        self.members.remove(id);
        self.owners.retain(|_, owner| owner != id);
        if !self.goes_back() {
            self.retarget();
        }
        if self.members.is_empty() {
            self.since_ms = at.leader_ts;
        }
    }

    /// The member id that LeaveGroup or an expiry means.
    pub(super) fn named(&self, who: &Who) -> Result<String, Code> {
        let id = match &who.instance {
            Some(instance) if who.member.is_empty() => self.instance(instance),
            _ => self.members.get_key_value(&who.member).map(|(id, _)| id),
        };
        id.cloned().ok_or(Code::UnknownMemberId)
    }

    /// Whether the group may keep what the member says of itself, in place of what it said before.
    fn has_room(&self, beat: &Beat) -> bool {
        let Some(subscription) = &beat.subscription else { return true };
        let bytes = |subscription: &Subscription, classic: &Option<ClassicSide>| {
            subscription.bytes() + classic.as_ref().map_or(0, ClassicSide::bytes)
        };
        let others = self.members.iter().filter(|(id, _)| **id != beat.who.member);
        let said: usize = others.map(|(_, member)| bytes(&member.subscription, &member.classic)).sum();
        said + bytes(subscription, &beat.classic) <= GROUP_METADATA_BYTES_MAX
    }

    fn has_all(&self, topics: &[(TopicId, i32)]) -> bool {
        topics.iter().all(|(topic, count)| self.topics.get(topic) == Some(count))
    }

    /// The member, if the request is of its current epoch, or of the one before by a member that has nothing but what it may.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`, `FencedMemberEpoch`.
    pub fn current(&self, who: &Who, owned: Option<&BTreeSet<Spot>>) -> Result<&ConsumerMember, Code> {
        let member = self.members.get(&who.member).ok_or(Code::UnknownMemberId)?;
        if who.instance.is_some() && who.instance != member.instance {
            return Err(Code::FencedInstanceId);
        }
        let answer_lost = who.generation == member.epoch_before
            && member.epoch != LEAVES_FOR_NOW
            && owned.is_some_and(|owned| owned.is_subset(&member.assigned.union(&member.revoking).copied().collect()));
        if who.generation == member.epoch || answer_lost { Ok(member) } else { Err(Code::FencedMemberEpoch) }
    }

    fn admit(&mut self, beat: &Beat) -> Result<(), Code> {
        let id = &beat.who.member;
        let Who { instance, .. } = &beat.who;
        let holder = instance.as_ref().and_then(|instance| self.instance(instance)).cloned();
        if let Some(holder) = holder.filter(|holder| holder != id) {
            let stays = |member: &ConsumerMember| member.epoch != LEAVES_FOR_NOW && member.classic.is_none();
            if beat.classic.is_none() && self.members.get(&holder).is_some_and(stays) {
                return Err(Code::UnreleasedInstanceId);
            }
            self.rename(&holder, id);
        }
        if let Some(member) = self.members.get_mut(id) {
            if member.instance != *instance {
                return Err(Code::FencedInstanceId);
            }
            member.epoch = JOINS;
        } else {
            if self.members.len() >= beat.members_max as usize {
                return Err(Code::GroupMaxSizeReached);
            }
            self.members.insert(id.clone(), ConsumerMember::of(beat));
        }
        Ok(())
    }

    pub(super) fn instance(&self, instance: &str) -> Option<&String> {
        let has = |member: &ConsumerMember| member.instance.as_deref() == Some(instance);
        self.members.iter().find_map(|(id, member)| has(member).then_some(id))
    }

    /// A static member came back under a new id: it has what the old one had.
    fn rename(&mut self, from: &str, to: &str) {
        if let Some(member) = self.members.remove(from) {
            self.members.insert(to.to_owned(), member);
        }
        if let Some(target) = self.target.remove(from) {
            self.target.insert(to.to_owned(), target);
        }
        self.owners.values_mut().filter(|owner| *owner == from).for_each(|owner| to.clone_into(owner));
    }

    fn leave(&mut self, at: At, who: &Who) -> Result<Beaten, Code> {
        let member = self.members.get_mut(&who.member).ok_or(Code::UnknownMemberId)?;
        if who.instance.is_some() && who.instance != member.instance {
            return Err(Code::FencedInstanceId);
        }
        if who.generation == LEAVES_FOR_NOW && member.instance.is_some() {
            member.epoch = LEAVES_FOR_NOW;
        } else {
            self.remove(at, &who.member);
        }
        Ok(Beaten { epoch: who.generation, assigned: None })
    }

    /// A new epoch with a new target.
    pub(super) fn retarget(&mut self) {
        let subscribed =
            |topic: &TopicId| self.members.values().any(|member| member.subscription.topics.contains(topic));
        self.topics = std::mem::take(&mut self.topics).into_iter().filter(|(topic, _)| subscribed(topic)).collect();
        let members = self.members.iter().map(|(id, member)| (id.as_str(), &member.subscription.topics)).collect();
        let case = Case { members, topics: &self.topics, owners: &self.owners };
        self.target = self.assignor().assign(&case, &self.target);
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// The assignor that most members ask for; `uniform` where nobody asks.
    pub fn assignor(&self) -> Assignor {
        let asked = self.members.values().filter_map(|member| member.subscription.assignor);
        let ranges = asked.clone().filter(|assignor| *assignor == Assignor::Range).count();
        if ranges * 2 > asked.count() { Assignor::Range } else { Assignor::Uniform }
    }

    /// Where the member goes next, given what it says that it has; `None` while it must wait, or is where it should be.
    pub(super) fn next(&self, id: &str, owned: Option<&BTreeSet<Spot>>) -> Option<Move> {
        let (member, target) = (self.members.get(id)?, self.target.get(id)?);
        let gave_up = |spots: &BTreeSet<Spot>| owned.is_some_and(|owned| owned.is_disjoint(spots));
        if !member.revoking.is_empty() && !gave_up(&member.revoking) {
            return None;
        }
        let revoking: BTreeSet<Spot> = member.assigned.difference(target).copied().collect();
        let kept: BTreeSet<Spot> = member.assigned.intersection(target).copied().collect();
        if !revoking.is_empty() && !gave_up(&revoking) {
            return Some(Move { assigned: kept, revoking, epoch: member.epoch });
        }
        let given_up = |spot: &Spot| self.owners.get(spot).is_none_or(|owner| owner == id);
        let free = |spot: &Spot| given_up(spot) || planted::is(Bug::OwnerNotAwaited);
        let assigned = kept.into_iter().chain(target.iter().filter(|spot| free(spot)).copied()).collect();
        let next = Move { assigned, revoking: BTreeSet::new(), epoch: self.epoch };
        let is_there = next.assigned == member.assigned && member.revoking.is_empty() && next.epoch == member.epoch;
        (!is_there).then_some(next)
    }

    fn go(&mut self, id: &str, next: Move) {
        let Some(member) = self.members.get_mut(id) else { return };
        for spot in member.assigned.iter().chain(&member.revoking) {
            self.owners.remove(spot);
        }
        for spot in next.assigned.iter().chain(&next.revoking) {
            let before = self.owners.insert(*spot, id.to_owned());
            let alone = before.is_none() || planted::is(Bug::OwnerNotAwaited);
            check!(alone, PartitionOwnedOnce, "{spot:?} of {before:?} given to {id}");
        }
        if member.epoch != next.epoch {
            member.epoch_before = std::mem::replace(&mut member.epoch, next.epoch);
        }
        (member.assigned, member.revoking) = (next.assigned, next.revoking);
    }

    /// Says what the member should have when that is new, or when it may not know (it joins, or says what it has).
    fn answer(&self, beat: &Beat, had: &BTreeSet<Spot>, changed: bool) -> Beaten {
        let Some(member) = self.members.get(&beat.who.member) else { return Beaten { epoch: 0, assigned: None } };
        let full = beat.owned.is_some() || beat.subscription.is_some() || beat.rebalance_timeout_ms.is_some();
        let news = full || (changed && *had != member.assigned);
        Beaten { epoch: member.epoch, assigned: news.then(|| member.assigned.clone()) }
    }
}

impl Subscription {
    fn bytes(&self) -> usize {
        self.names.iter().chain(&self.pattern).map(String::len).sum()
    }
}

impl ConsumerMember {
    fn of(beat: &Beat) -> Self {
        ConsumerMember {
            instance: beat.who.instance.clone(),
            client_id: beat.client_id.clone(),
            client_host: beat.client_host.clone(),
            rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(0),
            subscription: Subscription::default(),
            epoch: JOINS,
            epoch_before: JOINS,
            assigned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            classic: None,
        }
    }
}

#[cfg(test)]
mod tests;
