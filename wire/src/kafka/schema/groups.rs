//! Consumer groups: their requests, and their responses below.

use super::{BOOL, I8, I16, I32, I32_ARRAY, I64, STR, STR_ARRAY, UUID, array_of};
use crate::bound::{Field, Kind, field};

const GROUP: Field = field("group id", STR);
const GENERATION: Field = field("generation", I32);
const MEMBER: Field = field("member id", STR);
const INSTANCE: Field = field("group instance id", STR).nullable(0);
const PARTITION: Field = field("partition", I32);
const OFFSET: Field = field("committed offset", I64);
const LEADER_EPOCH: Field = field("committed leader epoch", I32);
const METADATA: Field = field("metadata", STR).nullable(0);

const OWNED: Kind = array_of![field("topic id", UUID), field("partitions", I32_ARRAY)];

pub(super) mod request {
    use super::*;

    pub(in crate::kafka::schema) const FIND_COORDINATOR: &[Field] =
        &[field("key", STR).until(3), field("key type", I8).since(1), field("coordinator keys", STR_ARRAY).since(4)];

    pub(in crate::kafka::schema) const JOIN_GROUP: &[Field] = &[
        GROUP,
        field("session timeout", I32),
        field("rebalance timeout", I32).since(1),
        MEMBER,
        INSTANCE.since(5),
        field("protocol type", STR),
        field("protocols", array_of![field("name", STR), field("metadata", Kind::Bytes)]),
        field("reason", STR).since(8).nullable(8),
    ];

    pub(in crate::kafka::schema) const SYNC_GROUP: &[Field] = &[
        GROUP,
        GENERATION,
        MEMBER,
        INSTANCE.since(3),
        field("protocol type", STR).since(5).nullable(5),
        field("protocol name", STR).since(5).nullable(5),
        field("assignments", array_of![MEMBER, field("assignment", Kind::Bytes)]),
    ];

    pub(in crate::kafka::schema) const HEARTBEAT: &[Field] = &[GROUP, GENERATION, MEMBER, INSTANCE.since(3)];

    pub(in crate::kafka::schema) const LEAVE_GROUP: &[Field] = &[
        GROUP,
        MEMBER.until(2),
        field("members", array_of![MEMBER, INSTANCE, field("reason", STR).since(5).nullable(5)]).since(3),
    ];

    pub(in crate::kafka::schema) const OFFSET_COMMIT: &[Field] = &[
        GROUP,
        GENERATION,
        MEMBER,
        INSTANCE.since(7),
        field("retention time", I64).until(4),
        field(
            "topics",
            array_of![
                field("topic", STR).until(9),
                field("topic id", UUID).since(10),
                field("partitions", array_of![PARTITION, OFFSET, LEADER_EPOCH.since(6), METADATA]),
            ],
        ),
    ];

    pub(in crate::kafka::schema) const OFFSET_FETCH: &[Field] = &[
        GROUP.until(7),
        field("topics", array_of![field("topic", STR), field("partitions", I32_ARRAY)]).until(7).nullable(2),
        field(
            "groups",
            array_of![
                GROUP,
                field("member id", STR).since(9).nullable(9),
                field("member epoch", I32).since(9),
                field(
                    "topics",
                    array_of![
                        field("topic", STR).until(9),
                        field("topic id", UUID).since(10),
                        field("partitions", I32_ARRAY)
                    ]
                )
                .nullable(8),
            ],
        )
        .since(8),
        field("require stable", BOOL).since(7),
    ];

    pub(in crate::kafka::schema) const LIST_GROUPS: &[Field] =
        &[field("states", STR_ARRAY).since(4), field("types", STR_ARRAY).since(5)];

    pub(in crate::kafka::schema) const DESCRIBE_GROUPS: &[Field] =
        &[field("groups", STR_ARRAY), field("include operations", BOOL).since(3)];

    pub(in crate::kafka::schema) const DELETE_GROUPS: &[Field] = &[field("groups", STR_ARRAY)];

    pub(in crate::kafka::schema) const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
        GROUP,
        MEMBER,
        field("member epoch", I32),
        INSTANCE,
        field("rack id", STR).nullable(0),
        field("rebalance timeout", I32),
        field("topics", STR_ARRAY).nullable(0),
        field("topic expression", STR).since(1).nullable(1),
        field("assignor", STR).nullable(0),
        field("owned", OWNED).nullable(0),
    ];

    pub(in crate::kafka::schema) const CONSUMER_GROUP_DESCRIBE: &[Field] =
        &[field("groups", STR_ARRAY), field("include operations", BOOL)];

    pub(in crate::kafka::schema) const OFFSET_DELETE: &[Field] =
        &[GROUP, field("topics", array_of![field("topic", STR), field("partitions", array_of![PARTITION])])];
}

pub(super) mod response {
    use super::*;

    const THROTTLE: Field = field("throttle time", I32);
    const ERROR: Field = field("error code", I16);
    const MESSAGE: Field = field("error message", STR).nullable(0);
    const NODE: Field = field("node id", I32);
    const HOST: Field = field("host", STR);
    const PORT: Field = field("port", I32);

