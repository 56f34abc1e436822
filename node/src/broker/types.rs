//! Requests and answers of the facade. Plain data, in the words of logs and offsets.
//! Never a word of one protocol.
use std::time::Duration;

use bytes::Bytes;
use model::ids::{GroupId, NodeId, PartitionIndex, TopicId};

use super::error::Leader;

/// One partition of one incarnation of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionRef {
    /// The topic's UUID.
    pub topic: TopicId,
    /// The partition's number, from 0.
    pub index: PartitionIndex,
}

/// Record batches for one partition.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// Where to.
    pub partition: PartitionRef,
    /// Verified v2 batches (length, magic, CRC, counts: the caller's admission), verbatim, in order.
    pub batches: Vec<Bytes>,
    /// How long the caller waits for the commit.
    pub timeout: Duration,
}

/// A committed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; the original one when the batch was a producer's retry.
    pub base_offset: i64,
    /// The timestamp stamped by this leader (milliseconds), if the topic uses LogAppendTime.
    pub log_append_time_ms: Option<i64>,
    /// First offset that exists.
    pub log_start: i64,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// Where from.
    pub partition: PartitionRef,
    /// The first wanted offset; the batch that contains it is returned whole.
    pub offset: i64,
    /// Stop before going over this many bytes.
    pub max_bytes: usize,
    /// The reader's idea of the leader epoch, if it has one.
    pub leader_epoch: Option<i32>,
    /// Return the first batch even if it is longer than `max_bytes`.
    pub at_least_one: bool,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// End of what is committed and applied.
    pub high_watermark: i64,
    /// First offset that exists.
    pub log_start: i64,
    /// The leader that answered, with its epoch.
    pub leader: Leader,
    /// Batches in offset order; may be empty at the high watermark.
    pub batches: Vec<StoredBatch>,
}

/// One live batch: bytes as stored, plus the two header fields the log does not keep (base offset belongs in bytes
/// 0..8, leader epoch in 12..16; both lie outside the CRC).
pub use model::record::LiveBatch as StoredBatch;

/// A position asked for by ListOffsets (KIP-79, KIP-734, KIP-405).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Log start offset.
    Earliest,
    /// High watermark, linearizable.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record with this timestamp or a later one (milliseconds).
    Timestamp(i64),
    /// First offset on local disks; without tiers the same as `Earliest`.
    EarliestLocal,
    /// Last offset in the remote tier; there is none.
    LatestTiered,
}

/// The answer to [`Position`]; offset and timestamp are -1 where nothing matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset.
    pub offset: i64,
    /// Its timestamp, where the question was about time.
    pub timestamp: i64,
    /// The leader epoch of the record at the offset, -1 if unknown.
    pub leader_epoch: i32,
}

/// Which address of a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// The Kafka listener.
    Kafka,
    /// The HTTP listener.
    Admin,
    /// The inter-node listener.
    Peer,
}

/// One raft of this node, for operators.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct GroupReport {
    /// Raft group.
    #[schema(value_type = u32)]
    pub group: GroupId,
    /// `controller` or `topic-partition`.
    pub name: String,
    /// The leader this replica knows.
    #[schema(value_type = Option<u32>)]
    pub leader: Option<NodeId>,
    /// Raft term = leader epoch.
    pub term: u64,
    /// `leader`, `follower`, `learner`, `candidate`, `stopped` or `quarantined`.
    pub role: &'static str,
    /// An idle partition that sleeps: it neither ticks nor beats until it is needed.
    pub asleep: bool,
    /// Last log index on this node.
    pub last_index: u64,
    /// Committed index known here.
    pub committed: u64,
    /// Applied index.
    pub applied: u64,
    /// Voting nodes.
    #[schema(value_type = Vec<u32>)]
    pub voters: Vec<NodeId>,
    /// Learning nodes.
    #[schema(value_type = Vec<u32>)]
    pub learners: Vec<NodeId>,
}

/// One node as this node sees it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct NodeReport {
    /// Node id.
    #[schema(value_type = u32)]
    pub id: NodeId,
    /// Kafka address.
    pub kafka: String,
    /// HTTP address.
    pub admin: String,
    /// Inter-node address.
    pub peer: String,
    /// Rack, if set.
    pub rack: Option<String>,
    /// Heartbeats arrive (always true for this node).
    pub alive: bool,
    /// Partitions it leads.
    pub leads: usize,
    /// Whether it leads the controller.
    pub controller: bool,
    /// `serving`, `drained` (it leads nothing) or `leaving` (it holds nothing).
    pub duty: &'static str,
}

/// Bytes on disk of one local replica.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The partition.
    pub topic: String,
    /// Its number.
    pub index: PartitionIndex,
    /// Bytes in the log.
    pub bytes: u64,
    /// How far this replica is behind the high watermark it knows, in entries.
    pub lag: i64,
}

/// What one local replica of a partition holds, and why.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct PartitionReport {
    /// The topic.
    pub topic: String,
    /// Its number.
    #[schema(value_type = i32)]
    pub partition: PartitionIndex,
    /// The node of this replica.
    #[schema(value_type = u32)]
    pub node: NodeId,
    /// As in [`GroupReport`].
    pub role: &'static str,
    /// Bytes of its log.
    pub bytes: u64,
    /// Offset of the first record that may be read.
    pub log_start: i64,
    /// Offset after the last record.
    pub high_watermark: i64,
    /// Records below this offset were compacted; 0 if none were.
    pub clean_end: i64,
    /// Last Raft entry removed from the log, if any was.
    pub purged: Option<u64>,
    /// Raft index of the newest checkpoint: the log can be purged to a checkpoint only.
    pub checkpoint: Option<u64>,
    /// Bytes that the records from the log start on need.
    pub retained_bytes: u64,
    /// What holds the bytes: `retention` (not reached), `checkpoint` (none at the log start), `slow follower`, `purge under
    /// way` or `nothing`.
    pub pinned_by: &'static str,
}

/// This node's one log directory.
#[derive(Clone, Debug)]
pub struct LogDir {
    /// Path of the data folder.
    pub path: String,
    /// Size of the volume in bytes, -1 if unknown.
    pub total_bytes: i64,
    /// Free bytes of the volume, -1 if unknown.
    pub usable_bytes: i64,
    /// Replicas on it.
    pub replicas: Vec<DirEntry>,
}

/// What came of a client's first use of a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCreation {
    /// It will exist soon: the client asks again.
    Pending,
    /// Over the rate of the connection or the node: nothing was queued.
    Refused,
    /// Auto-creation is switched off.
    Disabled,
}

/// Whether the node serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Caught up on every assigned raft.
    pub ready: bool,
    /// If not, what is missing.
    pub reason: String,
}
