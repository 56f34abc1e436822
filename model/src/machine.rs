//! What every replicated machine takes and gives: (At, command) in; (writes, effects, reply) out.
//! Invariant: the same entries give the same writes, effects and replies on every replica, for ever.
//! Must never read a clock, a random number, the order of a HashMap, or anything that is not in the entry or the state.

use serde::{Deserialize, Serialize};

use crate::command;
use crate::cursor::{CursorRefusal, Once, ackset};
use crate::partition::{Clean, Epoch, Moved, Sparse, State};
use crate::producer::Producer;
use crate::record::BadBatch;

/// Where and when an entry is applied. `leader_ts` (ms since 1970) is the only time apply knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Raft index of the entry.
    pub index: u64,
    /// Raft term of the entry: Kafka's leader epoch.
    pub term: u64,
    /// The wall clock of the leader that proposed it.
    pub leader_ts: i64,
}

/// What an apply leaves behind, appended in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Facts to store in one batch with the applied id.
    pub writes: Vec<Write>,
    /// What woke up; acted on by the leader only.
    pub effects: Vec<Effect>,
}

/// One typed row of a partition. A later row of the same key replaces the earlier one;
/// the machine restored from the surviving rows equals the machine that wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// The counters of the log. One row, written by every apply.
    State(State),
    /// A point of the sparse index.
    Sparse(Sparse),
    /// The point at this Raft index is no longer needed.
    SparseGone(u64),
    /// A leader epoch and where it starts.
    Epoch(Epoch),
    /// The epoch of this term is no longer needed.
    EpochGone(u64),
    /// A batch that took no offsets.
    Dead(DeadBatch),
    /// The dead batch is below everything that is read.
    DeadGone(DeadBatch),
    /// A producer's sequences.
    Producer(Producer),
    /// The producer of this id is forgotten.
    ProducerGone(i64),
    /// Records of a range of offsets have another place.
    Moved(Moved),
    /// The row of the range that begins here is replaced, or not needed any more.
    MovedGone(i64),
    /// How far compaction has come. One row; none if it never ran.
    Clean(Clean),
    /// A row of a cursor, or that it is gone.
    Cursor {
        /// The cursor's number.
        cursor: u32,
        /// The row.
        row: ackset::Row,
    },
    /// The last letter that was taken of a source.
    Inbox {
        /// Whose outbox it came from.
        source: ackset::Place,
        /// Its number there.
        number: u64,
    },
    /// The source does not exist any more.
    InboxGone(ackset::Place),
    /// What came lately and shall come once.
    Recent(Once),
    /// This key is forgotten.
    RecentGone(u128),
}

/// Which table of a partition a [`Write`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteKind {
    /// One row per partition.
    State,
    /// Keyed by Raft index.
    Sparse,
    /// Keyed by term.
    Epoch,
    /// Keyed by Raft index and ordinal.
    Dead,
    /// Keyed by producer id.
    Producer,
    /// Keyed by the first offset.
    Moved,
    /// One row per partition, or none.
    Clean,
    /// Keyed by cursor, and its own keys.
    Cursor,
    /// Keyed by source.
    Inbox,
    /// Keyed by the publishers' keys.
    Recent,
}

impl Write {
    /// Table and key of the row within its partition. Keys are big-endian, so they sort as they count.
    pub fn key(&self) -> (WriteKind, Vec<u8>) {
        match self {
            Write::State(_) => (WriteKind::State, Vec::new()),
            Write::Sparse(Sparse { index, .. }) | Write::SparseGone(index) => {
                (WriteKind::Sparse, index.to_be_bytes().to_vec())
            }
            Write::Epoch(Epoch { term, .. }) | Write::EpochGone(term) => {
                (WriteKind::Epoch, term.to_be_bytes().to_vec())
            }
            Write::Dead(dead) | Write::DeadGone(dead) => {
                let mut key = dead.index.to_be_bytes().to_vec();
                key.extend(dead.ordinal.to_be_bytes());
                (WriteKind::Dead, key)
            }
            Write::Producer(Producer { id, .. }) | Write::ProducerGone(id) => {
                (WriteKind::Producer, id.to_be_bytes().to_vec())
            }
            Write::Moved(Moved { from, .. }) | Write::MovedGone(from) => {
                (WriteKind::Moved, from.to_be_bytes().to_vec())
            }
            Write::Clean(_) => (WriteKind::Clean, Vec::new()),
            Write::Cursor { cursor, row } => {
                let mut key = cursor.to_be_bytes().to_vec();
                row.key.write(&mut key);
                (WriteKind::Cursor, key)
            }
            Write::Inbox { source, .. } | Write::InboxGone(source) => (WriteKind::Inbox, source.to_be_bytes().to_vec()),
            Write::Recent(Once { key, .. }) | Write::RecentGone(key) => (WriteKind::Recent, key.to_be_bytes().to_vec()),
        }
    }

