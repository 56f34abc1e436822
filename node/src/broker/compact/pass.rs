//! One pass over one log: learns what stays of it (the newest record of each key in the part that was never compacted, or what cursors
//! still need), then moves what is left of all before its end, in the order of offsets, one committed entry after the other.
//! Invariant: a tombstone goes only when no older record of its key is left before it, and its time is over.
//! Bounded: `storage.compaction_memory` for keys, `CHUNK_BYTES` of batches, `storage.compaction_bytes_per_second`.
use std::time::Duration;

use model::compaction::{Rules, Work};
use model::machine::Reply;
use model::partition::{MovedBatch, Relocation};
use model::record::{LiveBatch, NO_HORIZON};
use tokio::time::{sleep, timeout};
use wire::kafka::{Batch, batch::Record};

use super::keys::Keys;
use crate::broker::read::{bounds, bytes_of};
use crate::broker::scan::Step;
use crate::broker::{Broker, Error};
use crate::router::LocalPartition;

/// Bytes of batches that become one entry, at least and at most: an eighth of what may be done in a second.
const CHUNK_BYTES: (u64, u64) = (4 << 10, 256 << 10);
/// Batches that become one entry.
const CHUNK_BATCHES: usize = 512;
const _: () = assert!(CHUNK_BATCHES < model::limits::BATCHES_PER_ENTRY_MAX);
/// Decompressed bytes of one batch; what has more stays as it is.
const RECORDS_BYTES_MAX: usize = 128 << 20;
/// An entry undecided for so long ends the pass.
const DEADLINE: Duration = Duration::from_secs(5);

/// How a pass ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All before its end is clean.
    Finished {
        /// Bytes of batches that were moved.
        moved: u64,
        /// Bytes of batches that stood there before.
        read: u64,
    },
    /// More bytes would be moved than freed.
    NotWorth,
    /// It cannot go on; why.
    Abandoned(String),
}

/// Which records stay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// The newest of each key.
    Newest(Rules),
    /// What a cursor still needs: the others are older than their topic keeps them.
    Needed,
}

impl Task {
    /// Whether work that was found is worth a look.
    pub(super) fn is_due(&self, work: &Work) -> bool {
        match self {
            Task::Newest(rules) => rules.is_due(work),
            Task::Needed => true,
        }
    }
}

/// Batches that follow each other, and the range of offsets that they are all of.
struct Chunk {
    from: i64,
    to: i64,
    batches: Vec<LiveBatch>,
}

