//! How nodes come to belong to a cluster, stay in it, and are refused.
use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use model::{GroupId, NodeId};
use node::broker::Standing;
use storage::engine::sim::SimDisk;

use crate::world::{World, append, eventually, read_all, ready, topic};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_is_a_cluster_that_lasts() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let cluster = node.broker().cluster_id();
    let partitions = topic(&[node.broker()], "orders", 2, 1).await;
    for value in ["a", "b", "c"] {
        append(&[node.broker()], partitions[1], value).await;
    }
    node.stop().await;
    world.disks[&1].crash(0);
    let node = world.start(1).await;
    ready(node.broker()).await;
    assert_eq!(node.broker().cluster_id(), cluster);
    let expected: Vec<_> = (0..).zip(["a", "b", "c"].map(String::from)).collect();
    assert_eq!(read_all(&[node.broker()], partitions[1]).await, expected);
    assert_eq!(append(&[node.broker()], partitions[1], "d").await.base_offset, 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_founders_agree_and_spread_leaders() {
    let world = World::new(3, 3);
    let nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    let clusters: BTreeSet<_> = brokers.iter().map(|broker| broker.cluster_id()).collect();
    assert_eq!(clusters.len(), 1);
    eventually("all are known", || brokers[0].image().nodes.len() == 3).await;
    assert_eq!(brokers[0].image().cluster_id, brokers[0].cluster_id());
    let partitions = topic(&brokers, "spread", 6, 3).await;
    let leaders = || {
        let image = brokers[0].image();
        let placed = &image.topic_by_id(partitions[0].topic).unwrap().partitions;
        placed.iter().filter_map(|partition| brokers[0].leader(partition.group).node).collect::<BTreeSet<_>>()
    };
    eventually("leaders are spread over all nodes", || leaders().len() == 3).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_restarts_and_nothing_is_lost() {
    let world = World::new(3, 3);
    let nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    let partition = topic(&brokers, "kept", 1, 3).await[0];
    for value in 0..20 {
        append(&brokers, partition, &value.to_string()).await;
    }
    drop(brokers);
    for node in nodes {
        node.kill().await;
    }
    for disk in world.disks.values() {
        disk.crash(0);
    }
    let nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    let expected: Vec<_> = (0..20).map(|value| (value, value.to_string())).collect();
    assert_eq!(read_all(&brokers, partition).await, expected);
    for node in nodes {
        node.stop().await;
    }
}

/// Whether it resumes what it led at its next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_says_whether_its_node_stopped_in_order() {
    let world = World::new(3, 3);
    let mut nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    for partition in topic(&brokers, "led", 6, 3).await {
        append(&brokers, partition, "a").await;
    }
    drop(brokers);
    nodes.remove(0).kill().await;
    join_all(nodes.into_iter().map(node::Node::stop)).await;
    for (node, disk) in &world.disks {
        disk.crash(0);
        assert_eq!(storage::identity::take_left(disk.open().as_ref()).unwrap(), *node != 1, "node {node}");
    }
}

/// The leader knows the last node's old address only, from its registration, and that node cannot register anew before
/// it hears the leader.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_moves_and_the_last_one_finds_the_others() {
    let mut world = World::new(3, 3);
    for node in world.found().await {
        node.stop().await;
    }
    world.move_all();
    let mut nodes = vec![world.start(1).await, world.start(2).await];
    for node in &nodes {
        ready(node.broker()).await;
    }
    nodes.push(world.start(3).await);
    ready(nodes[2].broker()).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_node_joins_and_hosts_new_topics() {
    let world = World::new(4, 3);
    let mut nodes = world.found().await;
    let fourth = world.start(4).await;
    ready(fourth.broker()).await;
    assert_eq!(fourth.broker().cluster_id(), nodes[0].broker().cluster_id());
    nodes.push(fourth);
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    eventually("the controller has taken it in as a learner", || {
        let controller = brokers[3].groups().into_iter().find(|group| group.group == GroupId::CONTROLLER).unwrap();
        controller.voters.len() == 3 && controller.learners == [NodeId(4)]
    })
    .await;
    let partitions = topic(&brokers, "wide", 8, 3).await;
    for partition in &partitions {
        append(&brokers, *partition, "x").await;
    }
    let hosted = brokers[3].image().groups_of_node(NodeId(4)).count();
    assert!(hosted >= 4, "node 4 hosts {hosted} of 24 replicas");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_grows_to_three_controller_voters() {
    let mut world = World::new(3, 1);
    let first = {
        let mut config = world.config(1);
        config.seeds.clear();
        world.start_with(config).await.unwrap()
    };
    ready(first.broker()).await;
    world.seeds = vec![1];
    let (second, third) = (world.start(2).await, world.start(3).await);
    for node in [&second, &third] {
        ready(node.broker()).await;
    }
    eventually("three voters", || {
        first.broker().groups().iter().any(|group| group.group == GroupId::CONTROLLER && group.voters.len() == 3)
    })
    .await;
    // The last change passes through a joint membership, in which the first two must both live.
    topic(&[first.broker(), second.broker(), third.broker()], "settled", 1, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.stop().await;
    let brokers = [second.broker(), third.broker()];
    let partition = topic(&brokers, "without-the-first", 1, 3).await[0];
    append(&brokers, partition, "x").await;
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_gets_new_replicas_of_all_it_had() {
    let mut world = World::new(3, 3);
    let mut nodes = world.found().await;
    let partition = {
        let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
        let partition = topic(&brokers, "kept", 1, 3).await[0];
        for value in 0..10 {
            append(&brokers, partition, &value.to_string()).await;
        }
        partition
    };
    nodes.remove(2).kill().await;
    world.disks.insert(3, SimDisk::new(99));
    let reborn = world.start(3).await;
    ready(reborn.broker()).await;
    let brokers = [nodes[0].broker(), nodes[1].broker(), reborn.broker()];
    let placed =
        |broker: &node::broker::Broker| broker.image().topic_by_id(partition.topic).unwrap().partitions[0].clone();
    eventually("the change is finished", || brokers.iter().all(|broker| !placed(broker).is_changing)).await;
    let group = placed(brokers[0]).group;
    let mut members: Vec<_> = brokers.iter().flat_map(|broker| broker.rafts()).collect();
    members.retain(|raft| raft.replica().node().0 == 3);
    assert_eq!(members.len(), 2, "the controller's and the partition's");
    assert!(members.iter().all(|raft| raft.replica().revision() == 2));
    eventually("it votes", || members.iter().all(|raft| raft.status_now().voters.contains(&raft.replica()))).await;
    nodes.remove(0).kill().await;
    let brokers = [nodes[0].broker(), reborn.broker()];
    append(&brokers, partition, "two of three").await;
    assert_eq!(read_all(&brokers, partition).await.len(), 11);
    assert!(world.disks[&3].durable_last(group).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_that_held_the_only_copy_starts_no_raft_and_says_so() {
    let mut world = World::new(3, 3);
    let mut nodes = world.found().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    topic(&brokers, "single", 3, 1).await;
    nodes.remove(2).stop().await;
    world.disks.insert(3, SimDisk::new(99));
    let wiped = world.start(3).await;
    let refused = || matches!(&*wiped.broker().standing().borrow(), Standing::Refused(words) if words.contains("has no majority"));
    eventually("it is refused", refused).await;
    assert!(!wiped.broker().readiness().ready);
    assert!(wiped.broker().readiness().reason.contains("of topic 'single'"));
    assert!(wiped.broker().groups().is_empty());
    wiped.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_clusters_of_others_are_refused_in_words() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    node.stop().await;
    let mut other_cluster = world.config(1);
    other_cluster.cluster_id = Some("another".to_owned());
    let refused = world.start_with(other_cluster).await.err().unwrap().to_string();
    assert!(refused.contains("belongs to node 1 of cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_secret_is_not_taken_in() {
    let world = World::new(3, 2);
    let with_secret = |node, text: &str| {
        let mut config = world.config(node);
        config.raft.secret = node::config::Secret::new(text);
        config
    };
    let mut nodes = Vec::new();
    for node in 1..=2 {
        nodes.push(world.start_with(with_secret(node, "what all of us know")).await.unwrap());
    }
    for node in &nodes {
        ready(node.broker()).await;
    }
    let stranger = world.start_with(with_secret(3, "something else")).await.unwrap();
    eventually("it says why", || stranger.broker().readiness().reason.contains("cluster.secret")).await;
    assert!(nodes.iter().all(|node| node.broker().nodes().len() == 2));
    stranger.stop().await;
    let third = world.start_with(with_secret(3, "what all of us know")).await.unwrap();
    ready(third.broker()).await;
}
