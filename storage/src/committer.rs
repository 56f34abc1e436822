//! The one committer of a node: drains the queue, builds one batch, has it written with one sync, completes in order.
//! The queue is unbounded by count: senders take their bytes from a budget before (`Writer::queued_bytes`, `below`).
//! Invariant: completion order is submission order, and after the first error nothing is ever written or confirmed again.
//! Never blocks a sender, never retries a failed write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use model::planted::{self, Bug};
use tokio::sync::{Notify, watch};

use crate::engine::{Engine, Op, Table};
use crate::tail::Tails;
use crate::writer::LogEntry;
use crate::{Error, Stats, keys};

/// What waits for a change to go along with is written when there are so many, or so many bytes: a long log that is applied anew makes no
/// changes, and who waits in `below` may be the one who would make the next.
const LEFT_MAX: usize = 1_024;
const LEFT_BYTES: usize = 256 << 10;

/// The committer takes no more writes, or refused this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more writes: {why}")]
pub struct Closed {
    /// What happened first.
    pub why: Arc<str>,
}

impl Closed {
    pub(crate) fn new(why: impl Into<Arc<str>>) -> Self {
        Closed { why: why.into() }
    }
}

/// Called once when the submission is durable (or written, for rows that need no sync), in submission order, on the
/// committer's thread: it must be short and must not block.
pub type Done = Box<dyn FnOnce(Result<(), Closed>) + Send>;

/// What is to be written.
pub(crate) enum Change {
    /// Log entries of one group; always synced.
    Append {
        group: GroupId,
        entries: Vec<LogEntry>,
        /// Rows that belong to them.
        marks: Vec<Op>,
    },
    /// Any other operations.
    Ops {
        ops: Vec<Op>,
        sync: bool,
        /// A deleted range whose space should be given back once this is written.
        reclaim: Option<(Table, Bytes, Bytes)>,
    },
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Append { entries, .. } => entries.iter().map(LogEntry::stored_bytes).sum(),
            Change::Ops { ops, .. } => ops.iter().map(op_bytes).sum(),
        }
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, parts, .. } => key.len() + parts.iter().map(Bytes::len).sum::<usize>(),
        Op::Delete { key, .. } => key.len(),
        Op::DeleteRange { from, to, .. } => from.len() + to.len(),
    }
}

struct Submission {
    number: u64,
    bytes: usize,
    change: Change,
    done: Done,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    /// Number of the newest submission; numbers are dense.
    newest: u64,
    /// Number of the newest one that does not wait for another.
    due: u64,
    waker: Option<Waker>,
    /// All writers are gone: end once `waiting` is empty.
    ending: bool,
    closed: Option<Closed>,
}

impl State {
    /// Whether something is to be written now.
    fn is_due(&self) -> bool {
        self.waiting.front().is_some_and(|first| first.number <= self.due || self.ending)
    }
}

/// The part that writers and the committer share.
pub(crate) struct Queue {
    state: Mutex<State>,
    queued_bytes: AtomicUsize,
    space: Notify,
    closed: watch::Sender<Option<Closed>>,
    pub(crate) stats: Arc<Stats>,
}

/// The two ends of a new queue.
pub(crate) fn queue(tails: Arc<Tails>, engine: Arc<dyn Engine>, batch_bytes: usize) -> (Arc<Queue>, Committer) {
    let queue = Arc::new(Queue {
        state: Mutex::default(),
        queued_bytes: AtomicUsize::new(0),
        space: Notify::new(),
        closed: watch::channel(None).0,
        stats: tails.stats.clone(),
    });
    (queue.clone(), Committer { queue, tails, engine, batch_bytes })
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a change at the end of the queue and returns its number, or gives `done` back when closed: the caller
    /// completes it outside of its own locks.
    pub(crate) fn submit(&self, change: Change, done: Done) -> Result<u64, (Done, Closed)> {
        self.push(change, done, true)
    }

    /// As `submit`, but the change waits until another is submitted, until much waits, or until the end.
    pub(crate) fn leave(&self, change: Change, done: Done) -> Result<u64, (Done, Closed)> {
        self.push(change, done, false)
    }

    fn push(&self, change: Change, done: Done, due: bool) -> Result<u64, (Done, Closed)> {
        let bytes = change.bytes();
        let mut state = self.lock();
        if let Some(closed) = &state.closed {
            return Err((done, closed.clone()));
        }
        state.newest += 1;
        let number = state.newest;
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        state.waiting.push_back(Submission { number, bytes, change, done });
        if !due && state.waiting.len() < LEFT_MAX && queued < LEFT_BYTES {
            return Ok(number);
        }
        state.due = number;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(number)
    }

    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ending = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until fewer than `limit` bytes are queued, or the queue is closed.
    pub(crate) async fn below(&self, limit: usize) {
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            if self.queued_bytes() < limit || self.closed.borrow().is_some() {
                return;
            }
            space.await;
        }
    }

    pub(crate) fn closed(&self) -> watch::Receiver<Option<Closed>> {
        self.closed.subscribe()
    }

    fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.space.notify_waiters();
    }

    /// Closes for good; the first reason stays. Everything queued completes with it.
    fn close(&self, why: Closed) -> Closed {
        let mut state = self.lock();
        let closed = state.closed.get_or_insert(why).clone();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.closed.send_if_modified(|current| match current {
            Some(_) => false,
            None => {
                *current = Some(closed.clone());
                true
            }
        });
        self.release(waiting.iter().map(|submission| submission.bytes).sum());
        for submission in waiting {
            (submission.done)(Err(closed.clone()));
        }
        closed
    }
}

