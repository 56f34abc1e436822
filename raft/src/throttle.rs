//! Holds the appends to new replicas of all groups of a node down to a rate, so that catching up leaves room for clients. What goes
//! to voters is never held up. Invariant: requests leave in the order they came in, each after those before it have had their time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// A rate that all new replicas share.
pub(crate) struct Throttle {
    bytes_per_second: u64,
    /// When all that was let through has had its time.
    spent_until: Mutex<Instant>,
}

impl Throttle {
    /// Lets so many bytes through in a second; 0: as many as there are.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Throttle { bytes_per_second, spent_until: Mutex::new(Instant::now()) }
    }

    /// Whether anything may have to wait.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_per_second > 0
    }

    /// Waits until `bytes` more may be sent.
    pub(crate) async fn pass(&self, bytes: usize) {
        if self.is_on() && bytes > 0 {
            sleep_until(self.reserve(bytes)).await;
        }
    }

    fn reserve(&self, bytes: usize) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
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
    async fn without_a_limit_nobody_waits() {
        let start = Instant::now();
        Throttle::new(0).pass(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
