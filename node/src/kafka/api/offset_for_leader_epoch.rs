//! OffsetForLeaderEpoch (23): where a leader epoch ends, so that a client can see whether its log was cut (KIP-320).
use futures::future::join_all;
use wire::kafka::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use wire::kafka::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use wire::kafka::{ErrorCode, Str};

use super::{NONE, epoch, partition_of};
use crate::kafka::Call;
use crate::kafka::errors::Verb;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = join_all(request.topics.into_iter().map(|topic| answer_topic(&call, topic))).await;
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn answer_topic(call: &Call, topic: OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let partitions = join_all(topic.partitions.iter().map(|asked| answer_partition(call, &topic.topic, asked))).await;
    OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions, ..Default::default() }
}

async fn answer_partition(call: &Call, topic: &Str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut answer =
        EpochEndOffset { partition: asked.partition, leader_epoch: NONE, end_offset: -1, ..Default::default() };
    match end(call, topic, asked).await {
        Ok((leader_epoch, end_offset)) => (answer.leader_epoch, answer.end_offset) = (leader_epoch, end_offset),
        Err(code) => answer.error_code = code.code(),
    }
    answer
}

async fn end(call: &Call, topic: &Str, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let partition = partition_of(&call.broker().image(), topic, asked.partition)?;
    let end = call.broker().epoch_end(partition, asked.leader_epoch, epoch(asked.current_leader_epoch)).await;
    end.map_err(|error| Verb::Read.code(&error))
}
