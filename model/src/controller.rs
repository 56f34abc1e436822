//! The metadata of the cluster: nodes, topics, placement, configs, producer-id blocks.
//! Owns the image; every accepted command makes a new version of it, copy-on-write, so readers keep theirs.
//! Invariant: a command carries what would be random or clock; a refused one changes nothing but is answered.

pub mod configs;
pub mod describe;
pub mod features;
pub mod image;
pub mod internal;
pub mod nodes;
pub mod operations;
pub mod partitions;
mod placement;
pub mod producer_ids;
pub mod replicas;
pub mod retired;
pub mod topics;
pub mod topology;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::machine::{At, Effect, Out};
pub use configs::{
    AlterConfigs, ConfigChange, ConfigOp, ConfigResource, IncrementalAlterConfigs, IncrementalChange, OpKind,
};
pub use describe::{Described, Source, Synonym};
pub use features::{FEATURES, Feature, FeatureUpdate, UpdateFeatures};
pub use image::{Image, Node, Snapshot, Topic};
pub use nodes::{Endpoint, Registration};
pub use operations::{Duty, Operate, Operation, OperationKind, OperationState, Progress};
pub use partitions::{CreatePartitions, MorePartitions};
pub use placement::{Placing, Terms};
pub use producer_ids::{AllocateProducerIds, ProducerIdBlock};
pub use replicas::{AlterReplicas, Partition, ReplicaChange, ReportReplicas, Wanted};
pub use retired::Retirements;
pub use topics::{CreateTopics, CreatedTopic, DeleteTopics, DeletedTopic, NewTopic, TopicRef};
pub use topology::{TopologyCommand, TopologyError};

/// What may be asked of the controller. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Names the cluster, once; later ones are told the name it has. Random, chosen by the founder.
    Found {
        /// Kafka's cluster id.
        cluster_id: String,
        /// Nodes that found it: topics get their default replicas only once so many are registered.
        founders: u32,
    },
    /// A node says where it is; on every start.
    RegisterNode(Registration),
    /// A registered node has new addresses.
    UpdateNode(Registration),
    /// Kafka's CreateTopics, and auto-creation.
    CreateTopics(CreateTopics),
    /// Kafka's DeleteTopics.
    DeleteTopics(DeleteTopics),
    /// Kafka's CreatePartitions.
    CreatePartitions(CreatePartitions),
    /// Kafka's AlterConfigs: what is not given returns to its default.
    AlterConfigs(AlterConfigs),
    /// Kafka's IncrementalAlterConfigs (KIP-339).
    IncrementalAlterConfigs(IncrementalAlterConfigs),
    /// A block of producer ids for one node (KIP-730).
    AllocateProducerIds(AllocateProducerIds),
    /// What places replicas, on the terms of the leader that proposes it. The plain forms above are on default terms.
    Place {
        /// What the leader knows and the log does not.
        terms: Terms,
        /// The command.
        what: Placing,
    },
    /// The leader of a partition tells who its members are.
    ReportReplicas(ReportReplicas),
    /// Long work: begun, steered, advanced.
    Operate(Operate),
    /// Kafka's UpdateFeatures (KIP-584).
    UpdateFeatures(UpdateFeatures),
    /// Exchanges, queues and bindings.
    Topology(Box<TopologyCommand>),
}

/// What the proposer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Version of the image after the command: who waits for its effect waits for this version.
    pub version: u64,
    /// One result per item of the command, in its order.
    pub outcome: Outcome,
}

/// The results of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of Found: the name the cluster has.
    Cluster(String),
    /// Of RegisterNode, UpdateNode, ReplaceStore and RemoveNode: the node's epoch (the version in which it was first registered).
    Node(Result<u64, Error>),
    /// Of CreateTopics.
    Created(Vec<Result<CreatedTopic, Error>>),
    /// Of DeleteTopics.
    Deleted(Vec<Result<DeletedTopic, Error>>),
    /// Of CreatePartitions, AlterConfigs, IncrementalAlterConfigs, AlterReplicas, ReportReplicas and UpdateFeatures.
    Each(Vec<Result<(), Error>>),
    /// Of AllocateProducerIds.
    ProducerIds(Result<ProducerIdBlock, Error>),
    /// Of Operate: the operation's number; 0 where it is about none.
    Operation(Result<u64, Error>),
    /// Of Topology.
    Topology(Result<(), TopologyError>),
}

/// A refusal: a Kafka error code and words for the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind.
    pub code: Code,
    /// In words that name the value refused.
    pub message: String,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }
}

/// The Kafka error codes a controller command can be refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(i16)]
pub enum Code {
    /// UNKNOWN_TOPIC_OR_PARTITION.
    UnknownTopic = 3,
    /// INVALID_TOPIC_EXCEPTION.
    InvalidTopic = 17,
    /// TOPIC_ALREADY_EXISTS.
    TopicAlreadyExists = 36,
    /// INVALID_PARTITIONS.
    InvalidPartitions = 37,
    /// INVALID_REPLICATION_FACTOR.
    InvalidReplicationFactor = 38,
    /// INVALID_REPLICA_ASSIGNMENT.
    InvalidReplicaAssignment = 39,
    /// INVALID_CONFIG.
    InvalidConfig = 40,
    /// INVALID_REQUEST.
    InvalidRequest = 42,
    /// POLICY_VIOLATION: a limit of the cluster.
    PolicyViolation = 44,
    /// TOPIC_DELETION_DISABLED.
    TopicDeletionDisabled = 73,
    /// NO_REASSIGNMENT_IN_PROGRESS.
    NoReassignmentInProgress = 85,
    /// INVALID_UPDATE_VERSION: the placement has changed since, or a feature has no such level.
    InvalidUpdateVersion = 95,
    /// UNKNOWN_TOPIC_ID.
    UnknownTopicId = 100,
    /// DUPLICATE_BROKER_REGISTRATION: the node id belongs to another data folder.
    DuplicateRegistration = 101,
    /// BROKER_ID_NOT_REGISTERED.
    NodeNotRegistered = 102,
}

