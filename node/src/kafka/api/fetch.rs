//! Fetch (1): reads batches from several partitions, waiting for `min_bytes` by wake-up, never by polling.
//! Which partitions, and which of them are answered, is the session's to say (`kafka::sessions`).
//! Invariant: record bytes go from the log to the socket without a copy, and are counted in the node's budget.
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use model::controller::Image;
use tokio::time::{Instant, timeout_at};
use wire::compression::Compression;
use wire::kafka::fetch_writer::{FetchResponse, FetchedPartition, FetchedTopic, ServedBatch, encode_fetch_response};
use wire::kafka::messages::fetch::NodeEndpoint;
use wire::kafka::messages::{self, FetchRequest};
use wire::kafka::{BatchHeader, ErrorCode, Uuid};

use super::{endpoints, epoch, node, partition, topic};
use crate::broker::{Error as BrokerError, Leader, PartitionRef, ReadRequest, ReadResult};
use crate::kafka::Call;
use crate::kafka::connection::Error;
use crate::kafka::errors::Verb;
use crate::kafka::response::Response;
use crate::kafka::sessions::{Key, Wanted};
use crate::listening::Taken;

/// Topic ids take the place of names (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;
/// zstd may be sent from here on (KIP-110).
const ZSTD_FROM: i16 = 10;
/// Longest wait that a client may ask for, so that a dead client's request does not stay for ever.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// `isolation_level` that wants a list of aborted transactions: empty until there are transactions.
const READ_COMMITTED: i8 = 1;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, body: Bytes) -> Result<Option<Response>, Error> {
    let request: FetchRequest = messages::decode_request(call.version, body)?;
    let (response, held) = match call.shared.sessions.accept(&request, call.version >= TOPIC_IDS_FROM) {
        Err(code) => (respond(code, 0, Vec::new()), None),
        Ok(accepted) => {
            let (round, held) = fetch(&call, &request, &accepted.wanted).await;
            let (session_id, told) = call.shared.sessions.answer(accepted, round.partitions);
            let mut response = respond(ErrorCode::None, session_id, by_topic(told));
            response.node_endpoints = endpoints(&call, &round.leaders, |node_id, host, port, rack| NodeEndpoint {
                node_id,
                host,
                port,
                rack,
                ..Default::default()
            });
            (response, Some(held))
        }
    };
    let parts = encode_fetch_response(call.correlation_id, call.version, &response)?;
    Ok(Some(Response::new(parts, held)))
}

fn respond(error: ErrorCode, session_id: i32, topics: Vec<FetchedTopic>) -> FetchResponse {
    FetchResponse { throttle_time_ms: 0, error, session_id, topics, node_endpoints: Vec::new() }
}

/// Partitions in their order; neighbours of one topic share its name.
fn by_topic(told: Vec<(Key, FetchedPartition)>) -> Vec<FetchedTopic> {
    let mut topics: Vec<FetchedTopic> = Vec::new();
    for (Key { topic, id, .. }, answer) in told {
        match topics.last_mut() {
            Some(last) if last.name == topic && last.id == id => last.partitions.push(answer),
            _ => topics.push(FetchedTopic { name: topic, id, partitions: vec![answer] }),
        }
    }
    topics
}

/// What one pass over the partitions found.
#[derive(Default)]
struct Round {
    /// One for each partition wanted, in that order.
    partitions: Vec<FetchedPartition>,
    leaders: BTreeSet<NodeId>,
    bytes: usize,
    /// An error is answered at once.
    failed: bool,
}

/// Reads until there is enough to answer or the client's time is over.
async fn fetch(call: &Call, request: &FetchRequest, wanted: &[Wanted]) -> (Round, Taken) {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(call.shared.limits.fetch_bytes_max);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let found = find_all(call, wanted);
    let partitions: Vec<PartitionRef> = found.iter().filter_map(|found| found.ok()).collect();
    let mut wake = call.broker().wake(&partitions);
    loop {
        let (mut held, granted) = call.shared.budget.fetch(max_bytes).await;
        let mut round = read_all(call, request, wanted, &found, granted).await;
        if round.bytes > granted {
            // Its first batch is larger than what was taken: it is read again when there is room for it.
            let bytes = std::mem::take(&mut round).bytes;
            drop(held);
            held = call.shared.budget.fetch_whole(bytes).await;
            round = read_all(call, request, wanted, &found, granted).await;
        }
        held.shrink_to(round.bytes);
        // A grant below what the client waits for must not make it wait for what it can never get.
        let enough = round.bytes >= min_bytes.min(granted / 2);
        if enough || round.failed || partitions.is_empty() || Instant::now() >= deadline {
            return (round, held);
        }
        drop((round, held));
        // On the deadline one more read answers with whatever is there.
        let _woken_or_late = timeout_at(deadline, wake.changed()).await;
    }
}

