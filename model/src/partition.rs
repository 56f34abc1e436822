//! The log of one topic partition: which batches live, at which offsets, in which leader epochs, from where on.
//! Owns counters, sparse index, epochs, dead table and producers; the batches themselves stay in the Raft log.
//! Invariant: `restore` of the rows written so far equals this machine. Must never panic on replicated bytes.

mod checkpoint;
mod cursors;
mod moved;
mod read;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use checkpoint::{Checkpoint, Mark};
use cursors::{Cursors, Extent};
use moved::MovedTable;
pub use moved::{Clean, Moved, MovedBatch, Relocation, moved_batches};
pub use read::{Place, Walk};
use serde::{Deserialize, Serialize};

use crate::check;
use crate::command::{Header, Payload, Tag};
use crate::cursor::{Batch, Note};
use crate::invariants::{self, InvariantId};
use crate::limits;
use crate::machine::{AppendError, AppendReply, At, DeadBatch, DeadReason, Effect, Out, Reply, Write};
use crate::planted::{self, Bug};
use crate::producer::{Producers, Verdict};
use crate::record::{BATCH_HEADER_BYTES, BatchFacts};

/// Kafka's "no timestamp".
pub const NO_TIMESTAMP: i64 = -1;

/// The counters of a log: one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Raft index of the last applied entry, 0 before the first.
    pub applied_index: u64,
    /// Raft term of the last applied entry.
    pub applied_term: u64,
    /// Offset of the next record, which is the high watermark.
    pub next_offset: i64,
    /// Offset of the first record that may still be read.
    pub log_start: i64,
    /// Largest timestamp of any live batch ever, -1 before the first.
    pub max_timestamp: i64,
    /// Base offset of the first batch that has it, -1 before the first.
    pub max_timestamp_offset: i64,
    /// Bytes of all append and cursor entries ever, headers and dead batches included: what the log costs, moved records apart.
    pub log_bytes: u64,
    /// Batches ever that took no offset.
    pub dead_batches: u64,
    /// Chained over every applied entry: equal on all replicas at the same applied index.
    pub digest: u64,
}

impl Default for State {
    fn default() -> Self {
        State {
            applied_index: 0,
            applied_term: 0,
            next_offset: 0,
            log_start: 0,
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_offset: -1,
            log_bytes: 0,
            dead_batches: 0,
            digest: 0,
        }
    }
}

/// A point of the sparse index: the state just before the entry at `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sparse {
    /// Offset of the entry's first live record.
    pub base_offset: i64,
    /// Raft index of the entry.
    pub index: u64,
    /// Largest timestamp of all records before the entry.
    pub max_timestamp: i64,
    /// Bytes of append entries before this one, counted from the first entry ever.
    pub position: u64,
}

/// A leader epoch (Raft term) and its first offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Raft term.
    pub term: u64,
    /// Offset of the first record that a leader of this term could write.
    pub start_offset: i64,
}

/// The replicated machine of one topic partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionMachine {
    state: State,
    sparse: VecDeque<Sparse>,
    epochs: BTreeMap<u64, i64>,
    dead: BTreeSet<DeadBatch>,
    producers: Producers,
    moved: MovedTable,
    cursors: Cursors,
}

impl PartitionMachine {
    /// The machine of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine that wrote `rows`, given the last row of each key in any order, or all rows in the order of writing.
    pub fn restore(rows: impl Iterator<Item = Write>) -> Self {
        let mut machine = Self::default();
        let mut cursors = cursors::Restored::default();
        rows.filter_map(|row| cursors.put(row)).for_each(|row| machine.put(row));
        machine.cursors = cursors.finish();
        machine.sparse.make_contiguous().sort_unstable_by_key(|point| point.index);
        machine
    }

    /// Applies one entry. Whatever its bytes are, the machine goes on; what it cannot accept takes no offset.
    pub fn apply(&mut self, at: At, payload: &Payload, out: &mut Out) -> Reply {
        self.apply_decoded(at, payload, None, out)
    }

