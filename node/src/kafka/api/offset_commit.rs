//! OffsetCommit (8): by members of their generation or epoch, and by clients outside of any group's management.
//! Topics are named by id from version 10 on (KIP-848). Invariant: answered after the commit; what is refused here stays here.
use model::assign::Spot;
use model::controller::{Image, Topic};
use model::coordinator::{Code, Command, Commit, Offset, Reply, Who};
use wire::kafka::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::kafka::messages::{OffsetCommitRequest, OffsetCommitResponse};
use wire::kafka::{ErrorCode, Uuid};

use super::groups::{code, refusal, spot};
use super::topic;
use crate::kafka::Call;

/// Topics are named by id from here on.
const IDS_FROM: i16 = 10;
/// A client may say how long its offsets are kept up to here.
const RETENTION_UNTIL: i16 = 4;
/// Members of the consumer protocol may commit from here on.
const EPOCHS_FROM: i16 = 9;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let who = Who {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        generation: request.generation_id_or_member_epoch,
    };
    let image = call.broker().image();
    let metadata_max = image.broker_value("offsets.metadata.max.bytes", Some(call.broker().node_id())).parse();
    let metadata_max = metadata_max.unwrap_or(usize::MAX);
    let mut offsets = Vec::new();
    let mut topics: Vec<OffsetCommitResponseTopic> =
        request.topics.iter().map(|asked| check(&call, &image, asked, metadata_max, &mut offsets)).collect();
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms >= 0 && call.version <= RETENTION_UNTIL);
    offsets.iter_mut().for_each(|(_, offset)| offset.retention_ms = retention_ms);
    if !offsets.is_empty()
        && let Err(code) = commit(&call, Commit { who, offsets }).await
    {
        let admitted = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|of| of.error_code == 0);
        admitted.for_each(|partition| partition.error_code = code.code());
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Refuses what cannot be committed, whoever asks; puts the rest to the offsets.
fn check(
    call: &Call,
    image: &Image,
    asked: &OffsetCommitRequestTopic,
    metadata_max: usize,
    offsets: &mut Vec<(Spot, Offset)>,
) -> OffsetCommitResponseTopic {
    let found = match call.version {
        IDS_FROM.. if asked.topic_id == Uuid::ZERO => Err(ErrorCode::UnknownTopicId),
        _ => topic(image, &asked.name, asked.topic_id),
    };
    let mut partition = |partition: &OffsetCommitRequestPartition| {
        let offset = found.and_then(|topic| offset(topic, partition, metadata_max));
        let error_code = offset.as_ref().err().map_or(0, |code| code.code());
        offsets.extend(offset);
        OffsetCommitResponsePartition { partition_index: partition.partition_index, error_code, ..Default::default() }
    };
    OffsetCommitResponseTopic {
        partitions: asked.partitions.iter().map(&mut partition).collect(),
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..Default::default()
    }
}

fn offset(
    topic: &Topic,
    asked: &OffsetCommitRequestPartition,
    metadata_max: usize,
) -> Result<(Spot, Offset), ErrorCode> {
    let spot = spot(topic, asked.partition_index)?;
    let metadata = asked.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default();
    if metadata.len() > metadata_max {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    let (offset, leader_epoch) = (asked.committed_offset, asked.committed_leader_epoch);
    Ok((spot, Offset { offset, leader_epoch, metadata, retention_ms: None, committed_ms: 0, name: topic.name.clone() }))
}

async fn commit(call: &Call, commit: Commit) -> Result<(), ErrorCode> {
    let group = commit.who.group.clone();
    match call.broker().group_command(&group, Command::Commit(commit)).await {
        Ok(Reply::Done(Ok(()))) => Ok(()),
        Ok(Reply::Done(Err(Code::StaleMemberEpoch))) if call.version < EPOCHS_FROM => {
            Err(ErrorCode::UnsupportedVersion)
        }
        Ok(Reply::Done(Err(code))) => Err(refusal(code)),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(denied) => Err(code(&denied)),
    }
}
