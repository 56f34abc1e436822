//! What a member may be told now: JoinGroup and SyncGroup wait until there is an answer, Heartbeat never waits.
//! Level-triggered, so that a new coordinator needs to remember nothing: whoever waits asks again after each change.

use std::collections::BTreeSet;

use super::{Classic, Code, CoordinatorMachine, Group, Kind, Phase, Who};
use crate::assign::Spot;
use crate::planted::{self, Bug};

/// An answer, a refusal, or `None`: not yet.
pub type Answer<T> = Option<Result<T, Code>>;

/// What a member that has joined is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The generation, or its epoch in a group of the consumer protocol.
    pub generation: i32,
    /// Such as `consumer`.
    pub protocol_type: Option<&'a str>,
    /// The protocol that was chosen.
    pub protocol: Option<&'a str>,
    /// The member's id, which may be newer than the one that asks.
    pub member: String,
    /// The group in which a member assigns; `None` where the group does.
    pub group: Option<&'a Classic>,
}

impl<'a> Joined<'a> {
    fn of(group: &'a Classic, member: String) -> Self {
        let (protocol_type, protocol) = (group.protocol_type.as_deref(), group.protocol.as_deref());
        Joined { generation: group.generation, protocol_type, protocol, member, group: Some(group) }
    }

    /// It joined a generation that was over before it could be told: it hears so when it asks for its assignment.
    fn over(group: &'a Classic, member: String) -> Self {
        let of_member = group.members.get(&member).and_then(|member| member.protocols.first());
        let protocol = group.protocol.as_deref().or(of_member.map(|protocol| protocol.name.as_str()));
        Joined { protocol, group: None, ..Joined::of(group, member) }
    }

    /// Who assigns.
    pub fn leader(&self) -> Option<&'a String> {
        self.group.and_then(|group| group.leader.as_ref())
    }

    /// Whether the member assigns. It gets everybody's metadata, also when nothing has changed (KIP-814).
    pub fn leads(&self) -> bool {
        self.leader() == Some(&self.member)
    }

    /// The assignment of this generation is there already: the leader need not make one (KIP-814).
    pub fn skip_assignment(&self) -> bool {
        self.leads() && self.group.is_some_and(|group| group.phase == Phase::Stable)
    }

    /// Every member's id, instance id and metadata for the chosen protocol.
    pub fn members(&self) -> impl Iterator<Item = (&String, Option<&String>, Vec<u8>)> {
        let protocol = self.protocol.unwrap_or_default();
        let all = self.group.into_iter().flat_map(|group| &group.members);
        all.map(move |(id, member)| (id, member.instance.as_ref(), member.metadata(protocol)))
    }
}

/// A member's part of its group's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// In the words of the member that assigned.
    Bytes(Vec<u8>),
    /// As the group assigned.
    Spots(BTreeSet<Spot>),
}

impl CoordinatorMachine {
    /// What a member that asked to join is told.
    pub fn join_answer(&self, who: &Who) -> Answer<Joined<'_>> {
        let group = match self.kind(who) {
            Ok(Kind::Classic(group)) => group,
            Ok(Kind::Consumer(group)) => return Some(group.joined(who)),
            Err(code) => return Some(Err(code)),
        };
        let member = match group.named(who) {
            Ok(member) => member,
            Err(code) => return Some(Err(code)),
        };
        match group.phase {
            Phase::Preparing if group.members.get(&member).is_some_and(|member| member.ready) => None,
            Phase::Preparing => Some(Ok(Joined::over(group, member))),
            _ => Some(Ok(Joined::of(group, member))),
        }
    }

    /// What a member that asked for its assignment is told.
    pub fn sync_answer(&self, who: &Who) -> Answer<Share> {
        let group = match self.kind(who) {
            Ok(Kind::Classic(group)) => group,
            Ok(Kind::Consumer(group)) => return Some(group.share(who)),
            Err(code) => return Some(Err(code)),
        };
        let member = match group.current(who) {
            Ok(member) => member,
            Err(code) => return Some(Err(code)),
        };
        let assigned = || Share::Bytes(member.assignment.clone());
        match group.phase {
            Phase::Stable => Some(Ok(assigned())),
            Phase::Completing if planted::is(Bug::DoubleOwner) => Some(Ok(assigned())),
            Phase::Completing => None,
            Phase::Preparing | Phase::Empty => Some(Err(Code::RebalanceInProgress)),
        }
    }

    /// What a heartbeat is told.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`; `RebalanceInProgress`: the member should join again.
    pub fn heartbeat(&self, who: &Who) -> Result<(), Code> {
        let group = match self.kind(who)? {
            Kind::Classic(group) => group,
            Kind::Consumer(group) => return group.classic_heartbeat(who),
        };
        group.current(who)?;
        match group.phase {
            Phase::Preparing => Err(Code::RebalanceInProgress),
            Phase::Completing | Phase::Stable | Phase::Empty => Ok(()),
        }
    }

    fn kind(&self, who: &Who) -> Result<&Kind, Code> {
        self.group(&who.group).map(|Group { kind, .. }| kind).ok_or(Code::UnknownMemberId)
    }
}
