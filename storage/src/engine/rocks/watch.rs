//! Ends a write that RocksDB never would. When a flush fails because the device is full, RocksDB tries to recover by itself; if a write
//! waits for that flush meanwhile, the recovery waits behind the write and the write for the recovery (`DBImpl::DelayWrite`, 11.8).
//! Invariant: only a write that waits for long, of a store whose background work has failed, is ended; it is an error then.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// How long a write may wait for background work that has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the thread looks.
const LOOK: Duration = Duration::from_secs(1);

/// The thread, and what it looks at.
pub(super) struct Watch {
    write: Arc<Mutex<Write>>,
    /// `None` only while dropping, so that the thread ends.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Write {
    began: Option<Instant>,
    was_ended: bool,
}

impl Watch {
    /// Looks out until it is dropped; `end` ends a write that waits while `has_failed`.
    pub(super) fn start(
        has_failed: impl Fn() -> bool + Send + 'static,
        end: impl Fn() + Send + 'static,
    ) -> Result<Self, Error> {
        Self::begin((PATIENCE, LOOK), has_failed, end)
    }

    fn begin(
        (patience, look): (Duration, Duration),
        has_failed: impl Fn() -> bool + Send + 'static,
        end: impl Fn() + Send + 'static,
    ) -> Result<Self, Error> {
        let (stop, stopped): (_, Receiver<()>) = channel();
        let write: Arc<Mutex<Write>> = Arc::default();
        let seen = write.clone();
        let is_late = move || lock(&seen, |write| write.began.is_some_and(|began| began.elapsed() >= patience));
        let ended = write.clone();
        let run = move || {
            while stopped.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
                if is_late() && has_failed() {
                    lock(&ended, |write| write.was_ended = true);
                    return end();
                }
            }
        };
        let thread = Builder::new().name("storage-watch".into()).spawn(run);
        let thread = thread.map_err(|error| Error::Io(format!("cannot start a thread: {error}")))?;
        Ok(Watch { write, stop: Some(stop), thread: Some(thread) })
    }

    /// Does a write; whether it was ended.
    pub(super) fn over<R>(&self, write: impl FnOnce() -> R) -> (R, bool) {
        lock(&self.write, |write| write.began = Some(Instant::now()));
        let done = write();
        (
            done,
            lock(&self.write, |write| {
                write.began = None;
                write.was_ended
            }),
        )
    }
}

fn lock<R>(write: &Mutex<Write>, with: impl FnOnce(&mut Write) -> R) -> R {
    with(&mut write.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches writes has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Longer than a thread of a busy machine sleeps between two lines.
    const FAST: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(5));

    fn watch(failed: bool) -> (Watch, Receiver<()>) {
        let (ended, end) = mpsc::channel();
        (Watch::begin(FAST, move || failed, move || ended.send(()).expect("somebody waits")).expect("a thread"), end)
    }

    #[test]
    fn a_write_that_waits_for_failed_work_is_ended() {
        let (watch, end) = watch(true);
        assert_eq!(watch.over(|| ()), ((), false));
        let (outcome, was_ended) = watch.over(|| end.recv_timeout(Duration::from_secs(30)));
        assert_eq!((outcome, was_ended), (Ok(()), true));
    }

    #[test]
    fn a_write_that_is_slow_is_left_alone() {
        let (watch, end) = watch(false);
        let (outcome, was_ended) = watch.over(|| end.recv_timeout(4 * FAST.0));
        assert_eq!((outcome, was_ended), (Err(RecvTimeoutError::Timeout), false));
    }
}
