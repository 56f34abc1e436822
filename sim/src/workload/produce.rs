//! An idempotent producer that never gives up: up to five batches of a partition on their way at once, each retried with its
//! sequence until it is acknowledged or the world ends. So each record's fate is known, and a duplicate, a gap or a wrong order is
//! the cluster's doing (KIP-98; Kafka's limit of five is what the broker's memory of batches is made for).

use std::time::Duration;

use bytes::Bytes;
use wire::compression::Compression;
use wire::kafka::ErrorCode;
use wire::kafka::batch::BatchBuilder;
use wire::kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use wire::kafka::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};

use super::client::Client;
use super::process::Process;
use super::{LEDGER, Ledger, PAUSE, TOPICS, now};
use crate::history::operation::Action;
use crate::history::{Partition, Serial};

/// The version that all producers here speak.
pub const PRODUCE_VERSION: i16 = 9;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// Records in a batch: 1 to this.
const BATCH_RECORDS_MAX: u64 = 5;
/// Kafka's `max.in.flight.requests.per.connection` of an idempotent producer.
const IN_FLIGHT: u64 = 5;

/// A refusal that comes later is of a leader that was deposed, or lost its quorum, while the batch waited.
const WAITED: Duration = Duration::from_millis(300);
/// Pause between two windows of one producer.
const PAUSES: u32 = 4;

/// One producer of the run.
pub struct Producer {
    number: u32,
    client: Client,
    ledger: Ledger,
    /// One for each batch on its way.
    processes: Vec<Process>,
    id: i64,
    epoch: i16,
    /// Next sequence of each partition.
    sequences: Vec<i32>,
    /// Records and windows begun so far.
    begun: u64,
    windows: u64,
}

/// A batch that is not acknowledged yet.
struct Unacknowledged {
    slot: usize,
    serials: Vec<Serial>,
    request: ProduceRequest,
}

