//! Identities of everything replicated. Newtypes, so that no two ids can be mixed up.
//! Invariant: an id says which thing, never where it is; addresses live in the controller's image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One server of the cluster, chosen by its operator, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// One data folder: 64 random bits written when the folder is made. A wiped disk has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub u64);

/// A Raft node id, never reused within a group: `node << 32 | placement revision`, revision from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

/// One Raft group of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A topic's UUID, carried in the command that creates it. Never zero for a topic that exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

/// A partition's number within its topic, from 0 (an i32 on Kafka's wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionIndex(pub i32);

impl ReplicaId {
    /// The replica of `node` in a placement of `revision` (1 at creation, +1 on each re-placement).
    pub const fn new(node: NodeId, revision: u32) -> Self {
        ReplicaId(((node.0 as u64) << 32) | revision as u64)
    }

    /// The node that holds this replica.
    pub const fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u32)
    }

    /// The placement revision in which this replica came into being.
    pub const fn revision(self) -> u32 {
        self.0 as u32
    }
}

impl From<u64> for ReplicaId {
    fn from(id: u64) -> Self {
        ReplicaId(id)
    }
}

impl GroupId {
    /// The metadata group.
    pub const CONTROLLER: GroupId = GroupId(0);
    /// Groups below are the controller, coordinator shards and queue shards; from here on topic partitions.
    pub const FIRST_PARTITION: GroupId = GroupId(1024);

    /// Whether this group is the log of a topic partition.
    pub const fn is_partition(self) -> bool {
        self.0 >= Self::FIRST_PARTITION.0
    }
}

impl TopicId {
    /// Kafka's "no topic id" on the wire.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Whether this is the absent id.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text form of a UUID: URL-safe base64 of the 16 bytes without padding, 22 characters.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(22);
        for place in 0..21 {
            text.push(BASE64_URL[(bits >> (122 - 6 * place)) as usize & 63] as char);
        }
        text.push(BASE64_URL[(bits << 4) as usize & 63] as char);
        f.write_str(&text)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The text is not 22 characters of URL-safe base64 that spell 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a topic id: expected 22 characters of URL-safe base64")]
pub struct BadTopicId;

impl FromStr for TopicId {
    type Err = BadTopicId;

    fn from_str(text: &str) -> Result<Self, BadTopicId> {
        if text.len() != 22 {
            return Err(BadTopicId);
        }
        let mut bits = 0u128;
        for (place, character) in text.bytes().enumerate() {
            let six = BASE64_URL.iter().position(|c| *c == character).ok_or(BadTopicId)? as u128;
            if place < 21 {
                bits = (bits << 6) | six;
            } else if six & 15 == 0 {
                bits = (bits << 2) | (six >> 4);
            } else {
                return Err(BadTopicId);
            }
        }
        Ok(TopicId(bits.to_be_bytes()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.revision())
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_id_carries_node_and_revision() {
        let replica = ReplicaId::new(NodeId(7), 3);
        assert_eq!((replica.node(), replica.revision()), (NodeId(7), 3));
        assert_eq!(replica.to_string(), "7.3");
    }

    #[test]
    fn topic_id_text_is_kafkas() {
        // Kafka's reserved UUID of the metadata topic, 0x1.
        let mut one = [0u8; 16];
        one[15] = 1;
        assert_eq!(TopicId(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        for seed in 0..=255u8 {
            let id = TopicId(std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8 * 17)));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAB".parse::<TopicId>(), Err(BadTopicId));
        assert_eq!("short".parse::<TopicId>(), Err(BadTopicId));
    }
}
