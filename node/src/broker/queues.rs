//! Queues as the protocols see them: messages in, deliveries out, settlements back.
//! A queue is a topic of one partition with an ack-set cursor in that partition's own raft. The node of a client is its gateway to the
//! queue (`gateway`); the partition's leader gives messages to consumers (`leader`). Both speak by `peer::queues`, or by calls.
mod gateway;
mod keeper;
mod leader;
pub mod message;
mod operate;
mod peek;
mod records;
mod redrive;
pub mod replies;
mod rules;
pub mod said;
mod standing;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use model::cursor::ackset::AckSet;
use model::{GroupId, NodeId};
use tokio::sync::mpsc;

use self::gateway::Link;
use self::leader::{Handle, Visit};
use super::Broker;
use crate::peer::link::Failure;
use crate::peer::queues::{Heard, Told, Unpublished};

pub use gateway::{Got, Subscription};
pub use operate::QueueChange;
pub use peek::{MessageReport, PEEK_MAX};
pub use redrive::Redriven;
pub use rules::{Policies, Rules, compile};
pub use types::*;

type Work = BoxFuture<'static, ()>;

/// The queues of a node, by their rafts: those that are led here or may be, and those that clients of this node use.
pub(super) struct Queues {
    session: u64,
    replies: replies::Replies,
    links: Mutex<BTreeMap<GroupId, Arc<Link>>>,
    leaders: Mutex<BTreeMap<GroupId, Arc<Handle>>>,
    work: mpsc::UnboundedSender<Work>,
    begun: Mutex<Option<mpsc::UnboundedReceiver<Work>>>,
}

impl Queues {
    /// None yet.
    pub(super) fn new() -> Self {
        let (work, begun) = mpsc::unbounded_channel();
        let (begun, replies) = (Mutex::new(Some(begun)), replies::Replies::default());
        Self { session: rand::random(), links: Mutex::default(), leaders: Mutex::default(), replies, work, begun }
    }

    fn session(&self) -> u64 {
        self.session
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<GroupId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaders(&self) -> MutexGuard<'_, BTreeMap<GroupId, Arc<Handle>>> {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something for as long as the node lives.
    fn work(&self, work: Work) {
        let _stopping = self.work.send(work);
    }
}

type Answer = BoxFuture<'static, Result<(Heard, Vec<Bytes>), Failure>>;

impl Broker {
    /// Tells the node `to` something about the queue in `group`: on its way, in the order of the calls, when this returns.
    fn tell_queue(&self, to: NodeId, group: GroupId, told: Told, parts: Vec<Bytes>) -> Answer {
        if to == self.node_id() {
            let heard = self.hear(to, group, told, parts);
            return Box::pin(async move { Ok(heard.await) });
        }
        let answer = self.0.peers.queue(to, group, told.encode(), parts);
        Box::pin(async move {
            let (head, parts) = answer.await?;
            let heard = Heard::decode(&head).map_err(|error| Failure::Broken(error.to_string()))?;
            Ok((heard, parts))
        })
    }

    /// The other side of it.
    pub fn serve_queue(
        &self,
        from: NodeId,
        group: GroupId,
        head: Bytes,
        parts: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<(Bytes, Vec<Bytes>), String>> {
        let heard = match Told::decode(&head) {
            Ok(told) => self.hear(from, group, told, parts),
            Err(error) => return Box::pin(ready(Err(error.to_string()))),
        };
        Box::pin(async move {
            let (heard, parts) = heard.await;
            Ok((heard.encode(), parts))
        })
    }

    /// Does what is told; what has an order is queued when this returns.
    fn hear(
        &self,
        from: NodeId,
        group: GroupId,
        told: Told,
        parts: Vec<Bytes>,
    ) -> BoxFuture<'static, (Heard, Vec<Bytes>)> {
        let told = match told {
            Told::Deliver { attachment, push, items } => {
                let heard = self.linked(group).map(|link| link.deliver(attachment, push, &items, &parts));
                return bare(ready(heard.unwrap_or(Heard::NotHere)));
            }
            Told::Call => {
                let nobody = self.linked(group).is_none_or(|link| link.is_idle());
                return bare(ready(if nobody { Heard::Done } else { Heard::NotHere }));
            }
            Told::Reply(secret) => {
                return bare(ready(self.0.queues.replies.put(secret, parts.into_iter().next())));
            }
            told => told,
        };
        let Some(handle) = self.0.queues.leaders().get(&group).cloned() else {
            return bare(ready(not_here(&told)));
        };
        match told {
            Told::Publish(sayings) => bare(self.publish_here(&handle, &sayings, parts)),
            Told::Letters(letters) => bare(self.take_letters(&handle, &letters, parts)),
            Told::Attend { attachment, all, consumers, gone } => {
                let attachment = (attachment, all);
                bare(handle.visit(|told| Visit::Attend { from, attachment, consumers, gone, told }))
            }
            Told::Settle(settled) => bare(handle.visit(|told| Visit::Settle { from, settled, told })),
            Told::Get { attachment, consumer } => {
                let heard = handle.visit(|told| Visit::Get { from, attachment, consumer, told });
                let broker = self.clone();
                Box::pin(async move { broker.with_record(&handle, heard.await).await })
            }
            Told::Purge => bare(handle.visit(Visit::Purge)),
            Told::Count => bare(handle.visit(Visit::Count)),
            Told::Peek { from, count } => {
                let heard = handle.visit(|told| Visit::Peek { from, count: PEEK_MAX.min(count as usize), told });
                let broker = self.clone();
                Box::pin(async move { broker.with_records(&handle, heard.await).await })
            }
            Told::Seek(to) => {
                let broker = self.clone();
                bare(async move { broker.seek_here(&handle, to).await })
            }
            Told::Deliver { .. } | Told::Call | Told::Reply(_) => bare(ready(Heard::NotHere)),
        }
    }

    /// Puts the record to the answer of a get.
    async fn with_record(&self, handle: &Handle, heard: Heard) -> (Heard, Vec<Bytes>) {
        let Heard::Got(Some((item, _))) = &heard else { return (heard, Vec::new()) };
        match self.records(&handle.local, &[item.offset], 0).await {
            Ok(mut found) => match found.batches.remove(&item.offset) {
                Some((_, batch)) => (heard, vec![batch]),
                None => {
                    handle.missing(found.missing);
                    (Heard::NotHere, Vec::new())
                }
            },
            Err(_) => (Heard::NotHere, Vec::new()),
        }
    }

    /// Reads the cursor of a queue as its replica here has it, for operators.
    pub fn read_cursor<R>(&self, group: GroupId, read: impl FnOnce(&AckSet) -> R) -> Option<R> {
        let local = self.0.router.local(group)?;
        local.raft().partition(|machine| machine.cursor(leader::CURSOR).map(read)).flatten()
    }
}

fn bare(heard: impl Future<Output = Heard> + Send + 'static) -> BoxFuture<'static, (Heard, Vec<Bytes>)> {
    Box::pin(async move { (heard.await, Vec::new()) })
}

/// What is answered by who does not know the queue.
fn not_here(told: &Told) -> Heard {
    match told {
        Told::Publish(sayings) => Heard::Published(vec![Err(Unpublished::NotHere); sayings.len()]),
        Told::Letters(letters) => Heard::Published(vec![Err(Unpublished::NotHere); letters.len()]),
        _ => Heard::NotHere,
    }
}
