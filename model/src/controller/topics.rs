//! CreateTopics and DeleteTopics: names, counts and configs as Kafka checks them.
//! Invariant: a topic id and the Raft groups of its partitions are never used again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::check;
use crate::config;
use crate::controller::image::Configs;
use crate::controller::internal::refuse_change;
use crate::controller::placement::{Loads, Terms};
use crate::controller::{Code, Error, Image, Partition, Topic};
use crate::ids::{GroupId, NodeId, TopicId};
use crate::limits;
use crate::planted::{self, Bug};

/// The command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopics {
    /// At most [`limits::AUTO_CREATED_PER_ENTRY_MAX`] when `auto`.
    pub topics: Vec<NewTopic>,
    /// Only check.
    pub validate_only: bool,
    /// Made because a client named it, not because one asked for it.
    pub auto: bool,
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Random, chosen by the proposer.
    pub id: TopicId,
    /// -1 for the default.
    pub partitions: i32,
    /// -1 for the default.
    pub replication: i16,
    /// Replicas by partition, chosen by the client; empty: the cluster chooses.
    pub assignments: BTreeMap<i32, Vec<NodeId>>,
    /// Values that differ from the defaults.
    pub configs: Configs,
}

impl NewTopic {
    /// A topic with all defaults.
    pub fn named(name: impl Into<String>, id: TopicId) -> Self {
        let (assignments, configs) = (BTreeMap::new(), Configs::new());
        NewTopic { name: name.into(), id, partitions: -1, replication: -1, assignments, configs }
    }
}

/// A topic made, or that would be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of each.
    pub replication: i16,
}

/// A topic named in a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// The command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopics {
    /// Which.
    pub topics: Vec<TopicRef>,
}

/// A topic that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
}

/// Kafka's rule for topic names (org.apache.kafka.common.internals.Topic).
pub fn check_topic_name(name: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(Code::InvalidTopic, why));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => refuse("Topic name is invalid: the empty string is not allowed".to_owned()),
        "." | ".." => refuse("Topic name is invalid: '.' or '..' is not allowed".to_owned()),
        _ if name.len() > limits::TOPIC_NAME_BYTES_MAX => refuse(format!(
            "Topic name is invalid: the length of '{}' is longer than the max allowed length {}",
            name.chars().take(limits::TOPIC_NAME_BYTES_MAX).collect::<String>(),
            limits::TOPIC_NAME_BYTES_MAX
        )),
        _ if !name.chars().all(legal) => refuse(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )),
        _ => Ok(()),
    }
}

/// Names that differ only in '.' and '_' collide in Kafka's metric names.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

struct Creation {
    loads: Loads,
    collisions: BTreeMap<String, String>,
}

impl Image {
    pub(super) fn create_topics(&mut self, create: CreateTopics, terms: &Terms) -> Vec<Result<CreatedTopic, Error>> {
        let CreateTopics { topics, auto, .. } = create;
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<String> =
            topics.iter().filter(|topic| !seen.insert(topic.name.as_str())).map(|topic| topic.name.clone()).collect();
        let names = self.topics.keys().filter_map(|name| Some((collision_key(name)?, name.to_string())));
        let mut creation = Creation { loads: Loads::of(self, terms), collisions: names.collect() };
        let mut results = Vec::with_capacity(topics.len());
        for (place, topic) in topics.into_iter().enumerate() {
            results.push(if twice.contains(&topic.name) && !auto {
                Err(Error::new(Code::InvalidRequest, format!("Duplicate topic name '{}'.", topic.name)))
            } else if auto && place >= limits::AUTO_CREATED_PER_ENTRY_MAX {
                let message = format!("more than {} topics at once", limits::AUTO_CREATED_PER_ENTRY_MAX);
                Err(Error::new(Code::PolicyViolation, message))
            } else {
                self.create_topic(topic, &mut creation)
            });
        }
        results
    }

    fn create_topic(&mut self, new: NewTopic, creation: &mut Creation) -> Result<CreatedTopic, Error> {
        // The command is repeated when its answer was lost, under the same id: it has one effect.
        let made = self.made(new.id).filter(|made| made.name == new.name && !planted::is(Bug::CreationForgotten));
        if let Some(made) = made {
            return Ok(made);
        }
        self.check_new_topic(&new, creation)?;
        let placed = match new.assignments.is_empty() {
            true => self.place_topic(&new, creation)?,
            false => check_assignments(&new, &creation.loads)?,
        };
        let replication = placed.first().map_or(0, Vec::len) as i16;
        let partitions = self.number(placed, 0)?;
        if !new.assignments.is_empty() {
            partitions.iter().for_each(|partition| creation.loads.add(&partition.nodes()));
        }
        if let Some(key) = collision_key(&new.name) {
            creation.collisions.insert(key, new.name.clone());
        }
        let count = partitions.len() as i32;
        let created = CreatedTopic { name: new.name.clone(), id: new.id, partitions: count, replication };
        self.put_topic(Topic { id: new.id, name: new.name, configs: new.configs, partitions });
        Ok(created)
    }

    fn check_new_topic(&self, new: &NewTopic, creation: &Creation) -> Result<(), Error> {
        check_topic_name(&new.name)?;
        if self.topic(&new.name).is_some() {
            return Err(Error::new(Code::TopicAlreadyExists, format!("Topic '{}' already exists.", new.name)));
        }
        if let Some(other) = collision_key(&new.name).and_then(|key| creation.collisions.get(&key)) {
            let message = format!("Topic '{}' collides with existing topic: {other}", new.name);
            return Err(Error::new(Code::InvalidTopic, message));
        }
        if new.id.is_zero() || self.topic_by_id(new.id).is_some() {
            return Err(Error::new(Code::InvalidRequest, format!("topic id {} is in use", new.id)));
        }
        if self.topics.len() >= limits::TOPICS_MAX {
            return Err(Error::new(Code::PolicyViolation, format!("the cluster has {} topics", limits::TOPICS_MAX)));
        }
        check_topic_configs(&new.configs)
    }

