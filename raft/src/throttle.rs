//! Holds the appends to new replicas of all groups of a node down to a rate, so that catching up leaves room for clients. What goes
//! to voters is never held up. Invariant: requests leave in the order they came in, each after those before it have had their time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);
/// The limit is kept over this time: what is written and synced at once holds up whoever shares the disk with the new replica.
const STEP: Duration = Duration::from_millis(10);
/// Less at once would cost a sync more than it spares.
const STEP_BYTES_MIN: u64 = 64 << 10;

/// A rate that all new replicas share.
pub(crate) struct Throttle {
    /// Of the node's own settings; 0 is no limit.
    own: u64,
    /// Of the cluster's configs; 0 is no limit.
    asked: watch::Sender<u64>,
    /// When all that was let through has had its time.
    spent_until: Mutex<Instant>,
}

impl Throttle {
    /// Lets so many bytes through in a second; 0: as many as there are.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Throttle { own: bytes_per_second, asked: watch::Sender::new(0), spent_until: Mutex::new(Instant::now()) }
    }

    /// Sets another limit beside the first; the lower holds. Who waits for its turn under another limit goes at once: that limit may have been days.
    pub(crate) fn limit(&self, bytes_per_second: u64) {
        self.asked.send_if_modified(|asked| {
            let is_new = *asked != bytes_per_second;
            if is_new {
                *asked = bytes_per_second;
                *self.spent_until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            is_new
        });
    }

    fn bytes_per_second(&self) -> Option<u64> {
        [self.own, *self.asked.borrow()].into_iter().filter(|limit| *limit > 0).min()
    }

    /// What may go in one request; `None`: nothing has to wait.
    pub(crate) fn step_bytes(&self) -> Option<usize> {
        let step = |limit: u64| (limit / (1_000 / STEP.as_millis() as u64)).max(STEP_BYTES_MIN);
        self.bytes_per_second().map(|limit| usize::try_from(step(limit)).unwrap_or(usize::MAX))
    }

    /// Waits until `bytes` more may be sent.
    pub(crate) async fn pass(&self, bytes: usize) {
        let mut asked = self.asked.subscribe();
        if let Some(bytes_per_second) = self.bytes_per_second().filter(|_| bytes > 0) {
            let turn = self.reserve(bytes, bytes_per_second);
            let _ = timeout_at(turn, asked.changed()).await;
        }
    }

    fn reserve(&self, bytes: usize, bytes_per_second: u64) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        let now = Instant::now();
        let mut spent_until = self.spent_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*spent_until).max(now.checked_sub(BURST).unwrap_or(now));
        *spent_until = begin + takes;
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_lets_a_second_through() {
        let throttle = Throttle::new(1_000_000);
        let start = Instant::now();
        for _ in 0..101 {
            throttle.pass(50_000).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((4.9..5.1).contains(&took), "{took}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..21 {
            throttle.pass(50_000).await;
        }
        assert!(start.elapsed() > Duration::from_millis(900), "a pause is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn the_lower_of_two_limits_holds() {
        let throttle = Throttle::new(1_000_000);
        throttle.limit(100_000);
        let start = Instant::now();
        for _ in 0..11 {
            throttle.pass(50_000).await;
        }
        assert!((4.9..5.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        throttle.limit(1);
        throttle.pass(50_000).await;
        let waits = async { tokio::join!(throttle.pass(50_000), async { throttle.limit(0) }) };
        tokio::time::timeout(Duration::from_secs(1), waits)
            .await
            .expect("a new limit holds for who waits under the old one");
        let start = Instant::now();
        for _ in 0..11 {
            throttle.pass(50_000).await;
        }
        assert!((0.4..1.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_a_hundredth_of_a_second_but_worth_its_sync() {
        let steps = [0, 1_000, 100 << 20].map(|limit| Throttle::new(limit).step_bytes());
        assert_eq!(steps, [None, Some(64 << 10), Some(1 << 20)]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let start = Instant::now();
        Throttle::new(0).pass(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
