//! Produces record batches. Owns the producer id and the next sequence of each partition.
//! Invariant: one batch of one partition in flight at a time, sent again with its sequence until it is answered, so that it is written once.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use wire::kafka::ErrorCode;
use wire::kafka::batch::BatchBuilder;
use wire::kafka::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use wire::kafka::messages::{InitProducerIdRequest, ProduceRequest};

use super::{Client, Error, Patience, text};

const TIMEOUT_MS: i32 = 15_000;

/// An idempotent producer.
pub struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<(String, i32), i32>,
    patience: Duration,
}

impl Producer {
    /// Takes a producer id from the cluster. `patience` is how long one batch is tried.
    pub async fn new(client: Client, patience: Duration) -> Result<Self, Error> {
        let request = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() };
        let code = |code: i16| ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError);
        let answer = client.call(&request, |response| code(response.error_code)).await?;
        Error::check(answer.error_code)?;
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        Ok(Self { client, id, epoch, sequences: BTreeMap::new(), patience })
    }

    /// Writes the records of `batch` to a partition and gives the offset of the first, once a majority has them on disk.
    pub async fn send(&mut self, topic: &str, partition: i32, batch: BatchBuilder) -> Result<i64, Error> {
        let count = i32::try_from(batch.len()).unwrap_or(i32::MAX);
        let sequence = self.sequences.entry((topic.to_owned(), partition)).or_insert(0);
        let bytes = batch.producer(self.id, self.epoch, *sequence).build()?;
        let mut patience = Patience::new(self.patience);
        let offset = loop {
            match self.client.produce(topic, partition, -1, bytes.clone()).await {
                Ok(offset) => break offset,
                Err(error) if error.passes() => {
                    self.client.forget_leader(topic, partition);
                    patience.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        };
        *sequence = sequence.wrapping_add(count) & i32::MAX;
        Ok(offset)
    }
}

impl Client {
    /// One Produce request with one batch to the partition's leader, not tried again. Gives the base offset.
    pub async fn produce(&self, topic: &str, partition: i32, acks: i16, batch: Bytes) -> Result<i64, Error> {
        let data = PartitionProduceData { index: partition, records: Some(batch), ..Default::default() };
        let topic_data = TopicProduceData { name: text(topic), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks, timeout_ms: TIMEOUT_MS, topic_data: vec![topic_data], ..Default::default() };
        let response = self.leader(topic, partition).await?.call(&request).await?;
        let answer = response.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
        let PartitionProduceResponse { error_code, base_offset, error_message, .. } = answer.ok_or(Error::NoLeader)?;
        Error::check_with(error_code, error_message.as_ref().map(|message| message.as_str()))?;
        Ok(base_offset)
    }
}
