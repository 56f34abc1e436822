//! How far a move is, read from the image alone: nobody need remember what was begun.

use crate::balance::Move;
use crate::controller::Image;
use crate::ids::NodeId;

/// Where a move stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its partition is as it was.
    Waiting,
    /// Its replicas are on their way.
    Copying,
    /// Its replicas are where they should be.
    Done,
    /// Its partition is gone, or somebody wants its replicas elsewhere: nothing is left to do.
    Overtaken,
}

impl Image {
    /// Where a move stands.
    pub fn standing(&self, one: &Move) -> Standing {
        let Some(partition) = self.topic(&one.topic).and_then(|topic| topic.partition(one.index)) else {
            return Standing::Overtaken;
        };
        let wanted: Vec<NodeId> = partition.wanted().map(|replica| replica.node()).collect();
        match (wanted == one.to, partition.is_changing) {
            (true, false) => Standing::Done,
            (true, true) => Standing::Copying,
            (false, _) if wanted == one.from => Standing::Waiting,
            (false, _) => Standing::Overtaken,
        }
    }

    /// Whether a replica is, or may still be, on `node`.
    pub fn is_used(&self, node: NodeId) -> bool {
        self.groups_of_node(node).next().is_some()
    }
}
