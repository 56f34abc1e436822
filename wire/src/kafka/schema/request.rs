//! Requests.

use super::groups::request as groups;
use super::{BOOL, I8, I16, I32, I32_ARRAY, I64, STR, STR_ARRAY, UUID, array_of};
use crate::bound::{Field, Kind, field};
use crate::kafka::ApiKey;

const PRODUCE: &[Field] = &[
    field("transactional id", STR).since(3).nullable(3),
    field("acks", I16),
    field("timeout", I32),
    field(
        "topics",
        array_of![
            field("topic", STR).until(12),
            field("topic id", UUID).since(13),
            field("partitions", array_of![field("partition", I32), field("records", Kind::Bytes).nullable(0)]),
        ],
    ),
];

const FETCH: &[Field] = &[
    field("cluster id", STR).since(12).nullable(12).tagged(0),
    field("replica id", I32).until(14),
    field("replica state", Kind::Struct(&[field("replica id", I32), field("replica epoch", I64)])).since(15).tagged(1),
    field("max wait", I32),
    field("min bytes", I32),
    field("max bytes", I32),
    field("isolation level", I8),
    field("session id", I32).since(7),
    field("session epoch", I32).since(7),
    field(
        "topics",
        array_of![
            field("topic", STR).until(12),
            field("topic id", UUID).since(13),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    field("current leader epoch", I32).since(9),
                    field("fetch offset", I64),
                    field("last fetched epoch", I32).since(12),
                    field("log start offset", I64).since(5),
                    field("partition max bytes", I32),
                    field("replica directory id", UUID).since(17).tagged(0),
                    field("high watermark", I64).since(18).tagged(1),
                ]
            ),
        ],
    ),
    field(
        "forgotten topics",
        array_of![field("topic", STR).until(12), field("topic id", UUID).since(13), field("partitions", I32_ARRAY)],
    )
    .since(7),
    field("rack id", STR).since(11),
];

const LIST_OFFSETS: &[Field] = &[
    field("replica id", I32),
    field("isolation level", I8).since(2),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    field("current leader epoch", I32).since(4),
                    field("timestamp", I64)
                ]
            ),
        ],
    ),
    field("timeout", I32).since(10),
];

const METADATA: &[Field] = &[
    field("topics", array_of![field("topic id", UUID).since(10), field("topic", STR).nullable(10)]).nullable(1),
    field("allow auto topic creation", BOOL).since(4),
    field("include cluster operations", BOOL).since(8).until(10),
    field("include topic operations", BOOL).since(8),
];

const API_VERSIONS: &[Field] =
    &[field("client software name", STR).since(3), field("client software version", STR).since(3)];

const CREATE_TOPICS: &[Field] = &[
    field(
        "topics",
        array_of![
            field("topic", STR),
            field("partition count", I32),
            field("replication factor", I16),
            field("assignments", array_of![field("partition", I32), field("broker ids", I32_ARRAY)]),
            field("configs", array_of![field("name", STR), field("value", STR).nullable(0)]),
        ],
    ),
    field("timeout", I32),
    field("validate only", BOOL),
];

const DELETE_TOPICS: &[Field] = &[
    field("topics", array_of![field("topic", STR).nullable(6), field("topic id", UUID)]).since(6),
    field("topic names", STR_ARRAY).until(5),
    field("timeout", I32),
];

const DELETE_RECORDS: &[Field] = &[
    field(
        "topics",
        array_of![field("topic", STR), field("partitions", array_of![field("partition", I32), field("offset", I64)]),],
    ),
    field("timeout", I32),
];

const INIT_PRODUCER_ID: &[Field] = &[
    field("transactional id", STR).nullable(0),
    field("transaction timeout", I32),
    field("producer id", I64).since(3),
    field("producer epoch", I16).since(3),
    field("enable two-phase commit", BOOL).since(6),
    field("keep prepared transaction", BOOL).since(6),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    field("replica id", I32).since(3),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![field("partition", I32), field("current leader epoch", I32), field("leader epoch", I32)]
            ),
        ],
    ),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    field(
        "resources",
        array_of![
            field("resource type", I8),
            field("resource name", STR),
            field("configuration keys", STR_ARRAY).nullable(0),
        ],
    ),
    field("include synonyms", BOOL),
    field("include documentation", BOOL).since(3),
];

const ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        array_of![
            field("resource type", I8),
            field("resource name", STR),
            field("configs", array_of![field("name", STR), field("value", STR).nullable(0)]),
        ],
    ),
    field("validate only", BOOL),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        array_of![
            field("resource type", I8),
            field("resource name", STR),
            field("configs", array_of![field("name", STR), field("operation", I8), field("value", STR).nullable(0)]),
        ],
    ),
    field("validate only", BOOL),
];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[field("topics", array_of![field("topic", STR), field("partitions", I32_ARRAY)]).nullable(0)];

