//! Responses.

use super::groups::response as groups;
use super::{BOOL, I8, I16, I32, I32_ARRAY, I64, STR, UUID, array_of};
use crate::bound::{Field, Kind, field};
use crate::kafka::ApiKey;

const THROTTLE: Field = field("throttle time", I32);
const ERROR: Field = field("error code", I16);
const MESSAGE: Field = field("error message", STR).nullable(0);
const CURRENT_LEADER: Kind = Kind::Struct(&[field("leader id", I32), field("leader epoch", I32)]);
const NODE_ENDPOINTS: Kind =
    array_of![field("node id", I32), field("host", STR), field("port", I32), field("rack", STR).nullable(0)];

const PRODUCE: &[Field] = &[
    field(
        "topics",
        array_of![
            field("topic", STR).until(12),
            field("topic id", UUID).since(13),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    ERROR,
                    field("base offset", I64),
                    field("log append time", I64).since(2),
                    field("log start offset", I64).since(5),
                    field("record errors", array_of![field("batch index", I32), MESSAGE]).since(8),
                    MESSAGE.since(8),
                    field("current leader", CURRENT_LEADER).since(10).tagged(0),
                ]
            ),
        ],
    ),
    THROTTLE.since(1),
    field("node endpoints", NODE_ENDPOINTS).since(10).tagged(0),
];

const FETCH: &[Field] = &[
    THROTTLE,
    ERROR.since(7),
    field("session id", I32).since(7),
    field(
        "topics",
        array_of![
            field("topic", STR).until(12),
            field("topic id", UUID).since(13),
            field("partitions", Kind::Array(&Kind::Struct(FETCH_PARTITION))),
        ],
    ),
    field("node endpoints", NODE_ENDPOINTS).since(16).tagged(0),
];

const FETCH_PARTITION: &[Field] = &[
    field("partition", I32),
    ERROR,
    field("high watermark", I64),
    field("last stable offset", I64),
    field("log start offset", I64).since(5),
    field("aborted transactions", array_of![field("producer id", I64), field("first offset", I64)]).nullable(0),
    field("preferred read replica", I32).since(11),
    field("records", Kind::Bytes).nullable(0),
    field("diverging epoch", Kind::Struct(&[field("epoch", I32), field("end offset", I64)])).since(12).tagged(0),
    field("current leader", CURRENT_LEADER).since(12).tagged(1),
    field("snapshot id", Kind::Struct(&[field("end offset", I64), field("epoch", I32)])).since(12).tagged(2),
];

const LIST_OFFSETS: &[Field] = &[
    THROTTLE.since(2),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    ERROR,
                    field("timestamp", I64),
                    field("offset", I64),
                    field("leader epoch", I32).since(4),
                ]
            ),
        ],
    ),
];

const METADATA: &[Field] = &[
    THROTTLE.since(3),
    field(
        "brokers",
        array_of![
            field("node id", I32),
            field("host", STR),
            field("port", I32),
            field("rack", STR).since(1).nullable(1),
        ],
    ),
    field("cluster id", STR).since(2).nullable(2),
    field("controller id", I32).since(1),
    field(
        "topics",
        array_of![
            ERROR,
            field("topic", STR).nullable(12),
            field("topic id", UUID).since(10),
            field("is internal", BOOL).since(1),
            field(
                "partitions",
                array_of![
                    ERROR,
                    field("partition", I32),
                    field("leader id", I32),
                    field("leader epoch", I32).since(7),
                    field("replicas", I32_ARRAY),
                    field("in-sync replicas", I32_ARRAY),
                    field("offline replicas", I32_ARRAY).since(5),
                ]
            ),
            field("topic operations", I32).since(8),
        ],
    ),
    field("cluster operations", I32).since(8).until(10),
    ERROR.since(13),
];

const API_VERSIONS: &[Field] = &[
    ERROR,
    field("api keys", array_of![field("key", I16), field("min", I16), field("max", I16)]),
    THROTTLE.since(1),
    field("supported features", array_of![field("name", STR), field("min", I16), field("max", I16)]).since(3).tagged(0),
    field("finalized features epoch", I64).since(3).tagged(1),
    field("finalized features", array_of![field("name", STR), field("max", I16), field("min", I16)]).since(3).tagged(2),
    field("zookeeper migration ready", BOOL).since(3).tagged(3),
];

const CREATE_TOPICS: &[Field] = &[
    THROTTLE.since(2),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field("topic id", UUID).since(7),
            ERROR,
            MESSAGE,
            field("topic config error code", I16).since(5).tagged(0),
            field("partition count", I32).since(5),
            field("replication factor", I16).since(5),
            field(
                "configs",
                array_of![
                    field("name", STR),
                    field("value", STR).nullable(0),
                    field("read only", BOOL),
                    field("source", I8),
                    field("is sensitive", BOOL),
                ]
            )
            .since(5)
            .nullable(5),
        ],
    ),
];

const DELETE_TOPICS: &[Field] = &[
    THROTTLE,
    field(
        "topics",
        array_of![field("topic", STR).nullable(6), field("topic id", UUID).since(6), ERROR, MESSAGE.since(5)],
    ),
];

const DELETE_RECORDS: &[Field] = &[
    THROTTLE,
    field(
        "topics",
        array_of![
            field("topic", STR),
            field("partitions", array_of![field("partition", I32), field("low watermark", I64), ERROR]),
        ],
    ),
];

