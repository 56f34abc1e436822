//! One object per run: what was asked, what came out, what it cost. Its JSON form is read by tests/bench-peers.

use serde::Serialize;

use super::catch_up::CatchUp;
use super::cluster::{Target, Window};
use super::disk::Speed;
use super::failover::Failover;
use super::histogram::Histogram;
use super::idle::Idle;
use super::lane::Retries;
use super::load::Load;
use super::meter::Interval;
use super::rebalance::Rebalance;
use crate::cli::output::pairs;

/// Bytes on all disks for each committed byte: three replicas, each written to the log and to a table.
const WRITES_PER_BYTE: f64 = 6.0;
/// The shares at which the curve of latencies is drawn and told.
const SHARES: [f64; 12] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// The report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which measurement.
    pub bench: &'static str,
    /// Its settings.
    pub settings: Settings,
    /// How long it was measured.
    pub seconds: f64,
    /// Megabytes of record values a second, committed or read.
    pub mb_per_s: f64,
    /// Records a second.
    pub records_per_s: f64,
    /// Latency of a request (produce) or record (e2e) from its intended send time.
    #[serde(flatten)]
    pub latency: Option<Latency>,
    /// What the cluster's processes used.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// Requests that failed and were sent again, by why.
    pub retries: Retries,
    /// e2e: records that no consumer got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<u64>,
    /// What only this measurement finds out.
    #[serde(flatten)]
    pub special: Option<Special>,
    /// The disk alone, before and after in the same run.
    #[serde(flatten)]
    pub disk: Option<Speed>,
    /// `mb_per_s` times 6 by `disk_mb_per_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_ratio: Option<f64>,
    /// Share and latency in ms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<(f64, f64)>,
    /// By the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
}

/// What only one kind of measurement finds out.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Special {
    /// What the partitions cost.
    Idle(Idle),
    /// How long partitions stood still.
    Failover(Failover),
    /// What it cost those who produced meanwhile.
    Rebalance(Rebalance),
    /// The same of consumers that read from the start.
    CatchUp(CatchUp),
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

/// What the processes of a cluster on this machine used, all together unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// CPU seconds for each GB of values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s_per_gb: Option<f64>,
    /// CPU as a number of cores.
    pub cores: f64,
    /// Most resident memory of the largest process at the end of a second.
    pub rss_mib: f64,
    /// The same of all together.
    pub rss_mib_sum: f64,
    /// Bytes given to disks for each byte of values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_per_byte: Option<f64>,
    /// Fsyncs a second; only our nodes tell.
    pub fsyncs_per_s: Option<f64>,
    /// Records that one fsync of one node made durable: records times nodes by fsyncs.
    pub records_per_fsync: Option<f64>,
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
    consumers: u32,
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
    fn from(Load { shape, pace, .. }: &Load) -> Self {
        Self {
            seconds: pace.seconds,
            batch_bytes: shape.batch_value_bytes() as u64,
            record_bytes: shape.record_size.0,
            acks: shape.acks.clone(),
            topics: shape.topics,
            partitions: shape.partitions,
            clients: pace.clients,
            in_flight: pace.in_flight,
            rate: pace.rate,
            consumers: pace.consumers,
        }
    }
}

/// To three digits behind the point.
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

impl Cost {
    fn of(window: &Window, nodes: usize) -> Self {
        let (before, after) = &window.samples;
        let (bytes, seconds) = (window.counts.bytes as f64, window.seconds.max(1e-6));
        let per_byte = |used: f64| (bytes > 0.0).then(|| round(used / bytes));
        let fsyncs = after.fsyncs.zip(before.fsyncs).map(|(after, before)| after - before);
        let records = window.counts.records as f64 * nodes as f64;
        Self {
            cpu_s_per_gb: per_byte((after.cpu_s - before.cpu_s) * 1e9),
            cores: round((after.cpu_s - before.cpu_s) / seconds),
            rss_mib: round(window.memory.mib_max),
            rss_mib_sum: round(window.memory.mib_sum),
            written_per_byte: per_byte(after.written - before.written),
            fsyncs_per_s: fsyncs.map(|fsyncs| round(fsyncs / seconds)),
            records_per_fsync: fsyncs
                .filter(|fsyncs| *fsyncs > 0.0 && records > 0.0)
                .map(|fsyncs| round(records / fsyncs)),
        }
    }
}