    /// The same for an entry that may be a cursor batch: `batch` is its body, none where that is not to be understood.
    pub fn apply_decoded(&mut self, at: At, payload: &Payload, batch: Option<Batch>, out: &mut Out) -> Reply {
        let State { applied_index, applied_term, next_offset, log_start, .. } = self.state;
        let in_order = at.index > applied_index && at.term >= applied_term;
        if !check!(in_order, AppliedMonotonic, "{at:?} after {applied_term}/{applied_index}") {
            return Reply::Dead(DeadReason::AlreadyApplied { index: at.index, applied: applied_index });
        }
        self.begin_epoch(at.term, out);
        let header = payload.header();
        self.state.digest = digest(self.state.digest, at, header.as_ref().ok(), payload);
        let reply = match header {
            Ok(header) => self.apply_tag(at, header, payload, batch, out),
            Err(error) => Reply::Dead(error.into()),
        };
        if matches!(reply, Reply::Dead(_)) {
            invariants::count(InvariantId::DeadEntry);
        }
        self.forget_unread(out);
        self.state.applied_index = at.index;
        self.state.applied_term = at.term;
        out.writes.push(Write::State(self.state));
        let (next, start) = (self.state.next_offset, self.state.log_start);
        check!(next >= next_offset, HighWatermarkMonotonic, "{next_offset} -> {next}");
        check!(start >= log_start && start <= next, LogStartMonotonic, "{log_start} -> {start} of {next}");
        if next > next_offset {
            out.effects.push(Effect::HighWatermark(next));
        }
        if start > log_start {
            out.effects.push(Effect::LogStart(start));
        }
        reply
    }

    fn apply_tag(&mut self, at: At, header: Header, payload: &Payload, batch: Option<Batch>, out: &mut Out) -> Reply {
        let version_max = u16::from(header.tag == Tag::Append);
        match header.tag {
            _ if header.version > version_max => Reply::Dead(DeadReason::Header(format!("version {}", header.version))),
            Tag::Blank | Tag::Membership => Reply::None,
            Tag::Append | Tag::CursorBatch if !payload.fits() => Reply::Dead(DeadReason::TooLarge),
            Tag::Append => self.append(at, header, payload, out),
            Tag::CursorBatch => self.run_cursors(at, payload, batch, out),
            Tag::LogStart => self.move_log_start(at, payload, out),
            Tag::Relocate if !payload.fits() => Reply::Dead(DeadReason::TooLarge),
            Tag::Relocate => self.relocate(at, payload, out),
            Tag::Controller | Tag::Coordinator => Reply::Dead(DeadReason::Foreign(header.tag as u8)),
        }
    }

    fn append(&mut self, at: At, header: Header, payload: &Payload, out: &mut Out) -> Reply {
        let Some(appended) = payload.appended(&header) else { return Reply::Dead(DeadReason::Body) };
        let before = self.state.next_offset;
        let gone = self.producers.forget_old(at.leader_ts);
        out.writes.extend(gone.into_iter().map(Write::ProducerGone));
        let position = self.state.log_bytes;
        self.state.log_bytes = position.saturating_add(payload.len() as u64);
        let mut touched = BTreeSet::new();
        let mut lives = false;
        let mut notes = appended.notes.iter().peekable();
        let mut told = Vec::new();
        let mut surplus = Vec::new();
        let mut replies = Vec::with_capacity(appended.batches.len());
        for (ordinal, batch) in appended.batches.iter().enumerate() {
            let note = notes.next_if(|note| note.ordinal as usize == ordinal);
            let reply = match self.judge(at, batch, note, told.len() + surplus.len()) {
                Ok((facts, Verdict::New)) => {
                    // A point stands before a whole entry: what comes after its first live batch is too late.
                    if !std::mem::replace(&mut lives, true) {
                        self.index_entry(at.index, position, out);
                    }
                    touched.extend(facts.has_producer().then_some(facts.producer_id));
                    let base_offset = self.take_offsets(&facts, at.leader_ts);
                    if let Some(note) = note {
                        self.cursors.take(at, note, out);
                        told.extend(note.fact(base_offset));
                        surplus.extend(note.surplus.then_some((base_offset, base_offset + 1)));
                    }
                    AppendReply::Ok { base_offset }
                }
                Ok((_, Verdict::Duplicate { .. })) if planted::is(Bug::DuplicateWrongOffset) => {
                    AppendReply::Duplicate { base_offset: self.state.next_offset }
                }
                Ok((_, Verdict::Duplicate { base_offset })) => AppendReply::Duplicate { base_offset },
                Err(error) => AppendReply::Err(error),
            };
            if !matches!(reply, AppendReply::Ok { .. }) {
                self.bury(DeadBatch { index: at.index, ordinal: ordinal as u16 }, out);
            }
            replies.push(reply);
        }
        let gone = self.producers.forget_old(at.leader_ts);
        out.writes.extend(touched.iter().filter_map(|id| self.producers.get(*id)).cloned().map(Write::Producer));
        out.writes.extend(gone.into_iter().map(Write::ProducerGone));
        if self.state.next_offset > before {
            self.cursors.publish(at, self.state.next_offset, &told, out);
            self.cursors.refuse(at, surplus, out);
        }
        Reply::Append(replies)
    }

    fn run_cursors(&mut self, at: At, payload: &Payload, batch: Option<Batch>, out: &mut Out) -> Reply {
        let Some(batch) = batch else { return Reply::Dead(DeadReason::Body) };
        self.state.log_bytes = self.state.log_bytes.saturating_add(payload.len() as u64);
        Reply::Cursors(self.cursors.run(at, self.extent(), batch, out))
    }

