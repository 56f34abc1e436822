//! One file per API key; each has one `answer` (or `begin`) that the table calls. Shared here: how names, ids and
//! partitions of a request are found in the image.
//! Never: one API calling another.
use std::collections::BTreeSet;

use model::controller::{Image, Topic};
use model::{NodeId, PartitionIndex, TopicId};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::Call;
use super::errors::Refusal;
use crate::broker::PartitionRef;

mod admission;
pub(super) mod alter_configs;
pub(super) mod alter_partition_reassignments;
pub(super) mod api_versions;
mod configs;
pub(super) mod consumer_group_describe;
pub(super) mod consumer_group_heartbeat;
mod control;
pub(super) mod create_partitions;
pub(super) mod create_topics;
pub(super) mod delete_groups;
pub(super) mod delete_records;
pub(super) mod delete_topics;
pub(super) mod describe_cluster;
pub(super) mod describe_configs;
pub(super) mod describe_groups;
pub(super) mod describe_log_dirs;
pub(super) mod describe_producers;
pub(super) mod describe_quorum;
pub(super) mod describe_topic_partitions;
pub(super) mod elect_leaders;
pub(super) mod fetch;
pub(super) mod find_coordinator;
mod groups;
pub(super) mod heartbeat;
pub(super) mod incremental_alter_configs;
pub(super) mod init_producer_id;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod list_config_resources;
pub(super) mod list_groups;
pub(super) mod list_offsets;
pub(super) mod list_partition_reassignments;
pub(super) mod metadata;
pub(super) mod offset_commit;
pub(super) mod offset_delete;
pub(super) mod offset_fetch;
pub(super) mod offset_for_leader_epoch;
pub(super) mod produce;
pub(super) mod rules;
pub(super) mod sync_group;
pub(super) mod update_features;

/// Node, leader and epoch numbers that are unknown.
pub(super) const NONE: i32 = -1;

/// The topic that a request names, by id where the version has ids and one is given.
fn topic<'a>(image: &'a Image, name: &Str, id: Uuid) -> Result<&'a Topic, ErrorCode> {
    if id == Uuid::ZERO {
        return image.topic(name.as_str()).map(AsRef::as_ref).ok_or(ErrorCode::UnknownTopicOrPartition);
    }
    image.topic_by_id(TopicId(id.to_bytes())).map(AsRef::as_ref).ok_or(ErrorCode::UnknownTopicId)
}

/// A partition of a topic.
fn partition(topic: &Topic, index: i32) -> Result<PartitionRef, ErrorCode> {
    match usize::try_from(index) {
        Ok(place) if place < topic.partitions.len() => {
            Ok(PartitionRef { topic: topic.id, index: PartitionIndex(index) })
        }
        _ => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// A partition that is asked for by topic name.
fn partition_of(image: &Image, name: &Str, index: i32) -> Result<PartitionRef, ErrorCode> {
    partition(topic(image, name, Uuid::ZERO)?, index)
}

/// A topic id as the wire wants it.
fn uuid(id: TopicId) -> Uuid {
    Uuid::from_parts(
        u64::from_be_bytes(std::array::from_fn(|i| id.0[i])),
        u64::from_be_bytes(std::array::from_fn(|i| id.0[i + 8])),
    )
}

/// A node id as the wire wants it.
pub(super) fn node(id: NodeId) -> i32 {
    i32::try_from(id.0).unwrap_or(NONE)
}

/// Node ids of a manual assignment.
fn nodes(ids: &[i32]) -> Result<Vec<NodeId>, Refusal> {
    let node = |id: &i32| match u32::try_from(*id) {
        Ok(id) => Ok(NodeId(id)),
        Err(_) => Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, format!("{id} is no broker id"))),
    };
    ids.iter().map(node).collect()
}

/// The client's leader epoch, if it sent one (KIP-320).
fn epoch(sent: i32) -> Option<i32> {
    (sent >= 0).then_some(sent)
}

/// Where the nodes named as leaders in an answer are (KIP-951), in the shape of the answer's own message.
fn endpoints<E>(call: &Call, named: &BTreeSet<NodeId>, make: impl Fn(i32, Str, i32, Option<Str>) -> E) -> Vec<E> {
    let endpoint = |id: &NodeId| {
        let (host, port, rack) = call.endpoint(*id)?;
        Some(make(node(*id), host.into(), port.into(), rack.map(Str::from)))
    };
    named.iter().filter_map(endpoint).collect()
}
