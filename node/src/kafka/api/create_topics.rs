//! CreateTopics (19): explicit creation; the controller checks names, counts, placement and configs.
use std::collections::BTreeMap;

use model::controller::image::Configs;
use model::controller::{Command, CreateTopics, CreatedTopic, Image, NewTopic, Outcome, Topic};
use model::{NodeId, TopicId};
use tokio::time::Instant;
use wire::kafka::messages::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use wire::kafka::messages::{CreateTopicsRequest, CreateTopicsResponse};
use wire::kafka::{ErrorCode, Str};

use super::configs::statics;
use super::control::{self, await_leaders, patience};
use super::uuid;
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// The answer has the topic's configs from here on (KIP-525).
const CONFIGS_FROM: i16 = 5;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let validate_only = request.validate_only;
    let patience = patience(request.timeout_ms);
    let deadline = Instant::now() + patience;
    let names: Vec<(Str, Configs)> = request.topics.iter().map(|asked| (asked.name.clone(), configs(asked))).collect();
    let items = request.topics.iter().map(new_topic).collect();
    let command = |topics| Command::CreateTopics(CreateTopics { topics, validate_only, auto: false });
    let results = control::each(&call, patience, items, command, |outcome| match outcome {
        Outcome::Created(results) => Some(results),
        _ => None,
    });
    let mut results = results.await;
    if !validate_only {
        await_leaders(&call, deadline, &mut results, |_, created| created.name.clone()).await;
    }
    let image = call.broker().image();
    let topics = names.into_iter().zip(results).map(|((name, configs), result)| match result {
        Ok(created) => success(&call, &image, created, configs, validate_only),
        Err(refusal) => CreatableTopicResult {
            name,
            error_code: refusal.code.code(),
            error_message: refusal.text(),
            ..Default::default()
        },
    });
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
}

/// What was asked for; a config without a value is refused below.
fn configs(asked: &CreatableTopic) -> Configs {
    let value = |value: &Option<Str>| value.as_ref().map(|value| value.as_str().to_owned()).unwrap_or_default();
    asked.configs.iter().map(|config| (config.name.as_str().to_owned(), value(&config.value))).collect()
}

fn new_topic(asked: &CreatableTopic) -> Result<NewTopic, Refusal> {
    if let Some(config) = asked.configs.iter().find(|config| config.value.is_none()) {
        let words = format!("Null value not supported for topic configs: {}", config.name);
        return Err(Refusal::new(ErrorCode::InvalidConfig, words));
    }
    Ok(NewTopic {
        name: asked.name.as_str().to_owned(),
        id: fresh_id(),
        partitions: asked.num_partitions,
        replication: asked.replication_factor,
        assignments: assignments(asked)?,
        configs: configs(asked),
    })
}

fn assignments(asked: &CreatableTopic) -> Result<BTreeMap<i32, Vec<NodeId>>, Refusal> {
    let mut assignments = BTreeMap::new();
    for assignment in &asked.assignments {
        let nodes = super::nodes(&assignment.broker_ids)?;
        if assignments.insert(assignment.partition_index, nodes).is_some() {
            let words = format!("partition {} is assigned twice", assignment.partition_index);
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, words));
        }
    }
    Ok(assignments)
}

/// A random (version 4) UUID; like Kafka, none whose text begins with a dash.
fn fresh_id() -> TopicId {
    loop {
        let mut bytes: [u8; 16] = rand::random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = TopicId(bytes);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

fn success(
    call: &Call,
    image: &Image,
    created: CreatedTopic,
    configs: Configs,
    validate_only: bool,
) -> CreatableTopicResult {
    let topic = Topic { id: created.id, name: created.name, configs, partitions: Vec::new() };
    let statics = statics(call.broker().config());
    let entry = |described: model::controller::Described| CreatableTopicConfigs {
        name: Str::from_static(described.key.name),
        value: described.value.map(Str::from),
        read_only: described.key.is_read_only(),
        config_source: described.source as i8,
        is_sensitive: described.key.is_sensitive(),
        ..Default::default()
    };
    let described = || image.describe_topic(&topic, Some(call.broker().node_id()), &statics).into_iter().map(entry);
    CreatableTopicResult {
        topic_id: if validate_only { wire::kafka::Uuid::ZERO } else { uuid(topic.id) },
        num_partitions: created.partitions,
        replication_factor: created.replication,
        configs: (call.version >= CONFIGS_FROM).then(|| described().collect()),
        name: topic.name.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::messages::create_topics::{CreatableReplicaAssignment, CreatableTopicConfig};

    fn asked() -> CreatableTopic {
        CreatableTopic { name: Str::from_static("t"), num_partitions: -1, replication_factor: -1, ..Default::default() }
    }

    #[test]
    fn ids_are_version_4_and_differ() {
        let ids: std::collections::BTreeSet<TopicId> = (0..1000).map(|_| fresh_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.0[6] >> 4 == 4 && id.0[8] >> 6 == 2 && !id.to_string().starts_with('-')));
    }

    #[test]
    fn a_config_needs_a_value() {
        let mut topic = asked();
        topic.configs = vec![CreatableTopicConfig { name: Str::from_static("retention.ms"), ..Default::default() }];
        assert_eq!(new_topic(&topic).unwrap_err().code, ErrorCode::InvalidConfig);
        topic.configs[0].value = Some(Str::from_static("1000"));
        assert_eq!(new_topic(&topic).unwrap().configs["retention.ms"], "1000");
    }

    #[test]
    fn a_partition_is_assigned_once_to_real_nodes() {
        let assignment = |partition_index, broker_ids: &[i32]| CreatableReplicaAssignment {
            partition_index,
            broker_ids: broker_ids.to_vec(),
            ..Default::default()
        };
        let mut topic = asked();
        topic.assignments = vec![assignment(0, &[1, 2]), assignment(1, &[2])];
        assert_eq!(new_topic(&topic).unwrap().assignments[&0], [NodeId(1), NodeId(2)]);
        topic.assignments = vec![assignment(0, &[1]), assignment(0, &[2])];
        assert_eq!(new_topic(&topic).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
        topic.assignments = vec![assignment(0, &[-1])];
        assert_eq!(new_topic(&topic).unwrap_err().code, ErrorCode::InvalidReplicaAssignment);
    }
}
