//! Committed offsets: who may commit, what is forgotten when (KIP-211, KIP-496).
//! Invariant: a commit by a member counts only in the member's own, current generation (no zombie moves a cursor).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Classic, Code, CoordinatorMachine, Group, Kind, Phase, Who};
use crate::assign::Spot;
use crate::ids::TopicId;
use crate::machine::At;
use crate::planted::{self, Bug};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Of the record to read next.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if unknown (KIP-320).
    pub leader_epoch: i32,
    /// Whatever the client wants kept.
    pub metadata: String,
    /// How long it is kept, where the client says so (`retention_time_ms` of OffsetCommit 2-4); else `offsets.retention.minutes`.
    pub retention_ms: Option<i64>,
    /// When it was committed, the leader's wall clock, ms since 1970. Set by apply.
    pub committed_ms: i64,
    /// Name of the topic when it was committed: what members subscribe to.
    pub name: String,
}

/// Kafka's OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Who commits. Without member, instance and generation: a client outside of the group's management.
    pub who: Who,
    /// What.
    pub offsets: Vec<(Spot, Offset)>,
}

/// When offsets are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// `offsets.retention.minutes`, in ms.
    pub ms: i64,
    /// At most so many offsets go in one apply, so that none stalls.
    pub offsets_max: u32,
}

impl CoordinatorMachine {
    pub(super) fn commit(&mut self, at: At, commit: Commit) -> Result<(), Code> {
        let Commit { who, offsets } = commit;
        match self.groups.get(&who.group) {
            Some(group) => group.may_commit(&who)?,
            None if who.generation < 0 && who.member.is_empty() => {}
            None => return Err(Code::IllegalGeneration),
        }
        let known = self.groups.get(&who.group).map(|group| &group.offsets);
        let is_new = |spot: &&Spot| known.is_none_or(|known| !known.contains_key(*spot));
        let new = offsets.iter().map(|(spot, _)| spot).filter(is_new).collect::<BTreeSet<_>>().len();
        if !self.has_room(&who.group) || !self.has_room_for_offsets(new) {
            return Err(Code::InvalidCommitOffsetSize);
        }
        self.offset_count += new;
        let fresh = || Kind::Classic(Classic { since_ms: at.leader_ts, ..Classic::default() });
        let group = self.groups.entry(who.group).or_insert_with(|| Group { kind: fresh(), ..Group::default() });
        for (spot, offset) in offsets {
            group.offsets.insert(spot, Offset { committed_ms: at.leader_ts, ..offset });
        }
        Ok(())
    }

    pub(super) fn delete_offsets(&mut self, id: &str, spots: &[(Spot, String)]) -> Vec<Result<(), Code>> {
        let Some(group) = self.groups.get_mut(id) else { return vec![Err(Code::GroupIdNotFound); spots.len()] };
        let refusal = |spot: &Spot, name: &str| match group.subscribes(spot, name) {
            Some(true) => Some(Code::GroupSubscribedToTopic),
            Some(false) => None,
            None => (!group.is_empty()).then_some(Code::NonEmptyGroup),
        };
        let refusals: Vec<_> = spots.iter().map(|(spot, name)| refusal(spot, name)).collect();
        let before = group.offsets.len();
        for ((spot, _), _) in spots.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none()) {
            group.offsets.remove(spot);
        }
        let gone = before - group.offsets.len();
        self.forget(gone);
        refusals.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)).collect()
    }

    pub(super) fn expire_offsets(&mut self, at: At, retention: Retention) -> u64 {
        let mut budget = retention.offsets_max as usize;
        let mut forgotten = 0;
        for group in self.groups.values_mut() {
            let old = group.expired(at.leader_ts, retention.ms, budget);
            old.iter().for_each(|spot| drop(group.offsets.remove(spot)));
            budget -= old.len();
            forgotten += old.len() as u64;
        }
        self.groups.retain(|_, group| !group.is_over(at.leader_ts, retention.ms));
        self.forget(forgotten as usize);
        forgotten
    }

    /// Whether ExpireOffsets would change anything: asked before it is proposed.
    pub fn has_expired(&self, now_ms: i64, retention_ms: i64) -> bool {
        let old =
            |group: &Group| group.is_over(now_ms, retention_ms) || !group.expired(now_ms, retention_ms, 1).is_empty();
        self.groups.values().any(old)
    }

    /// The topics that offsets are kept of.
    pub fn topics(&self) -> BTreeSet<TopicId> {
        self.groups.values().flat_map(|group| group.offsets.keys()).map(|spot| spot.topic).collect()
    }

    pub(super) fn forget_topics(&mut self, topics: &[TopicId]) -> u64 {
        let mut forgotten = 0;
        for group in self.groups.values_mut() {
            let before = group.offsets.len();
            group.offsets.retain(|spot, _| !topics.contains(&spot.topic));
            forgotten += before - group.offsets.len();
        }
        self.forget(forgotten);
        forgotten as u64
    }
}

