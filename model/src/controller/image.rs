//! The image: all metadata of one version, with lookups by topic name, topic id and Raft group.
//! Owns its indexes; invariant: they always agree. Never changed in place once published.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::features::Levels;
use crate::controller::topology::{Topology, VhostSnapshot};
use crate::controller::{ConfigChange, CreatedTopic, Duty, Endpoint, Operation, Partition, Retirements};
use crate::ids::{GroupId, NodeId, PartitionIndex, ReplicaId, StoreId, TopicId};
use crate::limits;
use crate::planted::{self, Bug};

/// Config values by key.
pub type Configs = BTreeMap<String, String>;

/// What was set for the cluster and its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Broker configs of the whole cluster.
    pub cluster: Configs,
    /// Broker configs of single nodes.
    pub nodes: BTreeMap<NodeId, Configs>,
    /// The config keys that were changed last, of topics too, oldest first.
    pub changes: VecDeque<ConfigChange>,
    /// Levels of features, where somebody set one.
    pub features: Levels,
}

/// One registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// Where it is, by listener name ("kafka", "peer", "admin", ...).
    pub listeners: BTreeMap<String, Endpoint>,
    /// Its rack, if its operator named one.
    pub rack: Option<String>,
    /// Version of the image in which it was first registered: Kafka's broker epoch.
    pub epoch: u64,
    /// How many data folders it has had, this one included: the revision of its replica in the controller's own group.
    pub incarnation: u32,
}

impl Node {
    /// Its replica in the controller's group.
    pub fn controller(&self) -> ReplicaId {
        ReplicaId::new(self.id, self.incarnation)
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its UUID.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// What was set on it; the rest are defaults.
    pub configs: Configs,
    /// By partition index.
    pub partitions: Vec<Partition>,
}

/// Groups of one topic that were given out together: `count` groups from the key, for partitions from `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupBlock {
    topic: TopicId,
    first: i32,
    count: u32,
}

/// All metadata of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Kafka's cluster id; empty until the cluster is founded.
    pub cluster_id: String,
    /// How many nodes founded it; 0 until then.
    pub founders: u32,
    /// Raised by one with each change.
    pub version: u64,
    /// Registered nodes.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Topics by name. Shared with other versions, as the indexes are: a change of anything else copies none of them.
    pub topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// What was set for the cluster and its nodes.
    pub settings: Arc<Settings>,
    /// The next partition gets this group.
    pub next_group: GroupId,
    /// The next block of producer ids begins here.
    pub next_producer_id: i64,
    /// What nodes are meant to do that do not simply serve.
    pub duties: BTreeMap<NodeId, Duty>,
    /// Long work that goes on, or has ended lately.
    pub operations: BTreeMap<u64, Arc<Operation>>,
    /// Nodes that were removed.
    pub retired: Arc<Retirements>,
    /// Exchanges, queues and bindings.
    pub topology: Arc<Topology>,
    by_id: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    by_group: Arc<BTreeMap<GroupId, GroupBlock>>,
    /// The topics that were deleted last, oldest first.
    deleted: VecDeque<Arc<CreatedTopic>>,
}

/// An image without its indexes, as stored in a Raft snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// See [`Image`].
    pub cluster_id: String,
    /// See [`Image`].
    pub founders: u32,
    /// See [`Image`].
    pub version: u64,
    /// See [`Image`].
    pub nodes: Vec<Node>,
    /// See [`Image`].
    pub topics: Vec<Topic>,
    /// See [`Image`].
    pub settings: Settings,
    /// See [`Image`].
    pub next_group: GroupId,
    /// See [`Image`].
    pub next_producer_id: i64,
    /// See [`Image`].
    pub deleted: Vec<CreatedTopic>,
    /// See [`Image`].
    pub duties: BTreeMap<NodeId, Duty>,
    /// See [`Image`].
    pub operations: Vec<Operation>,
    /// See [`Image`].
    pub retired: Retirements,
    /// See [`Image`].
    pub topology: Vec<VhostSnapshot>,
}

