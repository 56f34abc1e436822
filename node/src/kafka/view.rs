//! The cluster as one answer describes it: image, leaders and living nodes, taken once per request.
//! Invariant: a dead node is never named as leader or as in sync, nor one whose replica lags as in sync.
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
    behind: Behind,
}

/// Nodes whose replica of a group is not in sync.
type Behind = Box<dyn Fn(GroupId) -> BTreeSet<NodeId> + Send + Sync>;

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
    let image = broker.image();
    let alive = image.nodes.keys().copied().filter(|node| broker.is_alive(*node)).collect();
    let (broker, lag) = (broker.clone(), broker.clone());
    View { image, alive, leader: move |group| broker.leader(group), behind: Box::new(move |group| lag.behind(group)) }
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

    /// Whether every partition of a topic has a leader to name.
    pub(super) fn is_led(&self, topic: &Topic) -> bool {
        topic.partitions.iter().all(|partition| self.leader(partition, (self.leader)(partition.group)).is_some())
    }

    /// The leader to name: living, and known. A single replica will lead, also before its first heartbeat says so.
    fn leader(&self, partition: &Partition, known: Leader) -> Option<NodeId> {
        let only = match partition.replicas.as_slice() {
            [only] => Some(only.node()),
            _ => None,
        };
        known.node.or(only).filter(|id| self.alive.contains(id))
    }

    fn partition(&self, index: i32, partition: &Partition) -> PartitionView {
        let known = (self.leader)(partition.group);
        let leader = self.leader(partition, known);
        let behind = (self.behind)(partition.group);
        let nodes = partition.nodes();
        let numbers =
            |such: &dyn Fn(&NodeId) -> bool| -> Vec<i32> { nodes.iter().copied().filter(such).map(node).collect() };
        PartitionView {
            error: if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable },
            index,
            leader: leader.map_or(NONE, node),
            epoch: known.epoch,
            replicas: numbers(&|_| true),
            in_sync: numbers(&|id| self.alive.contains(id) && !behind.contains(id)),
            offline: numbers(&|id| !self.alive.contains(id)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use model::controller::{Command, ControllerMachine, CreateTopics, NewTopic, Registration};
    use model::{At, Out, PartitionIndex, ReplicaId, StoreId, TopicId};

    /// Three nodes, of which `alive` live, and these topics of so many partitions; every group is led by its first
    /// replica in epoch 7.
    pub(in crate::kafka) fn view(alive: &[u32], topics: &[(&str, i32)]) -> View<impl Fn(GroupId) -> Leader + use<>> {
        let mut machine = ControllerMachine::new();
        let mut index = 0;
        let mut apply = |command| {
            index += 1;
            machine.apply(At { index, term: 1, leader_ts: 0 }, command, &mut Out::default());
        };
        for id in 1..=3 {
            let (id, store) = (NodeId(id), StoreId(id.into()));
            apply(Command::RegisterNode(Registration { id, store, listeners: BTreeMap::new(), rack: None }));
        }
        let topics = (1..).zip(topics).map(|(id, (name, partitions))| NewTopic {
            partitions: *partitions,
            ..NewTopic::named(*name, TopicId([id; 16]))
        });
        let topics = topics.collect();
        apply(Command::CreateTopics(CreateTopics { topics, validate_only: false, auto: false }));
        let image = machine.image();
        let leaders = image.clone();
        let leader = move |group| {
            let placed = leaders.placed(group);
            Leader { node: placed.map(|placed| placed.nodes()[0]), epoch: 7 }
        };
        let alive = alive.iter().map(|id| NodeId(*id)).collect();
        View { image, alive, leader, behind: Box::new(|_| BTreeSet::new()) }
    }

    #[test]
    fn a_partition_names_its_leader_and_replicas() {
        let view = view(&[1, 2, 3], &[("t", 1)]);
        let partition = view.partitions(view.image.topic("t").unwrap()).next().unwrap();
        assert_eq!((partition.error, partition.epoch, partition.replicas.len()), (ErrorCode::None, 7, 3));
        assert_eq!(partition.leader, partition.replicas[0]);
        assert_eq!((partition.in_sync.len(), partition.offline.len()), (3, 0));
    }

    #[test]
    fn a_replica_that_lags_is_not_in_sync_and_not_offline() {
        let mut view = view(&[1, 2], &[("t", 1)]);
        view.behind = Box::new(|_| BTreeSet::from([NodeId(2)]));
        let partition = view.partitions(view.image.topic("t").unwrap()).next().unwrap();
        assert_eq!((partition.in_sync, partition.offline, partition.replicas.len()), (vec![1], vec![3], 3));
    }

    #[test]
    fn a_dead_leader_is_no_leader() {
        let everyone = view(&[1, 2, 3], &[("t", 1)]);
        let leader = everyone.partitions(everyone.image.topic("t").unwrap()).next().unwrap().leader;
        let rest: Vec<u32> = (1..=3).filter(|id| i32::try_from(*id) != Ok(leader)).collect();
        let view = view(&rest, &[("t", 1)]);
        let partition = view.partitions(view.image.topic("t").unwrap()).next().unwrap();
        assert_eq!((partition.error, partition.leader), (ErrorCode::LeaderNotAvailable, -1));
        assert_eq!(partition.offline, [leader]);
        assert!(!partition.in_sync.contains(&leader));
        assert_eq!(view.living().count(), 2);
    }

    #[test]
    fn a_single_replica_leads_before_it_is_heard_of() {
        let View { image, alive, behind, .. } = view(&[1, 2, 3], &[("t", 1)]);
        let unheard = View { image, alive, leader: |_| Leader { node: None, epoch: NONE }, behind };
        let mut partition = unheard.image.topic("t").unwrap().partition(PartitionIndex(0)).unwrap().clone();
        assert_eq!(unheard.partition(0, &partition).error, ErrorCode::LeaderNotAvailable, "one of three will lead");
        partition.replicas = vec![ReplicaId::new(NodeId(2), 1)];
        let seen = unheard.partition(0, &partition);
        assert_eq!((seen.error, seen.leader, seen.epoch), (ErrorCode::None, 2, NONE));
        partition.replicas = vec![ReplicaId::new(NodeId(9), 1)];
        assert_eq!(unheard.partition(0, &partition).error, ErrorCode::LeaderNotAvailable, "a dead one does not");
    }

    #[test]
    fn operations_are_kafkas_bits() {
        assert_eq!((TOPIC_OPERATIONS, CLUSTER_OPERATIONS), (3576, 8096));
    }
}