impl Producer {
    /// Producer `number` of a cluster of `nodes`; asks for its producer id until it gets one.
    pub async fn start(number: u32, nodes: u32, ledger: Ledger) -> Self {
        let mut client = Client::new(nodes, number);
        let processes = (0..IN_FLIGHT as u32).map(|slot| Process::new(number * 8 + slot, ledger.clone())).collect();
        let request = InitProducerIdRequest::default().with_producer_id(-1).with_producer_epoch(-1);
        loop {
            match client.call_any(INIT_PRODUCER_ID_VERSION, &request).await {
                Ok(answer) if answer.error_code == 0 => {
                    let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                    let sequences = vec![0; TOPICS[0].1 as usize];
                    return Self { number, client, ledger, processes, id, epoch, sequences, begun: 0, windows: 0 };
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Produces until `until` of simulated time, and finishes the window it is at.
    pub async fn run(mut self, until: Duration) {
        while now() < until {
            self.window().await;
            tokio::time::sleep(PAUSES * PAUSE).await;
        }
    }

    /// A few batches to one partition, until all are acknowledged. The first that a partition gets of a producer goes alone: Kafka
    /// lets a producer that it does not know begin anywhere (KIP-360), so only then is the order kept.
    async fn window(&mut self) {
        self.windows += 1;
        let index = (self.windows % self.sequences.len() as u64) as i32;
        let partition = Partition { topic: LEDGER, index };
        let fresh = self.sequences[index as usize] == 0;
        let batches = if fresh { 1 } else { 1 + (self.windows / 4 + u64::from(self.number)) % IN_FLIGHT };
        let mut waiting: Vec<_> = (0..batches as usize).map(|slot| self.batch(partition, slot)).collect();
        loop {
            let (asked, end) = (now(), self.ledger.borrow().acknowledged_end(partition));
            let answers = self.send(partition, &waiting).await;
            let mut left = Vec::new();
            for (place, (batch, answer)) in waiting.into_iter().zip(answers).enumerate() {
                match answer {
                    Ok((0, base)) => {
                        if base < end {
                            self.ledger.borrow_mut().count("duplicate answered with its first offset");
                        }
                        self.acknowledged(partition, base, &batch);
                    }
                    Ok((code, _)) => {
                        self.refused(partition, code, place == 0, now() - asked);
                        left.push(batch);
                    }
                    Err(_) => {
                        self.ledger.borrow_mut().count("produce errors");
                        left.push(batch);
                    }
                }
            }
            if left.is_empty() {
                return;
            }
            waiting = left;
            self.client.forget_leaders();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn batch(&mut self, partition: Partition, slot: usize) -> Unacknowledged {
        let records = 1 + (self.begun / 3 + u64::from(self.number)) % BATCH_RECORDS_MAX;
        let serials: Vec<Serial> =
            (self.begun..self.begun + records).map(|number| Serial { producer: self.number, number }).collect();
        self.begun += records;
        let sequence = &mut self.sequences[partition.index as usize];
        let builder = BatchBuilder::new(Compression::None).producer(self.id, self.epoch, *sequence);
        *sequence += records as i32;
        self.processes[slot].invoke(sending(partition, &serials, None));
        Unacknowledged { slot, request: request(partition, encode(builder, &serials)), serials }
    }

    async fn send(&mut self, partition: Partition, waiting: &[Unacknowledged]) -> Vec<anyhow::Result<(i16, i64)>> {
        match self.client.leader(partition).await {
            Ok(leader) => {
                let requests: Vec<_> = waiting.iter().map(|batch| batch.request.clone()).collect();
                let answers = self.client.call_ahead(leader, PRODUCE_VERSION, &requests).await;
                answers.into_iter().map(|answer| answer.map(|answer| outcome(&answer))).collect()
            }
            Err(error) => waiting.iter().map(|_| Err(anyhow::anyhow!(error.to_string()))).collect(),
        }
    }

    fn acknowledged(&self, partition: Partition, base: i64, batch: &Unacknowledged) {
        self.ledger.borrow_mut().acknowledge(now(), partition, base, &batch.serials);
        self.processes[batch.slot].ok(sending(partition, &batch.serials, Some(base)));
    }

    /// All batches before the first one of a round are acknowledged: a sequence error can only mean that the cluster forgot one.
    fn refused(&self, partition: Partition, code: i16, first: bool, waited: Duration) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.count("produces refused");
        if code == ErrorCode::NotLeaderOrFollower as i16 {
            let waited = waited >= WAITED;
            ledger.count(if waited { "produce waited in vain for a leader" } else { "not the leader, asked another" });
        }
        let forgotten = [ErrorCode::OutOfOrderSequenceNumber as i16, ErrorCode::UnknownProducerId as i16];
        let fenced = code == ErrorCode::InvalidProducerEpoch as i16;
        if fenced || (first && forgotten.contains(&code)) {
            let number = self.number;
            ledger.violate(now(), format!("S12 ProducedOnce: producer {number} got error {code} for the first unacknowledged batch on {partition}"));
        }
    }
}

/// The operation of sending `serials`.
pub fn sending(partition: Partition, serials: &[Serial], offset: Option<i64>) -> Action {
    Action::Send { topic: partition.topic, partition: partition.index, records: serials.to_vec(), offset }
}

/// The bytes of a batch of `serials`.
pub fn encode(mut builder: BatchBuilder, serials: &[Serial]) -> Bytes {
    for serial in serials {
        builder.push(1, Some(serial.key().as_bytes()), Some(serial.value().as_bytes()));
    }
    builder.build().expect("serials make a batch")
}

/// A request that wants all replicas' acknowledgement of one batch.
pub fn request(partition: Partition, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition.index).with_records(Some(records));
    let name = partition.topic.to_owned().into();
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(2_000).with_topic_data(vec![topic])
}

/// Error code and base offset of an answer for one batch.
pub fn outcome(answer: &ProduceResponse) -> (i16, i64) {
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    partition.map_or((-1, -1), |partition| (partition.error_code, partition.base_offset))
}
