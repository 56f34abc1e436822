//! Produce (0): checks each partition's batch and hands it to the partition's log, in request order, at once; the
//! answer waits for all of them. acks=1 is answered like all; acks=0 has no answer, so an error closes the connection.
//! Invariant: a batch is refused whole or appended verbatim. Never: copies or decodes records.
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::NodeId;
use model::controller::Image;
use wire::kafka::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use wire::kafka::messages::{self, ProduceRequest, ProduceResponse};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::admission;
use super::rules::Rules;
use super::{endpoints, node, partition, topic};
use crate::broker::{AppendRequest, Appended, Error as BrokerError, Leader, PartitionRef};
use crate::kafka::Call;
use crate::kafka::connection::{Answer, Error};
use crate::kafka::errors::{Refusal, Verb};

/// Topic ids take the place of names (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;
/// Longest wait for a commit that a client may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Hands the batches over and gives the answer in the making.
///
/// # Errors
/// The body is not a Produce request.
pub(in crate::kafka) fn begin(call: Call, body: Bytes) -> Result<Answer, Error> {
    let request: ProduceRequest = messages::decode_request(call.version, body)?;
    let acks = request.acks;
    let image = call.broker().image();
    let refused = refusal_of_all(&request);
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(TIMEOUT_MAX);
    let append = |topic: &TopicProduceData, data: PartitionProduceData| match &refused {
        Some(refusal) => Pending { index: data.index, appended: Err(refusal.clone()) },
        None => append(&call, &image, topic, data, patience),
    };
    let topics: Vec<PendingTopic> = request.topic_data.into_iter().map(|topic| begin_topic(topic, append)).collect();
    Ok(Box::pin(async move {
        // One after the other: all of them are on their way, each with its own deadline.
        let mut answered = Vec::with_capacity(topics.len());
        for topic in topics {
            answered.push(topic.answer().await);
        }
        if acks == 0 {
            let failed = answered.iter().any(|topic| topic.partitions.iter().any(|(_, outcome)| outcome.is_err()));
            return if failed { Err(Error::Refused("a produce with acks=0 failed")) } else { Ok(None) };
        }
        let response = respond(&call, &mut answered);
        Ok(Some(messages::encode_response(call.correlation_id, call.version, &response)?.into()))
    }))
}

/// What makes the request as a whole unacceptable; each partition then answers with it.
fn refusal_of_all(request: &ProduceRequest) -> Option<Refusal> {
    if !(-1..=1).contains(&request.acks) {
        return Some(Refusal::new(ErrorCode::InvalidRequiredAcks, "acks must be -1, 0 or 1"));
    }
    // Final for every client; see init_producer_id.
    let words = "transactions are not supported yet";
    request.transactional_id.as_ref().map(|_| Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, words))
}

/// Why one partition's batch was not appended, with the leader to go to instead if that is the reason.
struct Failure {
    refusal: Refusal,
    leader: Option<Leader>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, leader: None }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let leader = match &error {
            BrokerError::NotLeader { leader } | BrokerError::FencedEpoch { leader } => Some(*leader),
            _ => None,
        };
        Self { refusal: Verb::Append.refusal(&error), leader }
    }
}

type Outcome = Result<Appended, Failure>;

/// One partition's append on its way.
struct Pending {
    index: i32,
    appended: Result<BoxFuture<'static, Result<Appended, BrokerError>>, Refusal>,
}

impl Pending {
    async fn outcome(self) -> Outcome {
        Ok(self.appended?.await?)
    }
}

struct PendingTopic {
    name: Str,
    id: Uuid,
    partitions: Vec<Pending>,
}

struct Answered {
    name: Str,
    id: Uuid,
    partitions: Vec<(i32, Outcome)>,
}

impl PendingTopic {
    async fn answer(self) -> Answered {
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for pending in self.partitions {
            partitions.push((pending.index, pending.outcome().await));
        }
        Answered { name: self.name, id: self.id, partitions }
    }
}

fn begin_topic(
    mut topic: TopicProduceData,
    append: impl Fn(&TopicProduceData, PartitionProduceData) -> Pending,
) -> PendingTopic {
    let partitions = std::mem::take(&mut topic.partition_data);
    let partitions = partitions.into_iter().map(|data| append(&topic, data)).collect();
    PendingTopic { name: topic.name, id: topic.topic_id, partitions }
}

/// Checks one partition's data and hands it to the broker, which enqueues it before this returns.
fn append(
    call: &Call,
    image: &Image,
    asked: &TopicProduceData,
    data: PartitionProduceData,
    timeout: Duration,
) -> Pending {
    let index = data.index;
    let admitted = find(call, image, asked, data.index).and_then(|(partition, rules)| {
        let batch = admission::admit(data.records, call.version, rules, call.broker().clock().wall_ms())?;
        Ok(AppendRequest { partition, batches: vec![batch], timeout })
    });
    Pending { index, appended: admitted.map(|request| call.broker().append(request)) }
}

/// The partition and what its topic asks of a batch.
fn find(call: &Call, image: &Image, asked: &TopicProduceData, index: i32) -> Result<(PartitionRef, Rules), Refusal> {
    if call.version >= TOPIC_IDS_FROM && asked.topic_id == Uuid::ZERO {
        return Err(ErrorCode::UnknownTopicId.into());
    }
    let topic = topic(image, &asked.name, asked.topic_id)?;
    if topic.is_internal() {
        return Err(Refusal::new(ErrorCode::InvalidTopic, format!("Cannot append to internal topic {}.", topic.name)));
    }
    Ok((partition(topic, index)?, call.shared.rules.rules(image, topic, call.broker().node_id())))
}

fn respond(call: &Call, topics: &mut [Answered]) -> ProduceResponse {
    let mut leaders = BTreeSet::new();
    let responses = topics.iter_mut().map(|topic| TopicProduceResponse {
        name: std::mem::take(&mut topic.name),
        topic_id: topic.id,
        partition_responses: topic
            .partitions
            .drain(..)
            .map(|(index, outcome)| answer(index, outcome, &mut leaders))
            .collect(),
        ..Default::default()
    });
    let responses = responses.collect();
    let node_endpoints = endpoints(call, &leaders, |node_id, host, port, rack| NodeEndpoint {
        node_id,
        host,
        port,
        rack,
        ..Default::default()
    });
    ProduceResponse { responses, node_endpoints, ..Default::default() }
}

fn answer(index: i32, outcome: Outcome, leaders: &mut BTreeSet<NodeId>) -> PartitionProduceResponse {
    let mut answer = PartitionProduceResponse {
        index,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..Default::default()
    };
    match outcome {
        Ok(appended) => {
            answer.base_offset = appended.base_offset;
            answer.log_append_time_ms = appended.log_append_time_ms.unwrap_or(-1);
            answer.log_start_offset = appended.log_start;
        }
        Err(Failure { refusal, leader }) => {
            answer.error_code = refusal.code.code();
            answer.error_message = refusal.text();
            let blame = |batch_index| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: refusal.text(),
                ..Default::default()
            };
            answer.record_errors = refusal.records.iter().copied().map(blame).collect();
            if let Some(Leader { node: Some(id), epoch }) = leader {
                leaders.insert(id);
                answer.current_leader =
                    LeaderIdAndEpoch { leader_id: node(id), leader_epoch: epoch, ..Default::default() };
            }
        }
    }
    answer
}