    fn extent(&self) -> Extent {
        Extent { start: self.state.log_start, next: self.state.next_offset }
    }

    /// Whether a batch may have offsets, where `told` messages before it in its entry say something of themselves.
    fn judge(
        &self,
        at: At,
        batch: &[u8],
        note: Option<&Note>,
        told: usize,
    ) -> Result<(BatchFacts, Verdict), AppendError> {
        let facts = BatchFacts::read(batch).inspect_err(|_| invariants::count(InvariantId::DeadEntry))?;
        if facts.is_transactional() || facts.is_control() {
            return Err(AppendError::Transactional);
        }
        if self.state.next_offset.checked_add(facts.record_count as i64).is_none() {
            return Err(AppendError::OffsetsExhausted);
        }
        let verdict = if facts.has_producer() { self.producers.judge(&facts)? } else { Verdict::New };
        match note.filter(|_| matches!(verdict, Verdict::New)) {
            Some(note) if self.cursors.is_known(at, note, told)? => Ok((facts, Verdict::Duplicate { base_offset: -1 })),
            _ => Ok((facts, verdict)),
        }
    }

    /// Gives a live batch its offsets.
    fn take_offsets(&mut self, facts: &BatchFacts, leader_ts: i64) -> i64 {
        let base_offset = self.state.next_offset;
        if facts.has_producer() {
            self.producers.record(facts, base_offset, leader_ts);
        }
        if facts.max_timestamp > self.state.max_timestamp || self.state.max_timestamp_offset < 0 {
            self.state.max_timestamp = facts.max_timestamp.max(NO_TIMESTAMP);
            self.state.max_timestamp_offset = base_offset;
        }
        self.state.next_offset += facts.record_count as i64;
        let (after, count) = (self.state.next_offset, facts.record_count);
        check!(after > base_offset, OffsetNeverReassigned, "{count} records from {base_offset} end at {after}");
        base_offset
    }

    /// Adds a point for an entry about to get its first live batch, if the last point is far enough behind.
    fn index_entry(&mut self, index: u64, position: u64, out: &mut Out) {
        let State { next_offset: base_offset, max_timestamp, .. } = self.state;
        let far = |last: &Sparse| last.base_offset < base_offset && position - last.position >= limits::SPARSE_BYTES;
        if !self.sparse.back().is_none_or(far) {
            return;
        }
        let point = Sparse { base_offset, index, max_timestamp, position };
        if let Some(last) = self.sparse.back() {
            let rises = last.index < index && last.base_offset < base_offset;
            check!(rises, SparseOrdered, "{last:?} then {point:?}");
        }
        self.sparse.push_back(point);
        out.writes.push(Write::Sparse(point));
    }

    fn bury(&mut self, dead: DeadBatch, out: &mut Out) {
        let new = self.dead.insert(dead);
        check!(new, AppliedMonotonic, "{dead:?} was dead already");
        self.state.dead_batches += 1;
        out.writes.push(Write::Dead(dead));
    }

    /// The first entry of a term starts its leader epoch, as a new Kafka leader does; an epoch that got no record is
    /// replaced, so the history grows only with epochs that wrote.
    fn begin_epoch(&mut self, term: u64, out: &mut Out) {
        let last = self.epochs.last_key_value().map(|(term, start)| (*term, *start));
        let start_offset = self.state.next_offset;
        if let Some((last_term, last_start)) = last {
            if last_term >= term {
                return;
            }
            check!(last_start <= start_offset, EpochMonotonic, "{last_term} at {last_start}, then {start_offset}");
            if last_start == start_offset {
                self.epochs.remove(&last_term);
                out.writes.push(Write::EpochGone(last_term));
            }
        }
        self.epochs.insert(term, start_offset);
        out.writes.extend((!planted::is(Bug::EpochsNotStored)).then_some(Write::Epoch(Epoch { term, start_offset })));
    }

    fn move_log_start(&mut self, at: At, payload: &Payload, out: &mut Out) -> Reply {
        let [body] = payload.body.as_slice() else { return Reply::Dead(DeadReason::Body) };
        let Ok(bytes) = <[u8; 8]>::try_from(&body[..]) else { return Reply::Dead(DeadReason::Body) };
        let high_watermark = self.state.next_offset;
        let asked = match i64::from_le_bytes(bytes) {
            -1 => high_watermark,
            offset => offset,
        };
        if asked < 0 || asked > high_watermark {
            return Reply::Dead(DeadReason::LogStartOutOfRange { asked, high_watermark });
        }
        let before = self.state.log_start;
        self.state.log_start = before.max(asked);
        check!(self.state.log_start >= before, LogStartMonotonic, "{before} -> {asked}");
        self.forget_epochs(out);
        self.moved.found(i64::MIN, self.state.log_start, out);
        self.cursors.move_start(at, self.state.log_start, out);
        Reply::LogStart(self.state.log_start)
    }

