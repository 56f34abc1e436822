//! What readers ask of a partition: where to begin, which batches of an entry live, epochs, times, sizes.
//! Changes nothing, and answers only for what is applied.

use bytes::Bytes;

use super::{Clean, Epoch, Mark, Moved, NO_TIMESTAMP, PartitionMachine, Sparse, State};
use crate::command::Payload;
use crate::machine::DeadBatch;
use crate::planted::{self, Bug};
use crate::producer::Producers;
use crate::record::{BatchFacts, LiveBatch, NO_HORIZON};

/// Where a reader goes on: at an entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Raft index of the entry.
    pub index: u64,
    /// Offset of its first live record; of moved records the first offset of the range they were moved from.
    pub offset: i64,
    /// Of moved records the offset after the range: the entry is read by [`moved_batches`](super::moved_batches), and the
    /// next place is that of this offset. None where records are in their first place: the next entry comes next.
    pub end: Option<i64>,
}

/// What readers ask.
impl PartitionMachine {
    /// Offset after the last committed and applied record.
    pub fn high_watermark(&self) -> i64 {
        self.state.next_offset
    }

    /// Offset that the next record gets.
    pub fn next_offset(&self) -> i64 {
        self.state.next_offset
    }

    /// Offset of the first record that may be read.
    pub fn log_start(&self) -> i64 {
        self.state.log_start
    }

    /// Index and term of the last applied entry; (0, 0) before the first.
    pub fn applied(&self) -> (u64, u64) {
        (self.state.applied_index, self.state.applied_term)
    }

    /// All counters.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Largest timestamp ever (-1: none) and the base offset of the first batch that has it, which may be below the log
    /// start. Kafka's ListOffsets with -3.
    pub fn max_timestamp(&self) -> (i64, i64) {
        (self.state.max_timestamp, self.state.max_timestamp_offset)
    }

    /// Bytes of the entries from the first one that a read can reach (to within one sparse point).
    pub fn size_bytes(&self) -> u64 {
        self.state.log_bytes - self.sparse.front().map_or(0, |point| point.position) + self.moved.bytes()
    }

    /// How far compaction has come.
    pub fn clean(&self) -> &Clean {
        &self.moved.clean
    }

    /// The ranges that were moved, in the order of offsets.
    pub fn moved(&self) -> impl Iterator<Item = &Moved> {
        self.moved.rows.values()
    }

    /// The first offset whose record, if there is one, may be read in its first place.
    pub(super) fn first_in_place(&self) -> i64 {
        self.state.log_start.max(self.moved.clean.end)
    }

    /// Raft index of the first entry that a read can reach; what is before may be purged, once there is a checkpoint.
    pub fn first_index(&self) -> u64 {
        let in_place = self.locate(self.first_in_place()).map_or(self.state.applied_index + 1, |point| point.index);
        self.moved.first_index().map_or(in_place, |moved| moved.min(in_place))
    }

    /// Whether a replica that has nothing but the checkpoint at `mark` and the entries after it can read all that this one can.
    pub fn is_covered_by(&self, mark: &Mark) -> bool {
        let passed =
            mark.next_offset <= self.first_in_place() && self.moved.first_index().is_none_or(|i| i > mark.index);
        let hasty = planted::is(Bug::PurgeBeforeMoved) && self.moved.clean.moves > 0;
        (passed || hasty) && self.moved.clean.missing.is_none()
    }

