//! Where new replicas go: on living nodes first, those with the fewest, on racks not used yet; leaders balanced likewise.
//! Deterministic: ties go to the lower node id; who lives is what the proposing leader says in the command's terms.
//! Invariant: the nodes held for dead are never a majority of a placed partition, and never its preferred leader.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::{
    AlterReplicas, Code, CreatePartitions, CreateTopics, Duty, Error, Image, Node, Registration, TopologyCommand,
};
use crate::ids::NodeId;
use crate::limits;

/// What the proposing leader knows and the log does not, as far as placement depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Nodes held for dead: at most as many as are registered, unknown ones mean nothing.
    pub dead: BTreeSet<NodeId>,
    /// No node gets more replicas than this, nor than [`limits::REPLICAS_PER_NODE_MAX`].
    pub replicas_per_node_max: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { dead: BTreeSet::new(), replicas_per_node_max: u32::MAX }
    }
}

/// The commands that place replicas, or depend on who lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placing {
    /// Kafka's CreateTopics, and auto-creation.
    CreateTopics(CreateTopics),
    /// Kafka's CreatePartitions.
    CreatePartitions(CreatePartitions),
    /// Kafka's AlterPartitionReassignments.
    AlterReplicas(AlterReplicas),
    /// A node has lost its data folder and comes back with an empty one.
    ReplaceStore(Registration),
    /// A decommissioned node that is dead is to be forgotten.
    RemoveNode(NodeId),
    /// Exchanges, queues and bindings.
    Topology(Box<TopologyCommand>),
}

#[derive(Clone, Debug, Default)]
struct Load {
    dead: bool,
    replicas: usize,
    leaders: usize,
    rack: Option<String>,
}

/// How many replicas and preferred leaders each registered node has, counted once per command, and may have.
#[derive(Clone, Debug)]
pub(super) struct Loads {
    nodes: BTreeMap<NodeId, Load>,
    replicas_max: usize,
}

