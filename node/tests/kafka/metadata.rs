//! Metadata, DescribeCluster, ApiVersions: what a client learns when it arrives.
use wire::kafka::messages::metadata::MetadataRequestTopic;
use wire::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, MetadataRequest};
use wire::kafka::versions;
use wire::kafka::{ErrorCode, Str, Uuid};

use crate::node::{ask_for, start, start_with, until};

#[tokio::test]
async fn the_node_names_itself_as_the_client_sees_it() {
    let node = start().await;
    let id = node.topic("t", 2).await;
    let mut client = node.client().await;
    let all = client.call(12, &MetadataRequest { topics: None, ..Default::default() }).await;
    let [broker] = all.brokers.as_slice() else { panic!("one node, not {all:?}") };
    assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", i32::from(node.kafka.port())));
    assert_eq!((broker.node_id, all.controller_id), (1, 1));
    assert!(all.cluster_id.is_some_and(|id| !id.is_empty()));
    let [topic] = all.topics.as_slice() else { panic!("one topic") };
    assert_eq!((topic.topic_id, topic.partitions.len(), topic.topic_authorized_operations), (id, 2, i32::MIN));
    let partition = &topic.partitions[0];
    assert_eq!((partition.leader_id, &partition.replica_nodes, &partition.isr_nodes), (1, &vec![1], &vec![1]));
    assert!(partition.leader_epoch > 0 && partition.offline_replicas.is_empty());
}

#[tokio::test]
async fn all_or_none_depends_on_the_version() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    assert_eq!(client.call(0, &none).await.topics.len(), 1, "an empty list means all in version 0");
    assert_eq!(client.call(1, &none).await.topics.len(), 0);
    assert_eq!(client.call(1, &MetadataRequest { topics: None, ..Default::default() }).await.topics.len(), 1);
}

