//! From a partition's name to the replica that may answer for it, with Kafka's checks on leader epochs (KIP-320).
//! Owns the one place where "am I the leader" is decided for clients.
use std::sync::Arc;

use model::GroupId;

use super::{Broker, Error, Leader, PartitionRef};
use crate::router::LocalPartition;

impl Broker {
    /// The Raft group of a partition, as the image has it.
    pub(super) fn group(&self, partition: PartitionRef) -> Result<GroupId, Error> {
        let image = self.0.image.borrow();
        let topic = image.topic_by_id(partition.topic).ok_or(Error::UnknownPartition)?;
        Ok(topic.partition(partition.index).ok_or(Error::UnknownPartition)?.group)
    }

    /// The local replica, if it leads and `epoch` (the client's idea of it) is current. The epoch is checked first, as
    /// Kafka does.
    pub(super) fn led(&self, partition: PartitionRef, epoch: Option<i32>) -> Result<Arc<LocalPartition>, Error> {
        let group = self.group(partition)?;
        let Some(local) = self.0.router.local(group) else {
            return Err(Error::NotLeader { leader: self.leader(group) });
        };
        let role = local.role();
        let current = super::epoch_of(role.term);
        match epoch {
            Some(theirs) if theirs >= 0 && theirs < current => {
                return Err(Error::FencedEpoch { leader: self.leader(group) });
            }
            Some(theirs) if theirs > current => return Err(Error::UnknownEpoch),
            _ => {}
        }
        if !role.leads {
            return Err(Error::NotLeader { leader: self.leader(group) });
        }
        Ok(local)
    }

    /// Whether somebody leads a partition.
    pub fn is_led(&self, partition: PartitionRef) -> bool {
        self.group(partition).is_ok_and(|group| self.leader(group).node.is_some())
    }

    /// Who leads `group`: from this node's own raft, else from the leaders' heartbeats.
    pub fn leader(&self, group: GroupId) -> Leader {
        let found = self.0.router.leader(group);
        Leader { node: found.node, epoch: super::epoch_of(found.term) }
    }
}
