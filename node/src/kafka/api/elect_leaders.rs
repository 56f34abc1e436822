//! ElectLeaders (43): hands partitions to their preferred leaders (KIP-183). Unclean elections (KIP-460) there are none: only a
//! majority makes a leader, so that a partition without one stays so until enough of its replicas are back.
use futures::StreamExt;
use model::controller::Image;
use tokio::time::{Instant, timeout_at};
use wire::kafka::messages::elect_leaders::{PartitionResult, ReplicaElectionResult};
use wire::kafka::messages::{ElectLeadersRequest, ElectLeadersResponse};
use wire::kafka::{ErrorCode, Str};

use super::control::patience;
use super::partition_of;
use crate::broker::{PartitionRef, Unmoved};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// Elections of one request under way at once: each stops its partition for some milliseconds.
const AT_ONCE: usize = 16;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let image = call.broker().image();
    // Of all partitions, Kafka does not tell of those that need no election.
    let all = request.topic_partitions.is_none();
    let asked: Vec<(Str, i32)> = match request.topic_partitions {
        None => every(&image),
        Some(topics) => topics
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic.clone(), index)))
            .collect(),
    };
    let deadline = Instant::now() + patience(request.timeout_ms);
    let election = request.election_type;
    let elect = |(topic, index): (Str, i32)| {
        let (call, partition) = (&call, partition_of(&image, &topic, index));
        async move {
            let late = |_elapsed| Err(Refusal::from(ErrorCode::RequestTimedOut));
            let elected = match partition {
                Ok(partition) => timeout_at(deadline, elect(call, election, partition)).await.unwrap_or_else(late),
                Err(code) => Err(code.into()),
            };
            (topic, index, elected.err())
        }
    };
    let elections: Vec<_> = asked.into_iter().map(elect).collect();
    let elected: Vec<_> = futures::stream::iter(elections).buffered(AT_ONCE).collect().await;
    let mut replica_election_results: Vec<ReplicaElectionResult> = Vec::new();
    let unneeded = |refusal: &Option<Refusal>| refusal.as_ref().is_some_and(|r| r.code == ErrorCode::ElectionNotNeeded);
    for (topic, partition_id, refusal) in elected.into_iter().filter(|(_, _, refusal)| !all || !unneeded(refusal)) {
        let error_code = Refusal::code_of(refusal.as_ref());
        let error_message = refusal.as_ref().and_then(Refusal::text);
        let result = PartitionResult { partition_id, error_code, error_message, ..Default::default() };
        match replica_election_results.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.partition_result.push(result),
            None => {
                let partition_result = vec![result];
                replica_election_results.push(ReplicaElectionResult { topic, partition_result, ..Default::default() });
            }
        }
    }
    ElectLeadersResponse { replica_election_results, ..Default::default() }
}

fn every(image: &Image) -> Vec<(Str, i32)> {
    let partitions = image.topics.values().flat_map(|topic| {
        let name = Str::from(topic.name.clone());
        (0..).zip(&topic.partitions).map(move |(index, _)| (name.clone(), index))
    });
    partitions.collect()
}

async fn elect(call: &Call, election: i8, partition: PartitionRef) -> Result<(), Refusal> {
    let broker = call.broker();
    match election {
        PREFERRED => broker.transfer(partition, None).await.map(drop).map_err(|unmoved| refusal(&unmoved)),
        UNCLEAN if broker.is_led(partition) => Err(ErrorCode::ElectionNotNeeded.into()),
        UNCLEAN => {
            let words = "Only a majority of the replicas elects a leader; there is no unclean election.";
            Err(Refusal::new(ErrorCode::EligibleLeadersNotAvailable, words))
        }
        other => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown election type {other}."))),
    }
}

fn refusal(unmoved: &Unmoved) -> Refusal {
    let code = match unmoved {
        Unmoved::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Unmoved::NotNeeded(_) => ErrorCode::ElectionNotNeeded,
        Unmoved::Leaderless | Unmoved::Ineligible { .. } | Unmoved::Failed(_) => ErrorCode::PreferredLeaderNotAvailable,
    };
    Refusal::new(code, unmoved.to_string())
}
