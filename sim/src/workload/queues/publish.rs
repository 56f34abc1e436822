//! Publishers with confirms: a burst of messages to any queues, then all their confirms. What is not confirmed is published again, through
//! another node, as real clients do; each attempt has a number of its own, so that nothing is forgiven as "the one before". Where a message
//! shall come once, all attempts are the same message, and have one number.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use wire::amqp::Properties;
use wire::amqp::method::{Method, basic, confirm};

use super::client::{BEAT, Connection, Event, short};
use super::{GIVE_UP, Kind};
use crate::history::queues::{Outcome, Publication};
use crate::workload::{Ledger, PAUSE, now};

/// A confirm that takes longer is given up.
const DEADLINE: Duration = Duration::from_secs(3);
/// Messages of one burst.
const BURST: std::ops::RangeInclusive<usize> = 1..=5;
/// Between two bursts, ms.
const PAUSE_MS: std::ops::Range<u64> = 60..400;
/// Bytes of a large body, and one in how many is large.
const LARGE_BYTES: usize = 3_000;
const LARGE_EVERY: usize = 23;

/// A message, however often it is published.
#[derive(Clone)]
struct Message {
    /// The application's name of it.
    id: u32,
    queue: &'static str,
    is_once: bool,
    /// The number of the last attempt.
    attempt: Option<usize>,
    priority: u8,
    ttl_ms: Option<u64>,
}

/// A publisher.
pub struct Publisher {
    number: u32,
    nodes: u32,
    kinds: Vec<Kind>,
    ledger: Ledger,
    rng: SmallRng,
    connection: Option<Connection>,
    /// Delivery tag of the last message of this connection.
    tag: u64,
    /// By delivery tag: what is not confirmed, and the number and the time of the attempt.
    open: BTreeMap<u64, (Message, (usize, Duration))>,
    /// What is to be published again.
    again: Vec<Message>,
    messages: u32,
}

impl Publisher {
    /// Publisher `number` to the queues of `kinds`.
    pub fn new(number: u32, nodes: u32, kinds: &[Kind], ledger: Ledger, rng: SmallRng) -> Self {
        ledger.borrow_mut().queues.publishers += 1;
        let kinds = kinds.iter().filter(|kind| kind.is_published).copied().collect();
        let (connection, open, again) = (None, BTreeMap::new(), Vec::new());
        Self { number, nodes, kinds, ledger, rng, connection, tag: 0, open, again, messages: 0 }
    }

    /// Publishes new messages until `until`, and goes on until all of them are confirmed.
    pub async fn run(mut self, until: Duration) {
        while now() < until || (!self.again.is_empty() && now() < GIVE_UP) {
            let mut burst = std::mem::take(&mut self.again);
            if now() < until {
                burst.extend((0..self.rng.random_range(BURST)).map(|_| self.message()).collect::<Vec<_>>());
            }
            if self.publish(burst).await.is_err() {
                self.connection = None;
                self.ledger.borrow_mut().count("publishers lost their node");
            }
            for (message, attempt) in std::mem::take(&mut self.open).into_values() {
                self.end(attempt, Outcome::Unknown);
                self.again.push(message);
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(PAUSE_MS))).await;
        }
        self.ledger.borrow_mut().queues.publishers -= 1;
    }

    fn message(&mut self) -> Message {
        self.messages += 1;
        let kind = *self.kinds.choose(&mut self.rng).expect("some queue is published to");
        let priority = self.rng.random_range(0..=kind.priority_max);
        let own = kind.ttl_ms.filter(|_| self.rng.random_bool(0.3));
        let ttl_ms = own.map(|ttl| self.rng.random_range(ttl / 4..ttl));
        Message { id: self.messages, queue: kind.name, is_once: kind.is_once, attempt: None, priority, ttl_ms }
    }

    /// Publishes all of `burst` and waits until each is confirmed or refused.
    async fn publish(&mut self, burst: Vec<Message>) -> anyhow::Result<()> {
        let mut burst = burst.into_iter();
        if let Err(error) = self.connect().await {
            self.again.extend(burst);
            return Err(error);
        }
        while let Some(message) = burst.next() {
            if let Err(error) = self.send(message).await {
                self.again.extend(burst);
                return Err(error);
            }
        }
        let deadline = now() + DEADLINE;
        while !self.open.is_empty() {
            anyhow::ensure!(now() < deadline, "no confirm in time");
            let Some(connection) = &mut self.connection else { break };
            match connection.event(BEAT).await? {
                Some(Event::Method(method)) => self.told(&method),
                Some(Event::Message(_)) => anyhow::bail!("a publisher consumes nothing"),
                None => connection.beat().await?,
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        if self.connection.is_none() {
            let mut connection = Connection::open(self.rng.random_range(1..=self.nodes)).await?;
            connection.ask(confirm::Select { no_wait: false }).await?;
            (self.connection, self.tag) = (Some(connection), 0);
        }
        Ok(())
    }

    async fn send(&mut self, mut message: Message) -> anyhow::Result<()> {
        let Message { id, queue, priority, ttl_ms, .. } = message;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let publication = Publication { queue, priority, ttl_ms, sent: now(), ended: None };
        let before = message.attempt.filter(|_| message.is_once);
        before.into_iter().for_each(|number| self.ledger.borrow_mut().publish_again(now(), number));
        let attempt = before.unwrap_or_else(|| self.ledger.borrow_mut().publish(publication));
        message.attempt = Some(attempt);
        self.tag += 1;
        self.open.insert(self.tag, (message, (attempt, now())));
        let properties = Properties {
            message_id: Some(short(&format!("{}-{id}", self.number))),
            priority: (priority > 0).then_some(priority),
            expiration: ttl_ms.map(|ttl| short(&ttl.to_string())),
            ..Properties::default()
        };
        let large = attempt % LARGE_EVERY == LARGE_EVERY - 1;
        let body = format!("{attempt}:{}", ".".repeat(if large { LARGE_BYTES } else { 0 }));
        connection.publish(queue, &properties, body.as_bytes()).await
    }

    fn told(&mut self, method: &Method) {
        let (tag, multiple, confirmed) = match method {
            Method::Basic(basic::Method::Ack(ack)) => (ack.delivery_tag, ack.multiple, true),
            Method::Basic(basic::Method::Nack(nack)) => (nack.delivery_tag, nack.multiple, false),
            _ => return,
        };
        let later = self.open.split_off(&(tag + 1));
        let mut told = std::mem::replace(&mut self.open, later);
        if !multiple {
            let last = told.split_off(&tag);
            self.open.append(&mut std::mem::replace(&mut told, last));
        }
        for (message, attempt) in told.into_values() {
            self.end(attempt, if confirmed { Outcome::Confirmed } else { Outcome::Unknown });
            self.again.extend((!confirmed).then_some(message));
        }
    }

    fn end(&self, (attempt, sent): (usize, Duration), outcome: Outcome) {
        self.ledger.borrow_mut().end_publication(now(), attempt, sent, outcome);
    }
}

/// The number of the attempt that a body is of.
pub fn number(body: &[u8]) -> Option<usize> {
    std::str::from_utf8(body).ok()?.split_once(':')?.0.parse().ok()
}

/// Waits a little before the same is tried again.
pub async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
