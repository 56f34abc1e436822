//! What protocols say to a queue and hear from it: messages, deliveries, consumers, and why something is refused.
//! Plain data. Never a word of one protocol.
use bytes::Bytes;
use tokio::sync::mpsc;

pub use crate::peer::queues::{Deaths, PeekState, QueueCounts, QueueStanding, QueueTraffic, Saying, SeekTo};

use crate::peer::queues::Heard;

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// One record batch of one record.
    pub batch: Bytes,
    /// What it says of itself. The queue's own bounds count where they are lower, and a key where the queue heeds keys.
    pub saying: Saying,
}

/// A message that a consumer has until it settles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which of the queue.
    pub offset: i64,
    /// How often it failed before.
    pub failures: u32,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The batch that holds the record of this offset: one that a Kafka client made may hold others. Base offset and leader epoch
    /// are in its header.
    pub record: Bytes,
}

/// Why a message is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full, and its rule is to refuse.
    #[error("the queue is full")]
    Rejected,
    /// Nobody knows whether the queue has it, or nobody can be asked; in words.
    #[error("the message is not confirmed: {0}")]
    Unavailable(String),
    /// There is no such queue any more.
    #[error("there is no such queue")]
    NotFound,
}

/// What a consumer hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// Messages, in the order in which they are to be delivered.
    Delivered(Vec<Delivered>),
    /// Nothing will come any more; why, in words. What is held may still be settled.
    Cancelled(String),
}

/// Where a consumer hears. Give it room for few events: what does not fit waits, and more than a few MiB of that stop deliveries.
pub type Events = mpsc::Sender<QueueEvent>;

/// A consumer to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// How many messages it may hold; at most [`CREDIT_MAX`] count.
    pub credit: u32,
    /// The higher, the sooner it is served.
    pub priority: i32,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Messages that it gets in a second, at most.
    pub max_rate: Option<u32>,
    /// What operators see.
    pub tag_for_humans: String,
}

/// Messages that one consumer holds, at most, whatever credit it has: each costs its leader about 150 bytes.
pub const CREDIT_MAX: u32 = 20_000;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// Somebody consumes exclusively, or it would and there are others.
    #[error("the queue has an exclusive consumer, or others")]
    Exclusive,
    /// There is no such queue any more.
    #[error("there is no such queue")]
    NotFound,
    /// Its leader cannot be asked, or not now; in words.
    #[error("the queue does not answer: {0}")]
    Unavailable(String),
}

impl ConsumeError {
    /// A leader that answers something else than was asked.
    pub(super) fn unexpected(heard: &Heard) -> Self {
        Self::Unavailable(format!("unexpected answer {heard:?}"))
    }
}
