//! Topics and configs: created, grown, described, altered, deleted, with Kafka's codes for what is wrong.
use wire::kafka::messages::create_partitions::CreatePartitionsTopic;
use wire::kafka::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreatableTopicResult};
use wire::kafka::messages::delete_topics::DeleteTopicState;
use wire::kafka::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResult};
use wire::kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use wire::kafka::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest, ListOffsetsRequest,
};
use wire::kafka::{ErrorCode, Str, Uuid};

use crate::client::Client;
use crate::node::{ask_for, batch, produce, produced, start, start_with};

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: name.to_owned().into(), num_partitions, replication_factor, ..Default::default() }
}

async fn create(client: &mut Client, topics: Vec<CreatableTopic>, validate_only: bool) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only, ..Default::default() };
    client.call(7, &request).await.topics
}

#[tokio::test]
async fn defaults_are_four_partitions_on_as_many_nodes_as_there_are() {
    let node = start().await;
    node.topic("first", 1).await;
    let mut client = node.client().await;
    let created = create(&mut client, vec![topic("t", -1, -1)], false).await;
    assert_eq!((created[0].error_code, created[0].num_partitions, created[0].replication_factor), (0, 4, 1));
    assert_ne!(created[0].topic_id, Uuid::ZERO);
    let configs = created[0].configs.as_ref().expect("configs since version 5");
    let find = |name: &str| configs.iter().find(|config| config.name.as_str() == name).expect("all keys");
    assert_eq!(find("max.message.bytes").value.as_ref().map(Str::as_str), Some("1048588"));
}

#[tokio::test]
async fn only_validated_is_not_created() {
    let node = start().await;
    node.topic("first", 1).await;
    let mut client = node.client().await;
    let checked = create(&mut client, vec![topic("t", 3, 1)], true).await;
    assert_eq!((checked[0].error_code, checked[0].num_partitions, checked[0].topic_id), (0, 3, Uuid::ZERO));
    let unknown = client.call(9, &ask_for("t", false)).await;
    assert_eq!(unknown.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn what_cannot_be_created_is_named_and_the_rest_is_made() {
    let node = start().await;
    node.topic("first", 1).await;
    let mut client = node.client().await;
    let bad_config = |name: &'static str, value: &'static str| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: Str::from_static(name),
            value: Some(Str::from_static(value)),
            ..Default::default()
        }],
        ..topic("config", 1, 1)
    };
    for (asked, expected) in [
        (topic("first", 1, 1), ErrorCode::TopicAlreadyExists),
        (topic("a b", 1, 1), ErrorCode::InvalidTopic),
        (topic("", 1, 1), ErrorCode::InvalidTopic),
        (topic("zero", 0, 1), ErrorCode::InvalidPartitions),
        (topic("wide", 1, 9), ErrorCode::InvalidReplicationFactor),
        (topic("none", 1, 0), ErrorCode::InvalidReplicationFactor),
        (bad_config("no.such.key", "1"), ErrorCode::InvalidConfig),
        (bad_config("retention.ms", "soon"), ErrorCode::InvalidConfig),
    ] {
        let what = asked.name.clone();
        let results = create(
            &mut client,
            vec![asked, topic(&format!("good-{expected}-{what}").replace([' ', ':'], "-"), 1, 1)],
            false,
        )
        .await;
        assert_eq!(results[0].error_code, expected.code(), "{what}: {results:?}");
        assert!(results[0].error_message.is_some(), "{what}");
        assert!(matches!(
            ErrorCode::from_i16(results[1].error_code),
            Some(ErrorCode::None | ErrorCode::TopicAlreadyExists)
        ));
    }
    let twice = create(&mut client, vec![topic("twice", 1, 1), topic("twice", 1, 1)], false).await;
    assert!(twice.iter().all(|result| result.error_code == ErrorCode::InvalidRequest.code()), "{twice:?}");
}