impl Loads {
    pub(super) fn of(image: &Image, terms: &Terms) -> Self {
        let leaves = |node: &Node| image.duty(node.id) == Some(Duty::Leaving);
        let empty = |node: &Node| Load {
            dead: terms.dead.contains(&node.id) || leaves(node),
            rack: node.rack.clone(),
            ..Load::default()
        };
        let nodes = image.nodes.values().map(|node| (node.id, empty(node))).collect();
        let replicas_max = limits::REPLICAS_PER_NODE_MAX.min(terms.replicas_per_node_max as usize);
        let mut loads = Loads { nodes, replicas_max };
        for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
            loads.add(&partition.nodes());
        }
        loads
    }

    /// Counts a placement.
    pub(super) fn add(&mut self, replicas: &[NodeId]) {
        for (place, node) in replicas.iter().enumerate() {
            let load = self.nodes.get_mut(node);
            check!(load.is_some(), PlacementDistinct, "node {node} holds a replica and is not registered");
            if let Some(load) = load {
                load.replicas += 1;
                load.leaders += usize::from(place == 0);
            }
        }
    }

    /// Places `partitions` x `replication` replicas. Like Kafka's controller it counts registered nodes and uses dead
    /// ones only when the living do not suffice; where Kafka asks for one living replica, Raft needs a majority.
    pub(super) fn place(&mut self, partitions: usize, replication: usize) -> Result<Vec<Vec<NodeId>>, Error> {
        let (registered, alive) = (self.nodes.len(), self.nodes.values().filter(|load| !load.dead).count());
        let refuse = |why: String| {
            let message = format!("Unable to replicate the partition {replication} time(s): {why}");
            Err(Error::new(Code::InvalidReplicationFactor, message))
        };
        if replication == 0 || replication > registered {
            return refuse(format!("only {registered} node(s) are registered."));
        }
        if alive <= replication / 2 {
            return refuse(format!("only {alive} of {registered} node(s) are alive, no majority of the replicas."));
        }
        let mut placed = Vec::with_capacity(partitions);
        for _ in 0..partitions {
            let replicas = self.place_one(replication)?;
            self.add(&replicas);
            placed.push(replicas);
        }
        Ok(placed)
    }

    fn place_one(&self, replication: usize) -> Result<Vec<NodeId>, Error> {
        let mut chosen: Vec<NodeId> = Vec::with_capacity(replication);
        for _ in 0..replication {
            let used = |load: &Load| {
                load.rack.is_some()
                    && chosen.iter().any(|node| self.nodes.get(node).is_some_and(|l| l.rack == load.rack))
            };
            let dead = chosen.iter().filter(|node| self.is_dead(**node)).count();
            let may = |load: &Load| !load.dead || dead < (replication - 1) / 2;
            let free = self
                .nodes
                .iter()
                .filter(|(id, load)| !chosen.contains(id) && load.replicas < self.replicas_max && may(load));
            let best = free.min_by_key(|(id, load)| (load.dead, used(load), load.replicas, load.leaders, **id));
            chosen.push(best.map(|(id, _)| *id).ok_or_else(|| self.full())?);
        }
        let leader = chosen.iter().enumerate().min_by_key(|(_, id)| (self.is_dead(**id), self.leaders(**id), **id));
        if let Some((place, _)) = leader {
            chosen[..=place].rotate_right(1);
        }
        check!(chosen.len() == replication, PlacementDistinct, "{chosen:?}");
        Ok(chosen)
    }

    fn leaders(&self, node: NodeId) -> usize {
        self.nodes.get(&node).map_or(0, |load| load.leaders)
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|load| load.dead)
    }

    /// Checks replicas that a client chose itself.
    pub(super) fn check_manual(&self, replicas: &[NodeId], replication: usize) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(Code::InvalidReplicaAssignment, message));
        if replicas.is_empty() {
            return refuse("The manual partition assignment includes an empty replica list.".to_owned());
        }
        if replicas.len() != replication {
            return refuse(format!(
                "The manual partition assignment includes a partition with {} replica(s), but other partitions have {replication}.",
                replicas.len()
            ));
        }
        for (place, node) in replicas.iter().enumerate() {
            if replicas[..place].contains(node) {
                return refuse(format!("The manual partition assignment includes the node {node} more than once."));
            }
            match self.nodes.get(node) {
                None => {
                    return refuse(format!(
                        "The manual partition assignment includes node {node}, which is not registered."
                    ));
                }
                Some(load) if load.replicas >= self.replicas_max => return Err(self.full()),
                Some(_) => {}
            }
        }
        if replicas.iter().all(|node| self.is_dead(*node)) {
            return refuse("All nodes of a partition in the manual partition assignment are dead.".to_owned());
        }
        Ok(())
    }

    /// Checks the nodes that the replicas of a partition shall move to, which are on `known` nodes now.
    pub(super) fn check_wanted(&self, nodes: &[NodeId], known: &[NodeId]) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(Code::InvalidReplicaAssignment, message));
        let old = |node: &NodeId| known.contains(node);
        let movable = Loads { nodes: self.nodes.clone(), replicas_max: usize::MAX };
        movable.check_manual(nodes, nodes.len())?;
        if let Some(dead) = nodes.iter().find(|node| !old(node) && self.is_dead(**node)) {
            return refuse(format!("The node {dead} is dead and cannot receive a replica."));
        }
        let living = nodes.iter().filter(|node| !self.is_dead(**node)).count();
        if living <= nodes.len() / 2 {
            return refuse(format!("Only {living} of the {} wanted nodes are alive, no majority.", nodes.len()));
        }
        let is_full = |node: &NodeId| self.nodes.get(node).is_some_and(|load| load.replicas >= self.replicas_max);
        match nodes.iter().any(|node| !old(node) && is_full(node)) {
            true => Err(self.full()),
            false => Ok(()),
        }
    }

    fn full(&self) -> Error {
        let message = format!(
            "Every node that could take a replica holds {}, which is the limit (limits.partitions_max).",
            self.replicas_max
        );
        Error::new(Code::PolicyViolation, message)
    }
}
