//! An idempotent producer that never gives up: every batch is retried, with its sequence, until it is acknowledged or the world
//! ends. So each record's fate is known, and a duplicate or a gap is the cluster's doing.

use std::time::Duration;

use wire::compression::Compression;
use wire::kafka::ErrorCode;
use wire::kafka::batch::BatchBuilder;
use wire::kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use wire::kafka::messages::{
    CreateTopicsRequest, InitProducerIdRequest, ProduceRequest, create_topics::CreatableTopic,
};

use super::client::Client;
use super::{Ledger, PARTITIONS, TOPIC};
use crate::history::{Place, Serial};

const PRODUCE_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// Pause between batches of one producer, and before a retry.
const PAUSE: Duration = Duration::from_millis(40);
/// Records in a batch: 1 to this.
const BATCH_RECORDS_MAX: u64 = 5;

/// Creates the topic of the run; returns when it exists.
pub async fn create_topic(nodes: u32) {
    let topic = CreatableTopic::default()
        .with_name(TOPIC.to_string().into())
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(2_000);
    let mut client = Client::new(nodes, 0);
    loop {
        if let Ok(answer) = client.call_any(CREATE_TOPICS_VERSION, &request).await {
            let code = answer.topics.first().map(|topic| topic.error_code);
            if [Some(0), Some(ErrorCode::TopicAlreadyExists as i16)].contains(&code) {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One producer of the run.
pub struct Producer {
    number: u32,
    client: Client,
    ledger: Ledger,
    id: i64,
    epoch: i16,
    /// Next sequence of each partition.
    sequences: Vec<i32>,
    /// Records begun so far.
    begun: u64,
}

impl Producer {
    /// Producer `number` of a cluster of `nodes`; asks for its producer id until it gets one.
    pub async fn start(number: u32, nodes: u32, ledger: Ledger) -> Self {
        let mut client = Client::new(nodes, number);
        let request = InitProducerIdRequest::default().with_producer_id(-1).with_producer_epoch(-1);
        loop {
            match client.call_any(INIT_PRODUCER_ID_VERSION, &request).await {
                Ok(answer) if answer.error_code == 0 => {
                    let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                    let sequences = vec![0; PARTITIONS as usize];
                    return Self { number, client, ledger, id, epoch, sequences, begun: 0 };
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Produces until `until` of simulated time, and finishes the batch it is at.
    pub async fn run(mut self, until: Duration) {
        while turmoil::sim_elapsed().unwrap_or_default() < until {
            let partition = (self.begun % PARTITIONS as u64) as i32;
            let records = 1 + (self.begun / 3 + u64::from(self.number)) % BATCH_RECORDS_MAX;
            self.batch(partition, records).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn batch(&mut self, partition: i32, records: u64) {
        let serials: Vec<Serial> =
            (self.begun..self.begun + records).map(|number| Serial { producer: self.number, number }).collect();
        self.begun += records;
        let request = self.request(partition, &serials);
        loop {
            match self.client.call_leader(partition, PRODUCE_VERSION, &request).await {
                Ok(answer) => {
                    let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
                    let (code, base) =
                        answer.map_or((-1, -1), |partition| (partition.error_code, partition.base_offset));
                    if code == 0 {
                        self.sequences[partition as usize] += records as i32;
                        return self.acknowledged(partition, base, &serials);
                    }
                    self.refused(partition, code);
                }
                Err(_) => self.ledger.borrow_mut().count("produce errors"),
            }
            self.client.forget_leaders();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn request(&self, partition: i32, serials: &[Serial]) -> ProduceRequest {
        let sequence = self.sequences[partition as usize];
        let mut batch = BatchBuilder::new(Compression::None).producer(self.id, self.epoch, sequence);
        for serial in serials {
            batch.push(1, None, Some(serial.encode().as_bytes()));
        }
        let records = batch.build().expect("serials make a batch");
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(TOPIC.to_string().into()).with_partition_data(vec![data]);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(2_000).with_topic_data(vec![topic])
    }

    fn acknowledged(&self, partition: i32, base: i64, serials: &[Serial]) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut ledger = self.ledger.borrow_mut();
        for (serial, offset) in serials.iter().zip(base..) {
            let place = Place { partition, offset };
            ledger.note(now, "acknowledged", place, *serial);
            ledger.count("records acknowledged");
            if let Some(other) = ledger.acknowledged.insert(place, *serial) {
                ledger.violate(
                    now,
                    format!("S5 OffsetNeverReassigned: {place:?} acknowledged to {other:?} and {serial:?}"),
                );
            }
        }
    }

    /// One batch at a time, retried in order: a sequence error can only mean that the cluster forgot an acknowledged batch.
    fn refused(&self, partition: i32, code: i16) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut ledger = self.ledger.borrow_mut();
        ledger.count("produces refused");
        if [ErrorCode::OutOfOrderSequenceNumber as i16, ErrorCode::UnknownProducerId as i16].contains(&code) {
            let number = self.number;
            ledger.violate(
                now,
                format!("S12 ProducerStateKept: producer {number} got error {code} on partition {partition}"),
            );
        }
    }
}