const INIT_PRODUCER_ID: &[Field] = &[
    THROTTLE,
    ERROR,
    field("producer id", I64),
    field("producer epoch", I16),
    field("ongoing producer id", I64).since(6),
    field("ongoing producer epoch", I16).since(6),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    THROTTLE.since(2),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![ERROR, field("partition", I32), field("leader epoch", I32), field("end offset", I64)]
            ),
        ],
    ),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    THROTTLE,
    field(
        "results",
        array_of![
            ERROR,
            MESSAGE,
            field("resource type", I8),
            field("resource name", STR),
            field(
                "configs",
                array_of![
                    field("name", STR),
                    field("value", STR).nullable(0),
                    field("read only", BOOL),
                    field("source", I8),
                    field("is sensitive", BOOL),
                    field(
                        "synonyms",
                        array_of![field("name", STR), field("value", STR).nullable(0), field("source", I8)]
                    ),
                    field("type", I8).since(3),
                    field("documentation", STR).since(3).nullable(3),
                ]
            ),
        ],
    ),
];

const ALTER_CONFIGS: &[Field] =
    &[THROTTLE, field("results", array_of![ERROR, MESSAGE, field("resource type", I8), field("resource name", STR)])];

const DESCRIBE_LOG_DIRS: &[Field] = &[
    THROTTLE,
    ERROR.since(3),
    field(
        "results",
        array_of![
            ERROR,
            field("log dir", STR),
            field(
                "topics",
                array_of![
                    field("topic", STR),
                    field(
                        "partitions",
                        array_of![
                            field("partition", I32),
                            field("size", I64),
                            field("offset lag", I64),
                            field("is future", BOOL),
                        ]
                    ),
                ]
            ),
            field("total bytes", I64).since(4),
            field("usable bytes", I64).since(4),
            field("is cordoned", BOOL).since(5),
        ],
    ),
];

const CREATE_PARTITIONS: &[Field] = &[THROTTLE, field("results", array_of![field("topic", STR), ERROR, MESSAGE])];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    THROTTLE,
    field("allow replication factor change", BOOL).since(1),
    ERROR,
    MESSAGE,
    field(
        "topics",
        array_of![field("topic", STR), field("partitions", array_of![field("partition", I32), ERROR, MESSAGE])],
    ),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    THROTTLE,
    ERROR,
    MESSAGE,
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    field("replicas", I32_ARRAY),
                    field("adding replicas", I32_ARRAY),
                    field("removing replicas", I32_ARRAY),
                ]
            ),
        ],
    ),
];

const ELECT_LEADERS: &[Field] = &[
    THROTTLE,
    ERROR.since(1),
    field(
        "topics",
        array_of![field("topic", STR), field("partitions", array_of![field("partition", I32), ERROR, MESSAGE])],
    ),
];

const QUORUM_REPLICAS: Kind = array_of![
    field("replica id", I32),
    field("replica directory id", UUID).since(2),
    field("log end offset", I64),
    field("last fetch", I64).since(1),
    field("last caught up", I64).since(1),
];

const UPDATE_FEATURES: &[Field] =
    &[THROTTLE, ERROR, MESSAGE, field("results", array_of![field("feature", STR), ERROR, MESSAGE]).until(1)];

const DESCRIBE_QUORUM: &[Field] = &[
    ERROR,
    MESSAGE.since(2),
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    ERROR,
                    MESSAGE.since(2),
                    field("leader id", I32),
                    field("leader epoch", I32),
                    field("high watermark", I64),
                    field("voters", QUORUM_REPLICAS),
                    field("observers", QUORUM_REPLICAS),
                ]
            ),
        ],
    ),
    field(
        "nodes",
        array_of![
            field("node id", I32),
            field("listeners", array_of![field("name", STR), field("host", STR), field("port", I16)]),
        ],
    )
    .since(2),
];

const DESCRIBE_PRODUCERS: &[Field] = &[
    THROTTLE,
    field(
        "topics",
        array_of![
            field("topic", STR),
            field(
                "partitions",
                array_of![
                    field("partition", I32),
                    ERROR,
                    MESSAGE,
                    field(
                        "producers",
                        array_of![
                            field("producer id", I64),
                            field("producer epoch", I32),
                            field("last sequence", I32),
                            field("last timestamp", I64),
                            field("coordinator epoch", I32),
                            field("transaction start offset", I64),
                        ]
                    ),
                ]
            ),
        ],
    ),
];

const DESCRIBE_CLUSTER: &[Field] = &[
    THROTTLE,
    ERROR,
    MESSAGE,
    field("endpoint type", I8).since(1),
    field("cluster id", STR),
    field("controller id", I32),
    field(
        "brokers",
        array_of![
            field("node id", I32),
            field("host", STR),
            field("port", I32),
            field("rack", STR).nullable(0),
            field("is fenced", BOOL).since(2),
        ],
    ),
    field("cluster operations", I32),
];

const LIST_CONFIG_RESOURCES: &[Field] =
    &[THROTTLE, ERROR, field("resources", array_of![field("name", STR), field("type", I8).since(1)])];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    THROTTLE,
    field(
        "topics",
        array_of![
            ERROR,
            field("topic", STR).nullable(0),
            field("topic id", UUID),
            field("is internal", BOOL),
            field(
                "partitions",
                array_of![
                    ERROR,
                    field("partition", I32),
                    field("leader id", I32),
                    field("leader epoch", I32),
                    field("replicas", I32_ARRAY),
                    field("in-sync replicas", I32_ARRAY),
                    field("eligible leader replicas", I32_ARRAY).nullable(0),
                    field("last known eligible leader replicas", I32_ARRAY).nullable(0),
                    field("offline replicas", I32_ARRAY),
                ]
            ),
            field("topic operations", I32),
        ],
    ),
    field("next cursor", Kind::Struct(&[field("topic", STR), field("partition", I32)])).nullable(0),
];

/// The schema of the responses of this API.
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
        ApiKey::DescribeLogDirs => DESCRIBE_LOG_DIRS,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs => ALTER_CONFIGS,
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
