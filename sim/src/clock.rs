//! The clocks of a simulated node: one that counts, faster or slower than the world's when it drifts, and a wall clock that is
//! the same count plus its jumps. They go on while the process is paused or down; every run begins at the same moment of 2025.
//! Resolution: a tick of the world.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use node::seams::Clock;

/// Milliseconds of the Unix epoch at which every simulation begins (2025-01-01T00:00:00Z).
pub const EPOCH_MS: u64 = 1_735_689_600_000;

/// The clocks of one node. Clones are the same clocks.
#[derive(Clone, Default)]
pub struct SimClock(Arc<Clocks>);

#[derive(Default)]
struct Clocks {
    elapsed_ns: AtomicU64,
    jumped_ms: AtomicI64,
    drift_per_mille: AtomicI64,
}

impl SimClock {
    /// The wall clock jumps.
    pub fn jump(&self, by_ms: i64) {
        self.0.jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// From now on the clocks run faster (or slower). False if they did already.
    pub fn drift(&self, per_mille: i32) -> bool {
        self.0.drift_per_mille.swap(per_mille.into(), Ordering::Relaxed) != i64::from(per_mille)
    }

    /// So much time passed in the world; gives what passed on this node.
    pub fn tick(&self, world: Duration) -> Duration {
        let world_ns = i64::try_from(world.as_nanos()).unwrap_or(i64::MAX);
        let drift_ns = world_ns / 1000 * self.0.drift_per_mille.load(Ordering::Relaxed);
        let passed_ns = world_ns.saturating_add(drift_ns).unsigned_abs();
        self.0.elapsed_ns.fetch_add(passed_ns, Ordering::Relaxed);
        Duration::from_nanos(passed_ns)
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let elapsed_ms = self.0.elapsed_ns.load(Ordering::Relaxed) / 1_000_000;
        i64::try_from(EPOCH_MS + elapsed_ms).unwrap_or(i64::MAX) + self.0.jumped_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.elapsed_ns.load(Ordering::Relaxed))
    }
}
