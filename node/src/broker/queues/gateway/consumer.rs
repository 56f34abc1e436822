//! The handle of one consumer, and the pump from its link to whoever hears its events.
//! Bounded: a consumer with `UNREAD_MAX` bytes that nobody takes gets no more until there is room.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use model::cursor::ackset::Verdict;
use tokio::sync::mpsc;

use super::link::Link;
use crate::broker::queues::types::{Events, QueueEvent};

/// Bytes of messages that wait for a consumer's room, above which it gets none.
pub(super) const UNREAD_MAX: usize = 4 << 20;

/// One consumer of a queue. Dropping it ends it: what it holds and did not settle goes to others.
#[derive(Debug)]
pub struct Subscription {
    link: Arc<Link>,
    consumer: u64,
}

impl Subscription {
    pub(super) fn new(link: Arc<Link>, consumer: u64) -> Self {
        Self { link, consumer }
    }

    /// Says what became of a message that it holds. It may be forgotten then: the link tells leader after leader until that is committed.
    pub fn settle(&self, offset: i64, verdict: Verdict) {
        self.link.settle(self.consumer, offset, verdict);
    }

    /// Lets it hold so many messages from now on.
    pub fn set_credit(&self, credit: u32) {
        self.link.set_credit(self.consumer, credit);
    }

    /// It is no consumer any more, but settles what it holds. What is on its way to it may still come, to be given back.
    pub fn retire(&self) {
        self.link.retire(self.consumer);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.link.leave(self.consumer);
    }
}

/// Hands events over one by one, as fast as they are taken.
pub(super) async fn pump(
    mut waiting: mpsc::UnboundedReceiver<QueueEvent>,
    events: Events,
    unread: Arc<AtomicUsize>,
    (link, consumer): (Weak<Link>, u64),
) {
    while let Some(event) = waiting.recv().await {
        let bytes = match &event {
            QueueEvent::Delivered(messages) => messages.iter().map(|message| message.record.len()).sum(),
            QueueEvent::Cancelled(_) => 0,
        };
        if events.send(event).await.is_err() {
            return;
        }
        let before = unread.fetch_sub(bytes, Ordering::AcqRel);
        if before > UNREAD_MAX && before - bytes <= UNREAD_MAX {
            let Some(link) = link.upgrade() else { return };
            link.resume(consumer);
        }
    }
}
