//! The queue in front of a partition actor: whoever appends pushes here, the actor takes all that waits in one turn.
//! Invariant: jobs leave in the order they came; the actor is signalled when the first job comes and again when as
//! much waits as it wants. Bounded in bytes by the admission that every job carries.
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use model::NodeId;
use model::cursor::Note;
use model::machine::AppendError;
use tokio::sync::oneshot;

use super::budget::Admission;

/// One caller's batches.
pub struct AppendJob {
    /// Verified batches.
    pub batches: Vec<Bytes>,
    /// What the first of them says of itself, as a message of a queue.
    pub note: Option<Note>,
    /// Stamp the leader's time on each batch (`message.timestamp.type=LogAppendTime`).
    pub stamp: bool,
    /// Bytes of the batches, counted against the node's budget.
    pub bytes: usize,
    /// Held until the outcome is known.
    pub admission: Admission,
    /// Who waits.
    pub reply: oneshot::Sender<Result<Committed, Refused>>,
}

/// The outcome of a committed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Offset of the job's first record.
    pub base_offset: i64,
    /// Time stamped on it, if any.
    pub stamped_ms: Option<i64>,
}

/// Why a job did not commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This replica does not lead; the leader if known.
    NotLeader(Option<NodeId>),
    /// It entered the log, then leadership went: it may commit or not.
    Unknown(Option<NodeId>),
    /// The machine took no offset for it.
    Rejected(AppendError),
    /// Too much waits.
    Busy,
    /// The replica does not run.
    Stopped(String),
}

/// Wakes the actor.
type Signal = Box<dyn Fn() + Send + Sync>;

/// The queue.
#[derive(Default)]
pub struct Inbox {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<AppendJob>,
    bytes: usize,
    /// Bytes of which the actor wants to know when they wait.
    wanted: usize,
    signalled: bool,
    signal: Option<Signal>,
}

impl Inbox {
    /// Queues a job and wakes the actor if it is not awake, or if as much waits now as it wants.
    pub fn push(&self, job: AppendJob) {
        let mut inner = self.lock();
        let before = inner.bytes;
        inner.bytes += job.bytes;
        inner.jobs.push_back(job);
        if before < inner.wanted && inner.bytes >= inner.wanted {
            inner.signalled = false;
        }
        inner.wake();
    }

    /// Sets how the actor is woken, and wakes it if jobs wait already.
    pub fn attach(&self, signal: Signal) {
        let mut inner = self.lock();
        inner.signal = Some(signal);
        inner.signalled = false;
        if !inner.jobs.is_empty() {
            inner.wake();
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().jobs.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether so many bytes wait; if not, the push that makes them so many wakes the actor.
    pub fn has(&self, bytes: usize) -> bool {
        let mut inner = self.lock();
        inner.wanted = bytes;
        inner.bytes >= bytes
    }

    /// Takes jobs from the front, at least one if any waits, until they hold `max_bytes` or `max_batches`. When nothing
    /// is left, the next push wakes the actor again.
    pub fn take(&self, max_bytes: usize, max_batches: usize) -> Vec<AppendJob> {
        let mut inner = self.lock();
        let (mut bytes, mut batches) = (0, 0);
        let mut taken = Vec::new();
        while let Some(next) = inner.jobs.front() {
            bytes += next.bytes;
            batches += next.batches.len();
            if !taken.is_empty() && (bytes > max_bytes || batches > max_batches) {
                break;
            }
            taken.extend(inner.jobs.pop_front());
        }
        inner.bytes -= taken.iter().map(|job| job.bytes).sum::<usize>();
        if inner.jobs.is_empty() {
            inner.signalled = false;
        }
        taken
    }

    /// Takes everything.
    pub fn drain(&self) -> Vec<AppendJob> {
        self.take(usize::MAX, usize::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wake(&mut self) {
        if !self.signalled
            && let Some(signal) = &self.signal
        {
            signal();
            self.signalled = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::router::AppendBudget;

    fn job(bytes: usize) -> AppendJob {
        let admission = AppendBudget::new(1 << 20).admit(bytes).unwrap();
        let batches = vec![Bytes::from(vec![0; bytes])];
        AppendJob { batches, note: None, stamp: false, bytes, admission, reply: oneshot::channel().0 }
    }

    #[test]
    fn one_signal_for_all_that_waits_and_jobs_stay_in_order() {
        let inbox = Inbox::default();
        inbox.push(job(10));
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        inbox.attach(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        inbox.push(job(20));
        inbox.push(job(30));
        assert_eq!((wakes.load(Ordering::Relaxed), inbox.bytes()), (1, 60));
        let sizes = |jobs: Vec<AppendJob>| jobs.iter().map(|job| job.bytes).collect::<Vec<_>>();
        assert_eq!(sizes(inbox.take(30, 100)), [10, 20]);
        inbox.push(job(40));
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "the actor still has work");
        assert_eq!(sizes(inbox.take(1, 1)), [30]);
        assert_eq!(sizes(inbox.drain()), [40]);
        inbox.push(job(50));
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert!(inbox.has(50) && !inbox.has(100));
        inbox.push(job(49));
        assert_eq!(wakes.load(Ordering::Relaxed), 2, "one byte is missing");
        inbox.push(job(1));
        inbox.push(job(1));
        assert_eq!(wakes.load(Ordering::Relaxed), 3, "as much waits as is wanted, told once");
    }
}
