//! The table of broker config keys: the defaults of the topic keys, and what Kafka's tools look for.
//! In order of name. Keys of a node's own config file are read-only here; the node supplies their values.

use super::Key;
use super::Kind::{Boolean, Double, Int, List, Long, String};
use super::Rule::{Any, Fraction, OneOf, Range};
use super::Support::{Honoured, Kept, Only, ReadOnly};
use super::{Kind, Rule, Support};

const MAX32: i64 = i32::MAX as i64;
const LATER_TIERED: &str = "tiered storage is not implemented yet.";
const NO_SEGMENTS: &str = "the log is not kept in segment files.";
const ALWAYS_SYNCED: &str = "every record is synced on a majority before it is acknowledged.";
const LEVEL: &str = "the producer's compression is kept as it is.";

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    support: Support,
    doc: &'static str,
) -> Key {
    Key { name, kind, default: Some(default), rule, support, broker_name: "", doc }
}

const fn unset(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: None, rule: Any, support: ReadOnly, broker_name: "", doc }
}

const FOREVER: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const MIGRATIONS: &[&str] = &["bidirectional", "upgrade", "downgrade", "disabled"];
const POSITIVE: Rule = Range(1, MAX32);
const POSITIVE_LONG: Rule = Range(1, i64::MAX);