    /// The places where the log start may move to for retention's sake: `marks`, and before them the ends of moved ranges.
    pub fn retention_marks<'a>(&self, marks: impl Iterator<Item = &'a Mark>) -> Vec<Mark> {
        let mut kept = self.moved.bytes() + self.in_place_bytes(None);
        let mut max_timestamp = NO_TIMESTAMP;
        let mut all = Vec::with_capacity(self.moved.rows.len());
        for row in self.moved.rows.values() {
            kept = kept.saturating_sub(row.bytes);
            max_timestamp = max_timestamp.max(row.max_timestamp);
            let position = self.state.log_bytes.saturating_sub(kept);
            all.push(Mark { next_offset: row.to, max_timestamp, position, ..Mark::default() });
        }
        all.extend(marks.filter(|mark| mark.next_offset > self.moved.clean.end));
        all
    }

    /// Bytes of append entries whose records are in their first place, up to `mark` or all (to within one sparse point).
    pub fn in_place_bytes(&self, mark: Option<&Mark>) -> u64 {
        let begin = self.locate(self.first_in_place()).map_or(self.state.log_bytes, |point| point.position);
        mark.map_or(self.state.log_bytes, |mark| mark.position).saturating_sub(begin)
    }

    /// Bytes of entries of moved records.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.bytes()
    }

    /// Where the record at `offset` is, or the first one behind it; none outside of log start and high watermark, and of
    /// records that are still to come to this replica.
    pub fn place(&self, offset: i64) -> Option<Place> {
        if offset < self.state.log_start || offset >= self.state.next_offset {
            return None;
        }
        if self.moved.clean.missing.is_some_and(|(_, end)| offset < end) {
            return None;
        }
        let clean_end = self.moved.clean.end;
        if let Some(row) = self.moved.at(offset).filter(|_| offset < clean_end) {
            return Some(Place { index: row.index, offset: row.from, end: Some(row.to) });
        }
        let point = self.locate(offset.max(clean_end))?;
        Some(Place { index: point.index, offset: point.base_offset, end: None })
    }

    /// Whether a reader that has all below `offset` may go on at `place`, which it was given before: what is moved, or below
    /// the log start, is not found in its first place any more.
    pub fn is_place(&self, place: &Place, offset: i64) -> bool {
        let kept = self.sparse.front().is_some_and(|first| first.index <= place.index);
        place.end.is_some() || (offset >= self.moved.clean.end && kept)
    }

    /// Where to begin a walk that must find `offset` in its first place; none outside of log start and high watermark, and
    /// none where records were moved.
    pub fn locate(&self, offset: i64) -> Option<Sparse> {
        if offset < self.first_in_place() || offset >= self.state.next_offset {
            return None;
        }
        let after = self.sparse.partition_point(|point| point.base_offset <= offset);
        after.checked_sub(1).and_then(|place| self.sparse.get(place)).copied()
    }

    /// Where to begin to look for the first record with a timestamp of at least `timestamp`; none if no record can have one.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Option<i64> {
        let empty = self.state.log_start == self.state.next_offset;
        if empty || timestamp > self.state.max_timestamp {
            return None;
        }
        let moved = self.moved.rows.values().find(|row| row.max_timestamp >= timestamp);
        let after = self.sparse.partition_point(|point| point.max_timestamp < timestamp);
        let point = self.sparse.get(after.saturating_sub(1)).map_or(0, |point| point.base_offset);
        let first = moved.map_or(point.max(self.moved.clean.end), |row| row.from);
        Some(first.max(self.state.log_start))
    }

    /// Kafka's answer to OffsetForLeaderEpoch (KIP-320): the largest epoch not above `term` and the offset where it ends.
    /// None when `term` is above every epoch known; an epoch before the history ends where the history begins.
    pub fn epoch_end(&self, term: u64) -> Option<(u64, i64)> {
        let (last, _) = self.epochs.last_key_value()?;
        if *last == term {
            return Some((term, self.state.next_offset));
        }
        let (_, end) = self.epochs.range(term + 1..).next()?;
        let floor = self.epochs.range(..=term).next_back().map_or(term, |(floor, _)| *floor);
        Some((floor, *end))
    }

    /// The leader-epoch history, oldest first.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.iter().map(|(term, start_offset)| Epoch { term: *term, start_offset: *start_offset })
    }

    /// The epoch that wrote `offset`, if the history still knows it.
    pub fn epoch_of(&self, offset: i64) -> Option<u64> {
        if offset >= self.state.next_offset {
            return None;
        }
        self.epochs.iter().rev().find(|(_, start)| **start <= offset).map(|(term, _)| *term)
    }

    /// Whether the batch at `ordinal` of the entry at `index` took no offsets.
    pub fn is_dead(&self, index: u64, ordinal: u16) -> bool {
        self.dead.contains(&DeadBatch { index, ordinal })
    }

    /// The idempotent producers known.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The live batches of one applied entry, the first of which is at `base_offset`, those that were moved left out. Begin
    /// at a point of [`locate`](Self::locate), then give each following entry the `next_offset()` of the walk before it.
    pub fn walk<'a>(&'a self, index: u64, term: u64, base_offset: i64, payload: &'a Payload) -> Walk<'a> {
        let readable = index <= self.state.applied_index && payload.fits();
        let header = payload.header().ok().filter(|_| readable);
        let batches = header.and_then(|header| payload.appended(&header)).map_or(&[][..], |appended| appended.batches);
        Walk { machine: self, index, term, next_offset: base_offset, ordinal: 0, batches }
    }
}

/// Live batches of one entry, in order. See [`PartitionMachine::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    machine: &'a PartitionMachine,
    index: u64,
    term: u64,
    next_offset: i64,
    ordinal: usize,
    batches: &'a [Bytes],
}

impl Walk<'_> {
    /// Offset after the batches yielded so far: after the last, the base offset of the next entry.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }
}

impl Iterator for Walk<'_> {
    type Item = LiveBatch;

    fn next(&mut self) -> Option<LiveBatch> {
        while let Some(batch) = self.batches.get(self.ordinal) {
            let ordinal = self.ordinal as u16;
            self.ordinal += 1;
            if self.machine.is_dead(self.index, ordinal) {
                continue;
            }
            let Ok(facts) = BatchFacts::read(batch) else { continue };
            let base_offset = self.next_offset;
            self.next_offset = base_offset.saturating_add(facts.record_count as i64);
            if base_offset < self.machine.moved.clean.end {
                continue;
            }
            let leader_epoch = i32::try_from(self.term).unwrap_or(i32::MAX);
            return Some(LiveBatch {
                base_offset,
                next_offset: self.next_offset,
                leader_epoch,
                bytes: batch.clone(),
                horizon_ms: NO_HORIZON,
            });
        }
        None
    }
}