impl Group {
    fn may_commit(&self, who: &Who) -> Result<(), Code> {
        let outside = who.generation < 0 && who.member.is_empty() && who.instance.is_none();
        if outside {
            return if self.is_empty() { Ok(()) } else { Err(Code::UnknownMemberId) };
        }
        match &self.kind {
            _ if planted::is(Bug::ZombieCommit) => Ok(()),
            Kind::Classic(group) => {
                group.current(who)?;
                // It may have lost what it read: it learns so when it asks for its assignment.
                if group.phase == Phase::Completing { Err(Code::RebalanceInProgress) } else { Ok(()) }
            }
            Kind::Consumer(group) => {
                let classic = group.members.get(&who.member).is_some_and(|member| member.classic.is_some());
                let stale = if classic { Code::IllegalGeneration } else { Code::StaleMemberEpoch };
                let of_group = |code| if code == Code::FencedMemberEpoch { stale } else { code };
                group.current(who, None).map(drop).map_err(of_group)
            }
        }
    }

    /// Whether any member subscribes to a topic; `None` where we cannot know, because the members are no consumers.
    fn subscribes(&self, spot: &Spot, name: &str) -> Option<bool> {
        match &self.kind {
            Kind::Classic(group) if group.protocol_type.as_deref() == Some("consumer") => Some(group.subscribes(name)),
            Kind::Classic(_) => None,
            Kind::Consumer(group) => Some(group.topics.contains_key(&spot.topic)),
        }
    }

    /// Whether it has had neither members nor offsets for so long that nobody will miss it.
    fn is_over(&self, now_ms: i64, retention_ms: i64) -> bool {
        let idle = self.is_empty() && self.offsets.is_empty();
        idle && now_ms.saturating_sub(self.since_ms()) >= retention_ms
    }

    /// Since when it is what it is, ms since 1970.
    fn since_ms(&self) -> i64 {
        match &self.kind {
            Kind::Classic(group) => group.since_ms,
            Kind::Consumer(group) => group.since_ms,
        }
    }

    /// Offsets that nobody needs (KIP-211): of an empty group all, once it has been empty for long; in a group of consumers those of
    /// topics that no member subscribes to; where there never were members, each by its own age. What a client asked to keep for a
    /// while goes after that while instead, counted from its commit, as Kafka still has it.
    fn expired(&self, now_ms: i64, retention_ms: i64, at_most: usize) -> Vec<Spot> {
        let had_members = self.classic().is_none_or(|group| group.protocol_type.is_some());
        let settled = self.classic().is_none_or(|group| group.phase == Phase::Stable);
        let from = |spot: &Spot, offset: &Offset| match self.subscribes(spot, &offset.name) {
            _ if self.is_empty() && had_members => Some(offset.committed_ms.max(self.since_ms())),
            _ if self.is_empty() => Some(offset.committed_ms),
            Some(false) if settled => Some(offset.committed_ms),
            _ => None,
        };
        let old = |spot: &Spot, offset: &Offset| {
            let (since, keeps) = match offset.retention_ms {
                Some(own_ms) => (from(spot, offset).map(|_| offset.committed_ms), own_ms),
                None => (from(spot, offset), retention_ms),
            };
            since.is_some_and(|since| now_ms.saturating_sub(since) >= keeps)
        };
        self.offsets.iter().filter(|(spot, offset)| old(spot, offset)).map(|(spot, _)| *spot).take(at_most).collect()
    }
}