async fn read_all(call: &Call, request: &FetchRequest, wanted: &[Wanted], found: &[Found], granted: usize) -> Round {
    let mut round = Round::default();
    for (wanted, found) in wanted.iter().zip(found) {
        let mut answer = match found {
            Ok(partition) => read(call, *partition, wanted, granted, &mut round).await,
            Err(code) => FetchedPartition::empty(wanted.key.partition, *code),
        };
        answer.aborted_transactions = (request.isolation_level == READ_COMMITTED).then(Vec::new);
        round.add(answer);
    }
    round
}

impl Round {
    fn add(&mut self, answer: FetchedPartition) {
        self.bytes += answer.records_bytes();
        self.failed |= answer.error != ErrorCode::None;
        self.partitions.push(answer);
    }
}

type Found = Result<PartitionRef, ErrorCode>;

/// The partitions as this node knows them.
fn find_all(call: &Call, wanted: &[Wanted]) -> Vec<Found> {
    let image = call.broker().image();
    wanted.iter().map(|wanted| find(call.version, &image, &wanted.key)).collect()
}

fn find(version: i16, image: &Image, key: &Key) -> Found {
    if version >= TOPIC_IDS_FROM && key.id == Uuid::ZERO {
        return Err(ErrorCode::UnknownTopicId);
    }
    partition(topic(image, &key.topic, key.id)?, key.partition)
}

/// Reads one partition. The first batch of an answer is given even if it is larger than allowed, so that a reader
/// always gets on (KIP-74).
async fn read(
    call: &Call,
    partition: PartitionRef,
    wanted: &Wanted,
    granted: usize,
    round: &mut Round,
) -> FetchedPartition {
    let left = granted.saturating_sub(round.bytes);
    let request = ReadRequest {
        partition,
        offset: wanted.offset,
        max_bytes: usize::try_from(wanted.bytes_max).unwrap_or(0).min(left),
        leader_epoch: epoch(wanted.leader_epoch),
        at_least_one: round.bytes == 0,
    };
    match call.broker().read(request).await {
        Ok(read) => served(call.version, wanted.key.partition, &read),
        Err(error) => refused(wanted.key.partition, &error, round),
    }
}

fn served(version: i16, index: i32, read: &ReadResult) -> FetchedPartition {
    let mut partition = FetchedPartition::empty(index, ErrorCode::None);
    partition.high_watermark = read.high_watermark;
    partition.last_stable_offset = read.high_watermark;
    partition.log_start_offset = read.log_start;
    for stored in &read.batches {
        if version < ZSTD_FROM && is_zstd(&stored.bytes) {
            partition.error = ErrorCode::UnsupportedCompressionType;
            break;
        }
        match ServedBatch::new(&stored.bytes, stored.base_offset, stored.leader_epoch) {
            Ok(batch) => partition.batches.push(batch),
            Err(error) => {
                tracing::error!(%error, offset = stored.base_offset, "a stored batch is not readable");
                partition.error = ErrorCode::CorruptMessage;
                break;
            }
        }
    }
    partition
}

fn is_zstd(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.compression() == Ok(Compression::Zstd))
}

fn refused(index: i32, error: &BrokerError, round: &mut Round) -> FetchedPartition {
    let mut partition = FetchedPartition::empty(index, Verb::Read.code(error));
    if let BrokerError::NotLeader { leader } | BrokerError::FencedEpoch { leader } = error
        && let Leader { node: Some(id), epoch } = *leader
    {
        round.leaders.insert(id);
        partition.current_leader = Some((node(id), epoch));
    }
    partition
}
