//! Three nodes: who asks the wrong one is sent to the right one, in words of every version.
use std::time::Duration;

use wire::kafka::messages::create_partitions::CreatePartitionsTopic;
use wire::kafka::messages::create_topics::{CreatableReplicaAssignment, CreatableTopic};
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic};
use wire::kafka::messages::{CreatePartitionsRequest, CreateTopicsRequest, FetchRequest, MetadataRequest};
use wire::kafka::{ErrorCode, Str, Uuid};

use crate::client::Client;
use crate::node::{Node, ask_for, batch, produce, produced, start_three, start_three_with, until};

/// Ports of the leader of the topic's one partition, and of a node that does not lead it; the leader's id.
async fn leader_and_other(nodes: &[Node]) -> (i32, usize, usize) {
    let metadata = nodes[0].client().await.call(12, &ask_for("t", false)).await;
    let partition = &metadata.topics[0].partitions[0];
    assert_eq!((partition.replica_nodes.len(), partition.isr_nodes.len()), (3, 3));
    let leader = usize::try_from(partition.leader_id).expect("a leader") - 1;
    (partition.leader_id, leader, (leader + 1) % 3)
}

#[tokio::test]
async fn the_wrong_node_names_the_leader_and_its_address() {
    let nodes = start_three().await;
    let id = nodes[0].topic("t", 1).await;
    let (leader_id, leader, other) = leader_and_other(&nodes).await;
    let mut client = nodes[other].client().await;
    for version in 3..=13 {
        let mut request = produce("t", 0, batch(&["a"]));
        if version >= 13 {
            (request.topic_data[0].name, request.topic_data[0].topic_id) = (Str::default(), id);
        }
        let answer = client.call(version, &request).await;
        assert_eq!(produced(&answer).error_code, ErrorCode::NotLeaderOrFollower.code(), "v{version}");
        let named: Vec<_> = answer.node_endpoints.iter().map(|e| (e.node_id, e.port)).collect();
        let expected = [(leader_id, i32::from(nodes[leader].kafka.port()))];
        if version >= 10 {
            assert_eq!(
                (produced(&answer).current_leader.leader_id, &named[..]),
                (leader_id, &expected[..]),
                "v{version}"
            );
        } else {
            assert!(named.is_empty(), "v{version}");
        }
    }
    let answer = nodes[leader].client().await.call(9, &produce("t", 0, batch(&["a"]))).await;
    assert_eq!(produced(&answer).error_code, 0);
}

#[tokio::test]
async fn a_fetch_from_the_wrong_node_does_too() {
    let nodes = start_three().await;
    let id = nodes[0].topic("t", 1).await;
    let (leader_id, leader, other) = leader_and_other(&nodes).await;
    let mut client = nodes[other].client().await;
    for version in 4..=18 {
        let partition = FetchPartition { current_leader_epoch: -1, partition_max_bytes: 1 << 20, ..Default::default() };
        let by_id = version >= 13;
        let topic = FetchTopic {
            topic: if by_id { Str::default() } else { Str::from_static("t") },
            topic_id: if by_id { id } else { Uuid::ZERO },
            partitions: vec![partition],
            ..Default::default()
        };
        let request =
            FetchRequest { max_bytes: 1 << 20, max_wait_ms: 10_000, topics: vec![topic], ..Default::default() };
        let answer = client.call(version, &request).await;
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code(), "v{version}");
        if version >= 12 {
            assert_eq!(partition.current_leader.leader_id, leader_id, "v{version}");
        }
        let named: Vec<_> = answer.node_endpoints.iter().map(|e| (e.node_id, e.port)).collect();
        let expected = [(leader_id, i32::from(nodes[leader].kafka.port()))];
        assert_eq!(named, expected[..usize::from(version >= 16)], "v{version}");
    }
}

