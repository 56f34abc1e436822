//! Latencies to three significant digits, from a microsecond to an hour: HDR histograms, in milliseconds outwards.
//! A longer latency counts as an hour.

use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

const US_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram(Hdr<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(Hdr::new_with_bounds(1, US_MAX, DIGITS).expect("constant bounds that the crate takes"))
    }
}

impl Histogram {
    /// Counts one duration `count` times.
    pub fn record(&mut self, duration: Duration, count: u64) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(US_MAX);
        self.0.saturating_record_n(us, count);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The largest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        ms(self.0.max())
    }

    /// The duration, in milliseconds, that this share of all did not pass.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        ms(self.0.value_at_quantile(share))
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_known_to_a_thousandth() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|us| histogram.record(Duration::from_micros(us), 1));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (0.999, 99.9), (1.0, 100.0)] {
            let found = histogram.quantile_ms(share);
            assert!((found - expected).abs() / expected < 0.002, "{share}: {found}");
        }
        assert_eq!(histogram.quantile_ms(1.0), histogram.max_ms());
        assert_eq!(histogram.count(), 100_000);
    }

    #[test]
    fn longer_than_an_hour_counts_as_an_hour() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(100_000), 2);
        assert_eq!(histogram.count(), 2);
        assert!((histogram.max_ms() - 3_600_000.0).abs() < 3_600.0);
    }
}