/// What the committer wants written next: all of `ops` in order, and a sync if `sync`.
pub struct Batch {
    /// The operations of all submissions in this batch.
    pub ops: Vec<Op>,
    /// Whether any of them must be durable before completion.
    pub sync: bool,
    bytes: usize,
    newest: u64,
    dones: Vec<Done>,
    reclaims: Vec<(Table, Bytes, Bytes)>,
}

/// Drains the queue. An engine drives it: `next_batch`, write (and sync), `finish`, again, until `next_batch` is `None`.
pub struct Committer {
    queue: Arc<Queue>,
    tails: Arc<Tails>,
    engine: Arc<dyn Engine>,
    batch_bytes: usize,
}

impl Committer {
    /// Waits for the next batch; `None` when all writers are gone and all is written, or after an error.
    pub async fn next_batch(&mut self) -> Option<Batch> {
        poll_fn(|context| self.poll_batch(context)).await
    }

    /// As `next_batch`, for a driver without a runtime.
    pub fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        let mut state = self.queue.lock();
        if !state.is_due() {
            if state.ending || state.closed.is_some() {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(next) = state.waiting.front() {
            if !taken.is_empty() && bytes + next.bytes > self.batch_bytes {
                break;
            }
            bytes += next.bytes;
            taken.extend(state.waiting.pop_front());
        }
        drop(state);
        Poll::Ready(Some(build(taken, bytes)))
    }

    /// Completes a batch: in order with `Ok`, or closes the committer for good with the error.
    pub fn finish(&mut self, batch: Batch, result: Result<(), Error>, took: Duration) {
        self.queue.release(batch.bytes);
        match result.or_else(|error| planted::is(Bug::FailedSyncAcknowledged).then_some(()).ok_or(error)) {
            Ok(()) => {
                self.queue.stats.committed(batch.sync, took, batch.bytes, batch.dones.len());
                self.tails.flushed(batch.newest);
                for done in batch.dones {
                    done(Ok(()));
                }
                for (table, from, to) in batch.reclaims {
                    self.engine.reclaim(table, from, to);
                }
            }
            Err(error) => {
                tracing::error!(%error, bytes = batch.bytes, "the store failed and takes no more writes");
                let closed = self.queue.close(Closed::new(error.to_string()));
                for done in batch.dones {
                    done(Err(closed.clone()));
                }
            }
        }
    }
}

impl Drop for Committer {
    /// Whatever ends the driver, nobody waits for it.
    fn drop(&mut self) {
        self.queue.close(Closed::new("the committer has ended"));
    }
}

fn build(taken: Vec<Submission>, bytes: usize) -> Batch {
    let mut batch = Batch { ops: Vec::new(), sync: false, bytes, newest: 0, dones: Vec::new(), reclaims: Vec::new() };
    for Submission { number, change, done, .. } in taken {
        batch.newest = number;
        batch.dones.push(done);
        match change {
            Change::Append { group, entries, marks } => {
                batch.sync |= !planted::is(Bug::AcknowledgeBeforeSync);
                batch.ops.extend(entries.into_iter().map(|entry| put_entry(group, entry)));
                batch.ops.extend(marks);
            }
            Change::Ops { ops, sync, reclaim } => {
                batch.sync |= sync;
                batch.ops.extend(ops);
                batch.reclaims.extend(reclaim);
            }
        }
    }
    batch
}

fn put_entry(group: GroupId, entry: LogEntry) -> Op {
    let mut parts = entry.payload.body;
    parts.insert(0, entry.payload.head);
    Op::Put { table: Table::Log, key: keys::log(group, entry.index, entry.term), parts }
}
