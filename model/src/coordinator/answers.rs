//! What a member may be told now: JoinGroup and SyncGroup wait until there is an answer, Heartbeat never waits.
//! Level-triggered, so that a new coordinator needs to remember nothing: whoever waits asks again after each change.

use super::{Classic, Code, CoordinatorMachine, Group, Phase, Who};
use crate::planted::{self, Bug};

/// An answer, a refusal, or `None`: not yet.
pub type Answer<T> = Option<Result<T, Code>>;

/// What a member that has joined is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The group of this generation.
    pub group: &'a Classic,
    /// The member's id, which may be newer than the one that asks.
    pub member: String,
}

impl Joined<'_> {
    /// Whether the member assigns. It gets everybody's metadata, also when nothing has changed (KIP-814).
    pub fn leads(&self) -> bool {
        self.group.leader.as_ref() == Some(&self.member)
    }

    /// The assignment of this generation is there already: the leader need not make one (KIP-814).
    pub fn skip_assignment(&self) -> bool {
        self.leads() && self.group.phase == Phase::Stable
    }

    /// Every member's id, instance id and metadata for the chosen protocol.
    pub fn members(&self) -> impl Iterator<Item = (&String, Option<&String>, Vec<u8>)> {
        let protocol = self.group.protocol.as_deref().unwrap_or_default();
        self.group.members.iter().map(|(id, member)| (id, member.instance.as_ref(), member.metadata(protocol)))
    }
}

impl CoordinatorMachine {
    /// What a member that asked to join is told.
    pub fn join_answer(&self, who: &Who) -> Answer<Joined<'_>> {
        let group = match self.member(who) {
            Ok(group) => group,
            Err(code) => return Some(Err(code)),
        };
        match group.phase {
            Phase::Preparing => None,
            _ => Some(group.named(who).map(|member| Joined { group, member })),
        }
    }

    /// What a member that asked for its assignment is told.
    pub fn sync_answer(&self, who: &Who) -> Answer<Vec<u8>> {
        let (group, member) = match self.member(who).and_then(|group| Ok((group, group.current(who)?))) {
            Ok(found) => found,
            Err(code) => return Some(Err(code)),
        };
        match group.phase {
            Phase::Stable => Some(Ok(member.assignment.clone())),
            Phase::Completing if planted::is(Bug::DoubleOwner) => Some(Ok(member.assignment.clone())),
            Phase::Completing => None,
            Phase::Preparing | Phase::Empty => Some(Err(Code::RebalanceInProgress)),
        }
    }

    /// What a heartbeat is told.
    ///
    /// # Errors
    /// `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`; `RebalanceInProgress`: the member should join again.
    pub fn heartbeat(&self, who: &Who) -> Result<(), Code> {
        let group = self.member(who)?;
        group.current(who)?;
        match group.phase {
            Phase::Preparing => Err(Code::RebalanceInProgress),
            Phase::Completing | Phase::Stable | Phase::Empty => Ok(()),
        }
    }

    fn member(&self, who: &Who) -> Result<&Classic, Code> {
        let group = self.group(&who.group).and_then(Group::classic).ok_or(Code::UnknownMemberId)?;
        group.named(who).map(|_| group)
    }
}
