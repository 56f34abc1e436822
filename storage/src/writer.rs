//! The only handle that changes a store. Hands every change to the committer's queue in call order, and the tail cache
//! learns of it in the same step, so that a reader sees a log as if all queued changes were done.
//! Never blocks and never drops a change silently: each has its `Done`.

use std::sync::Arc;

use bytes::Bytes;
use model::GroupId;
use model::command::Payload;
use model::planted::{self, Bug};
use tokio::sync::watch;

use crate::committer::{Change, Closed, Done, Queue};
use crate::engine::{Op, Table};
use crate::tail::{Edit, Tails};
use crate::{RowKind, Stats, keys};

/// One entry of one log. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Place in the log, from 0 or 1, dense.
    pub index: u64,
    /// Raft term of the leader that wrote it.
    pub term: u64,
    /// What it says.
    pub payload: Payload,
}

impl LogEntry {
    pub(crate) fn stored_bytes(&self) -> usize {
        keys::LOG_KEY_BYTES + self.payload.len()
    }
}

/// One row of a group's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row.
    pub group: GroupId,
    /// Which table.
    pub kind: RowKind,
    /// The rest of the key; empty for a single-row kind.
    pub suffix: Bytes,
    /// The value; `None` deletes the row.
    pub value: Option<Bytes>,
}

/// Writes to the store. When the last clone is dropped, the committer writes what is queued and ends.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    tails: Arc<Tails>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Writer {
    pub(crate) fn new(queue: Arc<Queue>, tails: Arc<Tails>) -> Self {
        Writer { inner: Arc::new(Inner { queue, tails }) }
    }

    /// Appends entries whose indexes follow the log's last without a hole (any first index when the log is empty).
    /// Says whether it took them: they are readable then when this returns, and durable at `done`. A closed store takes
    /// none; an append that does not fit is refused alone. The reason is in `done`.
    pub fn append(&self, group: GroupId, entries: Vec<LogEntry>, done: Done) -> bool {
        let Inner { queue, tails } = self.inner.as_ref();
        refuse(tails.append(group, entries, queue, done))
    }

    /// Removes every entry above `index` (`None`: all). Durable at `done`.
    pub fn truncate_after(&self, group: GroupId, index: Option<u64>, done: Done) {
        let from = index.map_or(0, |index| index.saturating_add(1));
        let mut ops = vec![
            delete_range(Table::Log, keys::log_from(group, from), keys::log_end(group)),
            delete_range(
                Table::Meta,
                keys::meta(RowKind::Size, group, &from.to_be_bytes()),
                keys::meta_end(RowKind::Size, group),
            ),
        ];
        ops.retain(|_| !planted::is(Bug::DroppedTruncation));
        let change = Change::Ops { ops, sync: true, reclaim: None };
        self.edit(group, Edit::TruncateAfter(index), change, done);
    }

    /// Removes every entry up to and including `upto`, and the checkpoints before it, and writes `rows`, all or none.
    /// Durable at `done` when the rows are (`RowKind::synced`).
    pub fn purge(&self, group: GroupId, upto: u64, rows: Vec<Row>, done: Done) {
        let behind = upto.saturating_add(1);
        let (from, to) = (keys::log_from(group, 0), keys::log_from(group, behind));
        let rows_below = |kind, index: u64| {
            delete_range(Table::Meta, keys::meta(kind, group, &[]), keys::meta(kind, group, &index.to_be_bytes()))
        };
        let mut ops = vec![
            delete_range(Table::Log, from.clone(), to.clone()),
            rows_below(RowKind::Size, behind),
            rows_below(RowKind::Checkpoint, upto),
            rows_below(RowKind::CheckpointChunk, upto),
        ];
        let sync = must_sync(&rows);
        ops.extend(rows.into_iter().map(row_op));
        let change = Change::Ops { ops, sync, reclaim: Some((Table::Log, from, to)) };
        self.edit(group, Edit::Purge(upto), change, done);
    }

    /// Writes rows, all or none; visible to `Reader` at `done`. Durable at `done` when any of their kinds needs it
    /// (`RowKind::synced`), else not later than the next change that is.
    pub fn put(&self, rows: Vec<Row>, done: Done) {
        let sync = must_sync(&rows);
        let ops = rows.into_iter().map(row_op).collect();
        refuse(self.inner.queue.submit(Change::Ops { ops, sync, reclaim: None }, done).map(drop));
    }

    /// As `put`, for rows that nobody waits for: those that need no sync are written with the next change of any group, or at the end. A
    /// write of their own would cost as much as the entries that they follow.
    pub fn put_along(&self, rows: Vec<Row>) {
        let (queue, sync) = (&self.inner.queue, must_sync(&rows));
        let ops = rows.into_iter().map(row_op).collect();
        let (change, unwatched) = (Change::Ops { ops, sync, reclaim: None }, Box::new(|_| {}));
        refuse(if sync { queue.submit(change, unwatched) } else { queue.leave(change, unwatched) }.map(drop));
    }

    /// Removes a group: its log and all its rows. Durable at `done`.
    pub fn destroy(&self, group: GroupId, done: Done) {
        let (from, to) = (keys::log_from(group, 0), keys::log_end(group));
        let mut ops = vec![delete_range(Table::Log, from.clone(), to.clone())];
        ops.extend(
            RowKind::OF_GROUP
                .iter()
                .map(|kind| delete_range(Table::Meta, keys::meta(*kind, group, &[]), keys::meta_end(*kind, group))),
        );
        let change = Change::Ops { ops, sync: true, reclaim: Some((Table::Log, from, to)) };
        self.edit(group, Edit::Destroy, change, done);
    }

    /// Bytes submitted and not yet completed. Callers apply backpressure before they propose or read more.
    pub fn queued_bytes(&self) -> usize {
        self.inner.queue.queued_bytes()
    }

    /// Waits until fewer than `limit` bytes are queued (at once when closed).
    pub async fn below(&self, limit: usize) {
        self.inner.queue.below(limit).await;
    }

    /// Tells when and why the store stopped taking writes: the node must stop, never retry.
    pub fn closed(&self) -> watch::Receiver<Option<Closed>> {
        self.inner.queue.closed()
    }

    /// Counters of this store.
    pub fn stats(&self) -> Arc<Stats> {
        self.inner.queue.stats.clone()
    }

    fn edit(&self, group: GroupId, edit: Edit, change: Change, done: Done) {
        let Inner { queue, tails } = self.inner.as_ref();
        refuse(tails.edit(group, edit, change, queue, done));
    }
}

/// Completes a refused submission, outside of every lock; says whether it was none.
fn refuse(submitted: Result<(), (Done, Closed)>) -> bool {
    submitted.map_err(|(done, closed)| done(Err(closed))).is_ok()
}

fn must_sync(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.kind.synced() && !(row.kind == RowKind::Vote && planted::is(Bug::VoteNotSynced)))
}

fn row_op(row: Row) -> Op {
    let key = keys::meta(row.kind, row.group, &row.suffix);
    match row.value {
        Some(value) => Op::Put { table: Table::Meta, key, parts: vec![value] },
        None => Op::Delete { table: Table::Meta, key },
    }
}

fn delete_range(table: Table, from: Bytes, to: Bytes) -> Op {
    Op::DeleteRange { table, from, to }
}
