//! The topic that clients do not own: each partition of `__consumer_offsets` is a coordinator shard. It is a topic so that
//! placement, failover and moves of a shard are those of partitions; its rafts replicate another machine.
//! Invariant: the number of its partitions never changes, since a group's shard follows from it.

use crate::controller::{Code, Error, Image, Topic};
use crate::ids::{PartitionIndex, TopicId};
use crate::limits;

/// Kafka's name of it.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Whether a topic of this name is the cluster's own: clients neither write to it, nor delete it, nor make it grow.
pub fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS
}

impl Topic {
    /// See [`is_internal`].
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

impl Image {
    /// The shard that coordinates a group, once the topic exists. Kafka's rule: the hash that Java gives the group's id.
    pub fn shard_of(&self, group: &str) -> Option<(TopicId, PartitionIndex)> {
        let topic = self.topic(CONSUMER_OFFSETS)?;
        let count = i32::try_from(topic.partitions.len()).ok().filter(|count| *count > 0)?;
        let hash = java_hash(group).checked_abs().unwrap_or(0);
        Some((topic.id, PartitionIndex(hash % count)))
    }

    /// Whether a topic of this id existed and was deleted, as far as that is remembered.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.topic_by_id(id).is_none() && self.made(id).is_some()
    }

    /// Partitions of a topic made without a count.
    pub(super) fn default_partitions_of(&self, name: &str) -> i32 {
        match is_internal(name) {
            true => self.broker_value("offsets.topic.num.partitions", None).parse().unwrap_or(limits::SHARDS),
            false => self.default_partitions(),
        }
    }

    /// Replicas of a topic made without a number.
    pub(super) fn default_replication_of(&self, name: &str) -> usize {
        match is_internal(name) {
            true => self.replication_by("offsets.topic.replication.factor"),
            false => self.default_replication(),
        }
    }
}

pub(super) fn refuse_change(topic: &Topic) -> Result<(), Error> {
    match topic.is_internal() {
        true => Err(Error::new(Code::InvalidTopic, format!("Topic '{}' is internal.", topic.name))),
        false => Ok(()),
    }
}

/// `String.hashCode`: over UTF-16.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_javas() {
        for (text, hash) in [("", 0), ("a", 97), ("console-consumer", -648_006_740), ("polygenelubricants", i32::MIN)] {
            assert_eq!(java_hash(text), hash, "{text}");
        }
        assert_eq!(java_hash("😀"), 1_772_899);
    }
}
