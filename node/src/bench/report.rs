//! One object per run: what was asked, what came out, what it cost.

use serde::Serialize;

use super::Load;
use super::cluster::Sample;
use super::histogram::Histogram;
use crate::cli::output::pairs;

/// Bytes on all disks for each committed byte: three replicas, each written to the log and to a table.
const WRITES_PER_BYTE: f64 = 6.0;

/// The report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which measurement.
    pub bench: &'static str,
    /// Its settings.
    pub settings: Settings,
    /// Committed (or read) megabytes of record batches a second.
    pub mb_per_s: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Latency of a batch (produce) or record (e2e) from its intended send time.
    #[serde(flatten)]
    pub latency: Option<Latency>,
    /// Fsyncs of all nodes a second.
    pub fsyncs_per_s: f64,
    /// CPU seconds of all nodes for each GB.
    pub cpu_s_per_gb: f64,
    /// Resident memory of the largest node.
    pub rss_mib: f64,
    /// Requests that failed and were sent again.
    pub retries: u64,
    /// Three files, 1 MiB appends with fdatasync, together, before and after in the same run.
    pub disk_mb_per_s: Option<f64>,
    /// `mb_per_s` times 6 by `disk_mb_per_s`.
    pub disk_ratio: Option<f64>,
}

/// Latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 99%.
    pub p99_ms: f64,
    /// 99.9%.
    pub p999_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

/// What was asked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    seconds: u64,
    batch_bytes: u64,
    record_bytes: u64,
    acks: String,
    topics: u32,
    partitions: u32,
    clients: u32,
    in_flight: u32,
    rate: Option<u64>,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        Self {
            p50_ms: round(histogram.quantile_ms(0.5)),
            p99_ms: round(histogram.quantile_ms(0.99)),
            p999_ms: round(histogram.quantile_ms(0.999)),
            max_ms: round(histogram.max_ms()),
        }
    }
}

impl From<&Load> for Settings {
    fn from(load: &Load) -> Self {
        Self {
            seconds: load.seconds,
            batch_bytes: load.batch.0,
            record_bytes: load.record_size.0,
            acks: load.acks.clone(),
            topics: load.topics,
            partitions: load.partitions,
            clients: load.clients,
            in_flight: load.in_flight,
            rate: load.rate,
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Report {
    /// Throughput and cost of `bytes` and `records` in `seconds`, between two samples.
    pub fn new(bench: &'static str, load: &Load, (bytes, records): (u64, u64), seconds: f64) -> Self {
        Self {
            bench,
            settings: load.into(),
            mb_per_s: round(bytes as f64 / 1e6 / seconds),
            records_per_s: round(records as f64 / seconds),
            ..Self::default()
        }
    }

    /// Adds what the nodes spent between two samples.
    pub fn with_cost(mut self, before: Sample, after: Sample, bytes: u64, seconds: f64) -> Self {
        self.fsyncs_per_s = round((after.fsyncs - before.fsyncs) / seconds);
        self.cpu_s_per_gb = round((after.cpu_s - before.cpu_s) / (bytes as f64 / 1e9).max(1e-9));
        self.rss_mib = round(after.rss_mib_max);
        self
    }

    /// Adds what the disk did before and after.
    pub fn with_disk(mut self, before: f64, after: f64) -> Self {
        let disk = f64::midpoint(before, after);
        self.disk_mb_per_s = Some(round(disk));
        self.disk_ratio = Some(round(self.mb_per_s * WRITES_PER_BYTE / disk.max(1e-9)));
        self
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut rows = vec![
            ("bench", self.bench.to_owned()),
            ("throughput", format!("{} MB/s, {} records/s", self.mb_per_s, self.records_per_s)),
        ];
        if let Some(Latency { p50_ms, p99_ms, p999_ms, max_ms }) = self.latency {
            rows.push(("latency", format!("p50 {p50_ms} ms, p99 {p99_ms} ms, p99.9 {p999_ms} ms, max {max_ms} ms")));
        }
        rows.extend([
            ("fsyncs", format!("{} a second, all nodes", self.fsyncs_per_s)),
            ("cpu", format!("{} s for each GB, all nodes", self.cpu_s_per_gb)),
            ("memory", format!("{} MiB, the largest node", self.rss_mib)),
            ("retries", self.retries.to_string()),
        ]);
        if let (Some(disk), Some(ratio)) = (self.disk_mb_per_s, self.disk_ratio) {
            rows.push(("disk", format!("{disk} MB/s by three files of 1 MiB appends with fdatasync; ratio {ratio}")));
        }
        pairs(&rows)
    }
}
