//! Records that were moved: compaction appends the live records of a range of offsets once more, in one entry, and from then on
//! that entry stands for the range. What it replaced may be purged once nothing below a checkpoint is needed any more.
//! Invariants: ranges do not overlap and end at or below the clean end; below that every key has one record at most, and no
//! record in its first place is read. Cursors hear which records are gone. A later move of a range replaces the earlier one; a move that is behind is refused.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::PartitionMachine;
use crate::check;
use crate::command::{Flags, Payload, Tag};
use crate::machine::{At, DeadReason, Out, Reply, Write};
use crate::record::{BatchFacts, LiveBatch, NO_HORIZON};

/// Bytes in front of the horizons in the first part of the entry.
const FIXED_BYTES: usize = 24;
const HORIZON_BYTES: usize = 8;

/// Records of a range of offsets are in the entry at `index`, whatever was there before: one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// First offset of the range.
    pub from: i64,
    /// Offset after the range. A batch of the entry belongs to the range that holds its base offset.
    pub to: i64,
    /// Raft index of the entry.
    pub index: u64,
    /// Largest timestamp in the entry, -1 without any.
    pub max_timestamp: i64,
    /// Bytes of the entry.
    pub bytes: u64,
}

/// How far compaction has come: one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// Records below this offset are where they were moved to; those from here on are in their first place.
    pub end: i64,
    /// Moves that were accepted; each names how many came before it, so that one that was long on its way does no harm.
    pub moves: u64,
    /// Of a replica that began with a checkpoint: the offsets whose records, if any, are in entries still to come.
    pub missing: Option<(i64, i64)>,
}

/// A batch to move, its base offset and leader epoch in its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedBatch {
    /// The batch, perhaps with fewer records than it was written with.
    pub bytes: Bytes,
    /// When its tombstones may go, ms since 1970, or [`NO_HORIZON`] (Kafka's delete horizon, KIP-534).
    pub horizon_ms: i64,
}

/// A command: the records of a range of offsets are these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Moves that the proposer knows of ([`Clean::moves`]).
    pub after: u64,
    /// First offset of the range.
    pub from: i64,
    /// Offset after the range.
    pub to: i64,
    /// What is left of it, in the order of offsets.
    pub batches: Vec<MovedBatch>,
}

/// Where a batch with fewer records stands, by its header.
fn place_of(batch: &[u8]) -> Option<(i64, LiveBatch)> {
    let facts = BatchFacts::read_thinned(batch).ok()?;
    let base_offset = i64::from_be_bytes(*batch.first_chunk()?);
    let leader_epoch = i32::from_be_bytes(*batch.get(12..)?.first_chunk()?);
    let next_offset = base_offset.checked_add(i64::from(facts.last_offset_delta) + 1)?;
    let place = LiveBatch { base_offset, next_offset, leader_epoch, bytes: Bytes::new(), horizon_ms: NO_HORIZON };
    Some((facts.max_timestamp, place))
}

impl Relocation {
    /// The entry. At most `limits::BATCHES_PER_ENTRY_MAX - 1` batches.
    pub fn payload(self, leader_ts: i64) -> Payload {
        let mut head = BytesMut::with_capacity(FIXED_BYTES + HORIZON_BYTES * self.batches.len());
        head.put_u64_le(self.after);
        head.put_i64_le(self.from);
        head.put_i64_le(self.to);
        self.batches.iter().for_each(|batch| head.put_i64_le(batch.horizon_ms));
        let parts = std::iter::once(head.freeze()).chain(self.batches.into_iter().map(|batch| batch.bytes));
        Payload::encode(Tag::Relocate, Flags::RELOCATED, leader_ts, parts.collect())
    }

    /// Reads an entry; none if it is not one of these. The batches are not looked into.
    pub fn read(payload: &Payload) -> Option<Self> {
        payload.header().ok().filter(|header| header.tag == Tag::Relocate && header.version == 0)?;
        let (head, batches) = payload.body.split_first()?;
        let number = |at: usize| head.get(at..)?.first_chunk::<8>().copied();
        if head.len() != FIXED_BYTES + HORIZON_BYTES * batches.len() {
            return None;
        }
        let horizon = |place: usize| number(FIXED_BYTES + HORIZON_BYTES * place).map(i64::from_le_bytes);
        let batch =
            |(place, bytes): (usize, &Bytes)| Some(MovedBatch { bytes: bytes.clone(), horizon_ms: horizon(place)? });
        Some(Relocation {
            after: u64::from_le_bytes(number(0)?),
            from: i64::from_le_bytes(number(8)?),
            to: i64::from_le_bytes(number(16)?),
            batches: batches.iter().enumerate().map(batch).collect::<Option<_>>()?,
        })
    }

    /// Its batches as readers get them, each with its largest timestamp, if their places are in order within the range.
    fn live(&self) -> Option<Vec<(i64, LiveBatch)>> {
        let mut next = self.from;
        let live = self.batches.iter().map(|batch| {
            let (max_timestamp, place) = place_of(&batch.bytes)?;
            let in_order = place.base_offset >= next && place.next_offset <= self.to;
            next = place.next_offset;
            let live = LiveBatch { bytes: batch.bytes.clone(), horizon_ms: batch.horizon_ms, ..place };
            in_order.then_some((max_timestamp, live))
        });
        live.collect()
    }
}