/// Every broker config key.
#[rustfmt::skip]
pub const BROKER_KEYS: &[Key] = &[
    unset("advertised.listeners", String, "Addresses that clients are told."),
    key("auto.create.topics.enable", Boolean, "true", Any, Honoured, "Whether a topic is made when a client names it."),
    unset("broker.rack", String, "Rack of the node; replicas of a partition are spread over racks."),
    key("compression.gzip.level", Int, "-1", Range(-1, 9), Kept(LEVEL), "Level used when the broker compresses with gzip."),
    key("compression.lz4.level", Int, "9", Range(1, 17), Kept(LEVEL), "Level used when the broker compresses with lz4."),
    key("compression.type", String, "producer", OneOf(CODECS), Only("producer", "recompression by the broker is not implemented yet."), "How batches are compressed in the log."),
    key("compression.zstd.level", Int, "3", Range(-131072, 22), Kept(LEVEL), "Level used when the broker compresses with zstd."),
    key("default.replication.factor", Int, "3", Range(1, 32767), Honoured, "Replicas of a topic made without a number, if there are so many nodes."),
    key("delete.topic.enable", Boolean, "true", Any, Honoured, "Whether topics may be deleted."),
    key("follower.replication.throttled.rate", Long, FOREVER, POSITIVE_LONG, Kept("the limit of the replica that sends holds."), "Bytes a second that new replicas of the node take in."),
    key("group.consumer.assignors", List, "uniform,range", Any, Only("uniform,range", "these are all."), "Server-side assignors; the first is the default."),
    key("group.consumer.heartbeat.interval.ms", Int, "5000", POSITIVE, Honoured, "How often members of the consumer protocol beat, ms."),
    key("group.consumer.max.size", Int, "2147483647", POSITIVE, Honoured, "Most members of a group of the consumer protocol."),
    key("group.consumer.migration.policy", String, "bidirectional", OneOf(MIGRATIONS), Honoured, "Whether a group with members changes between the classic and the consumer protocol."),
    key("group.consumer.session.timeout.ms", Int, "45000", POSITIVE, Honoured, "Session of a member of the consumer protocol, ms."),
    key("group.coordinator.rebalance.protocols", List, "classic,consumer", Any, Only("classic,consumer", "these are all."), "Group protocols that are served."),
    key("group.initial.rebalance.delay.ms", Int, "3000", Range(0, MAX32), Honoured, "How long a new group waits for more members, ms."),
    key("group.max.session.timeout.ms", Int, "1800000", POSITIVE, Honoured, "Longest session of a group member, ms."),
    key("group.max.size", Int, "2147483647", POSITIVE, Honoured, "Most members of a group."),
    key("group.min.session.timeout.ms", Int, "6000", POSITIVE, Honoured, "Shortest session of a group member, ms."),
    key("leader.replication.throttled.rate", Long, FOREVER, POSITIVE_LONG, Honoured, "Bytes a second that the node sends to new replicas, of all partitions together."),
    unset("listeners", String, "Addresses that the node listens on."),
    key("log.cleaner.delete.retention.ms", Long, "86400000", Range(0, i64::MAX), Honoured, "How long tombstones of a compacted topic are kept, ms."),
    key("log.cleaner.max.compaction.lag.ms", Long, FOREVER, Range(1, i64::MAX), Honoured, "How long a record may stay uncompacted, ms."),
    key("log.cleaner.min.cleanable.ratio", Double, "0.5", Fraction(0.0, 1.0), Honoured, "Share of uncompacted bytes that starts a compaction."),
    key("log.cleaner.min.compaction.lag.ms", Long, "0", Range(0, i64::MAX), Honoured, "How long a record stays uncompacted at least, ms."),
    key("log.cleanup.policy", List, "delete", OneOf(&["delete", "compact"]), Honoured, "What becomes of old records."),
    unset("log.dirs", String, "The node's data folder."),
    key("log.flush.interval.messages", Long, FOREVER, Range(1, i64::MAX), Kept(ALWAYS_SYNCED), "Records between two forced syncs."),
    key("log.flush.interval.ms", Long, FOREVER, Range(0, i64::MAX), Kept(ALWAYS_SYNCED), "Time between two forced syncs, ms."),
    key("log.index.interval.bytes", Int, "4096", Range(0, MAX32), Kept("the sparse index has a point about every 256 KiB."), "Bytes between two points of the offset index."),
    key("log.index.size.max.bytes", Int, "10485760", Range(4, MAX32), Kept(NO_SEGMENTS), "Bytes of the index of a segment."),
    key("log.local.retention.bytes", Long, "-2", Range(-2, i64::MAX), Kept(LATER_TIERED), "Bytes of a tiered partition that stay on the node."),
    key("log.local.retention.ms", Long, "-2", Range(-2, i64::MAX), Kept(LATER_TIERED), "How long records of a tiered partition stay on the node, ms."),
    key("log.message.timestamp.after.max.ms", Long, "3600000", Range(0, i64::MAX), Honoured, "How far a record's timestamp may be ahead of the broker, ms."),
    key("log.message.timestamp.before.max.ms", Long, FOREVER, Range(0, i64::MAX), Honoured, "How far a record's timestamp may be behind the broker, ms."),
    key("log.message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Honoured, "Whether a record keeps the producer's time or gets the time of append."),
    key("log.preallocate", Boolean, "false", Any, Kept(NO_SEGMENTS), "Whether segment files are made at full size."),
    key("log.retention.bytes", Long, "-1", Range(-1, i64::MAX), Honoured, "Bytes of a partition before the oldest records are deleted; -1 is no limit."),
    unset("log.retention.check.interval.ms", Long, "How often a node looks for records that are too old or too many, ms."),
    key("log.retention.ms", Long, "604800000", Range(-1, i64::MAX), Honoured, "How long records are kept, ms; -1 is for ever."),
    key("log.roll.jitter.ms", Long, "0", Range(0, i64::MAX), Kept(NO_SEGMENTS), "Random part of the time between two segment files, ms."),
    key("log.roll.ms", Long, "604800000", Range(1, i64::MAX), Honoured, "Time between two places up to which old records can be deleted, ms."),
    key("log.segment.bytes", Int, "1073741824", Range(14, MAX32), Honoured, "Bytes between two places up to which old records can be deleted, at most 16 MiB."),
    key("log.segment.delete.delay.ms", Long, "60000", Range(0, i64::MAX), Kept(NO_SEGMENTS), "How long a segment file stays after its deletion, ms."),
    key("message.max.bytes", Int, "1048588", Range(0, MAX32), Honoured, "Largest record batch that is taken, bytes after compression."),
    key("min.insync.replicas", Int, "1", POSITIVE, Kept("an acknowledged record is always on a majority of the replicas."), "Replicas that must have a record before it is acknowledged."),
    unset("node.id", Int, "Number of the node."),
    key("num.partitions", Int, "4", POSITIVE, Honoured, "Partitions of a topic made without a number."),
    key("offsets.metadata.max.bytes", Int, "4096", Range(0, MAX32), Honoured, "Largest metadata of a committed offset, bytes."),
    key("offsets.retention.check.interval.ms", Long, "600000", Range(1, i64::MAX), Honoured, "How often offsets that nobody needs are looked for, ms."),
    key("offsets.retention.minutes", Int, "10080", POSITIVE, Honoured, "How long committed offsets of an empty group are kept, minutes."),
    key("offsets.topic.num.partitions", Int, "8", POSITIVE, Honoured, "Coordinator shards; the first consumer group makes them, once and for all."),
    key("offsets.topic.replication.factor", Int, "3", Range(1, 32767), Honoured, "Replicas of the topic of committed offsets."),
    unset("process.roles", List, "Roles of the node: broker and controller."),
    key("producer.id.expiration.ms", Int, "86400000", POSITIVE, Only("86400000", "the time is the same for all partitions."), "How long a silent producer's sequences are kept, ms."),
    key("replica.alter.log.dirs.io.max.bytes.per.second", Long, FOREVER, POSITIVE_LONG, Kept("a node has one log folder."), "Bytes a second moved between log folders."),
    unset("replica.lag.time.max.ms", Long, "A replica that was not at the end of its leader's log for so long is not in sync, ms."),
    key("transaction.max.timeout.ms", Int, "900000", POSITIVE, Kept("transactions are not implemented yet."), "Longest transaction a producer may ask for, ms."),
    key("unclean.leader.election.enable", Boolean, "false", Any, Only("false", "a replica that lacks acknowledged records never becomes leader."), "Whether a replica that lacks records may become leader."),
];
