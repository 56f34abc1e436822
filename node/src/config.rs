//! The configuration of one server, already checked: what `node::run` obeys.
//! Owns the meaning and the defaults of every setting; loading from file, environment and flags fills this struct.
//! Never reads anything itself.
pub mod check;
pub mod keys;
pub mod load;
mod secret;
pub mod settings;
pub mod units;
pub mod users;

pub use secret::Secret;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a node is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id, 1 and up, unique in the cluster for ever.
    pub node_id: u32,
    /// Refuse to start in, found or join a cluster of another id, when set.
    pub cluster_id: Option<String>,
    /// The data folder; it belongs to one node id.
    pub data: PathBuf,
    /// Where clients, peers and operators connect.
    pub listeners: Listeners,
    /// Peer addresses (`host:port`) asked to find the cluster.
    pub seeds: Vec<String>,
    /// How many founders form a new cluster. 1 without seeds: a cluster of one. 1 with seeds: only join an existing one.
    pub bootstrap_expect: u32,
    /// The failure domain of this node, reported to clients.
    pub rack: Option<String>,
    /// Memory and size bounds.
    pub limits: Limits,
    /// Engine settings.
    pub storage: Storage,
    /// Raft timers.
    pub raft: Raft,
    /// Allow a public bind although clients are not authenticated.
    pub insecure: bool,
    /// Topics made by a client's first use.
    pub auto_create: AutoCreate,
}

/// The listeners of a node.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Kafka clients.
    pub kafka: Listener,
    /// Other nodes.
    pub peer: Listener,
    /// HTTP: admin API, metrics, health.
    pub admin: Listener,
    /// AMQP clients.
    pub amqp: Amqp,
}

/// The listener for AMQP, and who may use it.
#[derive(Clone, Debug, Default)]
pub struct Amqp {
    /// Where to listen, if at all; port 0 takes a free port.
    pub bind: Option<SocketAddr>,
    /// `host:port` told to others instead of the bound address.
    pub advertise: Option<String>,
    /// Who may log in.
    pub users: users::Users,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen; port 0 takes a free port.
    pub bind: SocketAddr,
    /// `host:port` told to others instead of the bound address.
    pub advertise: Option<String>,
}

/// Bounds on memory and sizes; all in bytes unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Appends admitted but not yet committed, all partitions together.
    pub append_bytes: usize,
    /// Entries received from peers and not yet durable.
    pub peer_append_bytes: usize,
    /// The node-wide cache of recent log entries.
    pub tail_cache_bytes: usize,
    /// Client requests being read or answered, all connections together; half of it for large requests, so that it
    /// must be twice `request_bytes_max`. Below `append_bytes`, so that producers wait rather than hear "busy".
    pub request_memory_bytes: usize,
    /// The longest request frame.
    pub request_bytes_max: usize,
    /// The most bytes one Fetch answers.
    pub fetch_bytes_max: usize,
    /// Fetch sessions kept for clients (Kafka's `max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// Partitions in all of them together, about 200 bytes each.
    pub fetch_session_partitions_max: usize,
    /// Consumer groups of one coordinator shard.
    pub shard_groups_max: u32,
    /// Committed offsets of one coordinator shard, about 150 bytes each.
    pub shard_offsets_max: u32,
    /// Client connections at a time.
    pub connections_max: usize,
    /// Partition replicas one node hosts at most. The controller's leader holds all nodes to its own value.
    pub partitions_max: usize,
}

/// Engine settings.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Bytes of one memtable.
    pub memtable_bytes: usize,
    /// Bytes of the block cache.
    pub block_cache_bytes: usize,
    /// Refuse appends below this many free bytes on the disk.
    pub disk_free_bytes_min: u64,
    /// How often records that are too old or too many are looked for (`log.retention.check.interval.ms`).
    pub retention_check: Duration,
    /// Bytes that compaction may read and write in a second; 0 is no limit (`log.cleaner.io.max.bytes.per.second`).
    pub compaction_bytes_per_second: u64,
    /// Bytes of memory for the keys of one pass (`log.cleaner.dedupe.buffer.size`).
    pub compaction_memory: usize,
    /// Who reads old records while others write pauses up to so many times as long as each read took; 0: no pauses.
    pub old_reads_pause: u32,
}

/// What nodes agree on among themselves: timers, and the secret they share. The timers of a group are constants of crate `raft` (docs/adr/003): all nodes must agree on them.
#[derive(Clone, Debug)]
pub struct Raft {
    /// Whoever speaks to the peer port proves that it knows this; empty: nobody need prove anything.
    pub secret: Secret,
    /// Node-to-node heartbeat.
    pub node_heartbeat: Duration,
    /// A node without heartbeats for so long is dead.
    pub node_dead_after: Duration,
    /// A replica that was not at the end of its leader's log for so long is not in sync (`replica.lag.time.max.ms`).
    pub replica_lag_max: Duration,
    /// A partition that took no entry for so long falls asleep: its raft neither ticks nor beats. Zero: never.
    pub quiesce_after: Duration,
    /// How often leaderships are given back to their preferred leaders (`leader.imbalance.check.interval.seconds`). Zero: never.
    pub leader_balance_check: Duration,
    /// Bytes a second that this node sends to replicas that catch up before they vote, all together; 0: no limit.
    pub catch_up_bytes_per_second: u64,
}

/// Topics made by a client's first use. How many partitions they get is the cluster's `num.partitions`.
#[derive(Clone, Debug)]
pub struct AutoCreate {
    /// Whether a client's metadata request may create topics at all.
    pub enabled: bool,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            append_bytes: 64 * MIB,
            peer_append_bytes: 64 * MIB,
            tail_cache_bytes: 64 * MIB,
            request_memory_bytes: 64 * MIB,
            request_bytes_max: 32 * MIB,
            fetch_bytes_max: 55 * MIB,
            fetch_sessions_max: 1_000,
            fetch_session_partitions_max: 100_000,
            shard_groups_max: model::limits::GROUPS_PER_SHARD,
            shard_offsets_max: model::limits::OFFSETS_PER_SHARD,
            connections_max: 10_000,
            partitions_max: 4_000,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            block_cache_bytes: 32 << 20,
            disk_free_bytes_min: 256 << 20,
            retention_check: Duration::from_secs(30),
            compaction_bytes_per_second: 32 << 20,
            compaction_memory: 32 << 20,
            old_reads_pause: 10,
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            secret: Secret::default(),
            node_heartbeat: Duration::from_millis(100),
            node_dead_after: Duration::from_millis(500),
            replica_lag_max: Duration::from_secs(30),
            quiesce_after: Duration::from_secs(3),
            leader_balance_check: Duration::from_secs(300),
            catch_up_bytes_per_second: 0,
        }
    }
}

impl Default for AutoCreate {
    fn default() -> Self {
        Self { enabled: true }
    }
}