impl Code {
    /// The number on Kafka's wire.
    pub const fn kafka(self) -> i16 {
        self as i16
    }
}

/// The replicated machine of the controller group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerMachine {
    image: Arc<Image>,
}

impl ControllerMachine {
    /// The machine of a cluster without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one command.
    pub fn apply(&mut self, at: At, command: Command, out: &mut Out) -> Reply {
        let before = self.image.version;
        let mut draft = (*self.image).clone();
        let dry = command.is_dry();
        let (changed, outcome) = draft.apply(command, at.leader_ts);
        if changed && !dry {
            draft.version += 1;
            draft.check_indexes();
            out.effects.push(Effect::Metadata { version: draft.version });
            self.image = Arc::new(draft);
        }
        let version = self.image.version;
        check!(version == before || version == before + 1, ImageVersionMonotonic, "{before} -> {version}");
        Reply { version, outcome }
    }

    /// The metadata as of the last applied command. Cheap; later commands do not change what was returned.
    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// Everything, for a Raft snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.image.snapshot()
    }

    /// The machine that gave `snapshot`.
    pub fn restore(snapshot: Snapshot) -> Self {
        let image = Image::restore(snapshot);
        image.check_indexes();
        ControllerMachine { image: Arc::new(image) }
    }
}

impl Command {
    /// The command as its leader proposes it: on the leader's terms, if it places replicas.
    #[must_use]
    pub fn on(self, terms: Terms) -> Self {
        match self {
            Command::CreateTopics(create) => Command::Place { terms, what: Placing::CreateTopics(create) },
            Command::CreatePartitions(create) => Command::Place { terms, what: Placing::CreatePartitions(create) },
            Command::Topology(command) => Command::Place { terms, what: Placing::Topology(command) },
            Command::Place { terms: _, what } => Command::Place { terms, what },
            other => other,
        }
    }

    /// Whether the command only asks whether it would be accepted.
    fn is_dry(&self) -> bool {
        match self {
            Command::CreateTopics(create) | Command::Place { what: Placing::CreateTopics(create), .. } => {
                create.validate_only
            }
            Command::CreatePartitions(create) | Command::Place { what: Placing::CreatePartitions(create), .. } => {
                create.validate_only
            }
            Command::AlterConfigs(alter) => alter.validate_only,
            Command::IncrementalAlterConfigs(alter) => alter.validate_only,
            Command::UpdateFeatures(update) => update.validate_only,
            _ => false,
        }
    }
}

impl Image {
    /// Applies a command to this draft; tells whether anything changed.
    fn apply(&mut self, command: Command, now_ms: i64) -> (bool, Outcome) {
        match command {
            Command::Found { cluster_id, founders } => {
                let (changed, name) = self.found(cluster_id, founders);
                (changed, Outcome::Cluster(name))
            }
            Command::RegisterNode(registration) => self.register_node(registration),
            Command::UpdateNode(registration) => self.update_node(registration),
            Command::CreateTopics(create) => self.place(Placing::CreateTopics(create), &Terms::default()),
            Command::CreatePartitions(create) => self.place(Placing::CreatePartitions(create), &Terms::default()),
            Command::Topology(command) => self.place(Placing::Topology(command), &Terms::default()),
            Command::Place { terms, what } => self.place(what, &terms),
            Command::DeleteTopics(delete) => any_ok(self.delete_topics(delete), Outcome::Deleted),
            Command::AlterConfigs(alter) => any_ok(self.alter_configs(alter, now_ms), Outcome::Each),
            Command::IncrementalAlterConfigs(alter) => {
                any_ok(self.incremental_alter_configs(alter, now_ms), Outcome::Each)
            }
            Command::UpdateFeatures(update) => any_ok(self.update_features(update), Outcome::Each),
            Command::ReportReplicas(report) => (self.report_replicas(&report), Outcome::Each(vec![Ok(())])),
            Command::Operate(operate) => {
                let result = self.operate(operate, now_ms);
                (result.is_ok(), Outcome::Operation(result))
            }
            Command::AllocateProducerIds(allocate) => {
                let block = self.allocate_producer_ids(allocate);
                (block.is_ok(), Outcome::ProducerIds(block))
            }
        }
    }

    fn place(&mut self, what: Placing, terms: &Terms) -> (bool, Outcome) {
        match what {
            Placing::CreateTopics(create) => any_ok(self.create_topics(create, terms), Outcome::Created),
            Placing::CreatePartitions(create) => any_ok(self.create_partitions(create, terms), Outcome::Each),
            Placing::ReplaceStore(registration) => self.replace_store(registration, terms),
            Placing::RemoveNode(node) => self.remove_node(node, terms),
            Placing::AlterReplicas(alter) => any_ok(self.alter_replicas(alter, terms), Outcome::Each),
            Placing::Topology(command) => self.change_topology(*command, terms),
        }
    }
}

fn any_ok<T>(
    results: Vec<Result<T, Error>>,
    outcome: impl FnOnce(Vec<Result<T, Error>>) -> Outcome,
) -> (bool, Outcome) {
    (results.iter().any(Result::is_ok), outcome(results))
}

#[cfg(test)]
mod tests;
