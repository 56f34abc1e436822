//! Latencies in log-linear buckets: 64 per doubling, so a value is known to 1.6%. Fixed memory, merges exactly.

use std::time::Duration;

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) * SUB as usize;

/// Counts of durations, to the microsecond.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[index(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1_000.0
    }

    /// The duration, in milliseconds, that this share of all did not pass.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(index).min(self.max_us) as f64 / 1_000.0;
            }
        }
        0.0
    }
}

fn index(us: u64) -> usize {
    if us < SUB {
        return us as usize;
    }
    let exponent = 63 - us.leading_zeros();
    let shift = exponent - SUB_BITS;
    (u64::from(shift + 1) * SUB + ((us >> shift) - SUB)) as usize
}

fn upper(index: usize) -> u64 {
    let (row, column) = (index as u64 / SUB, index as u64 % SUB);
    if row == 0 { column } else { (SUB + column) << (row - 1) | ((1 << (row - 1)) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|us| histogram.record(Duration::from_micros(us)));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (0.999, 99.9)] {
            let found = histogram.quantile_ms(share);
            assert!((found - expected).abs() / expected < 0.016, "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ms(1.0), 100.0);
        assert_eq!(histogram.count(), 100_000);
    }

    #[test]
    fn every_value_falls_into_the_bucket_that_ends_at_or_above_it() {
        for us in [0, 1, 63, 64, 65, 127, 128, 1_000_000, u64::MAX / 2, u64::MAX] {
            assert!(upper(index(us)) >= us, "{us}");
            assert!(index(us) == 0 || upper(index(us) - 1) < us, "{us}");
        }
    }
}
