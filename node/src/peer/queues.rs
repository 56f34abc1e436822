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
    /// Gateway to leader: which messages are there from this offset on? Their batches are the parts of the answer.
    Peek {
        /// The first offset.
        from: i64,
        /// How many, at most.
        count: u32,
    },
    /// Gateway to leader: go on from there.
    Seek(SeekTo),
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
    /// To the node of a mailbox: the part is a reply; without one, whether it is there.
    Reply(u128),
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
    /// Its publisher's key: a digest. Another message of this key is the same one.
    pub key: Option<u128>,
    /// Its publisher keeps it if it is refused: it is not to be among dead letters then.
    pub is_kept: bool,
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
    /// Messages that it gets in a second, at most.
    pub max_rate: Option<u32>,
    /// It has messages that it asked for one by one, and is no consumer otherwise.
    pub gets: bool,
    /// What it holds, where the leader does not know it yet.
    pub holds: Vec<Hold>,
}

/// Messages of one consumer. A message that has failed more often since was given back: its consumer does not hold it any more,
/// it only did not hear yet that its settlement is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// First offset.
    pub first: i64,
    /// The offset after the last one.
    pub end: i64,
    /// How often they had failed when they were delivered.
    pub failures: u32,
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
    /// For how long the consumer that has its message for longest has it, ms; none if nobody has any.
    pub oldest_unacked_ms: Option<u64>,
}

/// Where a queue shall go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// With the first message that the log has.
    Start,
    /// Behind the last one.
    End,
    /// With this offset, or the nearest that there is.
    Offset(i64),
    /// With the first message from this time on, ms since 1970.
    TimeMs(i64),
}

/// What a message in a queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeekState {
    /// A consumer.
    Ready,
    /// Its consumer's word.
    Unacked,
    /// Its time.
    Delayed,
    /// The way to its dead-letter queues.
    Dead,
}

/// A message that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peeked {
    /// Which.
    pub offset: i64,
    /// What it waits for.
    pub state: PeekState,
    /// How often it failed.
    pub failures: u32,
    /// Not to be delivered before, ms since 1970.
    pub not_before: Option<i64>,
    /// Not to be delivered from then on, ms since 1970.
    pub expires_at: Option<i64>,
    /// Which part has it.
    pub part: u32,
}

/// A queue as its leader knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueStanding {
    /// How many messages are what.
    pub counts: QueueCounts,
    /// How many died.
    pub dead: Deaths,
    /// How many came and went.
    pub traffic: QueueTraffic,
}

/// Messages that ever died in a queue, by reason: dropped, unless the queue has a dead-letter exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Deaths {
    /// A consumer did not want it.
    pub rejected: u64,
    /// Its time was over.
    pub expired: u64,
    /// It failed too often.
    pub delivery_limit: u64,
    /// There were too many.
    pub maxlen: u64,
}

impl Deaths {
    /// All of them.
    pub fn all(self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }

    /// By RabbitMQ's word for each reason.
    pub fn by_reason(self) -> [(&'static str, u64); 4] {
        let Self { rejected, expired, delivery_limit, maxlen } = self;
        [("rejected", rejected), ("expired", expired), ("delivery_limit", delivery_limit), ("maxlen", maxlen)]
    }
}

/// Messages that came and went. Rates are those of the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueTraffic {
    /// Published, since there is the queue's topic; by Kafka clients, too.
    pub published: u64,
    /// A second.
    pub publish_rate: f64,
    /// Delivered by this leader, to whoever consumes or asks.
    pub delivered: u64,
    /// A second.
    pub deliver_rate: f64,
    /// Those that may have been delivered before.
    pub redelivered: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// To Publish and Letters: of each message.
    Published(Vec<Result<(), Unpublished>>),
    /// To Attend: who is not taken.
    Attended(Vec<(u64, Unattended)>),
    /// To Settle, Deliver and Reply; to Call: nobody consumes.
    Done,
    /// To Get: the message, whose batch is the only part, and how many are ready still.
    Got(Option<(Item, u64)>),
    /// To Purge: how many were ready.
    Purged(u64),
    /// To Count.
    Counted(QueueCounts),
    /// To Peek.
    Peeked(Vec<Peeked>),
    /// To Seek: how many messages are what they were not.
    Sought(u64),
    /// Nothing was done: who was asked does not lead the queue, or not yet, or does not know the attachment or the mailbox.
    NotHere,
    /// To Reply: there is no room.
    Full,
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
