//! Every metric of one node, typed, in one registry per node object.
//! Owns names, units and label bounds: a topic label takes at most `TOPICS_LABELLED_MAX` values, then `other`.
//! Never global, never read for a decision.
mod compaction;
mod queues;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::GroupId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub use self::compaction::Compaction;
pub use self::queues::{QueueRow, Queues};

/// Topics that get a label of their own; a scrape stays small whatever clients create.
pub const TOPICS_LABELLED_MAX: usize = 200;

/// Label: one API of one protocol.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiLabel {
    /// `kafka`, `admin` or `peer`.
    pub protocol: &'static str,
    /// The API's name, from the dispatch table, never from a client.
    pub api: &'static str,
}

/// Label: one topic, or `other`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TopicLabel {
    /// Topic name.
    pub topic: String,
}

/// Label: one raft of this node.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct GroupLabel {
    /// Group number.
    pub group: u32,
}

/// Label: one consumer group.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConsumerGroupLabel {
    /// Its id.
    pub group: String,
}

/// Label: one partition that a consumer group reads.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LagLabel {
    /// Group id.
    pub group: String,
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
}

/// Label: one listener.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ListenerLabel {
    /// `kafka`, `admin` or `peer`.
    pub listener: &'static str,
}

/// Label: how a Fetch uses sessions (KIP-227).
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FetchLabel {
    /// `sessionless`, `full` (asks for a session) or `incremental` (goes on with one).
    pub kind: &'static str,
}

/// See [`FetchLabel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchKind {
    /// Wants no session.
    Sessionless,
    /// Lists everything, wants a session.
    Full,
    /// Lists changes only.
    Incremental,
}

/// Makes the latency histogram of one API.
#[derive(Clone)]
pub struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        latency()
    }
}

/// 100 us to 13 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

/// The typed metrics of one node; share it as `Arc<Metrics>`.
pub struct Metrics {
    registry: Registry,
    topics_labelled: Mutex<BTreeSet<String>>,
    /// Requests and their seconds, by API.
    pub requests: Family<ApiLabel, Histogram, Latency>,
    /// Errors answered, by API.
    pub request_errors: Family<ApiLabel, Counter>,
    /// Open connections by listener.
    pub connections: Family<ListenerLabel, Gauge>,
    /// Connections closed at once, over the bound, by listener.
    pub connections_refused: Family<ListenerLabel, Counter>,
    /// Connections closed for what came on them, by listener.
    pub connections_failed: Family<ListenerLabel, Counter>,
    /// Produced and fetched bytes and records.
    pub traffic: Traffic,
    /// Fetch sessions.
    pub sessions: Sessions,
    /// Durability: commits, fsyncs, group commit.
    pub storage: Storage,
    /// Consensus: terms, leaders, elections.
    pub raft: Raft,
    /// Compacted topics.
    pub compaction: Compaction,
    /// Consumer groups that are coordinated here.
    pub lags: Lags,
    /// Queues that are led here.
    pub queues: Queues,
}

/// Bytes and records through the node, by topic.
#[derive(Default)]
pub struct Traffic {
    /// Bytes of committed batches appended through this node.
    pub produced_bytes: Family<TopicLabel, Counter>,
    /// Records of committed batches appended through this node.
    pub produced_records: Family<TopicLabel, Counter>,
    /// Bytes of batches read from this node.
    pub fetched_bytes: Family<TopicLabel, Counter>,
    /// Batches read from this node.
    pub fetched_batches: Family<TopicLabel, Counter>,
}

/// Fetch sessions (KIP-227). Clones are the same metrics.
#[derive(Clone, Default)]
pub struct Sessions {
    kept: Gauge,
    partitions: Gauge,
    evictions: Counter,
    fetches: Family<FetchLabel, Counter>,
}