    /// Drops epochs that end at or below the log start; the one that contains it begins there from now on
    /// (Kafka's LeaderEpochFileCache.truncateFromStart).
    fn forget_epochs(&mut self, out: &mut Out) {
        let start_offset = self.state.log_start;
        let below: Vec<u64> =
            self.epochs.iter().take_while(|(_, start)| **start <= start_offset).map(|(term, _)| *term).collect();
        let Some((holder, gone)) = below.split_last() else { return };
        for term in gone {
            self.epochs.remove(term);
            out.writes.push(Write::EpochGone(*term));
        }
        if self.epochs.insert(*holder, start_offset) != Some(start_offset) {
            out.writes.push(Write::Epoch(Epoch { term: *holder, start_offset }));
        }
        let rising = self.epochs.values().is_sorted_by(|a, b| a < b);
        check!(rising, EpochMonotonic, "{:?}", self.epochs);
    }

    /// Drops points and dead batches that no read can reach, a bounded number per apply.
    fn forget_unread(&mut self, out: &mut Out) {
        let mut budget = limits::FORGET_PER_APPLY_MAX;
        budget -= self.moved.forget(self.state.log_start, budget, out);
        let first_place = self.first_in_place();
        while budget > 0 && self.sparse.get(1).is_some_and(|second| second.base_offset <= first_place) {
            let gone = self.sparse.pop_front().map(|point| point.index).unwrap_or_default();
            check!(self.sparse[0].index > gone, SparseOrdered, "point {gone} is not the first");
            out.writes.push(Write::SparseGone(gone));
            budget -= 1;
        }
        let first_read = self.sparse.front().map_or(0, |point| point.index);
        while budget > 0 && self.dead.first().is_some_and(|dead| dead.index < first_read) {
            out.writes.extend(self.dead.pop_first().map(Write::DeadGone));
            budget -= 1;
        }
    }

    fn put(&mut self, row: Write) {
        match row {
            Write::State(state) => self.state = state,
            Write::Sparse(point) => self.sparse.push_back(point),
            Write::SparseGone(index) => self.sparse.retain(|point| point.index != index),
            Write::Epoch(Epoch { term, start_offset }) => drop(self.epochs.insert(term, start_offset)),
            Write::EpochGone(term) => drop(self.epochs.remove(&term)),
            Write::Dead(dead) => drop(self.dead.insert(dead)),
            Write::DeadGone(dead) => drop(self.dead.remove(&dead)),
            Write::Producer(producer) => self.producers.restore(producer),
            Write::ProducerGone(id) => self.producers.remove(id),
            Write::Moved(row) => drop(self.moved.rows.insert(row.from, row)),
            Write::MovedGone(from) => drop(self.moved.rows.remove(&from)),
            Write::Clean(clean) => self.moved.clean = clean,
            Write::Cursor { .. } => {}
            Write::Inbox { .. } | Write::InboxGone(_) | Write::Recent(_) | Write::RecentGone(_) => {}
        }
    }
}

/// One step of a 64-bit mixing function (the finalizer of SplitMix64).
fn mix(state: u64, word: u64) -> u64 {
    let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Chains one entry to the digest. Of a batch only the header is read: it holds the CRC of the rest, which admission
/// checked; commands and notes count whole. Blank and membership entries count by log id and tag, since consensus encodes their bodies.
fn digest(before: u64, at: At, header: Option<&Header>, payload: &Payload) -> u64 {
    let chained = mix(mix(before, at.index), at.term);
    match header.map(|header| (header.tag, header.version)) {
        Some((tag @ (Tag::Blank | Tag::Membership), _)) => mix(chained, tag as u64),
        Some((tag @ (Tag::Append | Tag::Relocate), version)) => {
            let command = match (tag, version) {
                (Tag::Relocate, _) => Some(0),
                (_, 0) => None,
                _ => payload.body.len().checked_sub(1),
            };
            payload.body.iter().enumerate().fold(mix(chained, tag as u64), |chained, (place, part)| {
                let whole = command == Some(place);
                let facts = if whole { part } else { &part[..part.len().min(BATCH_HEADER_BYTES)] };
                mix(chained, (part.len() as u64) << 32 | crc32c::crc32c(facts) as u64)
            })
        }
        _ => payload.parts().fold(chained, |chained, part| mix(chained, crc32c::crc32c(part) as u64)),
    }
}

#[cfg(test)]
mod tests;
