//! Members of the classic protocol in a group of the consumer protocol (KIP-848): the group takes them along when the first
//! member of its protocol joins, assigns to them through JoinGroup and SyncGroup, and goes back when its last one has left.
//! Invariant: what a member may be reading counts as its own on the way there and back, until it says that it gave it up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::consumer::JOINS;
use super::{
    Beat, Beaten, Classic, Code, Consumer, ConsumerMember, Join, Joined, Kind, Member, Phase, Protocol, Share,
    Subscription, Sync, Who,
};
use crate::assign::Spot;
use crate::ids::TopicId;
use crate::machine::At;

/// The type of protocol whose metadata the coordinator understands.
pub const CONSUMER: &str = "consumer";

/// What the coordinator may do to a group in which both protocols meet (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Whether a classic group may become one of the consumer protocol.
    pub upgrades: bool,
    /// With how many members a group of the consumer protocol may become a classic one (`group.max.size`); 0: it may not.
    pub downgrade_max: u32,
}

/// What a member of the classic protocol says to those who assign, if it is a consumer: decoded by those who know bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedded {
    /// The topics that exist of those that it subscribes to, with their partitions.
    pub topics: Vec<(TopicId, i32)>,
    /// What it goes on reading while it joins; nothing, if its assignors are eager.
    pub owned: BTreeSet<Spot>,
}

/// What a member of the classic protocol needs to be one again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicSide {
    /// Silent for longer, it is expired.
    pub session_timeout_ms: i32,
    /// Best first.
    pub protocols: Vec<Protocol>,
}

impl ClassicSide {
    fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known.name == protocol)
    }

    /// What it says of itself, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
    }
}

impl Kind {
    /// A heartbeat in a group of the consumer protocol, by which its last member of that protocol may leave.
    pub(super) fn beat(&mut self, at: At, beat: Beat) -> Result<Beaten, Code> {
        let Kind::Consumer(group) = self else { return Err(Code::GroupIdNotFound) };
        let beaten = group.beat(at, beat)?;
        self.go_back(at);
        Ok(beaten)
    }

    /// Becomes a classic group, in which everybody must join, if that is due.
    pub(super) fn go_back(&mut self, at: At) {
        if let Kind::Consumer(group) = self
            && group.goes_back()
        {
            *self = Kind::Classic(group.classic(at));
        }
    }
}

impl Consumer {
    /// The group that the classic one becomes when this member joins; `None`: not all are consumers, or it must not.
    pub(super) fn of(classic: &Classic, beat: &Beat) -> Option<Consumer> {
        let fits = beat.migration.upgrades && classic.members.len() <= beat.members_max as usize;
        if !fits || classic.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let named: BTreeMap<&str, TopicId> = beat.named.iter().map(|(name, topic)| (name.as_str(), *topic)).collect();
        // Nobody was told of a generation before the first, and 0 is not an epoch that one can have.
        let mut group = Consumer { epoch: classic.generation.max(1), ..Consumer::default() };
        for (id, member) in &classic.members {
            let member = ConsumerMember::taken(member, group.epoch, &named)?;
            group.take(id, member);
        }
        Some(group)
    }

    /// Takes a member with what it may be reading, but for what an assignment gave to two.
    fn take(&mut self, id: &str, mut member: ConsumerMember) {
        member.assigned.retain(|spot| !self.owners.contains_key(spot));
        self.owners.extend(member.assigned.iter().map(|spot| (*spot, id.to_owned())));
        self.target.insert(id.to_owned(), member.assigned.clone());
        self.members.insert(id.to_owned(), member);
    }

    /// Whether only members of the classic protocol are left, and may be a group of that protocol.
    pub(super) fn goes_back(&self) -> bool {
        let all_classic = self.members.values().all(|member| member.classic.is_some());
        !self.members.is_empty() && all_classic && self.members.len() <= self.downgrade_max as usize
    }

    /// The classic group of its members. They rejoin by the epoch that they know as its generation.
    fn classic(&self, at: At) -> Classic {
        let members = self.members.iter().filter_map(|(id, member)| Some((id.clone(), member.given_back()?)));
        Classic {
            phase: Phase::Preparing,
            generation: self.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            members: members.collect(),
            since_ms: at.leader_ts,
            ..Classic::default()
        }
    }

    /// JoinGroup: the member is answered at once, with its epoch as generation. Gives its id.
    pub(super) fn join(&mut self, at: At, join: Join) -> Result<String, Code> {
        let Some(embedded) = join.embedded.clone().filter(|_| self.fits(&join)) else {
            return Err(Code::InconsistentGroupProtocol);
        };
        let Who { group, member: id, instance, .. } = join.who.clone();
        let known = self.classic_member(&join.who).map(|(_, member)| member.epoch);
        let epoch = match known {
            Ok(epoch) => epoch.max(JOINS),
            Err(code) if !join.is_new => return Err(code),
            Err(_) if join.migration == Migration::default() => return Err(Code::InconsistentGroupProtocol),
            Err(_) => JOINS,
        };
        let topics = embedded.topics.iter().map(|(topic, _)| *topic).collect();
        let Member { client_id, client_host, session_timeout_ms, rebalance_timeout_ms, protocols, .. } = join.member;
        let beat = Beat {
            who: Who { group, member: id.clone(), instance, generation: epoch },
            client_id,
            client_host,
            rebalance_timeout_ms: Some(rebalance_timeout_ms),
            subscription: Some(Subscription { names: join.member.topics, topics, ..Subscription::default() }),
            topics: embedded.topics,
            owned: Some(embedded.owned),
            members_max: join.members_max,
            classic: Some(ClassicSide { session_timeout_ms, protocols }),
            named: Vec::new(),
            migration: join.migration,
        };
        self.beat(at, beat)?;
        Ok(id)
    }

