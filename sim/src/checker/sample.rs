//! A small good history for the tests of the checkers, who spoil it.

use std::time::Duration;

use crate::history::groups::{Fetch, Join, Outcome, Share, Who};
use crate::history::operation::Kind;
use crate::history::{History, Partition, Place, Serial};
use crate::workload::LEDGER;
use crate::workload::produce::sending;

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