impl Sessions {
    /// How many there are, and how many partitions they have together.
    pub fn show(&self, sessions: usize, partitions: usize) {
        self.kept.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// So many made room for another.
    pub fn evicted(&self, sessions: usize) {
        self.evictions.inc_by(sessions as u64);
    }

    /// A Fetch was accepted.
    pub fn accepted(&self, kind: FetchKind) {
        let kind = match kind {
            FetchKind::Sessionless => "sessionless",
            FetchKind::Full => "full",
            FetchKind::Incremental => "incremental",
        };
        self.fetches.get_or_create(&FetchLabel { kind }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("fetch_sessions", "Fetch sessions kept", self.kept.clone());
        registry.register("fetch_session_partitions", "Partitions in fetch sessions", self.partitions.clone());
        registry.register("fetch_sessions_evicted", "Ended to make room for another", self.evictions.clone());
        registry.register("fetches", "Fetches by their use of sessions", self.fetches.clone());
    }
}

/// The counters of one topic, looked up once.
#[derive(Clone, Default)]
pub struct TopicTraffic {
    /// See [`Traffic::produced_bytes`].
    pub produced_bytes: Counter,
    /// See [`Traffic::produced_records`].
    pub produced_records: Counter,
    /// See [`Traffic::fetched_bytes`].
    pub fetched_bytes: Counter,
    /// See [`Traffic::fetched_batches`].
    pub fetched_batches: Counter,
}

/// The store's own counters, read at each scrape.
#[derive(Debug)]
struct Store(Arc<storage::Stats>);

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        const US: f64 = 1e-6;
        let stats = &self.0;
        let mut histogram = |name, help, unit: Option<&Unit>, source: &storage::stats::Histogram, scale: f64| {
            let buckets: Vec<(f64, u64)> = source.buckets().map(|(bound, count)| (bound * scale, count)).collect();
            let (sum, count) = (source.sum() as f64 * scale, source.count());
            encoder
                .encode_descriptor(name, help, unit, MetricType::Histogram)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        };
        histogram("fsync", "Writes made durable", Some(&Unit::Seconds), &stats.sync_us, US)?;
        histogram("write", "Writes not made durable by themselves", Some(&Unit::Seconds), &stats.write_us, US)?;
        histogram("group_commit_bytes", "Bytes of one write", None, &stats.batch_bytes, 1.0)?;
        histogram("group_commit_submissions", "Submissions sharing one write", None, &stats.batch_submissions, 1.0)?;
        let mut counter = |name, help, value: &AtomicU64| {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("cold_entries", "Log entries read from the engine", &stats.cold_entries)?;
        counter("aside_bytes", "Bytes of these read in small steps beside commits", &stats.aside_bytes)?;
        counter("tail_entries", "Log entries read from the tail cache", &stats.tail_entries)?;
        let cached = ConstGauge::new(stats.tail_bytes.load(Ordering::Relaxed) as i64);
        let descriptor =
            encoder.encode_descriptor("tail_cache", "In the tail cache", Some(&Unit::Bytes), cached.metric_type())?;
        cached.encode(descriptor)
    }
}

/// What the disk does.
pub struct Storage {
    /// Seconds from proposal to commit on a leader.
    pub commit_seconds: Histogram,
    /// Bytes admitted and not yet committed.
    pub append_bytes_queued: Gauge,
    /// Bytes that may still be written to the device of the log.
    pub disk_free_bytes: Gauge,
    /// Bytes that the log and tables take.
    pub disk_used_bytes: Gauge,
    /// Batches proposed in one entry.
    pub batches_per_entry: Histogram,
}

impl Raft {
    /// Drops the labels of a raft that exists no longer.
    pub fn forget(&self, group: GroupId) {
        let label = GroupLabel { group: group.0 };
        for family in [&self.term, &self.leader, &self.is_leader] {
            family.remove(&label);
        }
    }
}

/// How far the consumer groups that are coordinated here are behind.
#[derive(Default)]
pub struct Lags {
    /// Records to read.
    pub records: Family<LagLabel, Gauge>,
    /// For how long the next record to read has been there.
    pub seconds: Family<LagLabel, Gauge<f64, AtomicU64>>,
    /// Members.
    pub members: Family<ConsumerGroupLabel, Gauge>,
}

impl Lags {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("consumer_group");
        registry.register("lag_records", "Records between the committed offset and the end", self.records.clone());
        let seconds = "Age of the first record behind the committed offset, seconds; 0 at the end";
        registry.register("lag_seconds", seconds, self.seconds.clone());
        registry.register("members", "Members of the group", self.members.clone());
    }
}

/// What consensus does.
#[derive(Default)]
pub struct Raft {
    /// Raft term by group.
    pub term: Family<GroupLabel, Gauge>,
    /// Node id of the leader by group, 0 if none is known.
    pub leader: Family<GroupLabel, Gauge>,
    /// 1 where this node leads.
    pub is_leader: Family<GroupLabel, Gauge>,
    /// Changes of leadership seen.
    pub elections: Counter,
    /// Partitions led here with fewer replicas alive and in sync than placed.
    pub under_replicated: Gauge,
    /// Replicas of idle partitions here that sleep: no ticks, no heartbeats of their own.
    pub quiescent: Gauge,
    /// Replicas here that take no part any more: their log differs from their leader's, or their disk contradicts itself.
    pub quarantined: Gauge,
    /// Partition actors restarted after a failure.
    pub actor_restarts: Counter,
    /// Version of the controller image applied here.
    pub image_version: Gauge,
}

