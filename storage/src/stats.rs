//! What the committer did, as counters that a metrics exporter reads. One object per store, no global state.
//! Invariant: counters only grow (`tail_bytes` is the one gauge); relaxed reads may be a moment apart from each other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the histogram buckets: powers of two from 1; the last bucket has no bound.
const BUCKETS: usize = 32;

/// A histogram with power-of-two buckets of whole units.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&self, value: u64) {
        let bucket = (64 - value.saturating_sub(1).leading_zeros()).min(BUCKETS as u32 - 1);
        self.buckets[bucket as usize].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// (upper bound, values at or below it and above the previous bound); the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(place, count)| {
            let bound = if place + 1 < BUCKETS { (1u64 << place) as f64 } else { f64::INFINITY };
            (bound, count.load(Relaxed))
        })
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

/// Counters of one store.
#[derive(Debug, Default)]
pub struct Stats {
    /// Time of one write with sync, microseconds; its count is the number of fsyncs.
    pub sync_us: Histogram,
    /// Time of one write without sync, microseconds.
    pub write_us: Histogram,
    /// Bytes of one committed batch.
    pub batch_bytes: Histogram,
    /// Submissions in one committed batch.
    pub batch_submissions: Histogram,
    /// Log entries read from the engine, because the tail cache did not hold them.
    pub cold_entries: AtomicU64,
    /// Bytes of those that were read in small steps, since the store committed meanwhile.
    pub aside_bytes: AtomicU64,
    /// Log entries read from the tail cache.
    pub tail_entries: AtomicU64,
    /// Bytes in the tail cache now, with what they cost beside.
    pub tail_bytes: AtomicU64,
}

impl Stats {
    pub(crate) fn committed(&self, sync: bool, took: Duration, bytes: usize, submissions: usize) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if sync { &self.sync_us } else { &self.write_us }.record(took_us);
        self.batch_bytes.record(bytes as u64);
        self.batch_submissions.record(submissions as u64);
    }

    pub(crate) fn read(&self, tail: usize, cold: usize) {
        self.tail_entries.fetch_add(tail as u64, Relaxed);
        self.cold_entries.fetch_add(cold as u64, Relaxed);
    }

    /// Counts bytes read aside; whether they complete the next `step`.
    pub(crate) fn read_aside(&self, bytes: usize, step: usize) -> bool {
        let before = self.aside_bytes.fetch_add(bytes as u64, Relaxed);
        (before + bytes as u64) / step as u64 > before / step as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_each_value_once_below_its_bound() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 1 << 40] {
            histogram.record(value);
        }
        let filled: Vec<(f64, u64)> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, vec![(1.0, 2), (2.0, 1), (4.0, 2), (8.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (7, 15 + (1 << 40)));
    }
}
