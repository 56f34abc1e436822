//! What is counted while a load runs: records, bytes and latencies in all, and the same for each second.
//! Invariant: nothing counts before `start` nor after `stop`, so warm-up and what is on its way at the end are left out.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::histogram::Histogram;
use super::lane::Job;
use super::report::round;

/// Shared by all tasks of a load.
#[derive(Default)]
pub struct Meter(Mutex<State>);

#[derive(Default)]
struct State {
    counting: bool,
    total: Counts,
    interval: Counts,
    intervals: Vec<Interval>,
    expected: Option<Expected>,
}

/// Places that have yet to acknowledge something that was due after a moment.
struct Expected {
    since: Instant,
    missing: BTreeSet<usize>,
    times: Vec<Duration>,
}

/// Sums.
#[derive(Clone, Default)]
pub struct Counts {
    /// Records acknowledged, or read.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Latencies, each from its intended start.
    pub latency: Histogram,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Interval {
    /// Seconds since counting began, at its end.
    pub at_s: f64,
    /// Megabytes of values a second.
    pub mb_per_s: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99%.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Meter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts from now on.
    pub fn start(&self) {
        self.state().counting = true;
    }

    /// Whether nothing was counted since the start.
    pub fn is_empty(&self) -> bool {
        self.state().total.records == 0
    }

    /// Counts no more, and gives what was counted.
    pub fn stop(&self) -> (Counts, Vec<Interval>) {
        let mut state = self.state();
        state.counting = false;
        (std::mem::take(&mut state.total), std::mem::take(&mut state.intervals))
    }

    /// Looks out for a request of each of these places that was due after `since`.
    pub fn expect(&self, since: Instant, missing: BTreeSet<usize>) {
        self.state().expected = Some(Expected { since, missing, times: Vec::new() });
    }

    /// Once all of them were acknowledged: how long after that moment each was.
    pub fn all_back(&self) -> Option<Vec<Duration>> {
        let mut state = self.state();
        state.expected.take_if(|expected| expected.missing.is_empty()).map(|expected| expected.times)
    }

    /// Counts an acknowledged request.
    pub fn acknowledge(&self, (records, bytes): (u64, u64), job: Job, now: Instant) {
        let mut state = self.state();
        if let Some(Expected { since, missing, times }) = &mut state.expected
            && job.intended >= *since
            && missing.remove(&job.place)
        {
            times.push(now - *since);
        }
        state.count(records, bytes, Some(now.saturating_duration_since(job.intended)));
    }

    /// Counts `records` of `bytes` in all; a latency counts once a call.
    pub fn count(&self, records: u64, bytes: u64, latency: Option<Duration>) {
        self.state().count(records, bytes, latency);
    }

    /// Ends an interval `at` after the start that took `long`.
    pub fn cut(&self, at: Duration, long: Duration) {
        let mut state = self.state();
        let (counts, seconds) = (&state.interval, long.as_secs_f64().max(1e-6));
        let interval = Interval {
            at_s: round(at.as_secs_f64()),
            mb_per_s: round(counts.bytes as f64 / 1e6 / seconds),
            records_per_s: round(counts.records as f64 / seconds),
            p50_ms: round(counts.latency.quantile_ms(0.5)),
            p99_ms: round(counts.latency.quantile_ms(0.99)),
            max_ms: round(counts.latency.max_ms()),
        };
        state.intervals.push(interval);
        (state.interval.records, state.interval.bytes) = (0, 0);
        state.interval.latency.clear();
    }
}

impl State {
    fn count(&mut self, records: u64, bytes: u64, latency: Option<Duration>) {
        if !self.counting {
            return;
        }
        for counts in [&mut self.total, &mut self.interval] {
            counts.records += records;
            counts.bytes += bytes;
            if let Some(latency) = latency {
                counts.latency.record(latency, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_what_comes_between_start_and_stop_counts() {
        let meter = Meter::default();
        meter.count(1, 10, Some(MS));
        meter.start();
        meter.count(2, 20, Some(MS));
        meter.cut(1_000 * MS, 1_000 * MS);
        meter.count(3, 30, Some(2 * MS));
        let (total, intervals) = meter.stop();
        assert_eq!((total.records, total.bytes, total.latency.count()), (5, 50, 2));
        assert_eq!(intervals.len(), 1);
        assert_eq!((intervals[0].records_per_s, intervals[0].max_ms), (2.0, 1.0));
        meter.count(4, 40, None);
        assert_eq!(meter.stop().0.records, 0);
    }

    #[test]
    fn places_are_back_with_what_was_due_after_the_moment() {
        let (meter, zero) = (Meter::default(), Instant::now());
        let acknowledge = |place, intended: u32, now: u32| {
            meter.acknowledge((1, 10), Job { place, intended: zero + intended * MS }, zero + now * MS);
        };
        meter.expect(zero + 5 * MS, BTreeSet::from([1, 2]));
        acknowledge(1, 4, 6);
        acknowledge(2, 5, 8);
        acknowledge(2, 6, 9);
        acknowledge(3, 6, 9);
        assert_eq!(meter.all_back(), None, "what was due before says nothing");
        acknowledge(1, 7, 15);
        assert_eq!(meter.all_back(), Some(vec![3 * MS, 10 * MS]));
        assert_eq!(meter.all_back(), None);
    }
}
