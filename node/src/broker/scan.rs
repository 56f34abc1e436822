//! Scan: the live batches of a log in the order of their offsets, in their first place or where compaction moved them to.
//! Invariant: a place that was found before the log changed under the reader is found anew; no batch comes twice.
use model::command::Payload;
use model::partition::{PartitionMachine, Place, moved_batches};
use model::record::LiveBatch;
use storage::LogEntry;

use super::read::bounds;
use super::{Broker, Error};
use crate::router::LocalPartition;

/// Bytes read from the log in the first step, at least: the sparse index is this coarse.
const STEP_BYTES: usize = 256 << 10;
/// Bytes read from the log in one step, at most.
const STEP_BYTES_MAX: usize = 1 << 20;

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    /// At most so many bytes more are wanted.
    Within(usize),
    /// The batch was not wanted any more.
    Stop,
    /// The batch was the last one wanted.
    StopAfter,
}

/// How far a scan is.
struct Scan {
    /// Everything below was visited.
    want: i64,
    place: Place,
    step_bytes: usize,
}

impl Broker {
    /// Visits the live batches from the one that holds `from` on, to the entry `upto` until `visit` stops
    /// it, reading about `max_bytes` at first. Returns where to go on, if that is worth remembering.
    ///
    /// # Errors
    /// The log begins behind `from`, or cannot be read.
    pub(super) async fn scan(
        &self,
        local: &LocalPartition,
        from: i64,
        upto: u64,
        max_bytes: usize,
        mut visit: impl FnMut(LiveBatch) -> Step + Send,
    ) -> Result<Option<Place>, Error> {
        let step_bytes = max_bytes.clamp(STEP_BYTES, STEP_BYTES_MAX);
        let mut scan = Scan { want: from, place: place(local, from)?, step_bytes };
        while scan.place.end.is_some() || scan.place.index <= upto {
            let Some(entries) = self.entries(local, &scan, upto).await? else {
                let before = std::mem::replace(&mut scan.place, place(local, scan.want)?);
                if before == scan.place {
                    let (index, group) = (before.index, local.group());
                    return Err(Error::Unavailable(format!("log entry {index} of group {group} is gone")));
                }
                continue;
            };
            let goes_on = local.raft().partition(|machine| scan.walk(machine, &entries, &mut visit));
            if !goes_on.ok_or(Error::UnknownPartition)? {
                break;
            }
        }
        Ok(scan.place.end.is_none().then_some(scan.place))
    }

    /// The entries at the place of `scan`, or none if they are gone: purged, since the place was found.
    async fn entries(&self, local: &LocalPartition, scan: &Scan, upto: u64) -> Result<Option<Vec<LogEntry>>, Error> {
        let index = scan.place.index;
        let end = if scan.place.end.is_some() { index } else { upto } + 1;
        match self.0.reader.entries_aside(local.group(), index, end, scan.step_bytes).await {
            Ok(entries) => {
                Ok(Some(entries).filter(|entries| entries.first().is_some_and(|first| first.index == index)))
            }
            // The log was cut while it was read.
            Err(storage::Error::Broken { .. }) if place(local, scan.want)? != scan.place => Ok(None),
            Err(error) => Err(unreadable(local, &error)),
        }
    }
}

impl Scan {
    /// Visits what `entries` hold; whether the scan goes on.
    fn walk(
        &mut self,
        machine: &PartitionMachine,
        entries: &[LogEntry],
        visit: &mut impl FnMut(LiveBatch) -> Step,
    ) -> bool {
        if !machine.is_place(&self.place, self.want) {
            return self.find(machine);
        }
        if let (Some(end), Some(entry)) = (self.place.end, entries.first()) {
            return self.moved(&entry.payload, end, visit) && self.find(machine);
        }
        entries.iter().all(|entry| self.in_place(machine, entry, visit))
    }

    fn find(&mut self, machine: &PartitionMachine) -> bool {
        let Some(place) = machine.place(self.want) else { return false };
        self.place = place;
        if place.end.is_none() {
            // Nothing is left of what was moved, from here to where records are in their first place.
            self.want = self.want.max(machine.clean().end);
        }
        true
    }

    fn moved(&mut self, payload: &Payload, end: i64, visit: &mut impl FnMut(LiveBatch) -> Step) -> bool {
        for batch in moved_batches(payload, (self.place.offset, end)) {
            let next = batch.next_offset;
            if next <= self.want {
                continue;
            }
            match visit(batch) {
                Step::Next => {}
                Step::Within(left) => self.step_bytes = left.min(STEP_BYTES_MAX),
                Step::Stop | Step::StopAfter => return false,
            }
            self.want = self.want.max(next);
        }
        self.want = self.want.max(end);
        true
    }

    fn in_place(
        &mut self,
        machine: &PartitionMachine,
        entry: &LogEntry,
        visit: &mut impl FnMut(LiveBatch) -> Step,
    ) -> bool {
        let mut walk = machine.walk(entry.index, entry.term, self.place.offset, &entry.payload);
        let mut last = false;
        while let Some(batch) = walk.next() {
            if batch.next_offset <= self.want {
                continue;
            }
            match visit(batch) {
                Step::Next => {}
                Step::Within(left) => self.step_bytes = left.min(STEP_BYTES_MAX),
                Step::Stop => return false,
                // An entry that is not done is read again next time.
                Step::StopAfter if walk.next().is_some() => return false,
                Step::StopAfter => last = true,
            }
        }
        self.place = Place { offset: walk.next_offset(), index: entry.index + 1, end: None };
        self.want = self.want.max(self.place.offset);
        !last
    }
}

/// Where the record at `offset` is found: by the sparse index, or nearer, where an earlier read stopped.
fn place(local: &LocalPartition, offset: i64) -> Result<Place, Error> {
    let place = local.raft().partition(|machine| machine.place(offset)).flatten();
    let place = place.ok_or_else(|| nowhere(local, offset))?;
    let near = local.recall(offset).filter(|_| place.end.is_none());
    let near = near.map(|(offset, index)| Place { offset, index, end: None });
    Ok(near.filter(|near| near.offset >= place.offset && near.index > place.index).unwrap_or(place))
}

/// Who asks again is told that the log start has passed.
fn nowhere(local: &LocalPartition, offset: i64) -> Error {
    match bounds(local) {
        Ok(bounds) if offset >= bounds.log_start && offset < bounds.high_watermark => {
            Error::Unavailable(format!("offset {offset} of group {} is not here yet", local.group()))
        }
        _ => Error::OffsetNotAvailable,
    }
}

/// A replica with a damaged entry must not lead, since nobody could read past it: its peers have the entry.
fn unreadable(local: &LocalPartition, error: &storage::Error) -> Error {
    if let storage::Error::Corrupt(what) = error {
        local.raft().quarantine(&format!("its log cannot be read: {what}"));
    }
    Error::Unavailable(error.to_string())
}
