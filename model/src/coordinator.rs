//! A coordinator shard: consumer groups and their committed offsets, replicated. Leaders, generations and fencing are decided
//! in apply, so that a new coordinator goes on where the old one was, in the middle of a rebalance too.
//! Soft, and not here: heartbeats, session and rebalance timers, requests that wait. Their outcome comes in as a command.
//! Invariant: a refused command changes nothing; what a member may be told is a question to the state (`answers`).

pub mod answers;
pub mod bounds;
pub mod classic;
pub mod consumer;
mod join;
pub mod migration;
pub mod offsets;
mod rebalance;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use answers::{Answer, Joined, Share};
pub use bounds::Bounds;
pub use classic::{Classic, Member, Phase, Protocol, Who};
pub use consumer::{Beat, Beaten, Consumer, ConsumerMember, Subscription};
pub use join::Join;
pub use migration::{ClassicSide, Embedded, Migration};
pub use offsets::{Commit, Offset, Retention};

use crate::assign::Spot;
use crate::ids::TopicId;
use crate::machine::At;

/// What may be asked of a shard. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Kafka's JoinGroup, by a member whose id the coordinator knows or has made.
    Join(Join),
    /// Everybody who will rejoin has: the initial delay or the rebalance timeout is over.
    EndJoin(Turn),
    /// Kafka's SyncGroup.
    Sync(Sync),
    /// Everybody who will ask for the assignment has: the rebalance timeout is over since the join ended.
    EndSync(Turn),
    /// Kafka's LeaveGroup.
    Leave {
        /// Which group.
        group: String,
        /// Who leaves; the generation is not looked at.
        members: Vec<Who>,
    },
    /// A member has not been heard of for its session timeout.
    Expire(Who),
    /// Kafka's OffsetCommit.
    Commit(Commit),
    /// Kafka's DeleteGroups, of one group.
    DeleteGroup(String),
    /// Kafka's OffsetDelete (KIP-496): one result per partition.
    DeleteOffsets {
        /// Which group.
        group: String,
        /// The offsets, each with the name that members subscribe to.
        spots: Vec<(Spot, String)>,
    },
    /// Forgets offsets that nobody needs (KIP-211), and groups without members and offsets.
    ExpireOffsets(Retention),
    /// Topics are deleted: so are their offsets.
    ForgetTopics(Vec<TopicId>),
    /// Kafka's ConsumerGroupHeartbeat, of a member that something changes for.
    Beat(Beat),
    /// The topics of the cluster have changed: what a group of the consumer protocol subscribes to now.
    Refresh {
        /// Which group.
        group: String,
        /// All topics that its members subscribe to, with their partitions.
        topics: Vec<(TopicId, i32)>,
        /// Which of them each member does.
        members: Vec<(String, BTreeSet<TopicId>)>,
    },
    /// An operator wants this group to rebalance, though nothing has changed in it.
    Rebalance(String),
    /// How much the shard may hold from now on, by the settings of the node that leads it.
    Bound(Bounds),
}

/// One rebalance of one group: a timer that comes late finds another generation and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Which group.
    pub group: String,
    /// Its generation when the timer was set.
    pub generation: i32,
}

/// Kafka's SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Who asks.
    pub who: Who,
    /// The type that the member believes the group has (KIP-559).
    pub protocol_type: Option<String>,
    /// The protocol that it believes was chosen.
    pub protocol: Option<String>,
    /// Of the leader: each member's assignment.
    pub assignments: Vec<Part>,
}

/// What the leader assigns to one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Whom.
    pub member: String,
    /// In the leader's own words.
    pub bytes: Vec<u8>,
    /// The same, if they are the words of consumers and say nothing more.
    pub spots: Option<BTreeSet<Spot>>,
}

/// What the proposer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Of all commands but those below.
    Done(Result<(), Code>),
    /// Of Leave and DeleteOffsets: one per member or partition.
    Each(Vec<Result<(), Code>>),
    /// Of ExpireOffsets and ForgetTopics: how many offsets went.
    Forgotten(u64),
    /// Of Beat.
    Beaten(Result<Beaten, Code>),
}

