//! Blocks of producer ids (KIP-730): a node asks for a block and gives its ids out by itself.
//! Invariant: an id is in one block only, whatever becomes of the node that took it.

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::{Code, Error, Image};
use crate::ids::NodeId;
use crate::limits;
use crate::planted::{self, Bug};

/// The command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    /// Who asks.
    pub node: NodeId,
    /// How many; [`limits::PRODUCER_ID_BLOCK`] is usual.
    pub count: i64,
}

/// Ids `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: i64,
    /// How many.
    pub count: i64,
}

impl Image {
    pub(super) fn allocate_producer_ids(&mut self, allocate: AllocateProducerIds) -> Result<ProducerIdBlock, Error> {
        let AllocateProducerIds { node, count } = allocate;
        if !self.nodes.contains_key(&node) {
            return Err(Error::new(Code::NodeNotRegistered, format!("node {node} is not registered")));
        }
        if !(1..=limits::PRODUCER_ID_BLOCK_MAX).contains(&count) {
            let message = format!("a block has from 1 to {} ids, not {count}", limits::PRODUCER_ID_BLOCK_MAX);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let first = if planted::is(Bug::ProducerIdsReused) { 0 } else { self.next_producer_id };
        let exhausted = || Error::new(Code::PolicyViolation, "the cluster has used up its producer ids");
        self.next_producer_id = first.checked_add(count).ok_or_else(exhausted)?;
        check!(self.next_producer_id > first, ProducerIdNeverReused, "{count} ids from {first}");
        Ok(ProducerIdBlock { first, count })
    }
}
