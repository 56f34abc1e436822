//! What readers ask of a partition: where to begin, which batches of an entry live, epochs, times, sizes.
//! Changes nothing, and answers only for what is applied.

use bytes::Bytes;

use super::{Epoch, PartitionMachine, Sparse, State};
use crate::command::{Payload, Tag};
use crate::machine::DeadBatch;
use crate::producer::Producers;
use crate::record::{BatchFacts, LiveBatch};

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
        self.state.log_bytes - self.sparse.front().map_or(0, |point| point.position)
    }

    /// Where to begin a walk that must find `offset`; none outside of log start and high watermark.
    pub fn locate(&self, offset: i64) -> Option<Sparse> {
        if offset < self.state.log_start || offset >= self.state.next_offset {
            return None;
        }
        let after = self.sparse.partition_point(|point| point.base_offset <= offset);
        after.checked_sub(1).and_then(|place| self.sparse.get(place)).copied()
    }

    /// Where to begin the walk for the first record with a timestamp of at least `timestamp`; none if no record can have
    /// one. The walk may have to pass over batches below the log start.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Option<Sparse> {
        let empty = self.state.log_start == self.state.next_offset;
        if empty || timestamp > self.state.max_timestamp {
            return None;
        }
        let after = self.sparse.partition_point(|point| point.max_timestamp < timestamp);
        let point = self.sparse.get(after.saturating_sub(1)).copied();
        // Entries before the one of the log start may be purged.
        let first = self.locate(self.state.log_start);
        point.into_iter().chain(first).max_by_key(|point| point.index)
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

    /// The live batches of one applied entry, the first of which is at `base_offset`. Begin at a point of
    /// [`locate`](Self::locate), then give each following entry the `next_offset()` of the walk before it.
    pub fn walk<'a>(&'a self, index: u64, term: u64, base_offset: i64, payload: &'a Payload) -> Walk<'a> {
        let header = payload.header().ok().filter(|header| header.tag == Tag::Append && header.version == 0);
        let readable = index <= self.state.applied_index && header.is_some() && payload.fits();
        let batches = if readable { payload.body.as_slice() } else { &[] };
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
            let leader_epoch = i32::try_from(self.term).unwrap_or(i32::MAX);
            return Some(LiveBatch { base_offset, next_offset: self.next_offset, leader_epoch, bytes: batch.clone() });
        }
        None
    }
}