/// The Kafka error codes a group can refuse with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[repr(i16)]
pub enum Code {
    /// ILLEGAL_GENERATION.
    #[error("the generation is not the group's current one")]
    IllegalGeneration = 22,
    /// INCONSISTENT_GROUP_PROTOCOL.
    #[error("the group has another protocol type, or no protocol that all members know")]
    InconsistentGroupProtocol = 23,
    /// UNKNOWN_MEMBER_ID.
    #[error("the group has no such member")]
    UnknownMemberId = 25,
    /// REBALANCE_IN_PROGRESS.
    #[error("the group is rebalancing")]
    RebalanceInProgress = 27,
    /// INVALID_COMMIT_OFFSET_SIZE: Kafka's answer to a commit that cannot be kept; clients give up rather than ask again.
    #[error("the coordinator holds as many groups or offsets as it may")]
    InvalidCommitOffsetSize = 28,
    /// NON_EMPTY_GROUP.
    #[error("the group has members")]
    NonEmptyGroup = 68,
    /// GROUP_ID_NOT_FOUND.
    #[error("there is no such group")]
    GroupIdNotFound = 69,
    /// GROUP_MAX_SIZE_REACHED.
    #[error(
        "the group has as many members as it may, they say as much as they may, or the coordinator has no room for the group"
    )]
    GroupMaxSizeReached = 81,
    /// FENCED_INSTANCE_ID.
    #[error("another member has this group.instance.id")]
    FencedInstanceId = 82,
    /// GROUP_SUBSCRIBED_TO_TOPIC.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic = 86,
    /// FENCED_MEMBER_EPOCH.
    #[error("the member has another epoch: it must give up all partitions and join again")]
    FencedMemberEpoch = 110,
    /// UNRELEASED_INSTANCE_ID.
    #[error("another member has this group.instance.id and has not left")]
    UnreleasedInstanceId = 111,
    /// STALE_MEMBER_EPOCH.
    #[error("the member has a newer epoch by now")]
    StaleMemberEpoch = 113,
}

impl Code {
    /// The number on Kafka's wire.
    pub const fn kafka(self) -> i16 {
        self as i16
    }
}

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its members, by the protocol that they speak.
    pub kind: Kind,
    /// What was committed.
    pub offsets: BTreeMap<Spot, Offset>,
}

/// What protocol the members of a group speak. One without members becomes what the next one speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// JoinGroup and SyncGroup: a member assigns.
    Classic(Classic),
    /// ConsumerGroupHeartbeat (KIP-848): the group assigns.
    Consumer(Consumer),
}

impl Default for Kind {
    fn default() -> Self {
        Kind::Classic(Classic::default())
    }
}

impl Kind {
    /// Kafka's name of the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Classic(_) => "classic",
            Kind::Consumer(_) => "consumer",
        }
    }

    /// Kafka's name of the group's state.
    pub fn state(&self) -> &'static str {
        match self {
            Kind::Classic(group) => group.state(),
            Kind::Consumer(group) => group.state(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Kind::Classic(classic) => classic.members.is_empty(),
            Kind::Consumer(consumer) => consumer.members.is_empty(),
        }
    }
}

impl Group {
    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.kind.is_empty()
    }

    /// Its members, if they speak the classic protocol.
    pub fn classic(&self) -> Option<&Classic> {
        match &self.kind {
            Kind::Classic(classic) => Some(classic),
            Kind::Consumer(_) => None,
        }
    }

    /// Its members, if they speak the consumer protocol.
    pub fn consumer(&self) -> Option<&Consumer> {
        match &self.kind {
            Kind::Classic(_) => None,
            Kind::Consumer(consumer) => Some(consumer),
        }
    }
}

/// The replicated machine of one shard. All of it is the Raft snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorMachine {
    groups: BTreeMap<String, Group>,
    bounds: Bounds,
    /// Committed offsets of all groups together.
    offset_count: usize,
}

impl CoordinatorMachine {
    /// Applies one command.
    pub fn apply(&mut self, at: At, command: Command) -> Reply {
        match command {
            Command::Join(join) => Reply::Done(self.join(at, join)),
            Command::EndJoin(turn) => Reply::Done(self.turn(&turn, Phase::Preparing, |group| group.complete_join(at))),
            Command::Sync(sync) => Reply::Done(self.sync(at, sync)),
            Command::EndSync(turn) => Reply::Done(self.turn(&turn, Phase::Completing, |group| group.complete_sync(at))),
            Command::Leave { group, members } => Reply::Each(
                members.into_iter().map(|who| self.leave(at, &Who { group: group.clone(), ..who })).collect(),
            ),
            Command::Expire(who) => Reply::Done(self.leave(at, &who)),
            Command::Commit(commit) => Reply::Done(self.commit(at, commit)),
            Command::DeleteGroup(group) => Reply::Done(self.delete_group(&group)),
            Command::DeleteOffsets { group, spots } => Reply::Each(self.delete_offsets(&group, &spots)),
            Command::ExpireOffsets(retention) => Reply::Forgotten(self.expire_offsets(at, retention)),
            Command::ForgetTopics(topics) => Reply::Forgotten(self.forget_topics(&topics)),
            Command::Beat(beat) => Reply::Beaten(self.beat(at, beat)),
            Command::Refresh { group, topics, members } => Reply::Done(self.refresh(&group, &topics, members)),
            Command::Rebalance(group) => Reply::Done(self.rebalance(at, &group)),
            Command::Bound(bounds) => {
                self.bounds = bounds;
                Reply::Done(Ok(()))
            }
        }
    }