    /// Whether the write removes the row of its key.
    pub fn is_gone(&self) -> bool {
        use Write::{Cursor, DeadGone, EpochGone, InboxGone, MovedGone, ProducerGone, RecentGone, SparseGone};
        match self {
            SparseGone(_) | EpochGone(_) | DeadGone(_) | ProducerGone(_) | MovedGone(_) => true,
            InboxGone(_) | RecentGone(_) => true,
            Cursor { row, .. } => row.value.is_none(),
            _ => false,
        }
    }
}

/// A batch of an entry that took no offsets: `ordinal` counts the entry's batches from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadBatch {
    /// Raft index of the entry.
    pub index: u64,
    /// Place in the entry.
    pub ordinal: u16,
}

/// What the leader tells those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Records up to this offset (exclusive) may be read.
    HighWatermark(i64),
    /// Records below this offset are gone.
    LogStart(i64),
    /// The image has this version now.
    Metadata {
        /// The new version.
        version: u64,
    },
}

/// What the proposer of an entry is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// One per batch, in order.
    Append(Vec<AppendReply>),
    /// The log start after the command.
    LogStart(i64),
    /// The controller's answer.
    Controller(crate::controller::Reply),
    /// A coordinator shard's answer.
    Coordinator(crate::coordinator::Reply),
    /// Nothing to say (blank and membership entries).
    None,
    /// The entry was not understood, or must not be applied; nothing changed but the applied index.
    Dead(DeadReason),
    /// Whether the records are where the entry has them; else another move came first.
    Relocated(bool),
    /// One per command of a cursor batch, in order.
    Cursors(Vec<Result<ackset::Reply, CursorRefusal>>),
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReply {
    /// Live, at this offset.
    Ok {
        /// Offset of the first record.
        base_offset: i64,
    },
    /// A retry of a batch that is live at this offset: to the client a success.
    Duplicate {
        /// Offset of the first record of the original; -1 of a letter, which is known by its number only.
        base_offset: i64,
    },
    /// Refused; the batch took no offset.
    Err(AppendError),
}

/// Why a batch took no offset. The first five map one to one to Kafka error codes; the others are of messages of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AppendError {
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: a batch of this producer before this one is missing.
    #[error("sequence {first} does not follow {last} of the same producer")]
    OutOfOrderSequence {
        /// Sequence of the refused batch.
        first: i32,
        /// Last sequence known; -1 when the epoch is new, which must begin with 0.
        last: i32,
    },
    /// INVALID_PRODUCER_EPOCH: a newer instance of this producer has written.
    #[error("producer epoch {epoch} is fenced by {current}")]
    InvalidProducerEpoch {
        /// Epoch of the refused batch.
        epoch: i16,
        /// Epoch of the newer instance.
        current: i16,
    },
    /// INVALID_RECORD: header fields that contradict each other; admission lets no such batch through.
    #[error("batch header is not valid")]
    InvalidRecord,
    /// INVALID_TXN_STATE: transactional and control batches are refused until transactions exist.
    #[error("transactional and control batches are not supported yet")]
    Transactional,
    /// The partition is out of offsets (2^63 records).
    #[error("the log has no offsets left")]
    OffsetsExhausted,
    /// A cursor remembers as much as it may, and this message says something of itself: settle what is delivered first.
    #[error("the queue remembers as much as it may of single messages")]
    QueueFull,
    /// A letter whose predecessor is missing, or of a source too many: send again later.
    #[error("a letter before this one is missing")]
    EarlyLetter,
}

/// Why a whole entry means nothing. None of these is expected of a healthy cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeadReason {
    /// The entry's header is damaged or of another version.
    #[error("unintelligible entry: {0}")]
    Header(String),
    /// The tag belongs to another kind of machine.
    #[error("an entry with tag {0} does not belong in this group")]
    Foreign(u8),
    /// The body of a command cannot be decoded.
    #[error("unintelligible command")]
    Body,
    /// The entry holds more than an entry may.
    #[error("the entry holds too many batches or bytes")]
    TooLarge,
    /// DeleteRecords beyond the high watermark: OFFSET_OUT_OF_RANGE.
    #[error("log start {asked} is beyond the high watermark {high_watermark}")]
    LogStartOutOfRange {
        /// The offset asked for.
        asked: i64,
        /// Where records end.
        high_watermark: i64,
    },
    /// The entry was applied before, or the applied index went back: a bug of the host.
    #[error("entry {index} offered after {applied} was applied")]
    AlreadyApplied {
        /// Index offered.
        index: u64,
        /// Index already applied.
        applied: u64,
    },
}

impl From<command::Error> for DeadReason {
    fn from(error: command::Error) -> Self {
        DeadReason::Header(error.to_string())
    }
}

impl From<BadBatch> for AppendError {
    fn from(_: BadBatch) -> Self {
        AppendError::InvalidRecord
    }
}
