//! Memory of requests and responses on the wire: one byte budget per node, taken before bytes are read or fetched.
//! Owns the bound "client requests being read or answered, all connections together" of the configuration.
//! Invariant: small frames never wait behind large ones, so a peer that claims 100 MB cannot stall everybody.
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames up to here draw on their own share: metadata, heartbeats, small produces.
const SMALL_BYTES: usize = 64 << 10;
/// One permit stands for this many bytes, so that any budget fits the semaphore's u32 requests.
const UNIT_BYTES: usize = 1 << 10;

/// The node's budgets. Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    small: Share,
    large: Share,
    fetch: Share,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Taken(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

#[derive(Clone)]
struct Share {
    permits: Arc<Semaphore>,
    units: usize,
}

impl Budget {
    /// `bytes` are divided: one quarter for small requests, one for responses of Fetch, half for large requests.
    pub fn new(bytes: usize) -> Self {
        Self { small: Share::new(bytes / 4), large: Share::new(bytes / 2), fetch: Share::new(bytes / 4) }
    }

    /// The longest frame that can be read at all.
    pub fn frame_bytes_max(&self) -> usize {
        self.large.units * UNIT_BYTES
    }

    /// Waits for room for a frame of `bytes`.
    pub async fn frame(&self, bytes: usize) -> Taken {
        let share = if bytes <= SMALL_BYTES { &self.small } else { &self.large };
        share.take(bytes).await
    }

    /// Room for up to `bytes` of fetched records: at once, a part of what is free, else waits for a little.
    /// The second value is how many bytes may be read.
    pub async fn fetch(&self, bytes: usize) -> (Taken, usize) {
        let share = self.fetch.permits.available_permits() / FETCH_PARTS * UNIT_BYTES;
        let bytes = bytes.clamp(1, share.max(FETCH_LITTLE_BYTES));
        match self.fetch.try_take(bytes) {
            Some(taken) => (taken, bytes),
            None => (self.fetch.take(bytes.min(FETCH_LITTLE_BYTES)).await, bytes.min(FETCH_LITTLE_BYTES)),
        }
    }

    /// Room for a batch of `bytes` that is larger than what was granted; all there is for a larger one.
    pub async fn fetch_whole(&self, bytes: usize) -> Taken {
        self.fetch.take(bytes).await
    }
}

/// One Fetch takes at most this part of what is free, so that readers that do not read leave room for others.
const FETCH_PARTS: usize = 8;
/// What a Fetch waits for rather than doing with less.
const FETCH_LITTLE_BYTES: usize = 64 << 10;

impl Taken {
    /// Gives back what was taken beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(units(bytes));
        drop(self.0.split(surplus));
    }
}

impl Share {
    fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(units)), units }
    }

    fn try_take(&self, bytes: usize) -> Option<Taken> {
        let wanted = u32::try_from(units(bytes)).ok()?;
        self.permits.clone().try_acquire_many_owned(wanted).ok().map(Taken)
    }

    async fn take(&self, bytes: usize) -> Taken {
        let wanted = units(bytes).min(self.units);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        match self.permits.clone().acquire_many_owned(wanted).await {
            Ok(permit) => Taken(permit),
            Err(_closed) => unreachable!("the semaphore is never closed"),
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn free(share: &Share) -> usize {
        share.permits.available_permits() * UNIT_BYTES
    }

    #[tokio::test]
    async fn large_frames_wait_and_small_ones_pass() {
        let budget = Budget::new(4 << 20);
        let held = budget.frame(2 << 20).await;
        let mut second = Box::pin(budget.frame(1 << 20));
        assert!(futures::poll!(&mut second).is_pending());
        let _small = budget.frame(100).await;
        drop(held);
        let _second = second.await;
        assert_eq!(free(&budget.large), 1 << 20);
    }

    #[tokio::test]
    async fn a_frame_above_the_budget_takes_all_of_it_and_no_more() {
        let budget = Budget::new(1 << 20);
        assert_eq!(budget.frame_bytes_max(), 512 << 10);
        drop(budget.frame(usize::MAX / 2).await);
        assert_eq!(free(&budget.large), 512 << 10);
    }

    #[tokio::test]
    async fn fetch_gives_back_what_it_did_not_read() {
        let budget = Budget::new(16 << 20);
        let (mut taken, bytes) = budget.fetch(50 << 20).await;
        assert_eq!(bytes, 512 << 10, "a part of the share");
        taken.shrink_to(10 << 10);
        assert_eq!(free(&budget.fetch), (4 << 20) - (10 << 10));
        drop(taken);
        assert_eq!(free(&budget.fetch), 4 << 20);
    }

    #[tokio::test]
    async fn readers_that_do_not_read_leave_less_and_less_but_not_nothing() {
        let budget = Budget::new(16 << 20);
        let mut held = Vec::new();
        for reader in 0..1_000 {
            let mut next = Box::pin(budget.fetch(50 << 20));
            match futures::poll!(&mut next) {
                Poll::Ready(granted) => held.push(granted),
                Poll::Pending => {
                    assert!(reader > 20, "{reader} readers that do not read keep all others out");
                    drop(held.pop());
                    assert_eq!(next.await.1, 64 << 10);
                    return;
                }
            }
        }
        panic!("a thousand readers were granted {} bytes", held.iter().map(|(_, bytes)| bytes).sum::<usize>());
    }

    #[tokio::test]
    async fn a_batch_larger_than_a_part_waits_for_its_own_room() {
        let budget = Budget::new(16 << 20);
        let (small, _) = budget.fetch(50 << 20).await;
        let mut large = Box::pin(budget.fetch_whole(50 << 20));
        assert!(futures::poll!(&mut large).is_pending());
        drop(small);
        let _all = large.await;
        assert_eq!(free(&budget.fetch), 0);
    }
}
