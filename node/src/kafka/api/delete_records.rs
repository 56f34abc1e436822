//! DeleteRecords (21): moves the log start; -1 means up to the high watermark (KIP-107).
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use wire::kafka::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use wire::kafka::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use wire::kafka::{ErrorCode, Str};

use super::partition_of;
use crate::kafka::Call;
use crate::kafka::errors::Verb;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let topics = join_all(request.topics.into_iter().map(|topic| answer_topic(&call, topic, patience))).await;
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn answer_topic(call: &Call, topic: DeleteRecordsTopic, patience: Duration) -> DeleteRecordsTopicResult {
    let DeleteRecordsTopic { name, partitions, .. } = topic;
    let partitions = join_all(partitions.iter().map(|asked| answer_partition(call, &name, asked, patience))).await;
    DeleteRecordsTopicResult { name: name.clone(), partitions, ..Default::default() }
}

async fn answer_partition(
    call: &Call,
    topic: &Str,
    asked: &DeleteRecordsPartition,
    patience: Duration,
) -> DeleteRecordsPartitionResult {
    let mut answer = DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark: -1,
        ..Default::default()
    };
    match timeout(patience, delete(call, topic, asked)).await {
        Ok(Ok(log_start)) => answer.low_watermark = log_start,
        Ok(Err(code)) => answer.error_code = code.code(),
        Err(_elapsed) => answer.error_code = ErrorCode::RequestTimedOut.code(),
    }
    answer
}

async fn delete(call: &Call, topic: &Str, asked: &DeleteRecordsPartition) -> Result<i64, ErrorCode> {
    let partition = partition_of(&call.broker().image(), topic, asked.partition_index)?;
    if asked.offset < -1 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if model::controller::internal::is_internal(topic.as_str()) {
        return Err(ErrorCode::InvalidTopic);
    }
    let image = call.broker().image();
    let node = Some(call.broker().node_id());
    if image.topic_by_id(partition.topic).is_some_and(|topic| !image.cleans_up_by("delete", topic, node)) {
        return Err(ErrorCode::PolicyViolation);
    }
    call.broker().delete_records(partition, asked.offset).await.map_err(|error| Verb::Append.code(&error))
}
