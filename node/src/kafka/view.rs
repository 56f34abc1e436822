//! The cluster as one answer describes it: image, leaders and living nodes, taken once per request.
//! Invariant: a dead node is never named as leader or as in sync.
use std::collections::BTreeSet;
use std::sync::Arc;

use model::controller::{Image, Partition, Topic};
use model::{GroupId, NodeId};
use wire::kafka::ErrorCode;

use super::api::{NONE, node};
use crate::broker::{Broker, Leader};

/// Kafka's bit set of operations a client may do when everything is allowed: each bit is an AclOperation's code.
pub(super) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// "Not asked for".
pub(super) const NO_OPERATIONS: i32 = i32::MIN;

const fn bits(codes: &[u32]) -> i32 {
    let mut set = 0;
    let mut i = 0;
    while i < codes.len() {
        set |= 1 << codes[i];
        i += 1;
    }
    set
}

/// What a request sees of the cluster.
pub(super) struct View<L> {
    pub(super) image: Arc<Image>,
    alive: BTreeSet<NodeId>,
    leader: L,
}

/// One partition in Kafka's terms.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartitionView {
    pub(super) error: ErrorCode,
    pub(super) index: i32,
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) replicas: Vec<i32>,
    pub(super) in_sync: Vec<i32>,
    pub(super) offline: Vec<i32>,
}

/// The view of this moment.
pub(super) fn now(broker: &Broker) -> View<impl Fn(GroupId) -> Leader + use<>> {
    let alive = broker.nodes().into_iter().filter(|node| node.alive).map(|node| node.id).collect();
    let image = broker.image();
    let broker = broker.clone();
    View { image, alive, leader: move |group| broker.leader(group) }
}

impl<L: Fn(GroupId) -> Leader> View<L> {
    /// The living nodes that are registered.
    pub(super) fn living(&self) -> impl Iterator<Item = NodeId> {
        self.image.nodes.keys().copied().filter(|node| self.alive.contains(node))
    }

    /// Whether heartbeats of a node arrive.
    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        self.alive.contains(&node)
    }

    /// All partitions of a topic.
    pub(super) fn partitions(&self, topic: &Topic) -> impl Iterator<Item = PartitionView> {
        (0..).zip(&topic.partitions).map(|(index, partition)| self.partition(index, partition))
    }

    fn partition(&self, index: i32, partition: &Partition) -> PartitionView {
        let known = (self.leader)(partition.group);
        let leader = known.node.filter(|id| self.alive.contains(id));
        let numbers = |alive: bool| -> Vec<i32> {
            partition.replicas.iter().filter(|id| self.alive.contains(id) == alive).map(|id| node(*id)).collect()
        };
        PartitionView {
            error: if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
            index,
            leader: leader.map_or(NONE, node),
            epoch: known.epoch,
            replicas: partition.replicas.iter().map(|id| node(*id)).collect(),
            in_sync: numbers(true),
            offline: numbers(false),
        }
    }
}