    /// The group of this id, if it exists.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&String, &Group)> {
        self.groups.iter()
    }

    fn members(&mut self, id: &str) -> Result<&mut Kind, Code> {
        self.groups.get_mut(id).map(|group| &mut group.kind).ok_or(Code::UnknownMemberId)
    }

    fn turn(&mut self, turn: &Turn, phase: Phase, end: impl FnOnce(&mut Classic)) -> Result<(), Code> {
        match self.members(&turn.group)? {
            Kind::Classic(group) if group.generation == turn.generation && group.phase == phase => {
                end(group);
                Ok(())
            }
            _ => Err(Code::IllegalGeneration),
        }
    }

    fn sync(&mut self, at: At, sync: Sync) -> Result<(), Code> {
        match self.members(&sync.who.group)? {
            Kind::Classic(group) => group.sync(at, sync),
            Kind::Consumer(group) => group.synced(&sync),
        }
    }

    fn leave(&mut self, at: At, who: &Who) -> Result<(), Code> {
        let kind = self.members(&who.group)?;
        match kind {
            Kind::Classic(group) => {
                let member = group.named(who)?;
                group.remove(at, &member);
            }
            Kind::Consumer(group) => {
                let member = group.named(who)?;
                group.remove(at, &member);
            }
        }
        kind.go_back(at);
        Ok(())
    }

    /// A group without members becomes one of the consumer protocol; epochs begin anew, since nobody is left to have one. One of
    /// consumers that speak the classic protocol takes them along.
    fn beat(&mut self, at: At, beat: Beat) -> Result<Beaten, Code> {
        let id = beat.who.group.clone();
        let (joins, has_room) = (beat.who.generation == consumer::JOINS, self.has_room(&id));
        match self.groups.get_mut(&id) {
            Some(Group { kind: kind @ Kind::Consumer(_), .. }) => kind.beat(at, beat),
            Some(Group { kind: Kind::Classic(group), .. }) if !group.members.is_empty() => {
                let mut taken = Consumer::of(group, &beat).ok_or(Code::GroupIdNotFound)?;
                // One that was sent away, and with which the group's last member of its protocol went, has to come again.
                joins.then_some(()).ok_or(Code::UnknownMemberId)?;
                let beaten = taken.beat(at, beat)?;
                self.groups.entry(id).or_default().kind = Kind::Consumer(taken);
                Ok(beaten)
            }
            _ if !joins => Err(Code::UnknownMemberId),
            _ if !has_room => Err(Code::GroupMaxSizeReached),
            _ => {
                let mut fresh = Consumer::default();
                let beaten = fresh.beat(at, beat)?;
                self.groups.entry(id).or_default().kind = Kind::Consumer(fresh);
                Ok(beaten)
            }
        }
    }

    fn refresh(
        &mut self,
        id: &str,
        topics: &[(TopicId, i32)],
        members: Vec<(String, BTreeSet<TopicId>)>,
    ) -> Result<(), Code> {
        match self.groups.get_mut(id).map(|group| &mut group.kind) {
            Some(Kind::Consumer(group)) => {
                group.refresh(topics, members);
                Ok(())
            }
            _ => Err(Code::GroupIdNotFound),
        }
    }

    /// Members of the classic protocol must join again; those of the consumer protocol get a new epoch with a target made anew.
    fn rebalance(&mut self, at: At, id: &str) -> Result<(), Code> {
        match self.groups.get_mut(id) {
            None => Err(Code::GroupIdNotFound),
            Some(group) if group.is_empty() => Err(Code::UnknownMemberId),
            Some(Group { kind: Kind::Classic(group), .. }) => {
                group.rebalance(at);
                Ok(())
            }
            Some(Group { kind: Kind::Consumer(group), .. }) => {
                group.retarget();
                Ok(())
            }
        }
    }

    fn delete_group(&mut self, id: &str) -> Result<(), Code> {
        match self.groups.get(id) {
            None => Err(Code::GroupIdNotFound),
            Some(group) if !group.is_empty() => Err(Code::NonEmptyGroup),
            Some(group) => {
                let gone = group.offsets.len();
                self.forget(gone);
                self.groups.remove(id);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod tests;
