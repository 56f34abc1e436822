//! ListOffsets (2): the offset at a position or a time.
//! Invariant: a special position that is newer than the request's version is refused, never taken for a timestamp.
use futures::future::join_all;
use wire::kafka::ErrorCode;
use wire::kafka::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use wire::kafka::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{NONE, epoch, partition_of};
use crate::broker::Position;
use crate::kafka::Call;
use crate::kafka::errors::Verb;

/// From here on OFFSET_NOT_AVAILABLE is known to clients (KIP-207).
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;
/// From here on the answer has a leader epoch.
const LEADER_EPOCH_FROM: i16 = 4;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = join_all(request.topics.into_iter().map(|topic| answer_topic(&call, topic))).await;
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn answer_topic(call: &Call, topic: ListOffsetsTopic) -> ListOffsetsTopicResponse {
    let partitions = join_all(topic.partitions.iter().map(|asked| answer_partition(call, &topic, asked))).await;
    ListOffsetsTopicResponse { name: topic.name.clone(), partitions, ..Default::default() }
}

async fn answer_partition(
    call: &Call,
    topic: &ListOffsetsTopic,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let mut answer = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: NONE,
        ..Default::default()
    };
    match find(call, topic, asked).await {
        Ok(found) => {
            answer.timestamp = found.timestamp;
            answer.offset = found.offset;
            if call.version >= LEADER_EPOCH_FROM {
                answer.leader_epoch = found.leader_epoch;
            }
        }
        Err(ErrorCode::OffsetNotAvailable) if call.version < OFFSET_NOT_AVAILABLE_FROM => {
            answer.error_code = ErrorCode::LeaderNotAvailable.code();
        }
        Err(code) => answer.error_code = code.code(),
    }
    answer
}

async fn find(
    call: &Call,
    topic: &ListOffsetsTopic,
    asked: &ListOffsetsPartition,
) -> Result<crate::broker::OffsetAt, ErrorCode> {
    let position = position(asked.timestamp, call.version)?;
    let partition = partition_of(&call.broker().image(), &topic.name, asked.partition_index)?;
    let found = call.broker().list_offset(partition, position, epoch(asked.current_leader_epoch)).await;
    found.map_err(|error| Verb::Read.code(&error))
}

/// Special positions are negative timestamps, each since its own version (KIP-79, 734, 405, 1005, 1023).
fn position(timestamp: i64, version: i16) -> Result<Position, ErrorCode> {
    let (position, since) = match timestamp {
        0.. => (Position::Timestamp(timestamp), 0),
        -1 => (Position::Latest, 0),
        -2 => (Position::Earliest, 0),
        -3 => (Position::MaxTimestamp, 7),
        -4 => (Position::EarliestLocal, 8),
        -5 => (Position::LatestTiered, 9),
        // The first offset still to be uploaded to a remote tier: without tiers there is none either.
        -6 => (Position::LatestTiered, 11),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    if version >= since { Ok(position) } else { Err(ErrorCode::UnsupportedVersion) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_gated_by_version() {
        assert_eq!(position(0, 1), Ok(Position::Timestamp(0)));
        assert_eq!(position(-1, 1), Ok(Position::Latest));
        assert_eq!(position(-2, 1), Ok(Position::Earliest));
        for (timestamp, since) in [(-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert!(position(timestamp, since).is_ok(), "{timestamp}");
            assert_eq!(position(timestamp, since - 1), Err(ErrorCode::UnsupportedVersion), "{timestamp}");
        }
        assert_eq!(position(-7, 11), Err(ErrorCode::UnsupportedVersion));
    }
}
