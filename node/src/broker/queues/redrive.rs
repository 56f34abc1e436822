//! Dead letters go back to the queues that they died in, or to another. One is gone from here when a majority has it there: what fails
//! in between is in both, none is in neither. Bounded: `HELD_MAX` messages at a time, `REDRIVE_TIME` in all.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::controller::topology::Queue;
use model::cursor::ackset::Verdict;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use utoipa::ToSchema;

use super::gateway::Subscription;
use super::message::Content;
use super::types::{ConsumeError, ConsumerSpec, Delivered, Message, QueueCounts, QueueEvent, Saying};
use crate::broker::Broker;

/// Messages at a time; those that stay count as long as it lasts.
const HELD_MAX: u64 = 256;
/// For so long, since somebody waits for the answer.
const REDRIVE_TIME: Duration = Duration::from_secs(15);
/// No message comes for so long: others have them.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the end may take to be counted.
const SETTLE_TIME: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// What became of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// How the queue stood.
    pub before: QueueCounts,
    /// How it stands.
    pub after: QueueCounts,
    /// Messages that are elsewhere now.
    pub moved: u64,
    /// Messages that were looked at and stay, by why.
    pub stayed: BTreeMap<String, u64>,
}

/// A redrive under way.
struct Redrive<'a> {
    broker: &'a Broker,
    from: &'a Arc<Queue>,
    to: Option<&'a Arc<Queue>>,
    moved: u64,
    stayed: BTreeMap<String, u64>,
}

impl Broker {
    /// Moves up to `limit` of the messages that are ready in `from`: to the queue `to`, or each to the queue that it died in.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn redrive(
        &self,
        from: &Arc<Queue>,
        to: Option<&Arc<Queue>>,
        limit: u64,
    ) -> Result<Redriven, ConsumeError> {
        let before = self.counts(from).await?;
        let mut redrive = Redrive { broker: self, from, to, moved: 0, stayed: BTreeMap::new() };
        let wanted = limit.min(before.ready);
        if wanted > 0 {
            redrive.run(wanted).await?;
        }
        let Redrive { moved, stayed, .. } = redrive;
        let after = self.settled_counts(from, before, moved).await?;
        Ok(Redriven { before, after, moved, stayed })
    }

    /// The counts once what was moved is not counted any more; acknowledgements have no answer.
    async fn settled_counts(
        &self,
        queue: &Arc<Queue>,
        before: QueueCounts,
        moved: u64,
    ) -> Result<QueueCounts, ConsumeError> {
        let (all, until) = (|counts: QueueCounts| counts.ready + counts.unacked, Instant::now() + SETTLE_TIME);
        loop {
            let now = self.counts(queue).await?;
            let is_settled = all(now) + moved <= all(before) && now.unacked <= before.unacked;
            if is_settled || Instant::now() >= until {
                return Ok(now);
            }
            sleep(AGAIN).await;
        }
    }
}

impl Redrive<'_> {
    /// Takes messages and moves them, until `wanted` were looked at or no more come.
    async fn run(&mut self, wanted: u64) -> Result<(), ConsumeError> {
        let credit = u32::try_from(wanted.min(HELD_MAX)).unwrap_or(u32::MAX);
        let tag_for_humans = "flotilla queue redrive".to_owned();
        let spec = ConsumerSpec { credit, tag_for_humans, ..ConsumerSpec::default() };
        let (events, mut heard) = mpsc::channel(1);
        let subscription = self.broker.consume(self.from, spec, events).await?;
        let until = Instant::now() + REDRIVE_TIME;
        let mut seen = 0;
        while seen < wanted && self.stayed.values().sum::<u64>() < HELD_MAX {
            let next = timeout_at(until, timeout(SILENCE, heard.recv())).await;
            let Ok(Ok(Some(QueueEvent::Delivered(mut messages)))) = next else { break };
            messages.truncate(usize::try_from(wanted - seen).unwrap_or(usize::MAX));
            seen += messages.len() as u64;
            self.take(&subscription, &messages).await;
        }
        Ok(())
    }

    async fn take(&mut self, subscription: &Subscription, messages: &[Delivered]) {
        let moves: Vec<_> = messages.iter().map(|message| self.send(message)).collect();
        for (message, outcome) in messages.iter().zip(join_all(moves).await) {
            match outcome {
                Ok(()) => {
                    subscription.settle(message.offset, Verdict::Accept);
                    self.moved += 1;
                }
                Err(why) => *self.stayed.entry(why).or_default() += 1,
            }
        }
    }

    /// Publishes one where it goes; why it stays, in words.
    fn send(&self, message: &Delivered) -> impl Future<Output = Result<(), String>> + use<> {
        let publishing = self.prepare(message).map(|(target, message)| self.broker.publish(&target, message));
        async move { publishing?.await.map_err(|error| error.to_string()) }
    }

    fn prepare(&self, message: &Delivered) -> Result<(Arc<Queue>, Message), String> {
        let content = Content::from_batch(&message.record, message.offset, &self.from.name);
        let content = content.ok_or("its record cannot be read")?;
        let (content, origin) = content.revived();
        let target = match (self.to, origin) {
            (Some(to), _) => to.clone(),
            (None, None) => return Err("it is no dead letter: say where it goes".to_owned()),
            (None, Some(name)) => {
                let found = self.broker.queue(&self.from.vhost, &name);
                found.ok_or_else(|| format!("there is no queue {name} any more"))?
            }
        };
        if target.partition_group == self.from.partition_group {
            return Err("it would come back to where it is".to_owned());
        }
        let batch = content.to_batch(self.broker.clock().wall_ms()).map_err(|error| error.to_string())?;
        let priority = content.properties.read().priority;
        Ok((target, Message { batch, saying: Saying { priority, is_kept: true, ..Saying::default() } }))
    }
}
