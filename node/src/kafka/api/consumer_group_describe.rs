//! ConsumerGroupDescribe (69): members, epochs, and what each has and should have, of groups of the consumer protocol.
use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use model::assign::Spot;
use model::controller::Image;
use model::coordinator::{Consumer, ConsumerMember, Group};
use wire::kafka::messages::consumer_group_describe::{Assignment, DescribedGroup, Member, TopicPartitions};
use wire::kafka::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{GROUP_OPERATIONS, code};
use super::uuid;
use crate::kafka::Call;
use crate::kafka::view::NO_OPERATIONS;

/// What a member speaks, from version 1 on.
const SPEAKS_CLASSIC: i8 = 0;
const SPEAKS_CONSUMER: i8 = 1;
/// Members have a type from here on.
const TYPES_FROM: i16 = 1;

/// Answers every version.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { NO_OPERATIONS };
    let groups = join_all(request.group_ids.into_iter().map(|group| describe(&call, group, operations))).await;
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}

async fn describe(call: &Call, group_id: Str, authorized_operations: i32) -> DescribedGroup {
    let image = call.broker().image();
    let shown = |group: Option<&Group>| match group {
        None => Err(format!("Group {group_id} not found.")),
        Some(group) => match group.consumer() {
            None => Err(format!("Group {group_id} is not a consumer group.")),
            Some(consumer) => Ok(shown(&image, group, consumer, call.version)),
        },
    };
    let described = match group_id.is_empty() {
        true => Err(ErrorCode::InvalidGroupId),
        false => call.broker().read_group(group_id.as_str(), shown).await.map_err(|denied| code(&denied)),
    };
    let empty = DescribedGroup { group_id: group_id.clone(), authorized_operations, ..Default::default() };
    match described {
        Ok(Ok(shown)) => DescribedGroup { group_id, authorized_operations, ..shown },
        Ok(Err(words)) => {
            DescribedGroup { error_code: ErrorCode::GroupIdNotFound.code(), error_message: Some(words.into()), ..empty }
        }
        Err(code) => DescribedGroup { error_code: code.code(), ..empty },
    }
}

fn shown(image: &Image, group: &Group, consumer: &Consumer, version: i16) -> DescribedGroup {
    DescribedGroup {
        group_state: Str::from_static(group.kind.state()),
        group_epoch: consumer.epoch,
        assignment_epoch: consumer.epoch,
        assignor_name: Str::from_static(consumer.assignor().name()),
        members: consumer.members.iter().map(|(id, of)| member(image, consumer, id, of, version)).collect(),
        ..Default::default()
    }
}

fn member(image: &Image, group: &Consumer, id: &String, member: &ConsumerMember, version: i16) -> Member {
    let none = BTreeSet::new();
    Member {
        member_id: id.clone().into(),
        instance_id: member.instance.clone().map(Str::from),
        member_epoch: member.epoch,
        client_id: member.client_id.clone().into(),
        client_host: member.client_host.clone().into(),
        subscribed_topic_names: member.subscription.names.iter().cloned().map(Str::from).collect(),
        subscribed_topic_regex: member.subscription.pattern.clone().map(Str::from),
        assignment: assignment(image, &member.assigned),
        target_assignment: assignment(image, group.target.get(id).unwrap_or(&none)),
        member_type: match &member.classic {
            _ if version < TYPES_FROM => -1,
            Some(_) => SPEAKS_CLASSIC,
            None => SPEAKS_CONSUMER,
        },
        ..Default::default()
    }
}

fn assignment(image: &Image, spots: &BTreeSet<Spot>) -> Assignment {
    let mut topics = BTreeMap::<_, Vec<i32>>::new();
    for spot in spots {
        topics.entry(spot.topic).or_default().push(spot.partition.0);
    }
    let named = |(id, partitions)| TopicPartitions {
        topic_id: uuid(id),
        topic_name: image.topic_by_id(id).map(|topic| Str::from(topic.name.clone())).unwrap_or_default(),
        partitions,
        ..Default::default()
    };
    Assignment { topic_partitions: topics.into_iter().map(named).collect(), ..Default::default() }
}