/// See the file header.
pub(super) struct Pass<'a> {
    broker: &'a Broker,
    local: &'a LocalPartition,
    task: Task,
    work: Work,
    end: i64,
    keys: Keys,
    /// Ranges of the chunk at hand that cursors need.
    needed: Vec<(i64, i64)>,
    chunk_bytes: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn new(broker: &'a Broker, local: &'a LocalPartition, task: Task, work: Work) -> Self {
        let storage = &broker.0.config.storage;
        let eighth = storage.compaction_bytes_per_second / 8;
        let chunk_bytes = if eighth == 0 { CHUNK_BYTES.1 } else { eighth.clamp(CHUNK_BYTES.0, CHUNK_BYTES.1) } as usize;
        let keys = Keys::new(storage.compaction_memory);
        Self { broker, local, task, work, end: work.end, keys, needed: Vec::new(), chunk_bytes }
    }

    pub(super) async fn run(mut self) -> Outcome {
        match self.go().await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Abandoned(error.to_string()),
        }
    }

    async fn go(&mut self) -> Result<Outcome, Error> {
        if let Task::Newest(_) = self.task {
            self.learn().await?;
        }
        if !self.work.overdue && !self.is_worth_it().await? {
            return Ok(Outcome::NotWorth);
        }
        self.move_all().await
    }

    /// Notes the keys of what was never compacted, as far as memory goes: there the pass ends.
    async fn learn(&mut self) -> Result<(), Error> {
        let bounds = bounds(self.local)?;
        let begin = bounds.clean_end.max(bounds.log_start);
        let mut at = begin;
        while at < self.end {
            let chunk = self.chunk(at).await?;
            for batch in &chunk.batches {
                if self.keys.is_full() && batch.base_offset > begin {
                    self.end = batch.base_offset;
                    return Ok(());
                }
                self.learn_batch(batch);
            }
            self.pace(bytes_of(&chunk.batches)).await;
            at = chunk.to;
        }
        Ok(())
    }

    fn learn_batch(&mut self, batch: &LiveBatch) {
        let Some((view, stored)) = view(batch) else { return };
        let records = view.records(RECORDS_BYTES_MAX).into_iter().flatten().map_while(Result::ok);
        for record in records {
            if let Some(key) = &record.key {
                self.keys.note(key, batch.base_offset + record.offset - stored);
            }
        }
    }

    /// Whether half of what is there would be freed.
    async fn is_worth_it(&mut self) -> Result<bool, Error> {
        let (mut at, mut before, mut left) = (bounds(self.local)?.log_start, 0, 0);
        let now_ms = self.broker.0.clock.wall_ms();
        while at < self.end {
            let chunk = self.chunk(at).await?;
            for batch in &chunk.batches {
                let bytes = batch.bytes.len() as u64;
                before += bytes;
                left += view(batch).map_or(bytes, |(view, stored)| self.left_of(batch, &view, stored, now_ms));
            }
            self.pace(bytes_of(&chunk.batches)).await;
            at = chunk.to;
        }
        // Of a queue's log much else goes: what became of its messages is in entries too.
        Ok(match self.task {
            Task::Newest(_) => 2 * left <= before,
            Task::Needed => 2 * left <= self.work.bytes(),
        })
    }

    /// About how many bytes of a batch would be left.
    fn left_of(&self, batch: &LiveBatch, view: &Batch, stored: i64, now_ms: i64) -> u64 {
        let bytes = batch.bytes.len() as u64;
        let Ok(records) = view.records(RECORDS_BYTES_MAX) else { return bytes };
        let (mut all, mut kept) = (0, 0);
        for record in records.map_while(Result::ok) {
            let offset = batch.base_offset + record.offset - stored;
            all += 1;
            kept += u64::from(self.keeps(&Record { offset, ..record }, batch.horizon_ms, now_ms));
        }
        (bytes * kept).checked_div(all).unwrap_or(bytes)
    }

    async fn move_all(&mut self) -> Result<Outcome, Error> {
        let Some(mut after) = self.local.raft().partition(|machine| machine.clean().moves) else {
            return Err(Error::UnknownPartition);
        };
        let (mut moved, mut read) = (0, 0);
        let mut at = bounds(self.local)?.log_start;
        while at < self.end {
            if matches!(self.task, Task::Newest(_)) && self.broker.compaction_of(self.local).is_none() {
                return Ok(Outcome::Abandoned("its topic is not compacted any more".to_owned()));
            }
            let chunk = self.chunk(at).await?;
            if chunk.from >= chunk.to {
                break;
            }
            let before = bytes_of(&chunk.batches);
            let now_ms = self.broker.0.clock.wall_ms();
            let mut batches = Vec::new();
            for batch in &chunk.batches {
                match self.thin(batch, now_ms) {
                    Ok(left) => batches.extend(left),
                    Err(why) => return Ok(Outcome::Abandoned(why)),
                }
            }
            let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
            let from = chunk.batches.first().map_or(chunk.from, |first| chunk.from.min(first.base_offset));
            let moves = Relocation { after, from, to: chunk.to, batches };
            if let Err(why) = self.propose(moves, bytes, now_ms).await {
                return Ok(Outcome::Abandoned(why));
            }
            (after, moved, read, at) = (after + 1, moved + bytes as u64, read + before as u64, chunk.to);
            self.pace(before + bytes).await;
        }
        Ok(Outcome::Finished { moved, read })
    }

    async fn propose(&self, moves: Relocation, bytes: usize, now_ms: i64) -> Result<(), String> {
        let permit = self.broker.0.budget.take(bytes).await;
        let proposed = timeout(DEADLINE, self.local.raft().propose(vec![moves.payload(now_ms)])).await;
        drop(permit);
        let outcome = proposed.map_err(|_elapsed| "it was not decided in time".to_owned())?.into_iter().next();
        match outcome {
            Some(Ok(proposed)) if proposed.reply == Reply::Relocated(true) => Ok(()),
            Some(Ok(proposed)) => Err(format!("refused: {:?}", proposed.reply)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("no outcome".to_owned()),
        }
    }

    /// Whole batches from `at` on, up to the end of the pass.
    async fn chunk(&mut self, at: i64) -> Result<Chunk, Error> {
        let bounds = bounds(self.local)?;
        let (from, end) = (at.max(bounds.log_start), self.end);
        let mut chunk = Chunk { from, to: end, batches: Vec::new() };
        let mut bytes = 0;
        if from >= end {
            return Ok(chunk);
        }
        let take = |batch: LiveBatch| {
            if batch.base_offset >= end {
                return Step::Stop;
            }
            if bytes >= self.chunk_bytes || chunk.batches.len() >= CHUNK_BATCHES {
                chunk.to = batch.base_offset;
                return Step::Stop;
            }
            bytes += batch.bytes.len();
            chunk.batches.push(batch);
            Step::Next
        };
        self.broker.scan(self.local, from, bounds.applied, self.chunk_bytes, take).await?;
        if let Task::Needed = self.task {
            let begin = chunk.batches.first().map_or(from, |first| first.base_offset);
            let needed = self.local.raft().partition(|machine| machine.needed(begin, chunk.to));
            self.needed = needed.ok_or(Error::UnknownPartition)?;
        }
        Ok(chunk)
    }

    /// Whether a record stays: one that a cursor needs; or the newest of its key, and no tombstone whose time is over. Records
    /// without a key go then, as Kafka has it.
    fn keeps(&self, record: &Record, horizon_ms: i64, now_ms: i64) -> bool {
        if let Task::Needed = self.task {
            let after = self.needed.partition_point(|(from, _)| *from <= record.offset);
            return after.checked_sub(1).is_some_and(|place| record.offset < self.needed[place].1);
        }
        let expired = horizon_ms != NO_HORIZON && horizon_ms <= now_ms && record.value.is_none();
        record.key.as_ref().is_some_and(|key| self.keys.is_newest(key, record.offset)) && !expired
    }

    /// What is left of a batch. One whose records cannot be read stays whole, and one that is no batch ends the pass: nothing is
    /// dropped on doubt.
    fn thin(&self, batch: &LiveBatch, now_ms: i64) -> Result<Option<MovedBatch>, String> {
        let (view, _) = view(batch).ok_or_else(|| format!("what is at offset {} is no batch", batch.base_offset))?;
        let place = (batch.base_offset, batch.leader_epoch);
        let mut tombstones = false;
        let thinned = view.thin(place, RECORDS_BYTES_MAX, |record| {
            let keeps = self.keeps(record, batch.horizon_ms, now_ms);
            tombstones |= keeps && record.value.is_none();
            keeps
        });
        let bytes = match thinned {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => {
                let (group, offset) = (self.local.group().0, batch.base_offset);
                tracing::warn!(group, offset, %error, "a batch is kept that cannot be read");
                view.placed(place)
            }
        };
        let horizon_ms = match batch.horizon_ms {
            NO_HORIZON if tombstones => match self.task {
                Task::Newest(rules) => now_ms.saturating_add(rules.tombstone_ms),
                Task::Needed => NO_HORIZON,
            },
            known => known,
        };
        Ok(Some(MovedBatch { bytes, horizon_ms }))
    }

    async fn pace(&self, bytes: usize) {
        let rate = self.broker.0.config.storage.compaction_bytes_per_second;
        if rate > 0 {
            sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }
}

/// A batch to look into, and the base offset that its header has.
fn view(batch: &LiveBatch) -> Option<(Batch, i64)> {
    let view = Batch::take(&mut batch.bytes.clone()).ok()?;
    let stored = view.header().base_offset;
    Some((view, stored))
}
