//! A small good history for the tests of the checkers, who spoil it.

use std::time::Duration;

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
