//! Where new replicas go: on the nodes with the fewest, on racks not used yet; leaders balanced likewise.
//! Deterministic: ties go to the lower node id. Never looks at live nodes: liveness is not replicated.

use std::collections::BTreeMap;

use crate::check;
use crate::controller::{Code, Error, Image};
use crate::ids::NodeId;
use crate::limits;

#[derive(Clone, Debug, Default)]
struct Load {
    replicas: usize,
    leaders: usize,
    rack: Option<String>,
}

/// How many replicas and preferred leaders each registered node has; counted once per command.
#[derive(Clone, Debug)]
pub(super) struct Loads(BTreeMap<NodeId, Load>);

impl Loads {
    pub(super) fn of(image: &Image) -> Self {
        let empty = |rack: &Option<String>| Load { rack: rack.clone(), ..Load::default() };
        let mut loads = Loads(image.nodes.values().map(|node| (node.id, empty(&node.rack))).collect());
        for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
            loads.add(&partition.replicas);
        }
        loads
    }

    /// Counts a placement.
    pub(super) fn add(&mut self, replicas: &[NodeId]) {
        for (place, node) in replicas.iter().enumerate() {
            let load = self.0.get_mut(node);
            check!(load.is_some(), PlacementDistinct, "node {node} holds a replica and is not registered");
            if let Some(load) = load {
                load.replicas += 1;
                load.leaders += usize::from(place == 0);
            }
        }
    }

    /// Places `partitions` x `replication` replicas.
    pub(super) fn place(&mut self, partitions: usize, replication: usize) -> Result<Vec<Vec<NodeId>>, Error> {
        if replication == 0 || replication > self.0.len() {
            let message = format!(
                "Unable to replicate the partition {replication} time(s): only {} node(s) are registered.",
                self.0.len()
            );
            return Err(Error::new(Code::InvalidReplicationFactor, message));
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
                load.rack.is_some() && chosen.iter().any(|node| self.0.get(node).is_some_and(|l| l.rack == load.rack))
            };
            let free = self
                .0
                .iter()
                .filter(|(id, load)| !chosen.contains(id) && load.replicas < limits::REPLICAS_PER_NODE_MAX);
            let best = free.min_by_key(|(id, load)| (used(load), load.replicas, load.leaders, **id));
            chosen.push(best.map(|(id, _)| *id).ok_or_else(full)?);
        }
        let leader = chosen.iter().enumerate().min_by_key(|(_, id)| (self.leaders(**id), **id));
        if let Some((place, _)) = leader {
            chosen[..=place].rotate_right(1);
        }
        check!(chosen.len() == replication, PlacementDistinct, "{chosen:?}");
        Ok(chosen)
    }

    fn leaders(&self, node: NodeId) -> usize {
        self.0.get(&node).map_or(0, |load| load.leaders)
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
            match self.0.get(node) {
                None => {
                    return refuse(format!(
                        "The manual partition assignment includes node {node}, which is not registered."
                    ));
                }
                Some(load) if load.replicas >= limits::REPLICAS_PER_NODE_MAX => return Err(full()),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn full() -> Error {
    let message = format!("every node holds {} replicas, which is the limit", limits::REPLICAS_PER_NODE_MAX);
    Error::new(Code::PolicyViolation, message)
}
