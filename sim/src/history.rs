//! What happened in a run, in order of simulated time: the story for people, the hash for comparing two runs, the ledger for
//! the checkers. Owns nothing of the world; everybody appends, nobody edits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Duration;

use crate::coverage::Coverage;
use crate::fault::Fault;

/// A record as a producer wrote it: which producer, and its how-manieth record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial {
    /// The producer's number.
    pub producer: u32,
    /// Counts its records from 0.
    pub number: u64,
}

impl Serial {
    /// The record's value on the wire.
    pub fn encode(self) -> String {
        format!("{}:{}", self.producer, self.number)
    }

    /// Reads a value that [`Serial::encode`] wrote.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (producer, number) = std::str::from_utf8(value).ok()?.split_once(':')?;
        Some(Self { producer: producer.parse().ok()?, number: number.parse().ok()? })
    }
}

/// A place in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Partition index.
    pub partition: i32,
    /// Record offset.
    pub offset: i64,
}

/// The ledger of one run.
#[derive(Default)]
pub struct History {
    /// Every line of the story, with its simulated time.
    story: Vec<String>,
    hash: u64,
    /// Gets every event that goes into the hash, a line each, if somebody wants them.
    pub events: Option<BufWriter<File>>,
    /// The time of the last event.
    pub elapsed: Duration,
    /// What the cluster acknowledged, and where it said it put it.
    pub acknowledged: BTreeMap<Place, Serial>,
    /// What the tailing reader saw while faults went on, at its first sight.
    pub seen: BTreeMap<Place, Serial>,
    /// What a full read finds at the end, in the order of reading.
    pub found: Vec<(Place, Serial)>,
    /// Broken promises noticed on the way.
    pub violations: Vec<String>,
    /// Counts by name, for the summary.
    pub counts: BTreeMap<&'static str, u64>,
    /// Which fault met which state of the cluster.
    pub coverage: Coverage,
}

impl History {
    /// Appends a line to the story and to the hash.
    pub fn tell(&mut self, at: Duration, line: impl AsRef<str>) {
        let line = format!("{:>9.3}s {}", at.as_secs_f64(), line.as_ref());
        self.mix(at, &line);
        self.story.push(line);
    }

    /// Tells a fault, and counts the `states` of the cluster that it met, if it had an effect.
    pub fn fault(&mut self, at: Duration, fault: &Fault, effect: bool, states: &[&str]) {
        if effect {
            self.tell(at, format!("FAULT {fault}"));
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

    /// Records a broken promise.
    pub fn violate(&mut self, at: Duration, violation: String) {
        self.tell(at, format!("VIOLATION {violation}"));
        self.violations.push(violation);
    }

    /// Counts one more of `name`.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// FNV-1a over everything told and noted so far, with their times.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The story, a line an event.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    fn mix(&mut self, at: Duration, line: &str) {
        self.elapsed = self.elapsed.max(at);
        if let Some(events) = &mut self.events {
            writeln!(events, "{line}").expect("the event log can be written");
        }
        let bytes = line.as_bytes();
        let start = if self.hash == 0 { 0xcbf2_9ce4_8422_2325 } else { self.hash };
        self.hash = bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}