    /// Whether it could go on as a classic group with this member.
    fn fits(&self, join: &Join) -> bool {
        let same = |id: &String, member: &ConsumerMember| {
            *id == join.who.member || (join.who.instance.is_some() && member.instance == join.who.instance)
        };
        let others = self.members.iter().filter(|(id, member)| !same(id, member));
        let others: Vec<_> = others.filter_map(|(_, member)| member.classic.as_ref()).collect();
        let all_know = |protocol: &Protocol| others.iter().all(|other| other.knows(&protocol.name));
        join.protocol_type == CONSUMER && join.member.protocols.iter().any(all_know)
    }

    /// The member of the classic protocol that the request means.
    fn classic_member(&self, who: &Who) -> Result<(&ClassicSide, &ConsumerMember), Code> {
        let id = match who.instance.as_deref().map(|instance| self.instance(instance).ok_or(Code::UnknownMemberId)) {
            None => &who.member,
            Some(holder) if holder? == &who.member => &who.member,
            Some(_) => return Err(Code::FencedInstanceId),
        };
        let member = self.members.get(id).ok_or(Code::UnknownMemberId)?;
        member.classic.as_ref().map(|side| (side, member)).ok_or(Code::UnknownMemberId)
    }

    /// The same, if the request is of its epoch.
    fn current_classic(&self, who: &Who) -> Result<(&ClassicSide, &ConsumerMember), Code> {
        let (side, member) = self.classic_member(who)?;
        if who.generation == member.epoch { Ok((side, member)) } else { Err(Code::IllegalGeneration) }
    }

    /// What a member that asked to join is told.
    pub(super) fn joined(&self, who: &Who) -> Result<Joined<'_>, Code> {
        let (side, member) = self.classic_member(who)?;
        let protocol = side.protocols.first().map(|protocol| protocol.name.as_str());
        let (generation, protocol_type) = (member.epoch, Some(CONSUMER));
        Ok(Joined { generation, protocol_type, protocol, member: who.member.clone(), group: None })
    }

    /// SyncGroup: whether the member may ask.
    pub(super) fn synced(&self, sync: &Sync) -> Result<(), Code> {
        let (side, _) = self.current_classic(&sync.who)?;
        let same_type = sync.protocol_type.as_deref().is_none_or(|said| said == CONSUMER);
        if !same_type || sync.protocol.as_deref().is_some_and(|said| !side.knows(said)) {
            return Err(Code::InconsistentGroupProtocol);
        }
        self.share(&sync.who).map(drop)
    }

    /// What a member that asked for its assignment is told: what it may read in its epoch, or to join again for the next one.
    pub(super) fn share(&self, who: &Who) -> Result<Share, Code> {
        let (_, member) = self.current_classic(who)?;
        if member.epoch < self.epoch && member.revoking.is_empty() {
            return Err(Code::RebalanceInProgress);
        }
        Ok(Share::Spots(member.assigned.clone()))
    }

    /// What a heartbeat of the classic protocol is told.
    pub(super) fn classic_heartbeat(&self, who: &Who) -> Result<(), Code> {
        self.current_classic(who)?;
        if self.must_join(&who.member) { Err(Code::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether only its joining again brings the member of the classic protocol on: to the group's epoch, to what has become
    /// free, or to say that it gave up what it must.
    fn must_join(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| !member.revoking.is_empty()) || self.next(id, None).is_some()
    }

    /// Who has to give partitions up, or to join again, and how long that may take, ms.
    pub fn owing(&self) -> impl Iterator<Item = (&String, i32)> {
        let owes = |(id, member): &(&String, &ConsumerMember)| {
            !member.revoking.is_empty() || (member.classic.is_some() && self.must_join(id))
        };
        self.members.iter().filter(owes).map(|(id, member)| (id, member.rebalance_timeout_ms))
    }
}

impl ConsumerMember {
    /// The session timeout that it asks for; `None`: it speaks the consumer protocol, and has that of the coordinator.
    pub fn session_timeout_ms(&self) -> Option<i32> {
        self.classic.as_ref().map(|side| side.session_timeout_ms)
    }

    fn taken(member: &Member, epoch: i32, named: &BTreeMap<&str, TopicId>) -> Option<Self> {
        let topics = member.topics.iter().filter_map(|name| named.get(name.as_str()).copied()).collect();
        Some(ConsumerMember {
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            subscription: Subscription { names: member.topics.clone(), topics, ..Subscription::default() },
            epoch,
            epoch_before: epoch,
            assigned: member.owns.clone()?,
            revoking: BTreeSet::new(),
            classic: Some(ClassicSide {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
        })
    }

    fn given_back(&self) -> Option<Member> {
        let side = self.classic.clone()?;
        Some(Member {
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: side.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: side.protocols,
            topics: self.subscription.names.clone(),
            owns: Some(self.assigned.union(&self.revoking).copied().collect()),
            ..Member::default()
        })
    }
}

#[cfg(test)]
mod tests;
