//! What something cost those who produced beside it: how long they waited before, and meanwhile.

use serde::Serialize;

use super::cluster::Target;
use super::meter::{Interval, Meter};
use super::report::{Latency, round};

/// Records a second of those who produce, unless the load says how many.
pub const RATE: u64 = 10_000;

/// Two measurements of one load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Beside {
    /// Latencies before it began.
    pub before: Latency,
    /// Latencies from its start to its end.
    pub meanwhile: Latency,
    /// The 99th percentile meanwhile by that before.
    pub p99_ratio: f64,
}

impl Beside {
    /// Of both.
    pub fn new(before: Latency, meanwhile: Latency) -> Self {
        Self { before, meanwhile, p99_ratio: round(meanwhile.p99_ms / before.p99_ms.max(1e-9)) }
    }

    /// For people.
    pub fn rows(&self) -> [(&'static str, String); 2] {
        let waits = |Latency { p50_ms, p99_ms, max_ms, .. }: &Latency| {
            format!("p50 {p50_ms} ms, p99 {p99_ms} ms, max {max_ms} ms")
        };
        let ratio = self.p99_ratio;
        [
            ("before", waits(&self.before)),
            ("meanwhile", format!("{}; {ratio} times the p99 before", waits(&self.meanwhile))),
        ]
    }
}

/// Latencies from now until `until` ends.
pub async fn phase(
    target: &Target,
    meter: &Meter,
    until: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<(Latency, Vec<Interval>)> {
    let window = target.observe(meter, until).await?;
    Ok(((&window.counts.latency).into(), window.intervals))
}