#[tokio::test]
async fn asking_creates_a_topic_with_four_partitions() {
    let node = start().await;
    node.topic("first", 1).await;
    let mut client = node.client().await;
    let refused = client.call(9, &ask_for("quiet", false)).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let pending = client.call(9, &ask_for("loud", true)).await;
    assert_eq!(pending.topics[0].error_code, ErrorCode::LeaderNotAvailable.code());
    node.led("loud").await;
    assert_eq!(client.call(9, &ask_for("loud", true)).await.topics[0].partitions.len(), 4);
    let still = client.call(9, &ask_for("quiet", false)).await;
    assert_eq!(still.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let illegal = client.call(9, &ask_for("no/such name", true)).await;
    assert_eq!(illegal.topics[0].error_code, ErrorCode::InvalidTopic.code());
}

#[tokio::test]
async fn auto_creation_can_be_switched_off() {
    let node = start_with(|config| config.auto_create.enabled = false).await;
    node.topic("first", 1).await;
    let answer = node.client().await.call(9, &ask_for("loud", true)).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn ten_thousand_unknown_names_are_answered_and_bounded() {
    let node = start().await;
    node.topic("first", 1).await;
    let mut client = node.client().await;
    let name = |i: usize| MetadataRequestTopic { name: Some(format!("many-{i}").into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some((0..10_000).map(name).collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let answer = client.call(9, &request).await;
    let count = |code: ErrorCode| answer.topics.iter().filter(|topic| topic.error_code == code.code()).count();
    assert_eq!(count(ErrorCode::LeaderNotAvailable) + count(ErrorCode::PolicyViolation), 10_000);
    assert!(count(ErrorCode::LeaderNotAvailable) <= 500, "{} at once", count(ErrorCode::LeaderNotAvailable));
    let settled = until("creation", || async {
        let all = node.client().await.call(9, &MetadataRequest { topics: None, ..Default::default() }).await;
        let made = all.topics.len() - 1;
        (made >= count(ErrorCode::LeaderNotAvailable)).then_some(made)
    });
    assert_eq!(settled.await, count(ErrorCode::LeaderNotAvailable));
}

#[tokio::test]
async fn a_topic_is_found_by_id() {
    let node = start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let ask = |topic_id| {
        let topics = Some(vec![MetadataRequestTopic { topic_id, name: None, ..Default::default() }]);
        MetadataRequest { topics, ..Default::default() }
    };
    for name in [None, Some(Str::default())] {
        // Java sends an empty name with the id.
        let mut request = ask(id);
        request.topics.as_mut().unwrap()[0].name = name;
        let found = client.call(12, &request).await;
        assert_eq!(found.topics[0].name.as_ref().map(Str::as_str), Some("t"));
    }
    let lost = client.call(12, &ask(Uuid::from_parts(5, 5))).await;
    assert_eq!((lost.topics[0].error_code, lost.topics[0].name.clone()), (ErrorCode::UnknownTopicId.code(), None));
}

#[tokio::test]
async fn operations_are_told_when_asked_for() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let request = MetadataRequest {
        include_cluster_authorized_operations: true,
        include_topic_authorized_operations: true,
        ..ask_for("t", false)
    };
    let answer = client.call(8, &request).await;
    assert_eq!((answer.cluster_authorized_operations, answer.topics[0].topic_authorized_operations), (8096, 3576));
}

#[tokio::test]
async fn a_too_new_api_versions_is_answered_in_version_zero() {
    let node = start().await;
    let mut client = node.client().await;
    // Length, key 18, version 99, correlation id 7, client id "x", and a body nobody knows.
    client.raw(&[0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 9, 9, 9]).await.unwrap();
    let (id, answer) = client.receive::<ApiVersionsResponse>(0).await;
    assert_eq!((id, answer.error_code), (7, ErrorCode::UnsupportedVersion.code()));
    assert_eq!(answer.api_keys.len(), versions::APIS.len());
    let own = answer.api_keys.iter().find(|api| api.api_key == 18).expect("its own range");
    assert!(own.min_version == 0 && own.max_version >= 4);
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, 0, "the connection goes on");
}

#[tokio::test]
async fn software_names_follow_the_pattern() {
    let node = start().await;
    let mut client = node.client().await;
    let request = ApiVersionsRequest {
        client_software_name: Str::from_static("bad name"),
        client_software_version: Str::from_static("1"),
        ..Default::default()
    };
    let answer = client.call(3, &request).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn the_cluster_is_described() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let ask = |endpoint_type| DescribeClusterRequest { endpoint_type, ..Default::default() };
    let answer = client.call(2, &ask(1)).await;
    assert_eq!((answer.error_code, answer.controller_id, answer.brokers.len()), (0, 1, 1));
    assert_eq!((answer.brokers[0].port, answer.brokers[0].is_fenced), (i32::from(node.kafka.port()), false));
    assert_eq!(answer.cluster_authorized_operations, i32::MIN);
    assert_eq!(client.call(1, &ask(2)).await.error_code, ErrorCode::MismatchedEndpointType.code());
    assert_eq!(client.call(1, &ask(9)).await.error_code, ErrorCode::UnsupportedEndpointType.code());
}

#[tokio::test]
async fn a_node_that_stops_answers_who_was_not_answered_yet() {
    let node = start().await;
    let (mut known, mut new, mut silent) = (node.client().await, node.client().await, node.client().await);
    known.call(4, &ask_for("t", false)).await;
    for client in [&mut new, &mut silent] {
        client.call(3, &ApiVersionsRequest::default()).await;
    }
    let stopping = tokio::spawn(node.running.stop());
    // Before anything else: it has a second for this.
    let answer = new.call(4, &ask_for("t", false)).await;
    assert_eq!(answer.topics.len(), 1);
    for answered in [&mut known, &mut new] {
        assert_eq!(answered.end().await.ok(), Some(0));
    }
    let reset = silent.end().await.map_err(|error| error.kind());
    assert_eq!(reset, Err(std::io::ErrorKind::ConnectionReset), "an end in good order could be a refusal");
    stopping.await.expect("it stops");
}
