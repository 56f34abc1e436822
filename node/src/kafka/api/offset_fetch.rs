//! OffsetFetch (9): what was committed, of some partitions or all; of several groups from version 8 on (KIP-709), by topic
//! ids from version 10 on. Reads behind a proof of leadership, so that what was committed before is seen.
use std::collections::BTreeMap;

use futures::future::join_all;
use model::controller::Image;
use model::coordinator::{Group, Kind, Offset};
use wire::kafka::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::kafka::messages::{OffsetFetchRequest, OffsetFetchResponse};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::groups::{code, spot};
use super::{NONE, topic, uuid};
use crate::kafka::Call;

/// Several groups from here on.
const GROUPS_FROM: i16 = 8;
/// The answer as a whole has an error from here on.
const ERROR_FROM: i16 = 2;
/// Topics are named by id from here on.
const IDS_FROM: i16 = 10;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= GROUPS_FROM {
        let groups = join_all(request.groups.into_iter().map(|group| fetch(&call, group))).await;
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let named = |asked: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
        name: asked.name,
        partition_indexes: asked.partition_indexes,
        ..Default::default()
    };
    let topics: Option<Vec<_>> = request.topics.map(|topics| topics.into_iter().map(named).collect());
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    plain(&call, fetch(&call, group).await)
}

/// The answer of the versions that know one group.
fn plain(call: &Call, fetched: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let old = if call.version < ERROR_FROM { fetched.error_code } else { 0 };
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: if old == 0 { partition.error_code } else { old },
        ..Default::default()
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
        ..Default::default()
    };
    let error_code = if call.version < ERROR_FROM { 0 } else { fetched.error_code };
    let topics = fetched.topics.into_iter().map(topic).collect();
    OffsetFetchResponse { topics, error_code, ..Default::default() }
}

async fn fetch(call: &Call, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let image = call.broker().image();
    let by_id = call.version >= IDS_FROM;
    let read = |group: Option<&Group>| {
        may_read(group, &asked)?;
        Ok(match &asked.topics {
            Some(topics) => topics.iter().map(|topic| some(&image, group, topic, by_id)).collect(),
            None => all(&image, group),
        })
    };
    let read = call.broker().read_group(asked.group_id.as_str(), read).await;
    match read.map_err(|denied| code(&denied)).and_then(|read| read) {
        Ok(topics) => OffsetFetchResponseGroup { group_id: asked.group_id, topics, ..Default::default() },
        Err(code) => OffsetFetchResponseGroup {
            topics: asked.topics.into_iter().flatten().map(|topic| nothing(topic, ErrorCode::None)).collect(),
            group_id: asked.group_id,
            error_code: code.code(),
            ..Default::default()
        },
    }
}

/// A member of the consumer protocol must be one, of its epoch.
fn may_read(group: Option<&Group>, asked: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
    let Some(member) = asked.member_id.as_ref().filter(|member| !member.is_empty()) else { return Ok(()) };
    let consumer = match group.map(|group| &group.kind) {
        Some(Kind::Consumer(consumer)) => consumer,
        Some(Kind::Classic(_)) | None => return Ok(()),
    };
    match consumer.members.get(member.as_str()) {
        None => Err(ErrorCode::UnknownMemberId),
        Some(known) if known.epoch != asked.member_epoch => Err(ErrorCode::StaleMemberEpoch),
        Some(_) => Ok(()),
    }
}

fn some(
    image: &Image,
    group: Option<&Group>,
    asked: &OffsetFetchRequestTopics,
    by_id: bool,
) -> OffsetFetchResponseTopics {
    let found = match by_id && asked.topic_id == Uuid::ZERO {
        true => Err(ErrorCode::UnknownTopicId),
        false => topic(image, &asked.name, asked.topic_id),
    };
    let found = match found {
        Ok(found) => found,
        // Whoever names a topic that does not exist hears that nothing was committed, as of any other.
        Err(code) => return nothing(asked.clone(), if by_id { code } else { ErrorCode::None }),
    };
    let offset = |index: i32| spot(found, index).ok().and_then(|spot| group?.offsets.get(&spot));
    OffsetFetchResponseTopics {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        partitions: asked.partition_indexes.iter().map(|index| partition(*index, offset(*index))).collect(),
        ..Default::default()
    }
}

fn all(image: &Image, group: Option<&Group>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (spot, offset) in group.iter().flat_map(|group| &group.offsets) {
        topics.entry(spot.topic).or_default().push(partition(spot.partition.0, Some(offset)));
    }
    let answer = |(id, partitions)| {
        let name = Str::from(image.topic_by_id(id)?.name.clone());
        Some(OffsetFetchResponseTopics { name, topic_id: uuid(id), partitions, ..Default::default() })
    };
    topics.into_iter().filter_map(answer).collect()
}

fn nothing(asked: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partition = |index| OffsetFetchResponsePartitions { error_code: code.code(), ..partition(index, None) };
    OffsetFetchResponseTopics {
        partitions: asked.partition_indexes.iter().copied().map(partition).collect(),
        name: asked.name,
        topic_id: asked.topic_id,
        ..Default::default()
    }
}

fn partition(partition_index: i32, committed: Option<&Offset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(-1, |offset| offset.offset),
        committed_leader_epoch: committed.map_or(NONE, |offset| offset.leader_epoch),
        metadata: Some(committed.map(|offset| offset.metadata.clone()).unwrap_or_default().into()),
        ..Default::default()
    }
}
