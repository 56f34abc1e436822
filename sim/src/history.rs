//! What happened in a run, in order of simulated time: the story for people, the hash for comparing two runs, the operations and
//! the ledger for the checkers. Owns nothing of the world; everybody appends, nobody edits.

pub mod groups;
pub mod operation;
pub mod queues;
pub mod troubles;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use serde::Serialize;

use crate::coverage::Coverage;
use crate::fault::Fault;
use crate::workload::table::Table;
use groups::{Groups, Outcome};
use operation::{Action, Kind, Operation};
use queues::{Queues, Settled, Verdict};

/// A record as a producer wrote it: which producer, and its how-manieth record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Serial {
    /// The producer's number.
    pub producer: u32,
    /// Counts its records from 0.
    pub number: u64,
}

/// Keys of each producer.
const KEYS: u64 = 7;
/// One record in so many is large.
const LARGE_EVERY: u64 = 23;
/// Bytes that a large record has on top.
const LARGE_BYTES: usize = 9_000;

impl Serial {
    /// The record's key on the wire.
    pub fn key(self) -> String {
        format!("{}/{}", self.producer, self.number % KEYS)
    }

    /// The record's value on the wire.
    pub fn value(self) -> String {
        let large = self.number % LARGE_EVERY == LARGE_EVERY - 1;
        format!("{}:{}:{}", self.producer, self.number, ".".repeat(if large { LARGE_BYTES } else { 0 }))
    }

    /// Which record this is, if it is whole.
    pub fn of(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        let (producer, rest) = std::str::from_utf8(value?).ok()?.split_once(':')?;
        let (number, _) = rest.split_once(':')?;
        let serial = Self { producer: producer.parse().ok()?, number: number.parse().ok()? };
        (Some(serial.value().as_bytes()) == value && Some(serial.key().as_bytes()) == key).then_some(serial)
    }
}

/// A partition that clients write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Partition {
    /// Topic name.
    pub topic: &'static str,
    /// Partition index.
    pub index: i32,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose log.
    pub partition: Partition,
    /// Record offset.
    pub offset: i64,
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of producer {}", self.number, self.producer)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} of {}", self.offset, self.partition)
    }
}

/// How far records of a partition were asked to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The first offset that every request leaves alone.
    pub asked: i64,
    /// The first offset that may be left, after what was acknowledged.
    pub acknowledged: i64,
    /// The leader epoch in which that was acknowledged.
    pub epoch: i32,
}

impl Deleted {
    /// Where the log of a leader of `epoch` begins at least. A Fetch asks no quorum, in Kafka neither: who was deposed and does not know it
    /// yet may not know what its successor deleted.
    pub fn known_to(&self, epoch: i32) -> i64 {
        if epoch >= self.epoch { self.acknowledged } else { 0 }
    }
}

/// Every line of what happened, with its simulated time, the time of the last event, and the hash of all of it.
#[derive(Default)]
struct Story {
    lines: Vec<String>,
    elapsed: Duration,
    hash: u64,
    /// Gets every event that goes into the hash, a line each, if somebody wants them.
    events: Option<BufWriter<File>>,
}

/// What is there at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct FullRead {
    /// Where each partition begins.
    pub starts: BTreeMap<Partition, i64>,
    /// Every record, in the order of reading.
    pub found: Vec<(Place, Serial)>,
}

/// The ledger of one run.
#[derive(Default)]
pub struct History {
    story: Story,
    /// What clients asked and were told.
    pub operations: Vec<Operation>,
    /// What the cluster acknowledged, and where it said it put it.
    pub acknowledged: BTreeMap<Place, Serial>,
    /// When each place was acknowledged first.
    pub times: BTreeMap<Place, Duration>,
    /// Batches that were written once and not retried: number of records by the first one.
    pub loose: BTreeMap<Serial, u64>,
    /// How far records were deleted.
    pub deleted: BTreeMap<Partition, Deleted>,
    /// What readers saw while faults went on, at its first sight.
    pub seen: BTreeMap<Place, Serial>,
    /// Furthest end that anybody was told of each leader epoch, by whom and when.
    pub epoch_ends: BTreeMap<(Partition, i32), (i64, u32, Duration)>,
    /// What a full read finds at the end.
    pub read: FullRead,
    /// The compacted topic.
    pub table: Table,
    /// Consumer groups.
    pub groups: Groups,
    /// Queues.
    pub queues: Queues,
    /// Broken promises noticed on the way.
    pub violations: Vec<String>,
    /// Counts by name, for the summary.
    pub counts: BTreeMap<&'static str, u64>,
    /// Which fault met which state of the cluster.
    pub coverage: Coverage,
}

