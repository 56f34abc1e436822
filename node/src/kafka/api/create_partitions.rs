//! CreatePartitions (37): a topic grows (KIP-195).
use model::controller::{Command, CreatePartitions, MorePartitions, Outcome};
use tokio::time::Instant;
use wire::kafka::messages::create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use wire::kafka::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::control::{self, await_leaders, patience, refuse_twice};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let patience = patience(request.timeout_ms);
    let deadline = Instant::now() + patience;
    let names: Vec<_> = request.topics.iter().map(|asked| asked.name.clone()).collect();
    let keyed = request.topics.into_iter().map(|asked| (asked.name.as_str().to_owned(), asked)).collect();
    let items = refuse_twice(keyed, |name| format!("Duplicate topic '{name}' in request."));
    let items = items.into_iter().map(|item| more(item?.1)).collect();
    let command = |topics| Command::CreatePartitions(CreatePartitions { topics, validate_only });
    let results = control::each(&call, patience, items, command, |outcome| match outcome {
        Outcome::Each(results) => Some(results),
        _ => None,
    });
    let mut results = results.await;
    if !validate_only {
        await_leaders(&call, deadline, &mut results, |place, ()| names[place].as_str().to_owned()).await;
    }
    let results = names.into_iter().zip(results).map(|(name, result)| {
        let refusal = result.err();
        CreatePartitionsTopicResult {
            name,
            error_code: Refusal::code_of(refusal.as_ref()),
            error_message: refusal.as_ref().and_then(Refusal::text),
            ..Default::default()
        }
    });
    CreatePartitionsResponse { results: results.collect(), ..Default::default() }
}

fn more(asked: CreatePartitionsTopic) -> Result<MorePartitions, Refusal> {
    let assignments = asked.assignments.map(|assignments| {
        assignments.iter().map(|assignment| super::nodes(&assignment.broker_ids)).collect::<Result<_, _>>()
    });
    Ok(MorePartitions {
        topic: asked.name.as_str().to_owned(),
        count: asked.count,
        assignments: assignments.transpose()?,
    })
}
