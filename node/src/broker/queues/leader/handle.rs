//! The front of a queue's leader: what is asked of it waits here for its next turn. Bounded by `VISITS_MAX`; who finds no room is told
//! to ask again.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use model::NodeId;
use model::controller::topology::{Arguments, Queue};
use model::cursor::ackset::{AckSet, Place};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::shown::{Meter, Shown};
use crate::peer::queues::{Attachment, Attendant, Heard, Settled};
use crate::router::LocalPartition;

/// The one cursor of a queue.
pub(in crate::broker::queues) const CURSOR: u32 = 0;
/// Visits that wait for the next turn.
pub(super) const VISITS_MAX: usize = 4_096;

/// The front of a queue's leader.
pub(in crate::broker::queues) struct Handle {
    /// As it was declared.
    pub(in crate::broker::queues) queue: Arc<Queue>,
    rules: watch::Sender<Arc<Arguments>>,
    /// The replica.
    pub(in crate::broker::queues) local: Arc<LocalPartition>,
    visits: mpsc::Sender<Visit>,
    /// It leads, and the cursor is open: messages may be appended with what they say of themselves.
    pub(super) open: AtomicBool,
    /// Targets of dead letters that seem to be gone, and since when.
    missing: Mutex<BTreeMap<Place, Instant>>,
    shown: Mutex<Shown>,
    meter: Mutex<Meter>,
}

/// Where an answer goes.
pub(in crate::broker::queues) type Teller = oneshot::Sender<Heard>;

/// What a leader is asked.
pub(in crate::broker::queues) enum Visit {
    /// Consumers of a gateway.
    Attend { from: NodeId, attachment: (Attachment, bool), consumers: Vec<Attendant>, gone: Vec<u64>, told: Teller },
    /// What became of messages.
    Settle { from: NodeId, settled: Vec<Settled>, told: Teller },
    /// One message.
    Get { from: NodeId, attachment: Attachment, consumer: u64, told: Teller },
    /// These records are not in the log any more.
    Missing(Vec<i64>),
    /// Forget what is ready.
    Purge(Teller),
    /// How many messages are what?
    Count(Teller),
    /// Which messages are there?
    Peek { from: i64, count: usize, told: Teller },
    /// Go on from here.
    Seek { to: i64, told: Teller },
}

impl Handle {
    /// The front of the leader of `queue`, and what its loop takes visits from.
    pub(in crate::broker::queues) fn new(
        queue: Arc<Queue>,
        rules: Arguments,
        local: Arc<LocalPartition>,
    ) -> (Arc<Self>, mpsc::Receiver<Visit>) {
        let (visits, taken) = mpsc::channel(VISITS_MAX);
        let (open, shown, meter) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        let rules = watch::Sender::new(Arc::new(rules));
        (Arc::new(Self { queue, rules, local, visits, open, missing: Mutex::default(), shown, meter }), taken)
    }

    /// The arguments that the queue goes by now: its own and its policy's.
    pub(in crate::broker::queues) fn rules(&self) -> Arc<Arguments> {
        self.rules.borrow().clone()
    }

    /// The queue goes by these from now on.
    pub(in crate::broker::queues) fn follow(&self, rules: Arguments) {
        self.rules.send_if_modified(|known| {
            let differ = **known != rules;
            if differ {
                *known = Arc::new(rules);
            }
            differ
        });
    }

    pub(super) fn watch_rules(&self) -> watch::Receiver<Arc<Arguments>> {
        self.rules.subscribe()
    }

    /// Notes whether a target is missing now; whether it was each time that somebody looked for so long.
    pub(super) fn is_missing_for(&self, long: Duration, target: Place, is_missing: bool) -> bool {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_missing {
            missing.remove(&target);
            return false;
        }
        let is_over = missing.entry(target).or_insert_with(Instant::now).elapsed() >= long;
        // It is forgotten now, or looked at anew.
        if is_over {
            missing.remove(&target);
        }
        is_over
    }

    /// Queues a visit now, and waits for its answer.
    pub(in crate::broker::queues) fn visit(&self, visit: impl FnOnce(Teller) -> Visit) -> BoxFuture<'static, Heard> {
        let (told, answer) = oneshot::channel();
        let queued = self.visits.try_send(visit(told)).is_ok();
        Box::pin(async move { if queued { answer.await.unwrap_or(Heard::NotHere) } else { Heard::NotHere } })
    }

    /// Tells that records are not in the log any more.
    pub(in crate::broker::queues) fn missing(&self, offsets: Vec<i64>) {
        if !offsets.is_empty() {
            let _asked_again = self.visits.try_send(Visit::Missing(offsets));
        }
    }

    /// What the loop said of itself last.
    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages may be appended.
    pub(in crate::broker::queues) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && self.local.role().leads
    }

    /// How many messages may be ready. A bound in bytes counts the mean size of the log's records.
    pub(in crate::broker::queues) fn length_max(&self) -> Option<u64> {
        let arguments = self.rules();
        let bytes = arguments.max_length_bytes.map(|bytes| {
            let (size, count) = self
                .local
                .raft()
                .partition(|machine| (machine.size_bytes(), machine.high_watermark() - machine.log_start()))
                .unwrap_or_default();
            let mean = size / u64::try_from(count).unwrap_or(0).max(1);
            u64::try_from(bytes).unwrap_or(0) / mean.max(1)
        });
        let count = arguments.max_length.map(|count| u64::try_from(count).unwrap_or(0));
        count.into_iter().chain(bytes).min()
    }

    /// Reads the cursor.
    pub(in crate::broker::queues) fn cursor<R>(&self, read: impl FnOnce(&AckSet) -> R) -> Option<R> {
        self.local.raft().partition(|machine| machine.cursor(CURSOR).map(read)).flatten()
    }
}

impl Visit {
    /// Sends away who asks.
    pub(super) fn refuse(self) {
        match self {
            Visit::Attend { told, .. }
            | Visit::Settle { told, .. }
            | Visit::Get { told, .. }
            | Visit::Peek { told, .. }
            | Visit::Seek { told, .. }
            | Visit::Purge(told)
            | Visit::Count(told) => drop(told.send(Heard::NotHere)),
            Visit::Missing(_) => {}
        }
    }
}
