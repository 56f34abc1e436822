//! A small good history for the tests of the checkers, who spoil it.

use std::time::Duration;

use crate::history::groups::{Fetch, Join, Outcome, Share, Who};
use crate::history::operation::Kind;
use crate::history::queues::{self, Consumer, Delivery, Logged, Publication, Settled, Verdict};
use crate::history::{History, Partition, Place, Serial};
use crate::workload::LEDGER;
use crate::workload::produce::sending;
use crate::workload::queues::KINDS;

/// A place in the one partition that the samples use.
pub fn place(offset: i64) -> Place {
    Place { partition: Partition { topic: LEDGER, index: 0 }, offset }
}

/// Four records of an idempotent producer, sent, acknowledged and found.
pub fn ledger() -> History {
    let mut history = History::default();
    let serials: Vec<Serial> = (0..4).map(|number| Serial { producer: 1, number }).collect();
    let partition = place(0).partition;
    history.record(Duration::ZERO, 1, Kind::Invoke, sending(partition, &serials, None), None);
    history.record(Duration::from_secs(1), 1, Kind::Ok, sending(partition, &serials, Some(0)), None);
    history.acknowledge(Duration::from_secs(1), partition, 0, &serials);
    history.read.found = (0..).map(place).zip(serials).collect();
    history.read.starts.insert(partition, 0);
    history
}

/// So many seconds.
pub fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A history of one group, told in seconds.
#[derive(Default)]
pub struct GroupSample {
    pub history: History,
}

impl GroupSample {
    fn who(member: &str, instance: Option<&str>, generation: i32) -> Who {
        Who { group: "g", member: member.to_owned(), instance: instance.map(str::to_owned), generation }
    }

    /// A member is told of a generation.
    pub fn join(&mut self, seconds: u64, member: &str, instance: Option<&str>, generation: i32) {
        let who = Self::who(member, instance, generation);
        self.history.groups.joins.push(Join { at: at(seconds), who, leads: false });
    }

    /// A member is told to assign.
    pub fn lead(&mut self, member: &str, generation: i32) {
        self.history.groups.joins.push(Join { at: at(1), who: Self::who(member, None, generation), leads: true });
    }

    /// It assigns.
    pub fn assign(&mut self, generation: i32, parts: &[(&str, &[i32])]) {
        let parts = parts.iter().map(|(member, part)| ((*member).to_owned(), part.iter().copied().collect()));
        self.history.groups.assigned.entry(("g", generation)).or_default().push(parts.collect());
    }

    /// A member is told its part.
    pub fn share(&mut self, member: &str, generation: i32, part: &[i32]) {
        let who = Self::who(member, None, generation);
        self.history.groups.shares.push(Share { at: at(1), who, partitions: part.iter().copied().collect() });
    }

    /// A member commits an offset of partition 0.
    pub fn commit(
        &mut self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        (begun, ended): (u64, u64),
        offset: i64,
        outcome: Outcome,
    ) {
        let number = self.history.groups.commit(at(begun), Self::who(member, instance, generation), vec![(0, offset)]);
        self.history.end_commit(at(ended), number, outcome);
    }

    /// Somebody reads what is committed of partition 0.
    pub fn fetch(&mut self, (begun, ended): (u64, u64), found: Option<(i64, usize)>) {
        self.history.groups.fetches.push(Fetch { cursor: ("g", 0), during: (at(begun), at(ended)), found });
    }
}

/// A history of queues, told in seconds.
pub struct QueueSample {
    pub history: History,
}

impl Default for QueueSample {
    fn default() -> Self {
        let mut history = History::default();
        history.queues.kinds = KINDS.to_vec();
        Self { history }
    }
}

impl QueueSample {
    /// A message is published, and confirmed or not in the same second.
    pub fn publish(&mut self, queue: &'static str, seconds: u64, outcome: queues::Outcome) -> usize {
        let sent = at(seconds);
        let number = self.history.publish(Publication { queue, priority: 0, ttl_ms: None, sent, ended: None });
        self.history.end_publication(sent, number, sent, outcome);
        number
    }

    /// Somebody consumes through node 1, and is heard of for long.
    pub fn consume(&mut self, queue: &'static str, seconds: u64) -> usize {
        self.history.consume(Consumer { queue, node: 1, prefetch: 1, begun: at(seconds), heard: at(99) })
    }

    /// A message is delivered; it is marked if it was before.
    pub fn deliver(&mut self, number: usize, consumer: usize, seconds: u64, failures: u32) -> usize {
        let redelivered = self.history.queues.deliveries.iter().any(|delivery| delivery.number == number);
        self.history.deliver(Delivery { number, consumer, at: at(seconds), redelivered, failures, settled: None })
    }

    /// A consumer settles, and is heard.
    pub fn settle(&mut self, place: usize, verdict: Verdict, seconds: Option<u64>) {
        let sent = at(seconds.unwrap_or(50));
        self.history.queues.deliveries[place].settled = Some(Settled { verdict, sent, heard: seconds.map(at) });
    }

    /// A message is in a log.
    pub fn log(&mut self, queue: &'static str, number: usize, death: Option<&str>) {
        let log = self.history.queues.logs.entry(queue).or_default();
        log.push(Logged { offset: log.len() as i64, number, death: death.map(str::to_owned) });
    }
}
