//! The node's clock seam over turmoil's virtual time: every run begins at the same moment of 2025.

use std::time::Duration;

use node::seams::Clock;

/// Milliseconds of the Unix epoch at which every simulation begins (2025-01-01T00:00:00Z).
pub const EPOCH_MS: u64 = 1_735_689_600_000;

/// Virtual time of the host that asks.
pub struct SimClock;

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        let since = turmoil::since_epoch().unwrap_or(Duration::from_millis(EPOCH_MS));
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}
