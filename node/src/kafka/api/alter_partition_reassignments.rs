//! AlterPartitionReassignments (45): replicas move, come or go (KIP-455, KIP-860), or stay after all. The answer says that the
//! change is wanted; the partition's leader carries it out, and ListPartitionReassignments shows it until it is finished.
use model::PartitionIndex;
use model::controller::{AlterReplicas, Command, Outcome, Placing, ReplicaChange, Terms, Wanted};
use wire::kafka::messages::alter_partition_reassignments::{
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use wire::kafka::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use super::control::{self, patience, refuse_twice};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Answers every version.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_change_count = request.allow_replication_factor_change;
    let asked: Vec<_> = request.topics.iter().map(|topic| (topic.name.clone(), topic.partitions.len())).collect();
    let keyed = request.topics.into_iter().flat_map(|topic| {
        let name = topic.name.as_str().to_owned();
        topic.partitions.into_iter().map(move |partition| ((name.clone(), partition.partition_index), partition))
    });
    let keyed: Vec<_> = keyed.collect();
    let indexes: Vec<i32> = keyed.iter().map(|((_, index), _)| *index).collect();
    let items = refuse_twice(keyed, |(topic, index)| format!("Duplicate partition {index} of topic '{topic}'."));
    let items = items.into_iter().map(|item| item.and_then(|((topic, _), partition)| change(topic, partition)));
    let command = |changes| {
        let what = Placing::AlterReplicas(AlterReplicas { changes, may_change_count });
        Command::Place { terms: Terms::default(), what }
    };
    let results =
        control::each(&call, patience(request.timeout_ms), items.collect(), command, |outcome| match outcome {
            Outcome::Each(results) => Some(results),
            _ => None,
        });
    let results = results.await;
    let mut partitions = indexes.into_iter().zip(results).map(|(partition_index, result)| {
        let refusal = result.err();
        ReassignablePartitionResponse {
            partition_index,
            error_code: Refusal::code_of(refusal.as_ref()),
            error_message: refusal.as_ref().and_then(Refusal::text),
            ..Default::default()
        }
    });
    let responses = asked.into_iter().map(|(name, count)| {
        let partitions = partitions.by_ref().take(count).collect();
        ReassignableTopicResponse { name, partitions, ..Default::default() }
    });
    AlterPartitionReassignmentsResponse {
        responses: responses.collect(),
        allow_replication_factor_change: may_change_count,
        ..Default::default()
    }
}

/// Without replicas: those of before the change under way.
fn change(topic: String, asked: ReassignablePartition) -> Result<ReplicaChange, Refusal> {
    let to = match asked.replicas {
        Some(ids) => Wanted::On(super::nodes(&ids)?),
        None => Wanted::Before,
    };
    Ok(ReplicaChange { topic, index: PartitionIndex(asked.partition_index), revision: None, to })
}
