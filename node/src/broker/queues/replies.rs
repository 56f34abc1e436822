//! Replies that go straight to whoever asked, past every queue. A mailbox lives in the memory of its client's node and ends with its
//! client; who knows its address may write to it, and nobody can guess one.
//! Bound: `MAILBOX_BYTES_MAX` a mailbox. Invariant: a reply is delivered once at most.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use model::{GroupId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::broker::Broker;
use crate::peer::queues::{Heard, Told};

/// Replies that wait in one mailbox.
const MAILBOX_BYTES_MAX: usize = 4 << 20;
/// What a reply takes at least.
const REPLY_BYTES: usize = 256;

/// Where replies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    node: NodeId,
    secret: u128,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:032x}", self.node, self.secret)
    }
}

impl FromStr for Address {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (node, secret) = text.split_once('.').ok_or(())?;
        let node = NodeId(node.parse().map_err(drop)?);
        let secret = u128::from_str_radix(secret, 16).map_err(drop)?;
        Ok(Self { node, secret })
    }
}

/// A reply as it waits: a batch of one record.
pub struct Reply {
    /// The message.
    pub batch: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The mailboxes of a node.
#[derive(Default)]
pub(super) struct Replies(Mutex<BTreeMap<u128, Slot>>);

struct Slot {
    replies: mpsc::UnboundedSender<Reply>,
    room: Arc<Semaphore>,
}

impl Replies {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<u128, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these into a mailbox; whether it is there and has room for all.
    pub(super) fn put(&self, secret: u128, batches: Vec<Bytes>) -> bool {
        let slots = self.slots();
        let Some(slot) = slots.get(&secret) else { return false };
        batches.into_iter().all(|batch| {
            // The largest takes all of the room.
            let bytes = batch.len().clamp(REPLY_BYTES, MAILBOX_BYTES_MAX) as u32;
            let room = slot.room.clone().try_acquire_many_owned(bytes);
            room.is_ok_and(|room| slot.replies.send(Reply { batch, _room: room }).is_ok())
        })
    }
}

/// A mailbox, until it is dropped.
pub struct Mailbox {
    broker: Broker,
    /// Where it is.
    pub address: Address,
    /// What comes.
    pub inbox: mpsc::UnboundedReceiver<Reply>,
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.broker.0.queues.replies.slots().remove(&self.address.secret);
    }
}

impl Broker {
    /// Opens a mailbox on this node.
    pub fn open_mailbox(&self) -> Mailbox {
        let (replies, inbox) = mpsc::unbounded_channel();
        let address = Address { node: self.node_id(), secret: rand::random() };
        let room = Arc::new(Semaphore::new(MAILBOX_BYTES_MAX));
        self.0.queues.replies.slots().insert(address.secret, Slot { replies, room });
        Mailbox { broker: self.clone(), address, inbox }
    }

    /// Sends a reply, or without one only asks: whether the mailbox takes it. On its way, in the order of the calls, when this returns.
    pub fn reply(&self, to: Address, batch: Option<Bytes>) -> BoxFuture<'static, bool> {
        let batches = batch.into_iter().collect();
        if to.node == self.node_id() {
            return ready(self.0.queues.replies.put(to.secret, batches)).boxed();
        }
        // Of no queue's group.
        let answer = self.tell_queue(to.node, GroupId::CONTROLLER, Told::Reply(to.secret), batches);
        async move { matches!(answer.await, Ok((Heard::Done, _))) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        let address = Address { node: NodeId(3), secret: 7 << 100 };
        assert_eq!(address.to_string().parse(), Ok(address));
        for bad in ["", "3", "3.", ".7", "x.7", "3.g", "99999999999.7"] {
            assert_eq!(bad.parse::<Address>(), Err(()), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_mailbox_holds_so_many_bytes_at_most() {
        let (replies, mut inbox) = mpsc::unbounded_channel();
        let all = Replies::default();
        all.slots().insert(1, Slot { replies, room: Arc::new(Semaphore::new(MAILBOX_BYTES_MAX)) });
        let half = Bytes::from(vec![0; MAILBOX_BYTES_MAX / 2]);
        assert!(all.put(1, vec![half.clone()]) && all.put(1, vec![half.clone()]));
        assert!(!all.put(1, vec![Bytes::new()]), "it is full");
        assert!(all.put(1, vec![]), "it is there");
        drop(inbox.recv().await);
        assert!(all.put(1, vec![half]));
        drop((inbox.recv().await, inbox.recv().await));
        assert!(
            all.put(1, vec![Bytes::from(vec![0; MAILBOX_BYTES_MAX * 2])]),
            "one that is larger has all of the room"
        );
        assert!(!all.put(2, vec![]), "there is no other");
    }
}