impl Report {
    /// What a window says.
    pub fn new(bench: &'static str, load: &Load, target: &Target, window: Window) -> Self {
        let latency = &window.counts.latency;
        let is_timed = latency.count() > 0;
        let shares: &[f64] = if is_timed { &SHARES } else { &[] };
        Self {
            bench,
            settings: load.into(),
            seconds: round(window.seconds),
            mb_per_s: round(window.counts.bytes as f64 / 1e6 / window.seconds),
            records_per_s: round(window.counts.records as f64 / window.seconds),
            latency: is_timed.then(|| latency.into()),
            cost: (target.nodes() > 0).then(|| Cost::of(&window, target.nodes())),
            percentiles: shares.iter().map(|share| (*share, round(latency.quantile_ms(*share)))).collect(),
            intervals: window.intervals,
            ..Self::default()
        }
    }

    /// Adds what the disk did before and after.
    pub fn with_disk(mut self, before: Option<Speed>, after: Option<Speed>) -> Self {
        let (Some(before), Some(after)) = (before, after) else { return self };
        let mean = |of: fn(&Speed) -> f64| round(f64::midpoint(of(&before), of(&after)));
        let speed = Speed {
            disk_mb_per_s: mean(|speed| speed.disk_mb_per_s),
            disk_sync_p50_ms: mean(|speed| speed.disk_sync_p50_ms),
            disk_sync_p99_ms: mean(|speed| speed.disk_sync_p99_ms),
        };
        self.disk_ratio = Some(round(self.mb_per_s * WRITES_PER_BYTE / speed.disk_mb_per_s.max(1e-9)));
        self.disk = Some(speed);
        self
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut rows = vec![("bench", self.bench.to_owned())];
        match &self.special {
            Some(special) => rows.extend(special.rows()),
            None => rows.push(("throughput", format!("{} MB/s, {} records/s", self.mb_per_s, self.records_per_s))),
        }
        if let Some(Latency { p50_ms, p99_ms, p999_ms, max_ms }) = self.latency {
            rows.push(("latency", format!("p50 {p50_ms} ms, p99 {p99_ms} ms, p99.9 {p999_ms} ms, max {max_ms} ms")));
        }
        rows.extend(self.cost.iter().flat_map(Cost::rows));
        rows.extend(self.retries.iter().map(|(why, count)| ("sent again", format!("{count}: {why}"))));
        rows.extend(self.undelivered.map(|count| ("undelivered", count.to_string())));
        if let Some(Speed { disk_mb_per_s, disk_sync_p50_ms, disk_sync_p99_ms }) = self.disk {
            let ratio = self.disk_ratio.unwrap_or_default();
            let large = format!("{disk_mb_per_s} MB/s by three files of 1 MiB appends with fdatasync; ratio {ratio}");
            rows.push(("disk", large));
            rows.push((
                "",
                format!("4 KiB append with fdatasync: p50 {disk_sync_p50_ms} ms, p99 {disk_sync_p99_ms} ms"),
            ));
        }
        pairs(&rows)
    }
}

impl Special {
    fn rows(&self) -> Vec<(&'static str, String)> {
        match self {
            Special::Idle(Idle { partitions, ready_s, cpu_percent, kib_per_partition }) => vec![
                ("partitions", format!("{partitions}, all with a leader after {ready_s} s")),
                ("idle", format!("{cpu_percent}% of a core, {kib_per_partition} KiB a partition, all nodes")),
            ],
            Special::Failover(Failover { rounds, led_min, partition_p50_ms, round_p50_ms, round_p99_ms }) => vec![
                ("kills", format!("{rounds}, each of a node that led {led_min} partitions or more")),
                ("partition", format!("p50 {partition_p50_ms} ms from the kill to the next acknowledgement")),
                ("slowest", format!("p50 {round_p50_ms} ms, p99 {round_p99_ms} ms of the rounds")),
            ],
            Special::Rebalance(rebalance) => rebalance.rows(),
            Special::CatchUp(catch_up) => catch_up.rows(),
        }
    }
}

impl Cost {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let per_gb = self.cpu_s_per_gb.map(|seconds| format!("{seconds} s for each GB, "));
        let mut rows = vec![
            ("cpu", format!("{}{} cores, all nodes", per_gb.unwrap_or_default(), self.cores)),
            ("memory", format!("{} MiB the largest node, {} MiB all nodes", self.rss_mib, self.rss_mib_sum)),
        ];
        rows.extend(self.written_per_byte.map(|bytes| ("written", format!("{bytes} bytes to disks for each byte"))));
        if let Some(fsyncs) = self.fsyncs_per_s {
            let records = self.records_per_fsync.map(|records| format!("; {records} records for each"));
            rows.push(("fsyncs", format!("{fsyncs} a second, all nodes{}", records.unwrap_or_default())));
        }
        rows
    }
}
