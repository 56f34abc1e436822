//! Changing the replicas of a partition: what is wanted beside what there is, in the words of KRaft's PartitionRecord (replicas,
//! adding, removing). The partition's leader moves its members towards what is wanted and reports; then those removed are gone.
//! Invariants: a replica id is given once in a group; no replica is dropped before the change that removes it is finished.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::controller::placement::{Loads, Terms};
use crate::controller::topics::unknown_topic;
use crate::controller::{Code, Error, Image, Topic};
use crate::ids::{GroupId, NodeId, PartitionIndex, ReplicaId};
use crate::planted::{self, Bug};

/// Placement of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its Raft group.
    pub group: GroupId,
    /// Placement revision: 1 at creation, one more with every change of the replicas that is asked for.
    pub revision: u32,
    /// Every replica: first those wanted, the preferred leader before all, then those being removed.
    pub replicas: Vec<ReplicaId>,
    /// Those of them that came since the last change was finished.
    pub adding: BTreeSet<ReplicaId>,
    /// Those of them that are not wanted; they stay until the change is finished.
    pub removing: BTreeSet<ReplicaId>,
    /// Whether a change was asked for that is not finished. A change that was cancelled is not before its leader says so: it may
    /// have gone on meanwhile, though nothing is added or removed any more.
    pub is_changing: bool,
    /// Whether a change was ever finished: until then the first replicas may still have to found the group.
    pub is_settled: bool,
}

impl Partition {
    /// A new partition on `nodes`.
    pub fn new(group: GroupId, nodes: &[NodeId]) -> Self {
        let replicas = nodes.iter().map(|node| ReplicaId::new(*node, 1)).collect();
        let (adding, removing) = (BTreeSet::new(), BTreeSet::new());
        Partition { group, revision: 1, replicas, adding, removing, is_changing: false, is_settled: false }
    }

    /// The nodes that hold it, the preferred leader first; Kafka's `replicas`, which names those being removed too.
    pub fn nodes(&self) -> Vec<NodeId> {
        distinct(self.replicas.iter().copied())
    }

    /// The replicas that there are once no change is under way.
    pub fn wanted(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().copied().filter(|replica| !self.removing.contains(replica))
    }

    /// The replicas that there were before the change under way; asking for these again cancels it.
    pub fn before(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().copied().filter(|replica| !self.adding.contains(replica))
    }

    /// Whether a replica is, or may still be, on `node`.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.replicas.iter().any(|replica| replica.node() == node)
    }

    /// The replica that `node` should run: the newest, since an older one there is beyond repair.
    pub fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        self.replicas.iter().copied().filter(|replica| replica.node() == node).max()
    }

    /// Who founds the group, if that may be necessary still.
    pub fn founders(&self) -> Option<Vec<ReplicaId>> {
        (!self.is_settled).then(|| self.before().filter(|replica| replica.revision() == 1).collect())
    }

    /// Wants exactly `wanted` from now on, and keeps the others until that is so.
    fn want(&mut self, wanted: Vec<ReplicaId>) {
        let before: BTreeSet<ReplicaId> = self.before().collect();
        let others: Vec<ReplicaId> = self.replicas.iter().copied().filter(|old| !wanted.contains(old)).collect();
        self.removing = others.iter().copied().collect();
        self.replicas = wanted.into_iter().chain(others).collect();
        self.adding = self.replicas.iter().copied().filter(|replica| !before.contains(replica)).collect();
        self.is_changing |= !self.adding.is_empty() || !self.removing.is_empty();
        self.revision += 1;
    }

    /// The id of a new replica on `node`, in the revision that comes.
    fn fresh(&self, node: NodeId) -> ReplicaId {
        let revision = if planted::is(Bug::ReplicaIdReused) { 1 } else { self.revision + 1 };
        let replica = ReplicaId::new(node, revision);
        let is_new = self.replicas.iter().all(|old| old.revision() < revision) || planted::is(Bug::ReplicaIdReused);
        check!(is_new, ReplicaIdNeverReused, "{replica} in {:?}", self.replicas);
        replica
    }

    /// The replicas on `nodes`, new ones where there is none.
    fn on(&self, nodes: &[NodeId]) -> Vec<ReplicaId> {
        nodes.iter().map(|node| self.replica_on(*node).unwrap_or_else(|| self.fresh(*node))).collect()
    }

    /// Replaces the wanted replica on `node` by a new one on the same node. False if none is wanted there.
    pub(super) fn renew(&mut self, node: NodeId) -> bool {
        let mut wanted: Vec<ReplicaId> = self.wanted().collect();
        let Some(replica) = wanted.iter_mut().find(|replica| replica.node() == node) else { return false };
        *replica = self.fresh(node);
        self.want(wanted);
        true
    }

    /// Whether the replicas of before are a majority without those on `node`.
    pub(super) fn outlives(&self, node: NodeId) -> bool {
        let (all, others) = (self.before().count(), self.before().filter(|replica| replica.node() != node).count());
        others > all / 2
    }
}

fn distinct(replicas: impl Iterator<Item = ReplicaId>) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    replicas.map(ReplicaId::node).for_each(|node| {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    });
    nodes
}