#[tokio::test]
async fn a_dead_node_leaves_the_metadata_and_its_partitions() {
    let mut nodes = start_three().await;
    nodes[0].topic("t", 1).await;
    let (leader_id, leader, _) = leader_and_other(&nodes).await;
    drop(nodes.remove(leader));
    let all = MetadataRequest { topics: None, ..Default::default() };
    let survivor = &nodes[0];
    let metadata = until("another leader", || async {
        let metadata = survivor.client().await.call(12, &all).await;
        let led_by = metadata.topics[0].partitions[0].leader_id;
        (led_by > 0 && led_by != leader_id && metadata.brokers.len() == 2).then_some(metadata)
    })
    .await;
    let partition = &metadata.topics[0].partitions[0];
    assert_eq!(partition.offline_replicas, [leader_id]);
    assert!(!partition.isr_nodes.contains(&leader_id) && partition.replica_nodes.len() == 3);
}

/// The leaders of all partitions of a topic, as Metadata names them now.
async fn leaders(client: &mut Client, topic: &str) -> Vec<i32> {
    let metadata = client.call(12, &ask_for(topic, false)).await;
    metadata.topics[0].partitions.iter().map(|partition| partition.leader_id).collect()
}

#[tokio::test]
async fn whoever_made_a_topic_finds_its_leaders_at_once() {
    // A busy machine must not make a node look dead for a moment: then it leads nothing.
    let nodes = start_three_with(|config| config.raft.node_dead_after = Duration::from_secs(10)).await;
    nodes[0].topic("first", 1).await;
    for (round, node) in nodes.iter().cycle().take(6).enumerate() {
        let name = Str::from(format!("t{round}"));
        let mut client = node.client().await;
        let topic =
            CreatableTopic { name: name.clone(), num_partitions: 8, replication_factor: 3, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
        let led = leaders(&mut client, name.as_str()).await;
        assert!(led.len() == 8 && led.iter().all(|leader| *leader > 0), "made: {led:?}");
        let topics = vec![CreatePartitionsTopic { name: name.clone(), count: 12, ..Default::default() }];
        let request = CreatePartitionsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        assert_eq!(client.call(3, &request).await.results[0].error_code, 0);
        let led = leaders(&mut client, name.as_str()).await;
        assert!(led.len() == 12 && led.iter().all(|leader| *leader > 0), "grown: {led:?}");
    }
}

/// Nodes 1 and 2 of three, once both know that the third is dead.
async fn two_of_three() -> Vec<Node> {
    let mut nodes = start_three().await;
    nodes[0].topic("first", 1).await;
    drop(nodes.remove(2));
    for node in &nodes {
        until("its death", || async {
            let all = MetadataRequest { topics: None, ..Default::default() };
            (node.client().await.call(12, &all).await.brokers.len() == 2).then_some(())
        })
        .await;
    }
    nodes
}

#[tokio::test]
async fn a_topic_that_gets_no_leader_in_time_exists_and_is_answered_so() {
    let nodes = two_of_three().await;
    let mut client = nodes[0].client().await;
    // Whoever led the controller may be the dead one: what is made now has a controller, and is not timed.
    nodes[0].topic("second", 1).await;
    let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 3], ..Default::default() };
    let topic = CreatableTopic {
        name: Str::from_static("halved"),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assignment],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 3_000, ..Default::default() };
    let answer = client.call(7, &request).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::RequestTimedOut.code(), "{answer:?}");
    let metadata = client.call(12, &ask_for("halved", false)).await;
    let partition = &metadata.topics[0].partitions[0];
    assert_eq!((metadata.topics[0].error_code, partition.leader_id), (0, -1));
}

#[tokio::test]
async fn a_topic_made_while_a_node_is_down_avoids_it_where_it_can() {
    let nodes = two_of_three().await;
    for (name, replication_factor) in [("two", 2), ("three", 3)] {
        let topic = CreatableTopic {
            name: Str::from_static(name),
            num_partitions: 6,
            replication_factor,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000, ..Default::default() };
        let mut client = nodes[0].client().await;
        let answer = client.call(7, &request).await;
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        let metadata = client.call(12, &ask_for(name, false)).await;
        for partition in &metadata.topics[0].partitions {
            assert!(partition.leader_id > 0 && partition.leader_id != 3);
            assert_eq!(partition.replica_nodes.contains(&3), replication_factor == 3, "{partition:?}");
        }
    }
}