impl History {
    /// One whose events go to `events`, too.
    pub fn with_events(events: BufWriter<File>) -> Self {
        Self { story: Story { events: Some(events), ..Story::default() }, ..Self::default() }
    }

    /// All events are written.
    ///
    /// # Errors
    /// What the file says.
    pub fn flush_events(&mut self) -> io::Result<()> {
        self.story.events.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Appends a line to the story and to the hash.
    pub fn tell(&mut self, at: Duration, line: impl AsRef<str>) {
        let line = format!("{:>9.3}s {}", at.as_secs_f64(), line.as_ref());
        self.mix(at, &line);
        self.story.lines.push(line);
    }

    /// Tells a fault, and counts the `states` of the cluster that it met, if it had an effect.
    pub fn fault(&mut self, at: Duration, fault: &Fault, effect: bool, states: &[&str]) {
        if effect {
            self.tell(at, format!("FAULT {fault}"));
            self.queues.troubles.note(at, fault);
            self.coverage.met(fault, states);
        } else {
            self.tell(at, format!("(no effect) {fault}"));
        }
    }

    /// Adds to the hash only: what is too frequent to tell.
    pub fn note(&mut self, at: Duration, what: &str, place: Place, serial: Serial) {
        let line = format!("{} {what} {place:?} {serial:?}", at.as_nanos());
        self.mix(at, &line);
    }

    /// Commit `number` of a group ended.
    pub fn end_commit(&mut self, at: Duration, number: usize, outcome: Outcome) {
        let commit = &mut self.groups.commits[number];
        commit.ended = Some((at, outcome));
        let line = format!("{} commit {number} {commit:?}", at.as_nanos());
        self.mix(at, &line);
    }

    /// A message leaves a publisher: the number of the attempt.
    pub fn publish(&mut self, publication: queues::Publication) -> usize {
        let number = self.queues.publications.len();
        self.mix(publication.sent, &format!("{} publish {number} {publication:?}", publication.sent.as_nanos()));
        self.queues.publications.push(publication);
        number
    }

    /// The same message leaves it once more.
    pub fn publish_again(&mut self, at: Duration, number: usize) {
        self.mix(at, &format!("{} publish {number} again", at.as_nanos()));
        self.queues.publications[number].ended = None;
    }

    /// A publisher knows what became of an attempt that was sent at `sent`, or that it never will.
    pub fn end_publication(&mut self, at: Duration, number: usize, sent: Duration, outcome: queues::Outcome) {
        self.mix(at, &format!("{} publish {number} {outcome:?}", at.as_nanos()));
        self.queues.publications[number].ended = Some((at, outcome));
        self.queues.unconfirmed.extend((outcome == queues::Outcome::Unknown).then_some((number, sent)));
        self.count(match outcome {
            queues::Outcome::Confirmed => "messages confirmed",
            queues::Outcome::Unknown => "messages published again",
        });
    }

    /// Somebody consumes: its number.
    pub fn consume(&mut self, consumer: queues::Consumer) -> usize {
        self.mix(consumer.begun, &format!("{} {consumer:?}", consumer.begun.as_nanos()));
        self.queues.consumers.push(consumer);
        self.queues.consumers.len() - 1
    }

    /// A message came: the place of the delivery.
    pub fn deliver(&mut self, delivery: queues::Delivery) -> usize {
        self.mix(delivery.at, &format!("{} {delivery:?}", delivery.at.as_nanos()));
        self.count(if delivery.redelivered { "messages redelivered" } else { "messages delivered" });
        self.queues.deliveries.push(delivery);
        self.queues.deliveries.len() - 1
    }

    /// A consumer says what became of a delivery.
    pub fn settle(&mut self, at: Duration, place: usize, verdict: Verdict) {
        self.mix(at, &format!("{} delivery {place} {verdict:?}", at.as_nanos()));
        let delivery = &mut self.queues.deliveries[place];
        delivery.settled = Some(Settled { verdict, sent: at, heard: None });
        match verdict {
            Verdict::Done => drop(self.queues.done.insert(delivery.number)),
            Verdict::Failed => drop(self.queues.failed.insert(delivery.number)),
            Verdict::Rejected => {}
        }
    }

    /// Its node has heard it.
    pub fn heard(&mut self, at: Duration, places: &[usize]) {
        self.mix(at, &format!("{} deliveries {places:?} heard", at.as_nanos()));
        for place in places {
            let settled = &mut self.queues.deliveries[*place].settled;
            settled.iter_mut().for_each(|settled| settled.heard = Some(at));
        }
    }

    /// Appends an event of a client's operation.
    pub fn record(&mut self, at: Duration, process: u32, kind: Kind, action: Action, error: Option<String>) {
        let time = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.mix(at, &format!("{time} {process} {kind:?} {error:?}"));
        self.operations.push(Operation { index: self.operations.len(), process, kind, action, time, error });
    }

    /// A batch is acknowledged: its records are at `base` and behind.
    pub fn acknowledge(&mut self, at: Duration, partition: Partition, base: i64, serials: &[Serial]) {
        for (serial, offset) in serials.iter().zip(base..) {
            let place = Place { partition, offset };
            self.note(at, "acknowledged", place, *serial);
            self.count("records acknowledged");
            self.times.entry(place).or_insert(at);
            if let Some(other) = self.acknowledged.insert(place, *serial).filter(|other| other != serial) {
                self.violate(at, format!("S5 OffsetsDense: {place} was acknowledged to {other} and to {serial}"));
            }
        }
    }

    /// A reader was served `serial` at `place`.
    pub fn see(&mut self, at: Duration, place: Place, serial: Serial) {
        self.note(at, "read", place, serial);
        let first = *self.seen.entry(place).or_insert(serial);
        if first != serial {
            self.violate(at, format!("S2 ReadStays: {first} was read at {place}, where now is {serial}"));
        }
    }

    /// `by` a node, and at a time, somebody was told that `epoch` goes up to `end` at least.
    pub fn tell_epoch_end(&mut self, epoch: (Partition, i32), end: i64, by: (u32, Duration)) {
        let told = self.epoch_ends.entry(epoch).or_insert((end, by.0, by.1));
        if end > told.0 {
            *told = (end, by.0, by.1);
        }
    }

    /// Where the partition ends at least: behind everything acknowledged.
    pub fn acknowledged_end(&self, partition: Partition) -> i64 {
        let all = Place { partition, offset: 0 }..=Place { partition, offset: i64::MAX };
        self.acknowledged.range(all).next_back().map_or(0, |(place, _)| place.offset + 1)
    }

    /// Records a broken promise.
    pub fn violate(&mut self, at: Duration, violation: String) {
        self.tell(at, format!("VIOLATION {violation}"));
        self.violations.push(violation);
    }

    /// Counts one more of `name`.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// The time of the last event.
    pub fn elapsed(&self) -> Duration {
        self.story.elapsed
    }

    /// FNV-1a over everything told and noted so far, with their times.
    pub fn hash(&self) -> u64 {
        self.story.hash
    }

    /// The story, a line an event.
    pub fn story(&self) -> &[String] {
        &self.story.lines
    }

    fn mix(&mut self, at: Duration, line: &str) {
        self.story.elapsed = self.story.elapsed.max(at);
        if let Some(events) = &mut self.story.events {
            writeln!(events, "{line}").expect("the event log can be written");
        }
        let bytes = line.as_bytes();
        let start = if self.story.hash == 0 { 0xcbf2_9ce4_8422_2325 } else { self.story.hash };
        self.story.hash =
            bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_again_only_if_it_is_whole() {
        for number in [0, 5, LARGE_EVERY - 1] {
            let serial = Serial { producer: 3, number };
            let (key, value) = (serial.key(), serial.value());
            assert_eq!(Serial::of(Some(key.as_bytes()), Some(value.as_bytes())), Some(serial));
            assert_eq!(Serial::of(Some(b"another"), Some(value.as_bytes())), None);
            assert_eq!(Serial::of(Some(key.as_bytes()), Some(format!("{value}!").as_bytes())), None);
        }
    }

    #[test]
    fn an_offset_given_twice_and_a_record_that_changed_are_seen() {
        let mut history = History::default();
        let partition = Partition { topic: "ledger", index: 0 };
        let serial = |number| Serial { producer: 1, number };
        history.acknowledge(Duration::ZERO, partition, 4, &[serial(0), serial(1)]);
        history.acknowledge(Duration::ZERO, partition, 4, &[serial(0)]);
        assert!(history.violations.is_empty());
        assert_eq!(history.acknowledged_end(partition), 6);
        history.acknowledge(Duration::ZERO, partition, 5, &[serial(2)]);
        assert_eq!(history.violations.len(), 1);
        history.see(Duration::ZERO, Place { partition, offset: 4 }, serial(0));
        history.see(Duration::ZERO, Place { partition, offset: 4 }, serial(9));
        assert_eq!(history.violations.len(), 2);
    }

    #[test]
    fn an_earlier_leader_may_not_know_what_is_deleted() {
        let deleted = Deleted { asked: 9, acknowledged: 7, epoch: 3 };
        assert_eq!([2, 3, 4].map(|epoch| deleted.known_to(epoch)), [0, 7, 7]);
    }
}