impl Default for Image {
    fn default() -> Self {
        Image {
            cluster_id: String::new(),
            founders: 0,
            version: 0,
            nodes: BTreeMap::new(),
            topics: Arc::default(),
            settings: Arc::default(),
            next_group: GroupId::FIRST_PARTITION,
            next_producer_id: 0,
            duties: BTreeMap::new(),
            operations: BTreeMap::new(),
            retired: Arc::default(),
            topology: Arc::default(),
            by_id: Arc::default(),
            by_group: Arc::default(),
            deleted: VecDeque::new(),
        }
    }
}

impl From<&Topic> for CreatedTopic {
    fn from(topic: &Topic) -> Self {
        let replication = topic.partitions.first().map_or(0, |partition| partition.wanted().count());
        CreatedTopic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.len() as i32,
            replication: replication as i16,
        }
    }
}

impl Topic {
    /// The placement of a partition.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        usize::try_from(index.0).ok().and_then(|index| self.partitions.get(index))
    }
}

impl Image {
    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// What came of an earlier attempt to create the topic of this id, also if it has been deleted since.
    pub(super) fn made(&self, id: TopicId) -> Option<CreatedTopic> {
        let deleted = self.deleted.iter().find(|topic| topic.id == id).map(|topic| (**topic).clone());
        self.topic_by_id(id).map(|topic| CreatedTopic::from(&**topic)).or(deleted)
    }

    /// The topic that was deleted last, if any was.
    pub fn last_deleted(&self) -> Option<TopicId> {
        self.deleted.back().map(|topic| topic.id)
    }

    /// Topic and partition of a Raft group.
    pub fn partition_of_group(&self, group: GroupId) -> Option<(&Arc<Topic>, PartitionIndex)> {
        let (first_group, block) = self.by_group.range(..=group).next_back()?;
        let place = group.0 - first_group.0;
        let topic = self.by_id.get(&block.topic).filter(|_| place < block.count)?;
        Some((topic, PartitionIndex(block.first + place as i32)))
    }

    /// Where the partition of a Raft group is.
    pub fn placed(&self, group: GroupId) -> Option<&Partition> {
        let (topic, index) = self.partition_of_group(group)?;
        topic.partition(index)
    }

