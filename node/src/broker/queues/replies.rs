//! Replies that go straight to whoever asked, past every queue. A mailbox lives in the memory of its client's node and ends with its
//! client; who knows its address may write to it, and nobody can guess one.
//! Bound: `MAILBOX_BYTES_MAX` a mailbox. Invariant: a reply is delivered once at most.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use model::{GroupId, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::peer::link::Failure;
use crate::peer::queues::{Heard, Told};

/// Replies that wait in one mailbox.
const MAILBOX_BYTES_MAX: usize = 4 << 20;
/// What a reply takes at least.
const REPLY_BYTES: usize = 256;
/// A living node is connected by then.
const CONNECTED: Duration = Duration::from_secs(2);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(20);

/// Where replies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replied {
    /// It is in its mailbox.
    Taken,
    /// Its requester reads too slowly.
    Full,
    /// There is no such mailbox, or its node was lost.
    Gone,
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

    /// Puts a reply into a mailbox; without one only looks whether that is there.
    pub(super) fn put(&self, secret: u128, batch: Option<Bytes>) -> Heard {
        let slots = self.slots();
        let Some(slot) = slots.get(&secret) else { return Heard::NotHere };
        let Some(batch) = batch else { return Heard::Done };
        // The largest takes all of the room.
        let bytes = batch.len().clamp(REPLY_BYTES, MAILBOX_BYTES_MAX) as u32;
        let Ok(room) = slot.room.clone().try_acquire_many_owned(bytes) else { return Heard::Full };
        match slot.replies.send(Reply { batch, _room: room }) {
            Ok(()) => Heard::Done,
            Err(_gone) => Heard::NotHere,
        }
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

    /// Sends a reply, or without one only asks whether somebody waits for any. On its way, in the order of the calls, when this returns,
    /// unless the other node is being connected to.
    pub fn reply(&self, to: Address, batch: Option<Bytes>) -> BoxFuture<'static, Replied> {
        if !self.is_alive(to.node) {
            return ready(Replied::Gone).boxed();
        }
        let (broker, since) = (self.clone(), Instant::now());
        // Of no queue's group.
        let told = Told::Reply(to.secret);
        let tell =
            move || broker.tell_queue(to.node, GroupId::CONTROLLER, told.clone(), batch.iter().cloned().collect());
        let mut answer = tell();
        async move {
            loop {
                match answer.await {
                    Ok((Heard::Done, _)) => return Replied::Taken,
                    Ok((Heard::Full, _)) => return Replied::Full,
                    Err(Failure::Unreachable(_)) if since.elapsed() < CONNECTED => sleep(AGAIN).await,
                    _ => return Replied::Gone,
                }
                answer = tell();
            }
        }
        .boxed()
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
        let put = |batch: &Bytes| all.put(1, Some(batch.clone()));
        assert_eq!((put(&half), put(&half)), (Heard::Done, Heard::Done));
        assert_eq!(put(&Bytes::new()), Heard::Full);
        assert_eq!((all.put(1, None), all.put(2, None)), (Heard::Done, Heard::NotHere));
        drop(inbox.recv().await);
        assert_eq!(put(&half), Heard::Done);
        drop((inbox.recv().await, inbox.recv().await));
        let larger = Bytes::from(vec![0; MAILBOX_BYTES_MAX * 2]);
        assert_eq!(put(&larger), Heard::Done, "one that is larger has all of the room");
    }
}
