//! What publishers and consumers of queues asked and were told: for the checkers of queues.
//! Owns the numbers of publications: each attempt to publish a message has its own, as the message's body, so that whoever gets a message
//! knows which attempt brought it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::troubles::Troubles;
use crate::workload::queues::Kind;

/// What a publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was confirmed.
    Confirmed,
    /// It was refused, or nothing was said: it may be in the queue.
    Unknown,
}

/// One attempt to publish a message.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The queue's name.
    pub queue: &'static str,
    /// Its priority.
    pub priority: u8,
    /// Its own time to live, ms.
    pub ttl_ms: Option<u64>,
    /// When it left the publisher.
    pub sent: Duration,
    /// When and how it ended, so far.
    pub ended: Option<(Duration, Outcome)>,
}

/// What a consumer says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// To be delivered again; counts as a failure.
    Failed,
    /// Nobody shall have it.
    Rejected,
}

/// A consumer said what became of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// What.
    pub verdict: Verdict,
    /// When it left the consumer.
    pub sent: Duration,
    /// When the consumer knew that its node had heard it.
    pub heard: Option<Duration>,
}

/// A message came to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Which publication, by number.
    pub number: usize,
    /// To whom, by number.
    pub consumer: usize,
    /// When.
    pub at: Duration,
    /// Whether it is marked as delivered before.
    pub redelivered: bool,
    /// What `x-delivery-count` says.
    pub failures: u32,
    /// What became of it, as far as the consumer is concerned.
    pub settled: Option<Settled>,
}

/// A consumer, from its subscription to its end.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Of which queue.
    pub queue: &'static str,
    /// Connected to which node.
    pub node: u32,
    /// How many messages it may hold.
    pub prefetch: u16,
    /// When it asked to consume.
    pub begun: Duration,
    /// When it heard from its node last.
    pub heard: Duration,
}

/// A message as it is in a queue's log when all is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Where.
    pub offset: i64,
    /// Which publication, by number.
    pub number: usize,
    /// Why it died on its way here, if it did.
    pub death: Option<String>,
}

/// All queues of a run.
#[derive(Default)]
pub struct Queues {
    /// Those there are, that of the dead letters included; none if no queue plays.
    pub kinds: Vec<Kind>,
    /// By number.
    pub publications: Vec<Publication>,
    /// Which of them were sent when and not confirmed. One that shall come once may be, later.
    pub unconfirmed: Vec<(usize, Duration)>,
    /// By number.
    pub consumers: Vec<Consumer>,
    /// In the order in which they came.
    pub deliveries: Vec<Delivery>,
    /// Publications that some consumer said it is done with: what it said may be lost, then the queue is not empty.
    pub done: BTreeSet<usize>,
    /// Those that some consumer could not do.
    pub failed: BTreeSet<usize>,
    /// Publishers that are not done.
    pub publishers: u32,
    /// When everything that was confirmed was done, and the queues said that they are empty.
    pub drained: Option<Duration>,
    /// Nobody needs to consume any more.
    pub is_over: bool,
    /// What is in each queue's log when all is over.
    pub logs: BTreeMap<&'static str, Vec<Logged>>,
    /// What was wrong with which node when.
    pub troubles: Troubles,
}

impl Queues {
    /// The rules of a queue.
    pub fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name == name)
    }

    /// Confirmed publications that nobody is done with, though they may be had.
    pub fn open(&self) -> impl Iterator<Item = usize> + '_ {
        let confirmed = |one: &Publication| matches!(one.ended, Some((_, Outcome::Confirmed)));
        let numbered = self.publications.iter().enumerate().filter(move |(_, one)| confirmed(one));
        numbered.map(|(number, _)| number).filter(|number| !self.done.contains(number) && !self.may_wait(*number))
    }

    /// Whether a publication failed and was to wait a moment by a clock that has jumped: that may last for an hour.
    pub fn may_wait(&self, number: usize) -> bool {
        let waits = |kind: &Kind| kind.retry_ms.is_some() && !self.troubles.clocks_agree();
        self.failed.contains(&number) && self.kind(self.publications[number].queue).is_some_and(waits)
    }

    /// The queue that a delivery came from, and its consumer.
    pub fn consumer(&self, delivery: &Delivery) -> &Consumer {
        &self.consumers[delivery.consumer]
    }

    /// Deliveries by queue and publication, in the order in which they came.
    pub fn by_message(&self) -> BTreeMap<(&'static str, usize), Vec<&Delivery>> {
        let mut found: BTreeMap<_, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            found.entry((self.consumer(delivery).queue, delivery.number)).or_default().push(delivery);
        }
        found
    }

    /// Whether the node that a consumer is connected to was in trouble in this time.
    pub fn in_trouble(&self, delivery: &Delivery, from: Duration, until: Duration) -> bool {
        self.troubles.of(self.consumer(delivery).node, from, until)
    }

    /// A delivery in words.
    pub fn words(&self, delivery: &Delivery) -> String {
        let Consumer { queue, node, .. } = self.consumer(delivery);
        let Delivery { number, consumer, at, redelivered, failures, settled } = delivery;
        let (at, again) = (at.as_secs_f64(), if *redelivered { "again " } else { "" });
        let settled = settled.map_or("nothing said".to_owned(), |settled| {
            let heard = settled.heard.map_or("not known to be heard".to_owned(), |at| format!("heard by {at:?}"));
            format!("{:?} at {:.3}s, {heard}", settled.verdict, settled.sent.as_secs_f64())
        });
        format!(
            "message {number} of {queue} was delivered {again}to consumer {consumer} of node {node} at {at:.3}s \
             with {failures} failures ({settled})"
        )
    }
}
