//! What the node of a queue's clients (its gateway) and the leader of the queue tell each other. Heads are encoded by
//! `storage::codec`; record batches are the parts of the frame, never decoded here. Plain data, no behaviour.
use std::io;

use bytes::Bytes;
use model::cursor::ackset::{Place, Verdict};
use serde::{Deserialize, Serialize};

/// A head, at most: settlements and claims of what one gateway holds.
const HEAD_BYTES_MAX: usize = 16 << 20;

/// Which attachment of a gateway to a leader. What belongs to an earlier one is not listened to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// This start of the gateway's process.
    pub session: u64,
    /// Counted by the gateway: of this queue, since its start.
    pub number: u64,
}

/// Said by the one to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Gateway to leader: append these messages, one part each.
    Publish(Vec<Saying>),
    /// Leader to leader: append these dead letters, one part each.
    Letters(Vec<DeadLetter>),
    /// Gateway to leader: these consumers are here, or are changed. Ends earlier attachments.
    Attend {
        /// Which attachment this belongs to, or begins.
        attachment: Attachment,
        /// These are all there are.
        all: bool,
        /// The consumers.
        consumers: Vec<Attendant>,
        /// Consumers that are gone.
        gone: Vec<u64>,
    },
    /// Gateway to leader: what became of messages; answered when that is committed.
    Settle(Vec<Settled>),
    /// Gateway to leader: one message for this consumer of the attachment, if one is ready.
    Get {
        /// Of which attachment.
        attachment: Attachment,
        /// Which consumer holds it; asked again, it gets the same message.
        consumer: u64,
    },
    /// Gateway to leader: forget what is ready.
    Purge,
    /// Gateway to leader: how many messages are what?
    Count,
    /// Leader to gateway: messages for consumers of the attachment. The parts are the batches.
    Deliver {
        /// Of which attachment.
        attachment: Attachment,
        /// Counted from 1 in each attachment: what comes twice is taken once.
        push: u64,
        /// In the order of delivery.
        items: Vec<Item>,
    },
    /// New leader to gateway: is anybody there? `Done` if not; else it attends.
    Call,
}

/// What a message says of itself. Durations, since clocks differ: the leader's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// The higher, the sooner.
    pub priority: Option<u8>,
    /// Not to be delivered for so long, ms.
    pub delay_ms: Option<i64>,
    /// Not to be delivered after so long, ms.
    pub ttl_ms: Option<i64>,
}

/// A dead letter, as `model::cursor::LetterNote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Of which cursor.
    pub source: Place,
    /// Its number at the target.
    pub number: u64,
    /// The lowest that is still to be sent.
    pub lowest: u64,
    /// What it says of itself: its priority.
    pub saying: Saying,
}

/// A consumer, numbered by its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendant {
    /// Which.
    pub consumer: u64,
    /// Messages that it may hold.
    pub credit: u32,
    /// The higher, the sooner it is served.
    pub priority: i32,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// It has messages that it asked for one by one, and is no consumer otherwise.
    pub gets: bool,
    /// What it holds (first offset, offset after it), where the leader does not know it yet.
    pub holds: Vec<(i64, i64)>,
}

/// What became of a message that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// To whom.
    pub consumer: u64,
    /// Which.
    pub offset: i64,
    /// How often it had failed before: so that a failure that is told twice is counted once.
    pub failures: u32,
    /// What became of it.
    pub verdict: Verdict,
}

/// A message for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// For whom.
    pub consumer: u64,
    /// Which message.
    pub offset: i64,
    /// How often it failed before.
    pub failures: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Which part has it.
    pub part: u32,
}

/// Why a message was not appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unpublished {
    /// The queue is full, and refuses.
    Full,
    /// Nothing was done: ask again, here or elsewhere.
    NotHere,
    /// A letter before it is missing: send that first.
    Early,
    /// It may have been appended or not, or never can be; in words.
    Failed(String),
}

/// Why a consumer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unattended {
    /// Somebody consumes exclusively, or it would and there are others.
    Exclusive,
}

/// How many messages are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueCounts {
    /// To be delivered.
    pub ready: u64,
    /// With consumers.
    pub unacked: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Dead, and not yet where they go.
    pub dead_pending: u64,
    /// Consumers.
    pub consumers: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// To Publish and Letters: of each message.
    Published(Vec<Result<(), Unpublished>>),
    /// To Attend: who is not taken.
    Attended(Vec<(u64, Unattended)>),
    /// To Settle and Deliver; to Call: nobody consumes.
    Done,
    /// To Get: the message, whose batch is the only part, and how many are ready still.
    Got(Option<(Item, u64)>),
    /// To Purge: how many were ready.
    Purged(u64),
    /// To Count.
    Counted(QueueCounts),
    /// Nothing was done: who was asked does not lead the queue, or not yet, or does not know the attachment.
    NotHere,
}

impl Told {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, HEAD_BYTES_MAX)
    }
}

impl Heard {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, HEAD_BYTES_MAX)
    }
}
