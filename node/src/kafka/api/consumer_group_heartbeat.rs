//! ConsumerGroupHeartbeat (68): a member of the consumer protocol joins, lives, gives partitions up, leaves (KIP-848).
use std::collections::BTreeSet;

use model::assign::{Assignor, Spot};
use model::controller::features::GROUP_VERSION;
use model::coordinator::consumer::{JOINS, LEAVES, LEAVES_FOR_NOW};
use model::coordinator::{Beat, Beaten, Code, Who};
use model::{PartitionIndex, TopicId};
use wire::kafka::messages::consumer_group_heartbeat::{request, response};
use wire::kafka::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{code, migration};
use super::uuid;
use crate::broker::{Beating, Denied};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Members make their ids themselves from here on.
const OWN_IDS_FROM: i16 = 1;

/// Answers every version.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let group = request.group_id.clone();
    let beaten = match check(&call, &request).and_then(|()| beating(&call, request)) {
        Ok(beating) => call.broker().consumer_heartbeat(beating).await.map_err(|denied| refused(&group, &denied)),
        Err(refusal) => Err(refusal),
    };
    match beaten {
        Ok((member, beaten)) => respond(&call, member, beaten),
        Err(refusal) => ConsumerGroupHeartbeatResponse {
            error_code: refusal.code.code(),
            error_message: refusal.text(),
            ..Default::default()
        },
    }
}

fn refused(group: &Str, denied: &Denied) -> Refusal {
    let words = match denied {
        Denied::Refused(Code::GroupIdNotFound) => format!("Group {group} is not a consumer group."),
        _ => denied.to_string(),
    };
    Refusal::new(code(denied), words)
}

/// Kafka's rules for what a member must and must not say.
fn check(call: &Call, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse = |words: &str| Err(Refusal::new(ErrorCode::InvalidRequest, words));
    let is_empty = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.as_str().is_empty());
    let epoch = request.member_epoch;
    let id_is_ours = call.version < OWN_IDS_FROM && epoch == JOINS;
    match () {
        () if call.broker().image().feature(GROUP_VERSION) < 1 => {
            Err(Refusal::new(ErrorCode::UnsupportedVersion, "group.version of the cluster is 0"))
        }
        () if request.group_id.is_empty() => refuse("GroupId can't be empty."),
        () if is_empty(&request.instance_id) => refuse("InstanceId can't be empty."),
        () if is_empty(&request.rack_id) => refuse("RackId can't be empty."),
        () if request.member_id.is_empty() && !id_is_ours => refuse("MemberId can't be empty."),
        () if epoch < LEAVES_FOR_NOW => refuse("MemberEpoch is invalid."),
        () if epoch == LEAVES_FOR_NOW && request.instance_id.is_none() => refuse("InstanceId can't be null."),
        () if epoch == JOINS => check_join(request),
        () => Ok(()),
    }
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse = |words: &str| Err(Refusal::new(ErrorCode::InvalidRequest, words));
    let pattern = request.subscribed_topic_regex.as_ref().is_some_and(|pattern| !pattern.is_empty());
    match () {
        () if request.rebalance_timeout_ms < 0 => refuse("RebalanceTimeoutMs must be provided in first request."),
        () if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            refuse("TopicPartitions must be empty when (re-)joining.")
        }
        () if request.subscribed_topic_names.is_none() && !pattern => {
            refuse("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
        }
        () => Ok(()),
    }
}

fn beating(call: &Call, request: ConsumerGroupHeartbeatRequest) -> Result<Beating, Refusal> {
    let assignor = match request.server_assignor.as_ref().map(Str::as_str).filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => Some(Assignor::named(name).ok_or_else(|| {
            let words = format!("ServerAssignor {name} is not supported. Supported assignors: uniform, range.");
            Refusal::new(ErrorCode::UnsupportedAssignor, words)
        })?),
    };
    let who = Who {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: request.instance_id.map(|instance| instance.to_string()),
        generation: request.member_epoch,
    };
    let beat = Beat {
        who,
        client_id: call.client_id.to_string(),
        client_host: call.client_host(),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|timeout| *timeout >= 0),
        subscription: None,
        topics: Vec::new(),
        owned: request.topic_partitions.map(|owned| owned.into_iter().flat_map(spots).collect()),
        members_max: 0,
        classic: None,
        named: Vec::new(),
        migration: migration(call),
    };
    let names = |names: Vec<Str>| {
        let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        names.into_iter().collect()
    };
    Ok(Beating {
        beat,
        names: request.subscribed_topic_names.map(names),
        pattern: request.subscribed_topic_regex.map(|pattern| pattern.to_string()),
        assignor,
    })
}

fn spots(owned: request::TopicPartitions) -> impl Iterator<Item = Spot> {
    let topic = TopicId(owned.topic_id.to_bytes());
    owned.partitions.into_iter().map(move |index| Spot { topic, partition: PartitionIndex(index) })
}

fn respond(call: &Call, member: String, beaten: Beaten) -> ConsumerGroupHeartbeatResponse {
    let image = call.broker().image();
    let every = image.broker_value("group.consumer.heartbeat.interval.ms", Some(call.broker().node_id())).parse();
    let leaves = beaten.epoch == LEAVES || beaten.epoch == LEAVES_FOR_NOW;
    ConsumerGroupHeartbeatResponse {
        member_id: Some(member.into()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: if leaves { 0 } else { every.unwrap_or(5_000) },
        assignment: beaten.assigned.map(|assigned| Box::new(assignment(&assigned))),
        ..Default::default()
    }
}

fn assignment(assigned: &BTreeSet<Spot>) -> response::Assignment {
    let mut topics = Vec::<response::TopicPartitions>::new();
    for spot in assigned {
        let topic_id = uuid(spot.topic);
        match topics.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(spot.partition.0),
            _ => topics.push(response::TopicPartitions {
                topic_id,
                partitions: vec![spot.partition.0],
                ..Default::default()
            }),
        }
    }
    response::Assignment { topic_partitions: topics, ..Default::default() }
}
