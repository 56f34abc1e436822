//! Nodes that were taken out of the books: decommissioned, empty and dead. Their ids may be used again, their data folders never.
//! Invariant: whoever registers under a removed node's id has an incarnation that no node of that id had; of those removed a bounded
//! number is known by name, of all before them only how high their incarnations went.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::placement::Terms;
use super::{Code, Duty, Error, Image, Node, Outcome};
use crate::check;
use crate::ids::{NodeId, StoreId};
use crate::limits::RETIRED_NODES_KEPT;

/// One removed node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its number.
    pub node: NodeId,
    /// Its last data folder.
    pub store: StoreId,
    /// How many data folders it had had.
    pub incarnation: u32,
}

/// All removed nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirements {
    /// Those removed last, oldest first.
    known: VecDeque<Retired>,
    /// The highest incarnation of those that are not known any more.
    forgotten: u32,
}

impl Retirements {
    /// Whether this data folder was removed with its node.
    pub fn has(&self, node: NodeId, store: StoreId) -> bool {
        self.known.iter().any(|retired| (retired.node, retired.store) == (node, store))
    }

    /// The incarnation of a node that registers under this id, which no registered node has.
    pub(super) fn next_incarnation(&self, node: NodeId) -> u32 {
        let known = self.known.iter().filter(|retired| retired.node == node).map(|retired| retired.incarnation);
        known.max().unwrap_or(self.forgotten) + 1
    }

    fn add(&mut self, node: &Node) {
        let again = |known: &Retired| known.node == node.id && known.incarnation >= node.incarnation;
        check!(!self.known.iter().any(again), ReplicaIdNeverReused, "node {} had {}", node.id, node.incarnation);
        self.known.push_back(Retired { node: node.id, store: node.store, incarnation: node.incarnation });
        if self.known.len() > RETIRED_NODES_KEPT
            && let Some(oldest) = self.known.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest.incarnation);
        }
    }
}

impl Image {
    /// What stands against taking a node out of the books, in words; whether it votes for the controller is not in the image.
    pub fn stands_against_removal(&self, node: NodeId, is_dead: bool) -> Vec<String> {
        let mut against = Vec::new();
        if !is_dead {
            against.push("it is alive, or was until a moment ago".to_owned());
        }
        if self.duty(node) != Some(Duty::Leaving) {
            against.push("it is not decommissioned".to_owned());
        }
        let replicas = self.groups_of_node(node).count();
        if replicas > 0 {
            against.push(format!("it holds {replicas} replica(s)"));
        }
        let about = self.open_operations().filter(|operation| operation.kind.node() == Some(node));
        against.extend(about.map(|operation| format!("operation {} is about it and has not ended", operation.id)));
        against
    }

    pub(super) fn remove_node(&mut self, node: NodeId, terms: &Terms) -> (bool, Outcome) {
        let result = self.try_remove(node, terms);
        (result.is_ok(), Outcome::Node(result))
    }

    fn try_remove(&mut self, node: NodeId, terms: &Terms) -> Result<u64, Error> {
        let Some(known) = self.nodes.get(&node).cloned() else {
            return Err(Error::new(Code::NodeNotRegistered, format!("node {node} is not registered")));
        };
        let against = self.stands_against_removal(node, terms.dead.contains(&node));
        if !against.is_empty() {
            let message = format!("node {node} cannot be removed: {}", against.join(", "));
            return Err(Error::new(Code::InvalidRequest, message));
        }
        self.nodes.remove(&node);
        self.duties.remove(&node);
        Arc::make_mut(&mut self.settings).nodes.remove(&node);
        Arc::make_mut(&mut self.retired).add(&known);
        Ok(known.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, incarnation: u32) -> Node {
        let (id, store) = (NodeId(id), StoreId(u64::from(incarnation) << 32 | u64::from(id)));
        Node { id, store, listeners: Default::default(), rack: None, epoch: 1, incarnation }
    }

    #[test]
    fn an_incarnation_is_never_given_twice_though_the_memory_is_bounded() {
        let mut retired = Retirements::default();
        assert_eq!(retired.next_incarnation(NodeId(7)), 1);
        retired.add(&node(7, 1));
        retired.add(&node(7, 3));
        assert!(retired.has(NodeId(7), node(7, 1).store) && !retired.has(NodeId(8), node(7, 1).store));
        assert_eq!((retired.next_incarnation(NodeId(7)), retired.next_incarnation(NodeId(8))), (4, 1));
        for id in 0..RETIRED_NODES_KEPT as u32 {
            retired.add(&node(100 + id, 1));
        }
        assert_eq!(retired.known.len(), RETIRED_NODES_KEPT);
        assert!(!retired.has(NodeId(7), node(7, 3).store));
        assert_eq!((retired.next_incarnation(NodeId(7)), retired.next_incarnation(NodeId(9))), (4, 4));
    }
}