const CREATE_PARTITIONS: &[Field] = &[
    field(
        "topics",
        array_of![
            field("topic", STR),
            field("count", I32),
            field("assignments", array_of![field("broker ids", I32_ARRAY)]).nullable(0),
        ],
    ),
    field("timeout", I32),
    field("validate only", BOOL),
];

const ELECT_LEADERS: &[Field] = &[
    field("election type", I8).since(1),
    field("topics", array_of![field("topic", STR), field("partitions", I32_ARRAY)]).nullable(0),
    field("timeout", I32),
];

const DESCRIBE_QUORUM: &[Field] =
    &[field("topics", array_of![field("topic", STR), field("partitions", array_of![field("partition", I32)])])];

const UPDATE_FEATURES: &[Field] = &[
    field("timeout", I32),
    field(
        "features",
        array_of![
            field("feature", STR),
            field("level", I16),
            field("allow downgrade", BOOL).until(0),
            field("upgrade type", I8).since(1),
        ],
    ),
    field("validate only", BOOL).since(1),
];

const DESCRIBE_PRODUCERS: &[Field] = &[field("topics", array_of![field("topic", STR), field("partitions", I32_ARRAY)])];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout", I32),
    field("allow replication factor change", BOOL).since(1),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field("partitions", array_of![field("partition", I32), field("replicas", I32_ARRAY).nullable(0)]),
        ],
    ),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout", I32),
    field("topics", array_of![field("topic", STR), field("partitions", I32_ARRAY)]).nullable(0),
];

const DESCRIBE_CLUSTER: &[Field] = &[
    field("include cluster operations", BOOL),
    field("endpoint type", I8).since(1),
    field("include fenced brokers", BOOL).since(2),
];

const LIST_CONFIG_RESOURCES: &[Field] = &[field("resource types", Kind::Array(&I8)).since(1)];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("topics", array_of![field("topic", STR)]),
    field("response partition limit", I32),
    field("cursor", Kind::Struct(&[field("topic", STR), field("partition", I32)])).nullable(0),
];

/// The schema of the requests of this API.
pub(crate) const fn of(api: ApiKey) -> &'static [Field] {
    match api {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::OffsetCommit => groups::OFFSET_COMMIT,
        ApiKey::OffsetFetch => groups::OFFSET_FETCH,
        ApiKey::FindCoordinator => groups::FIND_COORDINATOR,
        ApiKey::JoinGroup => groups::JOIN_GROUP,
        ApiKey::Heartbeat => groups::HEARTBEAT,
        ApiKey::LeaveGroup => groups::LEAVE_GROUP,
        ApiKey::SyncGroup => groups::SYNC_GROUP,
        ApiKey::DescribeGroups => groups::DESCRIBE_GROUPS,
        ApiKey::ListGroups => groups::LIST_GROUPS,
        ApiKey::DeleteGroups => groups::DELETE_GROUPS,
        ApiKey::OffsetDelete => groups::OFFSET_DELETE,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::DeleteRecords => DELETE_RECORDS,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DescribeConfigs => DESCRIBE_CONFIGS,
        ApiKey::AlterConfigs => ALTER_CONFIGS,
        ApiKey::DescribeLogDirs => DESCRIBE_LOG_DIRS,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::IncrementalAlterConfigs => INCREMENTAL_ALTER_CONFIGS,
        ApiKey::ElectLeaders => ELECT_LEADERS,
        ApiKey::DescribeQuorum => DESCRIBE_QUORUM,
        ApiKey::AlterPartitionReassignments => ALTER_PARTITION_REASSIGNMENTS,
        ApiKey::ListPartitionReassignments => LIST_PARTITION_REASSIGNMENTS,
        ApiKey::UpdateFeatures => UPDATE_FEATURES,
        ApiKey::DescribeCluster => DESCRIBE_CLUSTER,
        ApiKey::DescribeProducers => DESCRIBE_PRODUCERS,
        ApiKey::ConsumerGroupHeartbeat => groups::CONSUMER_GROUP_HEARTBEAT,
        ApiKey::ConsumerGroupDescribe => groups::CONSUMER_GROUP_DESCRIBE,
        ApiKey::ListConfigResources => LIST_CONFIG_RESOURCES,
        ApiKey::DescribeTopicPartitions => DESCRIBE_TOPIC_PARTITIONS,
    }
}