    pub(in crate::kafka::schema) const FIND_COORDINATOR: &[Field] = &[
        THROTTLE.since(1),
        ERROR.until(3),
        MESSAGE.since(1).until(3),
        NODE.until(3),
        HOST.until(3),
        PORT.until(3),
        field("coordinators", array_of![field("key", STR), NODE, HOST, PORT, ERROR, MESSAGE]).since(4),
    ];

    pub(in crate::kafka::schema) const JOIN_GROUP: &[Field] = &[
        THROTTLE.since(2),
        ERROR,
        GENERATION,
        field("protocol type", STR).since(7).nullable(7),
        field("protocol name", STR).nullable(7),
        field("leader", STR),
        field("skip assignment", BOOL).since(9),
        MEMBER,
        field("members", array_of![MEMBER, INSTANCE.since(5), field("metadata", Kind::Bytes)]),
    ];

    pub(in crate::kafka::schema) const SYNC_GROUP: &[Field] = &[
        THROTTLE.since(1),
        ERROR,
        field("protocol type", STR).since(5).nullable(5),
        field("protocol name", STR).since(5).nullable(5),
        field("assignment", Kind::Bytes),
    ];

    pub(in crate::kafka::schema) const HEARTBEAT: &[Field] = &[THROTTLE.since(1), ERROR];

    pub(in crate::kafka::schema) const LEAVE_GROUP: &[Field] =
        &[THROTTLE.since(1), ERROR, field("members", array_of![MEMBER, INSTANCE, ERROR]).since(3)];

    pub(in crate::kafka::schema) const OFFSET_COMMIT: &[Field] = &[
        THROTTLE.since(3),
        field(
            "topics",
            array_of![
                field("topic", STR).until(9),
                field("topic id", UUID).since(10),
                field("partitions", array_of![PARTITION, ERROR])
            ],
        ),
    ];

    pub(in crate::kafka::schema) const OFFSET_FETCH: &[Field] = &[
        THROTTLE.since(3),
        field(
            "topics",
            array_of![
                field("topic", STR),
                field("partitions", array_of![PARTITION, OFFSET, LEADER_EPOCH.since(5), METADATA, ERROR]),
            ],
        )
        .until(7),
        ERROR.since(2).until(7),
        field(
            "groups",
            array_of![
                GROUP,
                field(
                    "topics",
                    array_of![
                        field("topic", STR).until(9),
                        field("topic id", UUID).since(10),
                        field("partitions", array_of![PARTITION, OFFSET, LEADER_EPOCH, METADATA, ERROR]),
                    ]
                ),
                ERROR,
            ],
        )
        .since(8),
    ];

    pub(in crate::kafka::schema) const LIST_GROUPS: &[Field] = &[
        THROTTLE.since(1),
        ERROR,
        field(
            "groups",
            array_of![GROUP, field("protocol type", STR), field("state", STR).since(4), field("type", STR).since(5)],
        ),
    ];

    pub(in crate::kafka::schema) const DESCRIBE_GROUPS: &[Field] = &[
        THROTTLE.since(1),
        field(
            "groups",
            array_of![
                ERROR,
                MESSAGE.since(6),
                GROUP,
                field("state", STR),
                field("protocol type", STR),
                field("protocol", STR),
                field(
                    "members",
                    array_of![
                        MEMBER,
                        INSTANCE.since(4),
                        field("client id", STR),
                        field("client host", STR),
                        field("metadata", Kind::Bytes),
                        field("assignment", Kind::Bytes),
                    ]
                ),
                field("operations", I32).since(3),
            ],
        ),
    ];

    pub(in crate::kafka::schema) const DELETE_GROUPS: &[Field] = &[THROTTLE, field("results", array_of![GROUP, ERROR])];

    pub(in crate::kafka::schema) const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
        THROTTLE,
        ERROR,
        MESSAGE,
        field("member id", STR).nullable(0),
        field("member epoch", I32),
        field("heartbeat interval", I32),
        field("assignment", Kind::Struct(&[field("partitions", OWNED)])).nullable(0),
    ];

    const ASSIGNMENT: Kind = Kind::Struct(&[field(
        "partitions",
        array_of![field("topic id", UUID), field("topic", STR), field("partitions", I32_ARRAY)],
    )]);

    pub(in crate::kafka::schema) const CONSUMER_GROUP_DESCRIBE: &[Field] = &[
        THROTTLE,
        field(
            "groups",
            array_of![
                ERROR,
                MESSAGE,
                GROUP,
                field("state", STR),
                field("group epoch", I32),
                field("assignment epoch", I32),
                field("assignor", STR),
                field(
                    "members",
                    array_of![
                        MEMBER,
                        INSTANCE,
                        field("rack id", STR).nullable(0),
                        field("member epoch", I32),
                        field("client id", STR),
                        field("client host", STR),
                        field("topics", STR_ARRAY),
                        field("topic expression", STR).nullable(0),
                        field("assignment", ASSIGNMENT),
                        field("target", ASSIGNMENT),
                        field("member type", I8).since(1),
                    ]
                ),
                field("operations", I32),
            ],
        ),
    ];

    pub(in crate::kafka::schema) const OFFSET_DELETE: &[Field] = &[
        ERROR,
        THROTTLE,
        field("topics", array_of![field("topic", STR), field("partitions", array_of![PARTITION, ERROR])]),
    ];
}