/// The command: Kafka's AlterPartitionReassignments (KIP-455), and repairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterReplicas {
    /// Which partitions, and how.
    pub changes: Vec<ReplicaChange>,
    /// Whether the number of replicas may change (KIP-860).
    pub may_change_count: bool,
}

/// A partition whose replicas are to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaChange {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub index: PartitionIndex,
    /// The revision that whoever asks has seen; another one is refused.
    pub revision: Option<u32>,
    /// What is asked for.
    pub to: Wanted,
}

/// What the replicas of a partition shall become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// One on each of these nodes, the preferred leader first. Takes the place of a change under way.
    On(Vec<NodeId>),
    /// Those of before the change under way.
    Before,
    /// The same, but a new one on this node, whose replica will never be well again.
    Renewed(NodeId),
}

/// The command: the leader of a partition tells who its members are, committed. If they are those wanted, the change is
/// finished; else nothing happens, and the reply tells the leader how new its image must be before it acts on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReplicas {
    /// The partition's Raft group.
    pub group: GroupId,
    /// The revision that it worked on.
    pub revision: u32,
    /// Its voters; there are no other members.
    pub voters: BTreeSet<ReplicaId>,
}

impl Image {
    pub(super) fn alter_replicas(&mut self, alter: AlterReplicas, terms: &Terms) -> Vec<Result<(), Error>> {
        let AlterReplicas { changes, may_change_count } = alter;
        changes.iter().map(|change| self.alter(change, may_change_count, &Loads::of(self, terms))).collect()
    }

    fn alter(&mut self, change: &ReplicaChange, may_change_count: bool, loads: &Loads) -> Result<(), Error> {
        let topic = self.topic(&change.topic).ok_or_else(|| unknown_topic(&change.topic))?.clone();
        let unknown = || {
            let message = format!("Topic '{}' has no partition {}.", change.topic, change.index);
            Error::new(Code::UnknownTopic, message)
        };
        let mut partition = topic.partition(change.index).ok_or_else(unknown)?.clone();
        if let Some(seen) = change.revision.filter(|seen| *seen != partition.revision) {
            let message = format!("The placement has revision {}, not {seen}.", partition.revision);
            return Err(Error::new(Code::InvalidUpdateVersion, message));
        }
        match &change.to {
            Wanted::On(nodes) => {
                loads.check_wanted(nodes, &partition.nodes())?;
                let (count, known) = (nodes.len(), partition.before().count());
                if !may_change_count && count != known {
                    let message = format!("The partition has {known} replica(s), {count} are wanted.");
                    return Err(Error::new(Code::InvalidReplicationFactor, message));
                }
                let wanted = partition.on(nodes);
                if partition.wanted().eq(wanted.iter().copied()) {
                    return Ok(());
                }
                partition.want(wanted);
            }
            Wanted::Before if !partition.is_changing => {
                let message = "No reassignment of the partition is in progress.";
                return Err(Error::new(Code::NoReassignmentInProgress, message));
            }
            Wanted::Before => {
                let before: Vec<ReplicaId> = partition.before().collect();
                if let Some(lost) = before.iter().find(|old| partition.replica_on(old.node()) != Some(**old)) {
                    let message = format!("Replica {lost} is gone: its renewal cannot be cancelled.");
                    return Err(Error::new(Code::InvalidReplicaAssignment, message));
                }
                if partition.wanted().eq(before.iter().copied()) {
                    return Ok(());
                }
                partition.want(before);
            }
            Wanted::Renewed(node) => {
                if !partition.outlives(*node) || !partition.renew(*node) {
                    let message = format!("Node {node} has no replica that the others could replace.");
                    return Err(Error::new(Code::InvalidReplicaAssignment, message));
                }
            }
        }
        self.replace(&topic, change.index, partition);
        Ok(())
    }

    /// Puts a changed placement in the place of the old one.
    pub(super) fn replace(&mut self, topic: &Topic, index: PartitionIndex, partition: Partition) {
        let holders: BTreeSet<&ReplicaId> = partition.replicas.iter().collect();
        check!(holders.len() == partition.replicas.len(), PlacementDistinct, "{partition:?}");
        let mut changed = Topic::clone(topic);
        if let Some(place) = usize::try_from(index.0).ok().and_then(|index| changed.partitions.get_mut(index)) {
            *place = partition;
        }
        self.put_topic(changed);
    }

    /// Whether the report finished a change.
    pub(super) fn report_replicas(&mut self, report: &ReportReplicas) -> bool {
        let Some((topic, index)) = self.partition_of_group(report.group) else { return false };
        let (topic, Some(partition)) = (topic.clone(), topic.partition(index)) else { return false };
        let reached = partition.wanted().collect::<BTreeSet<_>>() == report.voters;
        if !partition.is_changing || partition.revision != report.revision || !reached {
            return false;
        }
        let replicas = partition.wanted().collect();
        let (adding, removing) = (BTreeSet::new(), BTreeSet::new());
        let (is_changing, is_settled) = (false, true);
        let finished = Partition { replicas, adding, removing, is_changing, is_settled, ..partition.clone() };
        self.replace(&topic, index, finished);
        true
    }
}
