//! A queue as clients of this node use it, wherever its leader is: one link per queue, made when it is first used.
//! Owns the verbs of the facade. What a consumer holds, and what became of it until that is reported committed, is the link's.
mod consumer;
mod link;
mod state;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::GroupId;
use model::controller::topology::Queue;
use tokio::time::timeout;

pub use self::consumer::Subscription;
pub(super) use self::link::Link;
use super::types::{ConsumeError, ConsumerSpec, Delivered, Events, Message, PublishError};
use crate::broker::Broker;
use crate::peer::queues::{Heard, QueueCounts, Told};

/// How long a queue that nobody leads may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The same of questions whose asker is kept waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// A message that was asked for.
#[derive(Debug)]
pub struct Got {
    /// The message.
    pub delivered: Delivered,
    /// How many are ready still.
    pub remaining: u64,
    /// Who holds it: settled by this, given back when this is dropped.
    pub subscription: Subscription,
}

impl Broker {
    /// Publishes a message: queued in the order of the calls, done when a majority has it. Dropping the future takes nothing back.
    pub fn publish(&self, queue: &Arc<Queue>, message: Message) -> BoxFuture<'static, Result<(), PublishError>> {
        let outcome = self.link(queue).publish(message);
        Box::pin(async move {
            let gone = || PublishError::Unavailable("this node is stopping".to_owned());
            outcome?.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    /// Begins to consume. What happens comes through `events`; dropping the subscription ends it and gives back what it holds.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn consume(
        &self,
        queue: &Arc<Queue>,
        spec: ConsumerSpec,
        events: Events,
    ) -> Result<Subscription, ConsumeError> {
        let link = self.link(queue);
        let (subscription, joined) = link.join(&spec, events)?;
        match timeout(ANSWER, joined).await {
            Ok(Ok(joined)) => joined.map(|()| subscription),
            Ok(Err(_dropped)) => Err(ConsumeError::NotFound),
            Err(_elapsed) => Err(late()),
        }
    }

    /// One message, if one is ready.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn get(&self, queue: &Arc<Queue>) -> Result<Option<Got>, ConsumeError> {
        let (subscription, got) = self.link(queue).get()?;
        match timeout(ANSWER, got).await {
            Ok(Ok(got)) => Ok(got?.map(|(delivered, remaining)| Got { delivered, remaining, subscription })),
            Ok(Err(_dropped)) => Err(ConsumeError::NotFound),
            Err(_elapsed) => Err(late()),
        }
    }

    /// Forgets all that is ready; how many that were.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn purge(&self, queue: &Arc<Queue>) -> Result<u64, ConsumeError> {
        match self.ask_queue(queue, Told::Purge).await?.0 {
            Heard::Purged(count) => Ok(count),
            other => Err(ConsumeError::unexpected(&other)),
        }
    }

    /// How many messages are what.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn counts(&self, queue: &Arc<Queue>) -> Result<QueueCounts, ConsumeError> {
        match self.ask_queue(queue, Told::Count).await?.0 {
            Heard::Counted(counts) => Ok(counts),
            other => Err(ConsumeError::unexpected(&other)),
        }
    }

    /// Asks the leader until it answers.
    pub(super) async fn ask_queue(&self, queue: &Arc<Queue>, told: Told) -> Result<(Heard, Vec<Bytes>), ConsumeError> {
        let answered = async {
            loop {
                if self.is_over(queue) {
                    return Err(ConsumeError::NotFound);
                }
                if let Some(leader) = self.0.router.leader(queue.partition_group).node
                    && let Ok((heard, parts)) =
                        self.tell_queue(leader, queue.partition_group, told.clone(), Vec::new()).await
                    && heard != Heard::NotHere
                {
                    return Ok((heard, parts));
                }
                tokio::time::sleep(link::AGAIN).await;
            }
        };
        timeout(ANSWER, answered).await.unwrap_or_else(|_elapsed| Err(late()))
    }

    /// Whether the queue does not exist any more, as far as this node knows.
    pub(super) fn is_over(&self, queue: &Queue) -> bool {
        let image = self.0.image.borrow();
        image.queue_of_topic(queue.topic).is_none_or(|known| known.partition_group != queue.partition_group)
    }

    /// The link to a queue.
    fn link(&self, queue: &Arc<Queue>) -> Arc<Link> {
        let queues = &self.0.queues;
        let mut links = queues.links();
        let link = links.entry(queue.partition_group).or_insert_with(|| {
            let link = Link::new(self.clone(), queue.clone(), queues.session());
            queues.work(Box::pin(link.clone().run()));
            link
        });
        link.clone()
    }

    /// The link of this node to the queue in `group`, if anybody here used that.
    pub(super) fn linked(&self, group: GroupId) -> Option<Arc<Link>> {
        self.0.queues.links().get(&group).cloned()
    }
}

fn late() -> ConsumeError {
    ConsumeError::Unavailable("nobody leads it, or its leader does not answer in time".to_owned())
}
