//! What the JSON pages say, made from the broker's answers. The command line reads the same fields.

use model::NodeId;
use model::balance::{Load, Move, Plan, Risk, Stay};
use model::controller::Topic;
use model::controller::operations::Standing;
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker::{Broker, NodeReport};

/// `/v1/cluster`.
#[derive(Serialize, ToSchema)]
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
#[derive(Serialize, ToSchema)]
pub struct TopicView {
    name: String,
    id: String,
    partitions: Vec<PartitionView>,
}

#[derive(Serialize, ToSchema)]
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

/// A partition to move.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MoveView {
    topic: String,
    partition: i32,
    /// Nodes before, the preferred leader first.
    from: Vec<u32>,
    /// Nodes afterwards.
    to: Vec<u32>,
    /// Bytes to copy; 0 if only another replica shall lead.
    bytes: u64,
    /// `waiting`, `copying`, `done` or `overtaken` by another change.
    state: &'static str,
    /// How much of the log the new replicas hold.
    copied_percent: Option<u8>,
}

/// What a rebalance would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// Bytes to copy in all.
    bytes: u64,
    moves: Vec<MoveView>,
    /// Partitions that should move and do not.
    stays: Vec<StayView>,
    nodes: Vec<LoadView>,
}

/// A partition that should move and does not.
#[derive(Debug, Serialize, ToSchema)]
struct StayView {
    topic: String,
    partition: i32,
    why: String,
}

/// What a node carries before and after.
#[derive(Debug, Serialize, ToSchema)]
struct LoadView {
    node: u32,
    replicas: usize,
    replicas_after: usize,
    leaders: usize,
    leaders_after: usize,
    bytes: u64,
    bytes_after: u64,
}

/// A partition that would lose its majority.
#[derive(Debug, Serialize, ToSchema)]
pub struct RiskView {
    topic: String,
    partition: i32,
    /// Replicas in sync that would be left.
    left: usize,
    /// Replicas that it needs.
    needed: usize,
}

impl From<Risk> for RiskView {
    fn from(risk: Risk) -> Self {
        let Risk { topic, index, left, needed } = risk;
        Self { topic, partition: index.0, left, needed }
    }
}

impl MoveView {
    /// One that stands so.
    pub fn new(one: &Move, standing: Standing, copied_percent: Option<u8>) -> Self {
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        let state = match standing {
            Standing::Waiting => "waiting",
            Standing::Copying => "copying",
            Standing::Done => "done",
            Standing::Overtaken => "overtaken",
        };
        let (topic, partition) = (one.topic.clone(), one.index.0);
        let (from, to, bytes) = (numbers(&one.from), numbers(&one.to), one.bytes);
        Self { topic, partition, from, to, bytes, state, copied_percent }
    }

    /// One that is not begun.
    pub fn planned(one: &Move) -> Self {
        Self::new(one, Standing::Waiting, None)
    }
}

impl PlanView {
    /// In the order of the plan; nodes by id.
    pub fn new(plan: Plan) -> Self {
        let load = |(node, after): (&NodeId, &Load)| {
            let before = plan.before.get(node).copied().unwrap_or_default();
            LoadView {
                node: node.0,
                replicas: before.replicas,
                replicas_after: after.replicas,
                leaders: before.leaders,
                leaders_after: after.leaders,
                bytes: before.bytes,
                bytes_after: after.bytes,
            }
        };
        let stay =
            |stay: &Stay| StayView { topic: stay.topic.clone(), partition: stay.index.0, why: stay.why.to_string() };
        Self {
            bytes: plan.bytes(),
            moves: plan.moves.iter().map(MoveView::planned).collect(),
            stays: plan.stays.iter().map(stay).collect(),
            nodes: plan.after.iter().map(load).collect(),
        }
    }
}
