//! What the JSON pages say, made from the broker's answers. The command line reads the same fields.

use model::controller::Topic;
use serde::Serialize;

use crate::broker::{Broker, NodeReport};

/// `/v1/cluster`.
#[derive(Serialize)]
pub struct Cluster {
    cluster_id: String,
    node_id: u32,
    controller: Option<u32>,
    topics: usize,
    partitions: usize,
    leaderless: usize,
    nodes: Vec<NodeReport>,
}

/// One row of `/v1/topics`.
#[derive(Serialize)]
pub struct TopicView {
    name: String,
    id: String,
    partitions: Vec<PartitionView>,
}

#[derive(Serialize)]
struct PartitionView {
    partition: usize,
    group: u32,
    leader: Option<u32>,
    epoch: i32,
    replicas: Vec<u32>,
}

/// The cluster in one object.
pub fn cluster(broker: &Broker) -> Cluster {
    let topics = topics(broker);
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    Cluster {
        cluster_id: broker.cluster_id(),
        node_id: broker.node_id().0,
        controller: broker.controller().map(|node| node.0),
        topics: topics.len(),
        partitions: partitions().count(),
        leaderless: partitions().filter(|partition| partition.leader.is_none()).count(),
        nodes: broker.nodes(),
    }
}

/// All topics by name.
pub fn topics(broker: &Broker) -> Vec<TopicView> {
    broker.image().topics.values().map(|topic| view(broker, topic)).collect()
}

fn view(broker: &Broker, topic: &Topic) -> TopicView {
    let partition = |(index, partition): (usize, &model::controller::Partition)| {
        let leader = broker.leader(partition.group);
        PartitionView {
            partition: index,
            group: partition.group.0,
            leader: leader.node.map(|node| node.0),
            epoch: leader.epoch,
            replicas: partition.nodes().iter().map(|node| node.0).collect(),
        }
    };
    TopicView {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
    }
}
