//! Metadata (3): nodes, topics, leaders. Names that do not exist may be created by asking (auto-creation), within the
//! bounds that the broker keeps; the client then asks again.
//! Invariant: every address is one this client can use; a null list (v1+) or an empty one (v0) means all topics.
use model::GroupId;
use model::controller::Topic;
use model::controller::topics::check_topic_name;
use wire::kafka::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::kafka::messages::{MetadataRequest, MetadataResponse};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::{node, topic, uuid};
use crate::broker::{AutoCreation, Leader};
use crate::kafka::Call;
use crate::kafka::view::{self, CLUSTER_OPERATIONS, NO_OPERATIONS, PartitionView, TOPIC_OPERATIONS, View};

/// A list that is empty means none from here on; before, it means all.
const EMPTY_IS_NONE_FROM: i16 = 1;
/// Clients say whether a topic may be created from here on; before, asking creates.
const ALLOW_CREATION_FROM: i16 = 4;
/// Operations are in the answer for the cluster in these versions, for topics from the first on.
const CLUSTER_OPERATIONS_IN: std::ops::RangeInclusive<i16> = 8..=10;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: MetadataRequest) -> MetadataResponse {
    let view = view::now(call.broker());
    let brokers = view.living().filter_map(|id| {
        let (host, port, rack) = call.endpoint(id)?;
        let rack = rack.map(Str::from);
        Some(MetadataResponseBroker {
            node_id: node(id),
            host: host.into(),
            port: port.into(),
            rack,
            ..Default::default()
        })
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(call.broker().cluster_id().into()),
        controller_id: node(call.broker().controller().unwrap_or(call.broker().node_id())),
        cluster_authorized_operations: match CLUSTER_OPERATIONS_IN.contains(&call.version) {
            true if request.include_cluster_authorized_operations => CLUSTER_OPERATIONS,
            _ => NO_OPERATIONS,
        },
        topics: topics(&call, &view, request),
        ..Default::default()
    }
}

fn topics(
    call: &Call,
    view: &View<impl Fn(GroupId) -> Leader>,
    request: MetadataRequest,
) -> Vec<MetadataResponseTopic> {
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NO_OPERATIONS };
    let may_create = request.allow_auto_topic_creation || call.version < ALLOW_CREATION_FROM;
    let all = match &request.topics {
        None => true,
        Some(asked) => asked.is_empty() && call.version < EMPTY_IS_NONE_FROM,
    };
    if all {
        return view.image.topics.values().map(|topic| known(view, topic, operations)).collect();
    }
    let answer = |asked| match find(view, &asked) {
        Ok(topic) => known(view, topic, operations),
        Err(code) => unknown(call, asked, code, may_create),
    };
    request.topics.unwrap_or_default().into_iter().map(answer).collect()
}

fn find<'a>(view: &'a View<impl Fn(GroupId) -> Leader>, asked: &MetadataRequestTopic) -> Result<&'a Topic, ErrorCode> {
    topic(&view.image, asked.name.as_ref().unwrap_or(&Str::default()), asked.topic_id)
}

/// The name, unless the topic is asked for by id: Java then sends an empty one, others null.
fn name_asked(asked: &MetadataRequestTopic) -> Option<&Str> {
    asked.name.as_ref().filter(|_| asked.topic_id == Uuid::ZERO)
}

fn known(view: &View<impl Fn(GroupId) -> Leader>, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.clone().into()),
        topic_id: uuid(topic.id),
        is_internal: topic.is_internal(),
        partitions: view.partitions(topic).map(partition).collect(),
        topic_authorized_operations: operations,
        ..Default::default()
    }
}

fn partition(view: PartitionView) -> MetadataResponsePartition {
    MetadataResponsePartition {
        error_code: view.error.code(),
        partition_index: view.index,
        leader_id: view.leader,
        leader_epoch: view.epoch,
        replica_nodes: view.replicas,
        isr_nodes: view.in_sync,
        offline_replicas: view.offline,
        ..Default::default()
    }
}

/// A topic that does not exist: made, if its name is legal and the client allows it.
fn unknown(call: &Call, asked: MetadataRequestTopic, code: ErrorCode, may_create: bool) -> MetadataResponseTopic {
    let name = name_asked(&asked);
    let code = match name {
        None => code,
        Some(name) if check_topic_name(name.as_str()).is_err() => ErrorCode::InvalidTopic,
        Some(name) if may_create => match call.broker().auto_create(name.as_str(), &call.client.topics) {
            AutoCreation::Pending => ErrorCode::LeaderNotAvailable,
            AutoCreation::Refused => ErrorCode::PolicyViolation,
            AutoCreation::Disabled => ErrorCode::UnknownTopicOrPartition,
        },
        Some(_) => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic {
        error_code: code.code(),
        // The name may be null from v12 on, where topics can be asked for by id.
        name: name.cloned().or_else(|| (call.version < 12).then(Str::default)),
        topic_id: asked.topic_id,
        topic_authorized_operations: NO_OPERATIONS,
        ..Default::default()
    }
}
