//! The one table of settings: name, help, how to set and show it. File, environment, flags, `--print-config` and "did you mean" read it.
//! Invariant: every field of `Settings` has exactly one row.

use super::settings::Settings;
use super::units::{ByteSize, Raw, Setting};

/// One setting.
pub struct Key {
    /// Dotted path, as in the file: `listeners.kafka`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// Sets it; the error says what is expected.
    pub set: fn(&mut Settings, &Raw) -> Result<(), String>,
    /// Its value as a TOML literal.
    pub show: fn(&Settings) -> String,
}

/// What the name of every environment variable of a setting starts with: `FLOTILLA__LISTENERS__KAFKA`.
pub const PREFIX: &str = "FLOTILLA__";

macro_rules! keys {
    ($($name:literal $field:ident $(. $more:ident)* $(as $unit:ident)? : $help:literal;)+) => {
        /// Every setting, in the order of `--print-config`.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            help: $help,
            set: |settings, raw| {
                settings.$field$(.$more)* = keys!(@read raw $($unit)?)?;
                Ok(())
            },
            show: |settings| keys!(@show settings.$field$(.$more)*, $($unit)?),
        }),+];
    };
    (@read $raw:ident) => { Setting::read($raw) };
    (@read $raw:ident $unit:ident) => { <$unit as Setting>::read($raw).map(Into::into) };
    (@show $value:expr,) => { Setting::show(&$value) };
    (@show $value:expr, $unit:ident) => { Setting::show(&$unit::from($value)) };
}

keys! {
    "node_id" node.node_id: "this node's number, 1 or more, unique in the cluster for ever";
    "cluster_id" node.cluster_id: "refuse to be part of any other cluster";
    "cluster.secret" node.raft.secret: "text that all nodes of a cluster share, to know each other; never printed";
    "data" node.data: "folder that holds everything this node keeps";
    "rack" node.rack: "failure domain, for placement and clients";
    "seeds" node.seeds: "peer addresses (host:port) to find the cluster through";
    "bootstrap_expect" node.bootstrap_expect: "founders of a new cluster; 1 = a cluster of one, or with seeds: only join";
    "insecure" node.insecure: "allow public addresses although clients are not authenticated";
    "listeners.kafka" node.listeners.kafka.bind: "Kafka protocol";
    "listeners.peer" node.listeners.peer.bind: "node to node";
    "listeners.admin" node.listeners.admin.bind: "HTTP: /metrics, /livez, /readyz, /v1";
    "listeners.amqp" node.listeners.amqp.bind: "AMQP 0-9-1; empty = none";
    "advertise.kafka" node.listeners.kafka.advertise: "host:port told to clients; empty = where the client connected to";
    "advertise.peer" node.listeners.peer.advertise: "host:port told to the other nodes; empty = listeners.peer";
    "advertise.amqp" node.listeners.amqp.advertise: "host:port of the AMQP listener told to operators; empty = listeners.amqp";
    "advertise.admin" node.listeners.admin.advertise: "host:port told to operators; empty = listeners.admin";
    "amqp.users" node.listeners.amqp.users: "who may log in by AMQP, each name:password; empty = guest:guest from this machine; never printed";
    "auto_create.enabled" node.auto_create.enabled: "create an unknown topic when a client asks for it";
    "limits.connections_max" node.limits.connections_max: "client connections at once";
    "limits.partitions_max" node.limits.partitions_max: "partition replicas on one node; of all nodes, as the controller's leader has it";
    "limits.request_bytes_max" node.limits.request_bytes_max as ByteSize: "one request";
    "limits.request_memory_bytes" node.limits.request_memory_bytes as ByteSize: "requests in work, all connections";
    "limits.fetch_bytes_max" node.limits.fetch_bytes_max as ByteSize: "one fetch answer";
    "limits.fetch_sessions_max" node.limits.fetch_sessions_max: "fetch sessions kept for clients";
    "limits.fetch_session_partitions_max" node.limits.fetch_session_partitions_max: "partitions in all fetch sessions";
    "limits.shard_groups_max" node.limits.shard_groups_max: "consumer groups of one coordinator shard, as its leader has it";
    "limits.shard_offsets_max" node.limits.shard_offsets_max: "committed offsets of one coordinator shard, as its leader has it";
    "limits.append_bytes" node.limits.append_bytes as ByteSize: "appends admitted and not yet committed";
    "limits.peer_append_bytes" node.limits.peer_append_bytes as ByteSize: "entries from peers, not yet durable";
    "limits.tail_cache_bytes" node.limits.tail_cache_bytes as ByteSize: "newest entries kept in memory";
    "storage.memtable_bytes" node.storage.memtable_bytes as ByteSize: "one memtable; up to four exist";
    "storage.block_cache_bytes" node.storage.block_cache_bytes as ByteSize: "block cache";
    "storage.disk_free_bytes_min" node.storage.disk_free_bytes_min as ByteSize: "refuse appends below so much free disk";
    "storage.compaction_bytes_per_second" node.storage.compaction_bytes_per_second as ByteSize: "what compaction may read and write; 0 is no limit";
    "storage.compaction_memory" node.storage.compaction_memory as ByteSize: "for the keys of one compaction";
    "storage.old_reads_pause" node.storage.old_reads_pause: "pauses of consumers that read old records beside commits, in times of each read; 0 = none";
    "storage.retention_check" node.storage.retention_check: "how often records that are too old or too many are looked for";
    "raft.node_heartbeat" node.raft.node_heartbeat: "heartbeat between nodes";
    "raft.node_dead_after" node.raft.node_dead_after: "a node silent for so long counts as dead";
    "raft.replica_lag_max" node.raft.replica_lag_max: "a replica not at the end of its leader's log for so long is not in sync";
    "raft.quiesce_after" node.raft.quiesce_after: "an idle partition stops its heartbeats after this; 0s = never";
    "raft.catch_up_bytes_per_second" node.raft.catch_up_bytes_per_second as ByteSize: "sent to new replicas before they vote, all together; 0 = no limit";
    "raft.leader_balance_check" node.raft.leader_balance_check: "how often leaderships go back to their preferred leaders; 0s = never";
    "log.format" log_format: "human or json";
    "log.level" log_level: "filter such as info or info,raft=debug; RUST_LOG wins";
    "runtime.workers" workers: "worker threads";
}

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key a person most likely meant, if one is near enough.
pub fn nearest(name: &str) -> Option<&'static str> {
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    let best = KEYS.iter().map(|key| {
        let whole = distance(name, key.name);
        let moved = if last(name) == last(key.name) { 1 } else { usize::MAX };
        (whole.min(moved), key.name)
    });
    best.min().filter(|(steps, _)| *steps <= 1 + name.len() / 4).map(|(_, name)| name)
}

/// Levenshtein distance, in bytes (keys are ASCII).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
