//! What compaction does on this node.
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Passes over logs of compacted topics.
#[derive(Default)]
pub struct Compaction {
    passes: Counter,
    /// Passes that could not go on: another leader, another setting.
    pub abandoned: Counter,
    /// Logs that were looked into and would move more than they free.
    pub not_worth: Counter,
    moved_bytes: Counter,
    freed_bytes: Counter,
    dirty_bytes: Gauge,
    dirty_ratio_max: Gauge<f64, AtomicU64>,
    last_pass: Gauge,
}

impl Compaction {
    /// A pass is over.
    pub fn finished(&self, moved: u64, freed: u64, now_ms: i64) {
        self.passes.inc();
        self.moved_bytes.inc_by(moved);
        self.freed_bytes.inc_by(freed);
        self.last_pass.set(now_ms / 1_000);
    }

    /// Passes that came to their end.
    pub fn passes(&self) -> u64 {
        self.passes.get()
    }

    /// Dirty bytes and ratio of each log that this node leads and could compact.
    pub fn show(&self, logs: impl Iterator<Item = (u64, f64)>) {
        let (bytes, ratio) = logs.fold((0, 0.0f64), |(bytes, ratio), log| (bytes + log.0, ratio.max(log.1)));
        self.dirty_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.dirty_ratio_max.set(ratio);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("compaction_passes", "Passes over logs that came to their end", self.passes.clone());
        registry.register("compaction_abandoned", "Passes that could not go on", self.abandoned.clone());
        registry.register("compaction_not_worth", "Passes that would move more than they free", self.not_worth.clone());
        registry.register_with_unit("compaction_moved", "Moved by passes", Unit::Bytes, self.moved_bytes.clone());
        registry.register_with_unit("compaction_freed", "Freed by passes", Unit::Bytes, self.freed_bytes.clone());
        registry.register_with_unit(
            "compaction_dirty",
            "Not compacted yet, of logs led here",
            Unit::Bytes,
            self.dirty_bytes.clone(),
        );
        registry.register(
            "compaction_dirty_ratio_max",
            "Largest part of a log led here that is not compacted",
            self.dirty_ratio_max.clone(),
        );
        registry.register_with_unit(
            "compaction_last_pass_timestamp",
            "When the last pass ended",
            Unit::Seconds,
            self.last_pass.clone(),
        );
    }
}
