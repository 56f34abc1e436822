//! What members ask each other about the rafts they run, outside of Raft itself. Encoded by `storage::codec`.
//! Plain data, no behaviour.
use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use model::coordinator::Code;
use model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::queues::QueueStanding;

const QUESTION_BYTES_MAX: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Asked of a node that leads a group, or holds one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Hand the leadership of `group` to the voter on `to`, and answer when another replica leads.
    HandOver {
        /// The group, led by whom is asked.
        group: GroupId,
        /// Who shall lead it.
        to: NodeId,
    },
    /// How far the members of a group are that whom is asked leads.
    Quorum(GroupId),
    /// How many bytes the log of each partition here has.
    Sizes,
    /// Where an offset is in each of these partitions that whom is asked leads.
    Places(Vec<(GroupId, i64)>),
    /// The consumer groups that whom is asked coordinates.
    ConsumerGroups,
    /// Make a consumer group rebalance that whom is asked coordinates.
    Rebalance {
        /// Its id.
        group: String,
        /// Only say how it stands, and whether it could.
        dry_run: bool,
    },
    /// How the queues stand that whom is asked leads: all of them, or that of this group.
    Queues(Option<GroupId>),
    /// The AMQP connections to whom is asked.
    Connections,
    /// End an AMQP connection to whom is asked.
    CloseConnection {
        /// Its name.
        name: String,
        /// What its client is told.
        why: String,
    },
    /// Answer when the controller's image here has this version.
    Image(u64),
}

/// The answer to the [`Question`] of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answered {
    /// Another replica leads.
    HandedOver,
    /// As the leader sees it.
    Quorum(Quorum),
    /// In order of the groups.
    Sizes(Vec<(GroupId, u64)>),
    /// In the order asked; none where it does not lead, or does not know the end.
    Places(Vec<Option<Place>>),
    /// By group id.
    ConsumerGroups(Vec<ConsumerGroup>),
    /// How it stands, or the group's own refusal.
    Rebalance(Result<Rebalanced, Code>),
    /// In order of the groups.
    Queues(Vec<(GroupId, QueueStanding)>),
    /// As they came.
    Connections(Vec<ConnectionReport>),
    /// Whether there was one.
    Closed(bool),
    /// It has.
    Image,
}

/// A client's AMQP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Where from and where to.
    pub name: String,
    /// The node that it is to.
    pub node: NodeId,
    /// Whose login it was.
    pub user: String,
    /// Its virtual host.
    pub vhost: String,
    /// Where it comes from.
    pub peer_host: String,
    /// Its port there.
    pub peer_port: u16,
    /// The address it reached.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Since when, ms since 1970.
    pub connected_ms: i64,
    /// What the client says of itself: product, version, platform, its name for the connection.
    pub client: BTreeMap<String, String>,
    /// Open channels.
    pub channels: usize,
}

/// A consumer group that was made to rebalance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rebalanced {
    /// How it was.
    pub before: GroupStanding,
    /// How it is; its members have yet to hear of it. As before in a dry run.
    pub after: GroupStanding,
}

/// How a consumer group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupStanding {
    /// Kafka's name of its state.
    pub state: String,
    /// Its generation, of the classic protocol; its epoch, of the consumer protocol.
    pub generation: i32,
    /// How many members it has.
    pub members: usize,
}

/// An offset in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Offset of the first record.
    pub log_start: i64,
    /// Offset after the last committed record.
    pub end: i64,
    /// Timestamp of the first record from the offset on, ms since 1970; none at the end.
    pub timestamp_ms: Option<i64>,
}

/// A consumer group, as its coordinator sees it. Also a row of `/v1/groups`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsumerGroup {
    /// Its id.
    pub group: String,
    /// `classic` or `consumer`.
    pub protocol: String,
    /// Kafka's name of its state.
    pub state: String,
    /// The node that coordinates it.
    #[schema(value_type = u32)]
    pub coordinator: NodeId,
    /// By member id.
    pub members: Vec<GroupMember>,
    /// Records to read, of all partitions together that are known.
    pub lag: i64,
    /// What was committed or is assigned, by topic and partition.
    pub partitions: Vec<PartitionLag>,
}

/// One member of a [`ConsumerGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// How many partitions it has.
    pub partitions: usize,
}

/// How far a group is behind in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartitionLag {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Of the record to read next; none if nothing was committed.
    pub committed: Option<i64>,
    /// Offset after the last record; none if its leader does not answer.
    pub end: Option<i64>,
    /// Records to read: from the committed offset, or the log start if that is behind it, to the end.
    pub lag: Option<i64>,
    /// For how long the next record to read has been there, s; 0 at the end.
    pub lag_seconds: Option<f64>,
    /// Records that the lag has grown by in a second, lately.
    pub growth_per_second: Option<f64>,
    /// The member that reads it.
    pub owner: Option<String>,
    /// Where that connects from.
    pub host: Option<String>,
}

/// The members of a group as its leader sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Quorum {
    /// The leader.
    #[schema(value_type = u32)]
    pub leader: NodeId,
    /// Its Raft term.
    pub term: u64,
    /// Last entry known to be on a majority.
    pub committed: u64,
    /// Voters first, each kind by node.
    pub members: Vec<Member>,
}

/// One member of a [`Quorum`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Member {
    /// Its node.
    #[schema(value_type = u32)]
    pub node: NodeId,
    /// Whether it votes.
    pub votes: bool,
    /// The last entry that it is known to hold.
    pub matched: Option<u64>,
    /// How long ago it answered the leader last; 0 for the leader itself.
    pub heard_ms_ago: Option<u64>,
    /// Whether it holds all that the leader holds.
    pub is_caught_up: bool,
}

impl Question {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, QUESTION_BYTES_MAX)
    }
}

impl Answered {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, ANSWER_BYTES_MAX)
    }
}
