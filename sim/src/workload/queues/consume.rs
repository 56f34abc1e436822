//! The consumers of one place at a queue, one after the other: what each does with what it gets, and how it ends.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use wire::amqp::Value;
use wire::amqp::method::basic;

use super::client::{BEAT, Connection, Event, Message, short};
use super::{CALM, Kind, publish};
use crate::history::queues::{Consumer, Delivery, Verdict};
use crate::workload::{Ledger, now};

/// What a consumer may hold.
const PREFETCH: std::ops::RangeInclusive<u16> = 1..=8;
/// How long a consumer lives amid faults, ms, and how long its place stays empty then.
const LIFE_MS: std::ops::Range<u64> = 300..2_500;
const ABSENCE_MS: std::ops::Range<u64> = 20..1_500;
/// How long a consumer works on a message, ms.
const WORK_MS: std::ops::Range<u64> = 1..60;
/// How long one stands still: its node takes it for dead after two seconds.
const STILL_MS: std::ops::Range<u64> = 500..3_500;

/// How a consumer ends.
#[derive(Clone, Copy)]
enum End {
    /// It cancels, settles what it holds and closes.
    Leaves,
    /// Its process is gone, with what it holds.
    Dies,
    /// It hears and says nothing for a while, then settles what it held.
    StandsStill,
}

/// A consumer that lives.
struct Life<'a> {
    connection: Connection,
    /// Its number.
    consumer: usize,
    /// What it holds: delivery tag and place in the history.
    held: Vec<(u64, usize)>,
    kind: Kind,
    ledger: &'a Ledger,
    rng: &'a mut SmallRng,
}

/// One place at a queue until all is over.
pub async fn run(kind: Kind, nodes: u32, ledger: Ledger, mut rng: SmallRng) {
    while !ledger.borrow().queues.is_over {
        let node = rng.random_range(1..=nodes);
        if let Ok(mut life) = Life::begin(kind, node, &ledger, &mut rng).await
            && life.live().await.is_err()
        {
            ledger.borrow_mut().count("consumers lost their node");
        }
        let absence = if now() < CALM { rng.random_range(ABSENCE_MS) } else { ABSENCE_MS.start };
        tokio::time::sleep(Duration::from_millis(absence)).await;
    }
}

impl<'a> Life<'a> {
    async fn begin(kind: Kind, node: u32, ledger: &'a Ledger, rng: &'a mut SmallRng) -> anyhow::Result<Self> {
        let mut connection = Connection::open(node).await?;
        let prefetch = rng.random_range(PREFETCH);
        connection.ask(basic::Qos { prefetch_count: prefetch, ..Default::default() }).await?;
        let begun = now();
        let consumer = Consumer { queue: kind.name, node, prefetch, begun, heard: begun };
        let consumer = ledger.borrow_mut().consume(consumer);
        let consume = basic::Consume { queue: short(kind.name), consumer_tag: short("c"), ..Default::default() };
        connection.ask(consume).await?;
        Ok(Self { connection, consumer, held: Vec::new(), kind, ledger, rng })
    }

    /// Lives until its end, or until it loses its node.
    async fn live(&mut self) -> anyhow::Result<()> {
        let until = now() + Duration::from_millis(self.rng.random_range(LIFE_MS));
        while now() < until || now() >= CALM {
            if self.ledger.borrow().queues.is_over {
                return Ok(());
            }
            self.moment(BEAT).await?;
        }
        let end = match self.rng.random_range(0..10) {
            0..3 => End::Leaves,
            3..8 => End::Dies,
            _ => End::StandsStill,
        };
        self.end(end).await
    }

    /// Takes what comes, works, and settles.
    async fn moment(&mut self, wait: Duration) -> anyhow::Result<()> {
        match self.connection.event(wait).await? {
            Some(Event::Message(message)) => self.note(&message),
            Some(Event::Method(_)) => {}
            None => self.connection.beat().await?,
        }
        self.ledger.borrow_mut().queues.consumers[self.consumer].heard = self.connection.heard;
        if now() < CALM && self.rng.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(WORK_MS))).await;
        }
        let settles = now() >= CALM || self.rng.random_bool(0.6);
        if settles { self.settle().await } else { Ok(()) }
    }

    fn note(&mut self, message: &Message) {
        let headers = message.properties.headers.as_ref();
        let failures = headers.and_then(|headers| headers.get("x-delivery-count")).as_ref().and_then(Value::as_integer);
        let Some(number) = publish::number(&message.body) else {
            self.ledger.borrow_mut().violate(now(), format!("S9 NothingVanishes: nobody published {:?}", message.body));
            return;
        };
        let delivery = Delivery {
            number,
            consumer: self.consumer,
            at: now(),
            redelivered: message.deliver.redelivered,
            failures: failures.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            settled: None,
        };
        let place = self.ledger.borrow_mut().deliver(delivery);
        self.held.push((message.deliver.delivery_tag, place));
    }

    /// Says what became of all that it holds, in any order.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        held.shuffle(self.rng);
        let places: Vec<usize> = held.iter().map(|(_, place)| *place).collect();
        for (delivery_tag, place) in held {
            let verdict = self.verdict();
            self.ledger.borrow_mut().settle(now(), place, verdict);
            match verdict {
                Verdict::Done => self.connection.tell(basic::Ack { delivery_tag, multiple: false }).await?,
                Verdict::Failed => {
                    let nack = basic::Nack { delivery_tag, multiple: false, requeue: true };
                    self.connection.tell(nack).await?;
                }
                Verdict::Rejected => self.connection.tell(basic::Reject { delivery_tag, requeue: false }).await?,
            }
        }
        if !places.is_empty() {
            self.connection.sync().await?;
            let mut ledger = self.ledger.borrow_mut();
            ledger.heard(now(), &places);
            ledger.queues.consumers[self.consumer].heard = now();
        }
        Ok(())
    }

    fn verdict(&mut self) -> Verdict {
        let draw = if now() < CALM { self.rng.random_range(0..100) } else { 100 };
        match draw {
            0..5 if self.kind.buries => Verdict::Rejected,
            5..20 => Verdict::Failed,
            20..30 if self.kind.failures_max.is_some() => Verdict::Failed,
            _ => Verdict::Done,
        }
    }

    async fn end(&mut self, end: End) -> anyhow::Result<()> {
        match end {
            End::Leaves => {
                let cancel = basic::Cancel { consumer_tag: short("c"), no_wait: false };
                self.connection.ask(cancel).await?;
                self.settle().await?;
                self.connection.close().await
            }
            End::Dies => {
                if !self.held.is_empty() {
                    self.ledger.borrow_mut().count("consumers died with what they held");
                }
                Ok(())
            }
            End::StandsStill => {
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(STILL_MS))).await;
                self.ledger.borrow_mut().count("consumers stood still");
                self.settle().await
            }
        }
    }
}