impl Metrics {
    /// All metrics at zero, registered under `flotilla_`.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("flotilla"),
            topics_labelled: Mutex::default(),
            requests: Family::new_with_constructor(Latency),
            request_errors: Family::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            connections_failed: Family::default(),
            traffic: Traffic::default(),
            sessions: Sessions::default(),
            storage: Storage::new(),
            raft: Raft::default(),
            compaction: Compaction::default(),
            lags: Lags::default(),
            queues: Queues::default(),
        };
        metrics.register_requests();
        metrics.register_traffic();
        metrics.sessions.register(&mut metrics.registry);
        metrics.compaction.register(&mut metrics.registry);
        metrics.lags.register(&mut metrics.registry);
        metrics.queues.register(&mut metrics.registry);
        metrics.register_storage();
        metrics.register_raft();
        metrics
    }

    /// As [`Metrics::new`], with the counters of the store behind it.
    pub fn with_store(stats: Arc<storage::Stats>) -> Self {
        let mut metrics = Self::new();
        metrics.registry.register_collector(Box::new(Store(stats)));
        metrics
    }

    /// The text of `/metrics` (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            Err(error) => format!("# {error}\n"),
        }
    }

    /// The bounded label of a topic.
    pub fn topic(&self, name: &str) -> TopicLabel {
        let mut labelled = self.topics_labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labelled.contains(name);
        if !known && labelled.len() < TOPICS_LABELLED_MAX {
            labelled.insert(name.to_owned());
        } else if !known {
            return TopicLabel { topic: "other".to_owned() };
        }
        TopicLabel { topic: name.to_owned() }
    }

    /// The counters of a topic, for whoever counts often.
    pub fn traffic_of(&self, topic: &str) -> TopicTraffic {
        let label = self.topic(topic);
        TopicTraffic {
            produced_bytes: self.traffic.produced_bytes.get_or_create_owned(&label),
            produced_records: self.traffic.produced_records.get_or_create_owned(&label),
            fetched_bytes: self.traffic.fetched_bytes.get_or_create_owned(&label),
            fetched_batches: self.traffic.fetched_batches.get_or_create_owned(&label),
        }
    }

    fn register_requests(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit("request", "Requests by API", Unit::Seconds, self.requests.clone());
        registry.register("request_errors", "Errors answered by API", self.request_errors.clone());
        registry.register("connections", "Open connections by listener", self.connections.clone());
        registry.register("connections_refused", "Closed at once, over the bound", self.connections_refused.clone());
        registry.register("connections_failed", "Closed for what came on them", self.connections_failed.clone());
    }

    fn register_traffic(&mut self) {
        let (registry, traffic) = (&mut self.registry, &self.traffic);
        registry.register_with_unit(
            "produced",
            "Committed through this node",
            Unit::Bytes,
            traffic.produced_bytes.clone(),
        );
        registry.register("produced_records", "Records committed through this node", traffic.produced_records.clone());
        registry.register_with_unit("fetched", "Read from this node", Unit::Bytes, traffic.fetched_bytes.clone());
        registry.register("fetched_batches", "Batches read from this node", traffic.fetched_batches.clone());
    }

    fn register_storage(&mut self) {
        let (registry, storage) = (&mut self.registry, &self.storage);
        registry.register_with_unit("commit", "From proposal to commit", Unit::Seconds, storage.commit_seconds.clone());
        registry.register_with_unit(
            "append_queued",
            "Admitted, not yet committed",
            Unit::Bytes,
            storage.append_bytes_queued.clone(),
        );
        let (free, used) = (storage.disk_free_bytes.clone(), storage.disk_used_bytes.clone());
        registry.register_with_unit("disk_free", "Left on the device of the log", Unit::Bytes, free);
        registry.register_with_unit("disk_used", "Taken by the log and tables", Unit::Bytes, used);
        registry.register("batches_per_entry", "Batches proposed in one entry", storage.batches_per_entry.clone());
    }

    fn register_raft(&mut self) {
        let (registry, raft) = (&mut self.registry, &self.raft);
        registry.register("raft_term", "Term by group", raft.term.clone());
        registry.register("raft_leader", "Leading node by group, 0 if unknown", raft.leader.clone());
        registry.register("raft_is_leader", "1 where this node leads", raft.is_leader.clone());
        registry.register("raft_elections", "Changes of leadership seen", raft.elections.clone());
        registry.register(
            "under_replicated_partitions",
            "Led here with fewer replicas alive and in sync than placed",
            raft.under_replicated.clone(),
        );
        registry.register("quiescent_groups", "Replicas of idle partitions here that sleep", raft.quiescent.clone());
        registry.register(
            "quarantined_replicas",
            "Replicas here that take no part any more; /readyz says which, why and what to do",
            raft.quarantined.clone(),
        );
        registry.register("actor_restarts", "Partition actors restarted after a failure", raft.actor_restarts.clone());
        registry.register("image_version", "Controller image applied here", raft.image_version.clone());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage {
    fn new() -> Self {
        Self {
            commit_seconds: latency(),
            append_bytes_queued: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            disk_used_bytes: Gauge::default(),
            batches_per_entry: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
        }
    }
}

#[cfg(test)]
mod tests;
