//! Every limit of the replicated model, each with its reason. They are part of what replicated data means:
//! changing one that apply reads changes the result of old entries, so it needs a new command version.

/// Longest topic name, bytes. Kafka's rule: name + "-" + partition must fit a 255-byte file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Topics in one cluster. The image is cloned (by pointers) for each change, about 1 ms at this size.
pub const TOPICS_MAX: usize = 20_000;
/// Deleted topics that the controller remembers, so that a creation repeated after a lost answer does not make one again: more than
/// are deleted within the ten seconds that a command is repeated for.
pub const DELETED_TOPICS_KEPT: usize = 256;
/// Exchanges of one virtual host, and bindings of all of them: about 300 bytes each on every node. A binding more or less copies the
/// pointers of its exchange.
pub const EXCHANGES_MAX: usize = 10_000;
/// See [`EXCHANGES_MAX`].
pub const BINDINGS_MAX: usize = 100_000;
/// Bytes of the arguments of one queue, exchange or binding, for the same reason.
pub const ARGUMENT_BYTES_MAX: usize = 16 * 1024;
/// Partitions of one topic: one controller entry must describe them all.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;
/// Replicas on one node; `limits.partitions_max` is what an operator allows. A sleeping replica costs about 140 KB of memory: 2.8 GB.
pub const REPLICAS_PER_NODE_MAX: usize = 20_000;
/// Topics that one auto-creation entry may make, so that a Metadata request with 10,000 names stays cheap.
pub const AUTO_CREATED_PER_ENTRY_MAX: usize = 64;
/// Default partitions of a topic created without a count (reference/kafka.md section 2.2).
pub const DEFAULT_PARTITIONS: i32 = 4;
/// Default replicas of a partition, if there are so many nodes.
pub const DEFAULT_REPLICATION: usize = 3;
/// Coordinator shards, unless the cluster is told otherwise before the first consumer group: enough to spread groups over a few
/// nodes, few enough for their heartbeats to cost nothing.
pub const SHARDS: i32 = 8;
/// Groups of one shard, unless the coordinator's node is told otherwise: as many as it has sessions for.
pub const GROUPS_PER_SHARD: u32 = 50_000;
/// Committed offsets of one shard, unless the coordinator's node is told otherwise. They are in memory and in the snapshot, about
/// 150 bytes each.
pub const OFFSETS_PER_SHARD: u32 = 1_000_000;
/// Bytes that the members of one group say of themselves (protocols with their metadata, subscriptions): the leader of a classic
/// group is sent all of it in one answer, and all of it is in the snapshot. A member of a few topics says about 200 bytes.
/// What the leader assigns to all of them may be as much again.
pub const GROUP_METADATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nodes of one cluster.
pub const NODES_MAX: usize = 1_000;
/// Removed nodes whose data folders are known and refused: each change of the image copies the pointer only.
pub const RETIRED_NODES_KEPT: usize = 1_000;
/// Listeners one node may register.
pub const LISTENERS_PER_NODE_MAX: usize = 16;
/// Bytes of a host name (RFC 1035), rack, listener or cluster name that enters the image.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of one config value: the image is held in memory on every node.
pub const CONFIG_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Ids handed out at once when a node asks for producer ids. Kafka's block size.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Most ids one command may take: the space of i64 must outlive any loop that asks for blocks.
pub const PRODUCER_ID_BLOCK_MAX: i64 = 1_000_000;

/// Moves of one operation: one controller entry must describe them all; what is left over is planned anew.
pub const OPERATION_MOVES_MAX: usize = 10_000;
/// Operations that have not ended: each is looked at several times a second.
pub const OPERATIONS_OPEN_MAX: usize = 64;
/// Operations that have ended and are remembered, without their moves, for whoever comes back to see.
pub const OPERATIONS_KEPT: usize = 64;

/// Batches in one entry: small batches that waited together. The count is a u16 in the header.
pub const BATCHES_PER_ENTRY_MAX: usize = 1_024;
/// Bytes of one entry, header included. Above Kafka's largest sensible message; below u32 lengths.
pub const ENTRY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Payload bytes between two points of a partition's sparse index: at most this much is read in vain by a fetch.
pub const SPARSE_BYTES: u64 = 256 * 1024;
/// Rows of the sparse index and of the dead table dropped by one apply once the log start has passed them.
/// Bounds the write of one apply; each apply makes at most a few such rows, so the rest goes soon.
pub const FORGET_PER_APPLY_MAX: usize = 2 * BATCHES_PER_ENTRY_MAX;