    fn place_topic(&self, new: &NewTopic, creation: &mut Creation) -> Result<Vec<Vec<NodeId>>, Error> {
        let partitions = match new.partitions {
            -1 => self.default_partitions_of(&new.name),
            1.. => new.partitions,
            _ => {
                let message = "Number of partitions was set to an invalid non-positive value.";
                return Err(Error::new(Code::InvalidPartitions, message));
            }
        };
        check_partition_count(partitions)?;
        let replication = match new.replication {
            -1 => self.default_replication_of(&new.name),
            1.. => new.replication as usize,
            _ => {
                let message = "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err(Error::new(Code::InvalidReplicationFactor, message));
            }
        };
        let mut loads = creation.loads.clone();
        let placed = loads.place(partitions as usize, replication)?;
        creation.loads = loads;
        Ok(placed)
    }

    /// Gives each placed partition its Raft group.
    pub(super) fn number(&mut self, placed: Vec<Vec<NodeId>>, known: usize) -> Result<Vec<Partition>, Error> {
        let exhausted = || Error::new(Code::PolicyViolation, "the cluster has used up its Raft group ids");
        let first = self.take_groups(placed.len()).ok_or_else(exhausted)?;
        let numbered: Vec<Partition> = placed
            .into_iter()
            .enumerate()
            .map(|(place, replicas)| Partition::new(GroupId(first.0 + place as u32), &replicas))
            .collect();
        let given = numbered.last().map_or(first.0, |last| last.group.0 + 1);
        check!(given == self.next_group.0, GroupNeverReused, "after {known}: {given} and {}", self.next_group);
        Ok(numbered)
    }

    /// Partitions of a topic made without a count.
    pub fn default_partitions(&self) -> i32 {
        self.broker_value("num.partitions", None).parse().unwrap_or(limits::DEFAULT_PARTITIONS)
    }

    /// Replicas of a topic made without a number: what is configured, but not more than there are nodes. While founders
    /// are missing they count as well: a topic must not be weaker for ever because it was made a second too early.
    pub fn default_replication(&self) -> usize {
        self.replication_by("default.replication.factor")
    }

    /// The same, where another key says how many.
    pub(super) fn replication_by(&self, key: &str) -> usize {
        let configured = self.broker_value(key, None);
        let nodes = self.nodes.len().max(self.founders as usize);
        configured.parse().unwrap_or(limits::DEFAULT_REPLICATION).min(nodes).max(1)
    }

    pub(super) fn delete_topics(&mut self, delete: DeleteTopics) -> Vec<Result<DeletedTopic, Error>> {
        delete.topics.iter().map(|topic| self.delete_topic(topic)).collect()
    }

    fn delete_topic(&mut self, named: &TopicRef) -> Result<DeletedTopic, Error> {
        if self.broker_value("delete.topic.enable", None) == "false" {
            return Err(Error::new(Code::TopicDeletionDisabled, "Topic deletion is disabled."));
        }
        let found = match named {
            TopicRef::Name(name) => self.topic(name).ok_or_else(|| unknown_topic(name)),
            TopicRef::Id(id) => self
                .topic_by_id(*id)
                .ok_or_else(|| Error::new(Code::UnknownTopicId, format!("This server does not host topic id {id}."))),
        };
        let topic = found?.clone();
        refuse_change(&topic)?;
        self.remove_topic(&topic);
        check!(self.topic_by_id(topic.id).is_none(), TopicIndexesAgree, "{} is still there", topic.name);
        Ok(DeletedTopic { name: topic.name.clone(), id: topic.id })
    }
}

pub(super) fn unknown_topic(name: &str) -> Error {
    Error::new(Code::UnknownTopic, format!("The topic '{name}' does not exist."))
}

pub(super) fn check_partition_count(count: i32) -> Result<(), Error> {
    if count > limits::PARTITIONS_PER_TOPIC_MAX {
        let message = format!("{count} partitions are more than {}", limits::PARTITIONS_PER_TOPIC_MAX);
        return Err(Error::new(Code::InvalidPartitions, message));
    }
    Ok(())
}

pub(super) fn check_topic_configs(configs: &Configs) -> Result<(), Error> {
    for (name, value) in configs {
        let Some(key) = config::topic_key(name) else {
            return Err(Error::new(Code::InvalidConfig, format!("Unknown topic config name: {name}")));
        };
        key.check(value).map_err(|why| Error::new(Code::InvalidConfig, why))?;
    }
    Ok(())
}

fn check_assignments(new: &NewTopic, loads: &Loads) -> Result<Vec<Vec<NodeId>>, Error> {
    let refuse = |code, message: &str| Err(Error::new(code, message));
    if new.replication != -1 {
        let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return refuse(Code::InvalidRequest, message);
    }
    if new.partitions != -1 {
        let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return refuse(Code::InvalidRequest, message);
    }
    if !new.assignments.keys().copied().eq(0..new.assignments.len() as i32) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return refuse(Code::InvalidReplicaAssignment, message);
    }
    check_partition_count(i32::try_from(new.assignments.len()).unwrap_or(i32::MAX))?;
    let replication = new.assignments.get(&0).map_or(0, Vec::len);
    new.assignments.values().try_for_each(|replicas| loads.check_manual(replicas, replication))?;
    Ok(new.assignments.values().cloned().collect())
}