    /// All partitions that a node holds a replica of, in order of their group.
    pub fn groups_of_node(&self, node: NodeId) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        self.groups_of_node_from(node, GroupId(0))
    }

    /// Those whose group is `first` or later.
    pub fn groups_of_node_from(
        &self,
        node: NodeId,
        first: GroupId,
    ) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        let block = self.by_group.range(..=first).next_back().map_or(first, |(block, _)| *block);
        let blocks = self.by_group.range(block..).filter_map(|(_, block)| Some((block, self.by_id.get(&block.topic)?)));
        blocks.flat_map(move |(block, topic)| {
            let start = block.first as usize;
            let placed = topic.partitions.iter().enumerate().skip(start).take(block.count as usize);
            placed
                .filter(move |(_, partition)| partition.group >= first && partition.is_on(node))
                .map(move |(index, partition)| (topic, PartitionIndex(index as i32), partition))
        })
    }

    /// Adds a topic or replaces the one of the same id, keeping the indexes.
    pub(super) fn put_topic(&mut self, topic: Topic) {
        let known = self.by_id.get(&topic.id).map_or(0, |old| old.partitions.len());
        self.index_groups(&topic, known);
        let topic = Arc::new(topic);
        Arc::make_mut(&mut self.topics).insert(Arc::from(topic.name.as_str()), topic.clone());
        Arc::make_mut(&mut self.by_id).insert(topic.id, topic);
        check!(self.topics.len() == self.by_id.len(), TopicIndexesAgree, "names and ids differ");
    }

    /// Indexes the groups of the partitions from `known` on; neighbours share a block.
    fn index_groups(&mut self, topic: &Topic, known: usize) {
        if topic.partitions.len() <= known {
            return;
        }
        let by_group = Arc::make_mut(&mut self.by_group);
        for (index, partition) in topic.partitions.iter().enumerate().skip(known) {
            let group = partition.group;
            if let Some((first, block)) = by_group.range_mut(..=group).next_back() {
                let last = first.0 + (block.count - 1);
                check!(last < group.0, GroupNeverReused, "group {group} was given to {block:?}");
                let neighbour = last + 1 == group.0 && block.first + block.count as i32 == index as i32;
                if block.topic == topic.id && neighbour {
                    block.count += 1;
                    continue;
                }
            }
            by_group.insert(group, GroupBlock { topic: topic.id, first: index as i32, count: 1 });
        }
    }

    /// Forgets a topic, and the queue that lives in it; its groups are never given out again.
    pub(super) fn remove_topic(&mut self, topic: &Topic) {
        self.forget_queue_of(topic.id);
        Arc::make_mut(&mut self.topics).remove(topic.name.as_str());
        Arc::make_mut(&mut self.by_id).remove(&topic.id);
        Arc::make_mut(&mut self.by_group).retain(|_, block| block.topic != topic.id);
        self.deleted.push_back(Arc::new(CreatedTopic::from(topic)));
        if self.deleted.len() > limits::DELETED_TOPICS_KEPT {
            self.deleted.pop_front();
        }
        check!(self.topics.len() == self.by_id.len(), TopicIndexesAgree, "names and ids differ");
        if planted::is(Bug::GroupReused) {
            let last = self.by_group.last_key_value();
            self.next_group = last.map_or(GroupId::FIRST_PARTITION, |(first, block)| GroupId(first.0 + block.count));
        }
    }

    /// Gives out the next `count` groups.
    pub(super) fn take_groups(&mut self, count: usize) -> Option<GroupId> {
        let first = self.next_group;
        self.next_group = GroupId(first.0.checked_add(u32::try_from(count).ok()?)?);
        check!(self.next_group >= first, GroupNeverReused, "{count} groups from {first}");
        Some(first)
    }

    /// Asserts that the indexes agree; in production only their sizes, which costs nothing.
    pub(super) fn check_indexes(&self) {
        let named =
            |(name, topic): (&Arc<str>, &Arc<Topic>)| **name == *topic.name && self.by_id.contains_key(&topic.id);
        let agree = self.topics.len() == self.by_id.len()
            && self.by_group.len() >= self.topics.len()
            && (cfg!(not(debug_assertions)) || self.topics.iter().all(named));
        check!(agree, TopicIndexesAgree, "{} names, {} ids", self.topics.len(), self.by_id.len());
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            cluster_id: self.cluster_id.clone(),
            founders: self.founders,
            version: self.version,
            nodes: self.nodes.values().map(|node| (**node).clone()).collect(),
            topics: self.by_id.values().map(|topic| (**topic).clone()).collect(),
            settings: (*self.settings).clone(),
            next_group: self.next_group,
            next_producer_id: self.next_producer_id,
            deleted: self.deleted.iter().map(|topic| (**topic).clone()).collect(),
            duties: self.duties.clone(),
            operations: self.operations.values().map(|operation| (**operation).clone()).collect(),
            retired: (*self.retired).clone(),
            topology: self.topology.snapshot(),
        }
    }

    pub(super) fn restore(snapshot: Snapshot) -> Self {
        let mut image = Image {
            cluster_id: snapshot.cluster_id,
            founders: snapshot.founders,
            version: snapshot.version,
            nodes: snapshot.nodes.into_iter().map(|node| (node.id, Arc::new(node))).collect(),
            settings: Arc::new(snapshot.settings),
            next_group: snapshot.next_group,
            next_producer_id: snapshot.next_producer_id,
            deleted: snapshot.deleted.into_iter().map(Arc::new).collect(),
            duties: snapshot.duties,
            operations: snapshot.operations.into_iter().map(|one| (one.id, Arc::new(one))).collect(),
            retired: Arc::new(snapshot.retired),
            topology: Arc::new(Topology::restore(snapshot.topology)),
            ..Image::default()
        };
        for topic in snapshot.topics {
            image.put_topic(topic);
        }
        image
    }
}
