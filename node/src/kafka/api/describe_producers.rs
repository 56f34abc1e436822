//! DescribeProducers (61): the idempotent producers that a partition remembers, as its leader has them (KIP-664).
use wire::kafka::Str;
use wire::kafka::messages::describe_producers::{PartitionResponse, ProducerState, TopicRequest, TopicResponse};
use wire::kafka::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::{NONE, partition_of};
use crate::kafka::Call;
use crate::kafka::errors::{Refusal, Verb};

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| describe_topic(&call, topic)).collect();
    DescribeProducersResponse { topics, ..Default::default() }
}

fn describe_topic(call: &Call, asked: &TopicRequest) -> TopicResponse {
    let partition = |index: &i32| {
        let producers = producers(call, &asked.name, *index);
        let refusal = producers.as_ref().err();
        PartitionResponse {
            partition_index: *index,
            error_code: Refusal::code_of(refusal),
            error_message: refusal.and_then(Refusal::text),
            active_producers: producers.unwrap_or_default(),
            ..Default::default()
        }
    };
    let partitions = asked.partition_indexes.iter().map(partition).collect();
    TopicResponse { name: asked.name.clone(), partitions, ..Default::default() }
}

fn producers(call: &Call, topic: &Str, index: i32) -> Result<Vec<ProducerState>, Refusal> {
    let partition = partition_of(&call.broker().image(), topic, index)?;
    let producers = call.broker().producers(partition).map_err(|error| Verb::Read.refusal(&error))?;
    let state = |producer: model::producer::Producer| ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.batches.last().map_or(NONE, |batch| batch.last_sequence),
        last_timestamp: producer.last_ts,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_first_offset.unwrap_or(NONE.into()),
        ..Default::default()
    };
    Ok(producers.into_iter().map(state).collect())
}