/// The batches that the entry of `payload` holds for offsets from..to.
pub fn moved_batches(payload: &Payload, (from, to): (i64, i64)) -> Vec<LiveBatch> {
    let live = Relocation::read(payload).and_then(|relocation| relocation.live()).unwrap_or_default();
    live.into_iter().map(|(_, batch)| batch).filter(|batch| (from..to).contains(&batch.base_offset)).collect()
}

/// The rows, by the first offset of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MovedTable {
    pub(super) rows: BTreeMap<i64, Moved>,
    pub(super) clean: Clean,
}

impl MovedTable {
    /// The row that holds `offset`, or the first one behind it.
    pub(super) fn at(&self, offset: i64) -> Option<&Moved> {
        let holder = self.rows.range(..=offset).next_back().map(|(_, row)| row).filter(|row| row.to > offset);
        holder.or_else(|| self.rows.range(offset..).next().map(|(_, row)| row))
    }

    /// The first entry that any row needs.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.rows.values().map(|row| row.index).min()
    }

    /// Bytes of all rows.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.values().map(|row| row.bytes).sum()
    }

    /// Takes from..to out of the rows that have a part of it.
    fn cut(&mut self, from: i64, to: i64, out: &mut Out) {
        let cut: Vec<Moved> =
            self.rows.range(..to).rev().map(|(_, row)| *row).take_while(|row| row.to > from).collect();
        for row in cut {
            self.rows.remove(&row.from);
            let left = Moved { to: from.min(row.to), ..row };
            match left.from < left.to {
                true => self.put(left, out),
                false => out.writes.push(Write::MovedGone(row.from)),
            }
            let right = Moved { from: to, ..row };
            if right.from < right.to {
                self.put(right, out);
            }
        }
    }

    fn put(&mut self, row: Moved, out: &mut Out) {
        self.rows.insert(row.from, row);
        out.writes.push(Write::Moved(row));
    }

    /// Drops rows that end at or below `log_start`, at most `budget`; how many that were.
    pub(super) fn forget(&mut self, log_start: i64, budget: usize, out: &mut Out) -> usize {
        let passed = self.rows.values().take_while(|row| row.to <= log_start).take(budget);
        let passed: Vec<i64> = passed.map(|row| row.from).collect();
        for from in &passed {
            self.rows.remove(from);
            out.writes.push(Write::MovedGone(*from));
        }
        passed.len()
    }

    /// The records of from..to have come, or are not wanted any more.
    pub(super) fn found(&mut self, from: i64, to: i64, out: &mut Out) {
        let Some((begin, end)) = self.clean.missing.filter(|(begin, _)| (from..to).contains(begin)) else { return };
        check!(begin < end, MovedInOrder, "nothing is missing from {begin} to {end}");
        self.clean.missing = (to < end).then_some((to, end));
        out.writes.push(Write::Clean(self.clean));
    }
}

/// The parts of from..to that no batch is of.
fn gaps(live: &[(i64, LiveBatch)], from: i64, to: i64) -> Vec<(i64, i64)> {
    let begins = std::iter::once(from).chain(live.iter().map(|(_, batch)| batch.next_offset.max(from)));
    let ends = live.iter().map(|(_, batch)| batch.base_offset).chain([to]);
    begins.zip(ends).filter(|(begin, end)| begin < end).collect()
}

impl PartitionMachine {
    /// Takes a move, unless it does not fit what is there: then nothing changes.
    pub(super) fn relocate(&mut self, at: At, payload: &Payload, out: &mut Out) -> Reply {
        let Some(relocation) = Relocation::read(payload) else { return Reply::Dead(DeadReason::Body) };
        let Some(live) = relocation.live() else { return Reply::Dead(DeadReason::Body) };
        let Relocation { after, from, to, .. } = relocation;
        let Clean { end, moves, .. } = self.moved.clean;
        let next = self.state.next_offset;
        // The last batch of a log stays, so that a reader's position can reach the end.
        let reaches = to < next || to == next && live.last().is_some_and(|(_, last)| last.next_offset == next);
        let within = from >= 0 && from <= end.max(self.state.log_start) && from < to && reaches;
        if after != moves {
            return Reply::Relocated(false);
        }
        if !within {
            return Reply::Dead(DeadReason::Body);
        }
        self.moved.cut(from, to, out);
        if let Some(max_timestamp) = live.iter().map(|(max_timestamp, _)| *max_timestamp).max() {
            let bytes = payload.len() as u64;
            self.moved.put(Moved { from, to, index: at.index, max_timestamp, bytes }, out);
        }
        self.moved.clean = Clean { end: end.max(to), moves: moves + 1, ..self.moved.clean };
        out.writes.push(Write::Clean(self.moved.clean));
        self.moved.found(from, to, out);
        self.cursors.lose(at, &gaps(&live, from.max(self.state.log_start), to), out);
        let last = self.moved.rows.last_key_value().map_or(0, |(_, row)| row.to);
        check!(last <= self.moved.clean.end, MovedInOrder, "a row ends at {last}, the clean part at {end}");
        Reply::Relocated(true)
    }
}

#[cfg(test)]
mod tests;
