//! Which partitions would have no majority any more if a node stopped now.

use serde::{Deserialize, Serialize};

use super::{Fleet, Piece};
use crate::ids::{NodeId, PartitionIndex};

/// A partition that would lose its majority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub index: PartitionIndex,
    /// How many of its replicas would be alive and in sync.
    pub left: usize,
    /// How many it needs.
    pub needed: usize,
}

/// The partitions of `node` that would have no majority of replicas, alive and in sync, without it.
pub fn quorum_lost(fleet: &Fleet, node: NodeId) -> Vec<Risk> {
    let risk = |piece: &Piece| {
        let needed = piece.replicas.len() / 2 + 1;
        let left = piece.well.iter().filter(|well| **well != node).count();
        let (topic, index) = (piece.topic.clone(), piece.index);
        (left < needed).then_some(Risk { topic, index, left, needed })
    };
    fleet.pieces.iter().filter(|piece| piece.replicas.contains(&node)).filter_map(risk).collect()
}
