//! How many bytes may be admitted for appending and not yet be committed, over all partitions of the node.
//! Invariant: what waits is at most `QUEUE_FACTOR` times the budget; above it appends are refused, below they wait.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may wait for the budget, as a multiple of it.
const QUEUE_FACTOR: usize = 2;

/// The node's append budget.
pub struct AppendBudget {
    permits: Arc<Semaphore>,
    bytes: usize,
    admitted: Arc<AtomicUsize>,
}

/// Counts bytes from admission until it is dropped.
pub struct Admission {
    admitted: Arc<AtomicUsize>,
    bytes: usize,
}

impl AppendBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(1, u32::MAX as usize);
        Self { permits: Arc::new(Semaphore::new(bytes)), bytes, admitted: Arc::default() }
    }

    /// Lets `bytes` into a queue, or refuses when too much waits already.
    pub fn admit(&self, bytes: usize) -> Option<Admission> {
        let before = self.admitted.fetch_add(bytes, Ordering::Relaxed);
        let admission = Admission { admitted: self.admitted.clone(), bytes };
        (before < self.bytes * (1 + QUEUE_FACTOR)).then_some(admission)
    }

    /// Waits for `bytes` of the budget (all of it for more); given back when dropped.
    pub async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        self.permits.clone().acquire_many_owned(permits).await.ok()
    }

    /// Bytes admitted and not yet committed.
    pub fn admitted_bytes(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.admitted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_what_would_wait_too_long_and_recovers() {
        let budget = AppendBudget::new(100);
        let held: Vec<_> = (0..3).map(|_| budget.admit(100).unwrap()).collect();
        assert!(budget.admit(1).is_none());
        assert_eq!(budget.admitted_bytes(), 300);
        drop(held);
        assert!(budget.admit(1).is_some());
        let all = budget.take(1_000).await.unwrap();
        assert!(futures::poll!(Box::pin(budget.take(1))).is_pending());
        drop(all);
        assert!(budget.take(1).await.is_some());
    }
}