/// Bytes of entries between two checkpoints of a partition, at most: what a DeleteRecords in between leaves on disk.
pub const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// And at least, whatever `segment.bytes` says: a checkpoint is a few hundred bytes and a sync.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
/// Time between two checkpoints at least, ms, for the same reason.
pub const SEGMENT_MS_MIN: i64 = 1_000;
/// A checkpoint is taken only behind so many times its own bytes of entries, so that checkpoints stay a tenth of a log.
pub const CHECKPOINT_SHARE: u64 = 10;
/// And, in a log that keeps much, behind this part of it: about so many checkpoints exist.
pub const CHECKPOINTS_KEPT: u64 = 256;

/// Batches of one producer that a retry is compared with. Kafka's NUM_BATCHES_TO_RETAIN: clients keep at
/// most 5 requests in flight when idempotent.
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// `producer.id.expiration.ms`, default of Kafka: sequences of a producer silent for a day are forgotten.
pub const PRODUCER_EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;
/// Producers remembered per partition, about 200 bytes each; the one silent for longest makes room.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Expired producers dropped by one apply, so that no single apply stalls.
pub const PRODUCER_EXPIRE_PER_APPLY_MAX: usize = 64;

/// Bytes of what one cursor remembers of single messages: eight million with a time each. Beyond it nothing more may be said of any;
/// accepting goes on. All of it is in a checkpoint, which is one value and one frame between nodes, and encoded half as large again at most.
pub const CURSOR_BYTES_MAX: usize = 80 * 1024 * 1024;
/// What one message can add to that, at most: a chunk and two blocks of its own, or a letter.
pub const CURSOR_MESSAGE_BYTES: usize = 448;
/// Cursors on one log: a queue has one. More need checkpoints in parts, or less for each.
pub const CURSORS_PER_LOG_MAX: usize = 1;
/// Records of one publish that say something of themselves: so many fit into an entry's batches of usual size.
pub const CURSOR_FACTS_MAX: usize = 64 * 1024;
/// Messages that one settlement releases or sends to dead letters, so that no apply stalls. Accepting has no bound: it is cheap.
pub const CURSOR_SETTLE_MAX: usize = 64 * 1024;
/// Times that have come and are forgotten by one apply, for the same reason.
pub const CURSOR_WAKE_PER_APPLY_MAX: usize = 1_024;
/// Virtual hosts of a cluster.
pub const VHOSTS_MAX: usize = 1_000;
/// Policies of a virtual host: each is held against each of its queues when the topology changes.
pub const POLICIES_MAX: usize = 100;
/// Keys of messages that shall come once, of one log: about 100 bytes each.
pub const RECENT_KEYS_MAX: usize = 64 * 1024;
/// Targets of one dead message: an exchange may route it to many queues, and each is a letter in the state.
pub const DEAD_TARGETS_MAX: usize = 1_000;
/// Targets of all dead messages of a cursor, and sources of those that come to a queue, about 100 bytes each.
pub const TARGETS_MAX: usize = 10_000;
/// See [`TARGETS_MAX`].
pub const SOURCES_MAX: usize = 10_000;
/// TTL, expiry and the other times of queues and messages, ms: ten years, as in RabbitMQ. Celery declares queues with a TTL of four years, where
/// messages wait for their time.
pub const QUEUE_MS_MAX: i64 = 10 * 365 * 24 * 60 * 60 * 1000;

const _: () = assert!(BATCHES_PER_ENTRY_MAX <= u16::MAX as usize);
const _: () = assert!(ENTRY_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(FORGET_PER_APPLY_MAX >= 2 * BATCHES_PER_ENTRY_MAX);
const _: () = assert!(CURSOR_SETTLE_MAX * CURSOR_MESSAGE_BYTES < CURSOR_BYTES_MAX);
const _: () = assert!(CURSOR_BYTES_MAX / 2 * 3 * CURSORS_PER_LOG_MAX + RECENT_KEYS_MAX * 32 < ENTRY_BYTES_MAX);
const _: () = assert!(CURSOR_FACTS_MAX <= CURSOR_SETTLE_MAX);
const _: () = assert!(DEAD_TARGETS_MAX <= TARGETS_MAX);
const _: () = assert!(SEGMENT_BYTES_MIN < SEGMENT_BYTES_MAX);
const _: () = assert!(AUTO_CREATED_PER_ENTRY_MAX < TOPICS_MAX);
const _: () = assert!(OPERATIONS_KEPT > 0);
const _: () = assert!(PRODUCER_ID_BLOCK <= PRODUCER_ID_BLOCK_MAX);
const _: () = assert!(PRODUCER_EXPIRE_PER_APPLY_MAX < PRODUCERS_PER_PARTITION_MAX);
