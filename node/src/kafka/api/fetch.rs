//! Fetch (1): reads batches from several partitions, waiting for `min_bytes` by wake-up, never by polling.
//! Every answer is a full fetch: the session id is always 0, which KIP-227 allows.
//! Invariant: record bytes go from the log to the socket without a copy, and are counted in the node's budget.
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use model::controller::Image;
use tokio::time::{Instant, timeout_at};
use wire::compression::Compression;
use wire::kafka::fetch_writer::{FetchResponse, FetchedPartition, FetchedTopic, ServedBatch, encode_fetch_response};
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic, NodeEndpoint};
use wire::kafka::messages::{self, FetchRequest};
use wire::kafka::{BatchHeader, ErrorCode, Uuid};

use super::{endpoints, epoch, node, partition, topic};
use crate::broker::{Error as BrokerError, Leader, PartitionRef, ReadRequest, ReadResult};
use crate::kafka::Call;
use crate::kafka::budget::Taken;
use crate::kafka::connection::Error;
use crate::kafka::errors::Verb;
use crate::kafka::response::Response;

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
    let (response, held) = match session_error(&request) {
        Some(code) => (respond(code, Vec::new()), None),
        None => {
            let (round, held) = fetch(&call, &request).await;
            let mut response = respond(ErrorCode::None, round.topics);
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

fn respond(error: ErrorCode, topics: Vec<FetchedTopic>) -> FetchResponse {
    FetchResponse { throttle_time_ms: 0, error, topics, node_endpoints: Vec::new() }
}

/// A client that wants to go on with a session we never gave is told to begin anew. Epoch 0 asks for a session and -1
/// for none: both get a full fetch without one.
fn session_error(request: &FetchRequest) -> Option<ErrorCode> {
    (request.session_epoch > 0).then_some(ErrorCode::FetchSessionIdNotFound)
}

/// What one pass over the partitions found.
struct Round {
    topics: Vec<FetchedTopic>,
    leaders: BTreeSet<NodeId>,
    bytes: usize,
    /// An error is answered at once.
    failed: bool,
}

/// Reads until there is enough to answer or the client's time is over.
async fn fetch(call: &Call, request: &FetchRequest) -> (Round, Taken) {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(call.shared.limits.fetch_bytes_max);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let found = find_all(call, request);
    let partitions: Vec<PartitionRef> = found.iter().flatten().filter_map(|found| found.ok()).collect();
    let mut wake = call.broker().wake(&partitions);
    loop {
        let (mut held, granted) = call.shared.budget.fetch(max_bytes).await;
        let round = read_all(call, request, &found, granted).await;
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

type Found = Result<PartitionRef, ErrorCode>;

/// The partitions of the request as this node knows them: one list for each topic.
fn find_all(call: &Call, request: &FetchRequest) -> Vec<Vec<Found>> {
    let image = call.broker().image();
    let find_in = |topic: &FetchTopic| {
        let found = topic.partitions.iter().map(|asked| find(call.version, &image, topic, asked));
        found.collect()
    };
    request.topics.iter().map(find_in).collect()
}

fn find(version: i16, image: &Image, asked: &FetchTopic, within: &FetchPartition) -> Found {
    if version >= TOPIC_IDS_FROM && asked.topic_id == Uuid::ZERO {
        return Err(ErrorCode::UnknownTopicId);
    }
    partition(topic(image, &asked.topic, asked.topic_id)?, within.partition)
}

async fn read_all(call: &Call, request: &FetchRequest, found: &[Vec<Found>], max_bytes: usize) -> Round {
    let mut round =
        Round { topics: Vec::with_capacity(found.len()), leaders: BTreeSet::new(), bytes: 0, failed: false };
    for (asked, found) in request.topics.iter().zip(found) {
        let mut topic =
            FetchedTopic { name: asked.topic.clone(), id: asked.topic_id, partitions: Vec::with_capacity(found.len()) };
        for (within, found) in asked.partitions.iter().zip(found) {
            let left = max_bytes.saturating_sub(round.bytes);
            let mut fetched = match found {
                Ok(partition) => read(call, *partition, within, left, &mut round).await,
                Err(code) => FetchedPartition::empty(within.partition, *code),
            };
            if request.isolation_level == READ_COMMITTED {
                fetched.aborted_transactions = Some(Vec::new());
            }
            round.bytes += fetched.records_bytes();
            round.failed |= fetched.error != ErrorCode::None;
            topic.partitions.push(fetched);
        }
        round.topics.push(topic);
    }
    round
}

/// Reads one partition. The first batch of an answer is given even if it is larger than allowed, so that a reader
/// always gets on (KIP-74).
async fn read(
    call: &Call,
    partition: PartitionRef,
    asked: &FetchPartition,
    left: usize,
    round: &mut Round,
) -> FetchedPartition {
    let max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(left);
    let request = ReadRequest {
        partition,
        offset: asked.fetch_offset,
        max_bytes,
        leader_epoch: epoch(asked.current_leader_epoch),
        at_least_one: round.bytes == 0,
    };
    match call.broker().read(request).await {
        Ok(read) => served(call.version, asked.partition, &read),
        Err(error) => refused(asked.partition, &error, round),
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