#[tokio::test]
async fn a_node_takes_no_more_partitions_than_its_limit() {
    let node = start_with(|config| config.limits.partitions_max = 3).await;
    node.topic("first", 2).await;
    let mut client = node.client().await;
    let results = create(&mut client, vec![topic("two-more", 2, 1), topic("one-more", 1, 1)], false).await;
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation.code(), 0]);
    let words = results[0].error_message.as_ref().map(Str::as_str).unwrap_or_default();
    assert!(words.contains("holds 3") && words.contains("limits.partitions_max"), "{words}");
    let topics = vec![CreatePartitionsTopic { name: Str::from_static("first"), count: 3, ..Default::default() }];
    let request = CreatePartitionsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    assert_eq!(client.call(3, &request).await.results[0].error_code, ErrorCode::PolicyViolation.code());
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let node = start().await;
    node.topic("by-name", 1).await;
    let id = node.topic("by-id", 1).await;
    let mut client = node.client().await;
    let state = |name: Option<&'static str>, topic_id| DeleteTopicState {
        name: name.map(Str::from_static),
        topic_id,
        ..Default::default()
    };
    let topics = vec![state(Some("by-name"), Uuid::ZERO), state(None, id), state(Some("nowhere"), Uuid::ZERO)];
    let request = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let answer = client.call(6, &request).await;
    let codes: Vec<i16> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, 0, ErrorCode::UnknownTopicOrPartition.code()]);
    assert_eq!(answer.responses[1].name.as_ref().map(Str::as_str), Some("by-id"));
    let again = DeleteTopicsRequest { topics: vec![state(None, id)], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(client.call(6, &again).await.responses[0].error_code, ErrorCode::UnknownTopicId.code());
    let gone = client.call(9, &produce("by-name", 0, batch(&["a"]))).await;
    assert_eq!(produced(&gone).error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn a_topic_made_again_is_another_topic() {
    let node = start().await;
    let first = node.topic("t", 1).await;
    let mut client = node.client().await;
    assert_eq!(produced(&client.call(9, &produce("t", 0, batch(&["a", "b"]))).await).base_offset, 0);
    let topic_names = vec![Str::from_static("t")];
    client.call(5, &DeleteTopicsRequest { topic_names, timeout_ms: 10_000, ..Default::default() }).await;
    let second = node.topic("t", 1).await;
    assert_ne!(first, second);
    assert_eq!(produced(&client.call(9, &produce("t", 0, batch(&["c"]))).await).base_offset, 0);
}

#[tokio::test]
async fn topics_grow_and_never_shrink() {
    let node = start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let grow = |name: &'static str, count, validate_only| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: Str::from_static(name), count, ..Default::default() }],
        timeout_ms: 10_000,
        validate_only,
        ..Default::default()
    };
    for (request, expected) in [
        (grow("t", 5, true), ErrorCode::None),
        (grow("t", 3, false), ErrorCode::None),
        (grow("t", 3, false), ErrorCode::InvalidPartitions),
        (grow("t", 1, false), ErrorCode::InvalidPartitions),
        (grow("nowhere", 4, false), ErrorCode::UnknownTopicOrPartition),
    ] {
        let answer = client.call(3, &request).await;
        assert_eq!(answer.results[0].error_code, expected.code(), "{request:?}");
    }
    node.led("t").await;
    assert_eq!(client.call(9, &ask_for("t", false)).await.topics[0].partitions.len(), 3);
    assert_eq!(produced(&client.call(9, &produce("t", 2, batch(&["a"]))).await).error_code, 0);
}

async fn describe(client: &mut Client, resource_type: i8, name: &str) -> DescribeConfigsResult {
    let resource =
        DescribeConfigsResource { resource_type, resource_name: name.to_owned().into(), ..Default::default() };
    let request = DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    client.call(4, &request).await.results.remove(0)
}

fn value(result: &DescribeConfigsResult, key: &str) -> (Option<String>, i8) {
    let config = result.configs.iter().find(|config| config.name.as_str() == key).expect("every key is told");
    (config.value.as_ref().map(ToString::to_string), config.config_source)
}

async fn alter(client: &mut Client, key: &'static str, operation: i8, value: Option<&'static str>) -> i16 {
    let config = AlterableConfig {
        name: Str::from_static(key),
        config_operation: operation,
        value: value.map(Str::from_static),
        ..Default::default()
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: Str::from_static("t"),
        configs: vec![config],
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(1, &request).await.responses[0].error_code
}

#[tokio::test]
async fn a_config_has_its_effect_until_it_is_deleted() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    assert_eq!(value(&describe(&mut client, 2, "t").await, "max.message.bytes"), (Some("1048588".into()), 5));
    assert_eq!(alter(&mut client, "max.message.bytes", 0, Some("80")).await, 0);
    assert_eq!(value(&describe(&mut client, 2, "t").await, "max.message.bytes"), (Some("80".into()), 1));
    let long = "x".repeat(100);
    let refused = client.call(9, &produce("t", 0, batch(&[&long]))).await;
    assert_eq!(produced(&refused).error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(alter(&mut client, "max.message.bytes", 1, None).await, 0);
    assert_eq!(produced(&client.call(9, &produce("t", 0, batch(&[&long]))).await).error_code, 0);
    assert_eq!(alter(&mut client, "max.message.bytes", 0, Some("many")).await, ErrorCode::InvalidConfig.code());
    assert_eq!(alter(&mut client, "no.such.key", 0, Some("1")).await, ErrorCode::InvalidConfig.code());
}

#[tokio::test]
async fn log_append_time_is_stamped_and_told() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    assert_eq!(alter(&mut client, "message.timestamp.type", 0, Some("LogAppendTime")).await, 0);
    let answer = client.call(9, &produce("t", 0, batch(&["a"]))).await;
    let stamped = produced(&answer).log_append_time_ms;
    assert!(stamped > 1_600_000_000_000, "{stamped} is no time of today");
    let partitions = vec![ListOffsetsPartition { timestamp: stamped, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: Str::from_static("t"), partitions, ..Default::default() }];
    let found = client.call(7, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).await;
    let found = &found.topics[0].partitions[0];
    assert_eq!((found.offset, found.timestamp), (0, stamped));
}

#[tokio::test]
async fn nodes_and_the_cluster_have_configs() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let own = describe(&mut client, 4, "1").await;
    assert_eq!((own.error_code, value(&own, "node.id")), (0, (Some("1".into()), 4)));
    assert_eq!(value(&own, "replica.lag.time.max.ms"), (Some("30000".into()), 4));
    assert_eq!(describe(&mut client, 4, "").await.error_code, 0);
    assert_eq!(describe(&mut client, 4, "2").await.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(describe(&mut client, 4, "x").await.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(describe(&mut client, 2, "nowhere").await.error_code, ErrorCode::UnknownTopicOrPartition.code());
    let named = client.call(1, &ListConfigResourcesRequest { resource_types: vec![2, 4], ..Default::default() }).await;
    let named: Vec<_> = named.config_resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())).collect();
    assert_eq!(named, [(2, "t"), (4, "1")]);
}

#[tokio::test]
async fn log_directories_tell_their_sizes() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.call(9, &produce("t", 0, batch(&[&"x".repeat(10_000)]))).await;
    let answer = client.call(4, &DescribeLogDirsRequest { topics: None, ..Default::default() }).await;
    let [dir] = answer.results.as_slice() else { panic!("one folder") };
    let topic = dir.topics.iter().find(|topic| topic.name.as_str() == "t").expect("the topic");
    assert!(topic.partitions[0].partition_size > 0, "{dir:?}");
}

#[tokio::test]
async fn partitions_are_described_in_pages() {
    let node = start().await;
    node.topic("a", 3).await;
    node.topic("b", 2).await;
    let mut client = node.client().await;
    let mut request = DescribeTopicPartitionsRequest { response_partition_limit: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = client.call(0, &request).await;
        for topic in &page.topics {
            let name = topic.name.as_ref().expect("a name").to_string();
            seen.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
        }
        let Some(next) = page.next_cursor else { break };
        request.cursor = Some(Box::new(wire::kafka::messages::describe_topic_partitions::request::Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        }));
    }
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)].map(|(name, index)| (name.to_owned(), index));
    assert_eq!(seen, expected);
}
