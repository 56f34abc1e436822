//! JoinGroup: who may be a member, who replaces whom, and when that begins a rebalance (KIP-62, 345, 394, 559, 814).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Classic, Code, CoordinatorMachine, Embedded, Group, Kind, Member, Migration, Phase, Who};
use crate::limits::GROUP_METADATA_BYTES_MAX;
use crate::machine::At;

/// Kafka's JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Who joins, with the instance id of `member`; the generation is not looked at.
    pub who: Who,
    /// The coordinator has just made the member id, or made it before and told the member to come again with it (KIP-394).
    pub is_new: bool,
    /// What it says of itself; it has no assignment yet.
    pub member: Member,
    /// Such as `consumer`.
    pub protocol_type: String,
    /// `group.max.size` of the proposing coordinator.
    pub members_max: u32,
    /// Whether a group that was empty waits for more members (`group.initial.rebalance.delay.ms` above 0).
    pub gathers: bool,
    /// What its metadata says, if it is that of a consumer.
    pub embedded: Option<Embedded>,
    /// `group.consumer.migration.policy` of the proposing coordinator.
    pub migration: Migration,
}

impl CoordinatorMachine {
    pub(super) fn join(&mut self, at: At, mut join: Join) -> Result<(), Code> {
        join.member.owns = join.embedded.as_ref().map(|says| says.owned.clone());
        let id = join.who.group.clone();
        let has_room = self.has_room(&id);
        match self.groups.get_mut(&id) {
            Some(Group { kind: Kind::Classic(group), .. }) => group.join(at, join),
            Some(Group { kind, .. }) if !kind.is_empty() => kind.join(at, join),
            _ if !join.is_new => Err(Code::UnknownMemberId),
            _ if !has_room => Err(Code::GroupMaxSizeReached),
            _ => {
                let mut fresh = Classic::default();
                fresh.join(at, join)?;
                self.groups.entry(id).or_default().kind = Kind::Classic(fresh);
                Ok(())
            }
        }
    }
}

impl Kind {
    /// A member of the classic protocol joins a group of the consumer protocol, which may be one of the classic protocol then.
    fn join(&mut self, at: At, join: Join) -> Result<(), Code> {
        let Kind::Consumer(group) = self else { return Err(Code::InconsistentGroupProtocol) };
        let id = group.join(at, join)?;
        self.go_back(at);
        if let Kind::Classic(group) = self {
            group.prepare(at, &id);
        }
        Ok(())
    }
}

impl Classic {
    fn join(&mut self, at: At, join: Join) -> Result<(), Code> {
        if !self.fits(&join) {
            return Err(Code::InconsistentGroupProtocol);
        }
        let said: usize = self.others(&join).map(Member::bytes).sum();
        let has_room = said + join.member.bytes() <= GROUP_METADATA_BYTES_MAX;
        if !join.is_new {
            let id = self.named(&join.who)?;
            has_room.then_some(()).ok_or(Code::GroupMaxSizeReached)?;
            self.rejoin(at, &id, join);
            return Ok(());
        }
        let holder = join.member.instance.as_deref().and_then(|instance| self.instance(instance)).cloned();
        match holder {
            _ if !has_room => return Err(Code::GroupMaxSizeReached),
            Some(holder) => self.replace(at, &holder, join),
            None if self.members.len() >= join.members_max as usize => return Err(Code::GroupMaxSizeReached),
            None => self.admit(at, join),
        }
        Ok(())
    }

    /// All members but the one that joins, under this id or an older one.
    fn others(&self, join: &Join) -> impl Iterator<Item = &Member> {
        let same = |id: &String, member: &Member| {
            *id == join.who.member || (join.member.instance.is_some() && member.instance == join.member.instance)
        };
        self.members.iter().filter(move |(id, member)| !same(id, member)).map(|(_, member)| member)
    }

    /// Whether the group can go on with this member in it.
    fn fits(&self, join: &Join) -> bool {
        if join.member.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let same_type = self.protocol_type.as_deref() == Some(join.protocol_type.as_str());
        same_type
            && join.member.protocols.iter().any(|protocol| self.others(join).all(|member| member.knows(&protocol.name)))
    }

    fn admit(&mut self, at: At, join: Join) {
        if self.members.is_empty() {
            self.gathers = join.gathers;
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let id = join.who.member.clone();
        // Whatever it says that it owns, it was not assigned here.
        let owns = join.member.owns.as_ref().map(|_| BTreeSet::new());
        self.members.insert(id.clone(), Member { owns, ..join.member });
        self.prepare(at, &id);
    }

    /// A static member came back under a new id, which gets the old one's place. Nothing changes for the others if it says the
    /// same as before, so it gets its old assignment.
    fn replace(&mut self, at: At, holder: &str, join: Join) {
        let id = join.who.member.clone();
        let Some(old) = self.members.remove(holder) else { return };
        let same = old.protocols == join.member.protocols && self.protocol_type.as_ref() == Some(&join.protocol_type);
        let owns = join.member.owns.and(old.owns);
        let member = Member { assignment: old.assignment, ready: old.ready, owns, ..join.member };
        self.members.insert(id.clone(), member);
        if self.leader.as_deref() == Some(holder) {
            self.leader = Some(id.clone());
        }
        match self.phase {
            Phase::Stable if same => {}
            _ => self.prepare(at, &id),
        }
    }

    fn rejoin(&mut self, at: At, id: &str, mut join: Join) {
        let leads = self.leader.as_deref() == Some(id);
        let Some(member) = self.members.get_mut(id) else { return };
        let same = member.protocols == join.member.protocols;
        let (assignment, ready) = (std::mem::take(&mut member.assignment), member.ready);
        let (owned, owns) = (join.member.owns.take(), member.owns.take());
        *member = Member { assignment, ready, owns: owned.clone().and(owns), ..join.member };
        match self.phase {
            // Its answer was lost, and it asks again.
            Phase::Completing if same => {}
            // A follower that has heard of nothing; a leader that joins wants everybody assigned anew.
            Phase::Stable if same && !leads => {}
            _ => {
                // An eager one has given up all, a cooperative one what it does not name any more.
                member.owns = match (owned, member.owns.take()) {
                    (Some(owned), Some(owns)) => Some(owned.intersection(&owns).copied().collect()),
                    (owned, _) => owned,
                };
                self.prepare(at, id);
            }
        }
    }
}
