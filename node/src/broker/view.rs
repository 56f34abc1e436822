//! What this node tells of the cluster and itself: nodes, addresses, rafts, directories, readiness.
//! Only reads.
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::controller::{Duty, Partition, Topic};
use model::{GroupId, NodeId, PartitionIndex, ReplicaId};

use super::{Broker, DirEntry, GroupReport, ListenerKind, LogDir, NodeReport, PartitionReport, Readiness, Standing};
use crate::router::Led;

/// What an operator does about a quarantined replica.
const RECOVERY: &str =
    "it is replaced by a new one from its peers once all of those are alive and in sync, so keep them running";

impl ListenerKind {
    /// Its name in a registration.
    pub const fn name(self) -> &'static str {
        match self {
            ListenerKind::Kafka => "kafka",
            ListenerKind::Admin => "admin",
            ListenerKind::Peer => "peer",
        }
    }
}

impl Broker {
    /// Host and port of `node` for a client that reached this node at its address `via`: the registered host if there
    /// is one (`advertise`, or a listener bound to one address), else the host the client itself used (DESIGN.md
    /// section 7); for a node on another machine the host its peers use.
    pub fn node_address(&self, node: NodeId, kind: ListenerKind, via: SocketAddr) -> Option<(String, u16)> {
        let image = self.0.image.borrow();
        let listeners = &image.nodes.get(&node)?.listeners;
        let endpoint = listeners.get(kind.name())?;
        if !endpoint.host.is_empty() {
            return Some((endpoint.host.clone(), endpoint.port));
        }
        let peer_host = listeners.get(ListenerKind::Peer.name()).map(|peer| peer.host.clone()).unwrap_or_default();
        let elsewhere = node != self.node_id() && !is_local(&peer_host);
        let host = if elsewhere { peer_host } else { via.ip().to_canonical().to_string() };
        Some((host, endpoint.port))
    }

    /// The nodes of the cluster.
    pub fn nodes(&self) -> Vec<NodeReport> {
        let image = self.image();
        let via = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        let controller = self.controller();
        let address = |node, kind| {
            let (host, port) = self.node_address(node, kind, via).unwrap_or_default();
            format!("{host}:{port}")
        };
        let led = |node| {
            if node == self.node_id() {
                return self.0.router.leads().iter().filter(|(group, _)| group.is_partition()).count();
            }
            let peer = self.0.router.peer(node).filter(|_| self.0.router.is_alive(node));
            peer.map_or(0, |peer| peer.leads.keys().filter(|group| group.is_partition()).count())
        };
        let report = |node: &model::controller::Node| NodeReport {
            id: node.id,
            kafka: address(node.id, ListenerKind::Kafka),
            admin: address(node.id, ListenerKind::Admin),
            peer: address(node.id, ListenerKind::Peer),
            rack: node.rack.clone(),
            alive: self.0.router.is_alive(node.id),
            leads: led(node.id),
            controller: controller == Some(node.id),
            duty: match image.duty(node.id) {
                None => "serving",
                Some(Duty::Drained) => "drained",
                Some(Duty::Leaving) => "leaving",
            },
        };
        image.nodes.values().map(|node| report(node)).collect()
    }

    /// The rafts of this node, the controller's first.
    pub fn groups(&self) -> Vec<GroupReport> {
        let controller = self.0.router.controller().map(|group| report(&group, "controller".to_owned()));
        let partitions = self.0.router.locals().into_iter().map(|local| {
            let placement = local.placement();
            report(local.raft(), format!("{}-{}", placement.topic, placement.index))
        });
        controller.into_iter().chain(partitions).chain(self.unopened()).collect()
    }

    /// What the replicas of this node hold, and why.
    pub fn partitions(&self) -> Vec<PartitionReport> {
        let report = |local: Arc<crate::router::LocalPartition>| {
            let (placement, space) = (local.placement(), local.raft().space().unwrap_or_default());
            PartitionReport {
                topic: placement.topic.to_string(),
                partition: placement.index,
                node: self.node_id(),
                role: report(local.raft(), String::new()).role,
                bytes: space.bytes,
                log_start: space.log_start,
                high_watermark: space.next_offset,
                clean_end: space.clean_end,
                purged: space.purged,
                checkpoint: space.checkpoint,
                retained_bytes: space.retained,
                pinned_by: space.pinned_by(),
            }
        };
        self.0.router.locals().into_iter().map(report).collect()
    }

    /// The quarantined replicas of this node that cannot even be opened.
    fn unopened(&self) -> Vec<GroupReport> {
        let image = self.image();
        let closed = image.groups_of_node(self.node_id()).filter(|(_, _, partition)| {
            let group = partition.group;
            self.0.router.local(group).is_none() && self.0.router.quarantined(group).is_some()
        });
        let report = |(topic, index, partition): (&Arc<Topic>, PartitionIndex, &Partition)| GroupReport {
            group: partition.group,
            name: format!("{}-{index}", topic.name),
            leader: self.0.router.leader(partition.group).node,
            term: 0,
            role: "quarantined",
            asleep: false,
            last_index: 0,
            committed: 0,
            applied: 0,
            voters: partition.nodes(),
            learners: Vec::new(),
        };
        closed.map(report).collect()
    }

    /// The raft replicas of this node themselves, the controller's first: for whoever looks on from outside, the
    /// simulation above all. Reading them changes nothing.
    pub fn rafts(&self) -> Vec<raft::Group> {
        let partitions = self.0.router.locals();
        self.0.router.controller().into_iter().chain(partitions.iter().map(|local| local.raft().clone())).collect()
    }

    /// Bytes of appends admitted and not decided yet.
    pub fn admitted_bytes(&self) -> usize {
        self.0.budget.admitted_bytes()
    }

    /// This node's log directory.
    pub fn log_dirs(&self) -> Vec<LogDir> {
        let entry = |local: &std::sync::Arc<crate::router::LocalPartition>| {
            let (placement, metrics) = (local.placement(), local.raft().metrics());
            let behind = metrics.committed.unwrap_or(0).saturating_sub(metrics.applied.unwrap_or(0));
            DirEntry {
                topic: placement.topic.to_string(),
                index: placement.index,
                bytes: self.0.reader.group_bytes(local.group()),
                lag: i64::try_from(behind).unwrap_or(i64::MAX),
            }
        };
        let space = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (total_bytes, usable_bytes) = match self.0.reader.disk_usage() {
            Ok(usage) => (space(usage.used.saturating_add(usage.free)), space(usage.free)),
            Err(_) => (-1, -1),
        };
        let replicas = self.0.router.locals().iter().map(entry).collect();
        vec![LogDir { path: self.0.config.data.display().to_string(), total_bytes, usable_bytes, replicas }]
    }

    /// Whether this node serves: a member, and caught up on every assigned raft.
    pub fn readiness(&self) -> Readiness {
        let reason = match &*self.0.standing.borrow() {
            _ if self.is_stopping() => Some("this node is stopping".to_owned()),
            Standing::Member => self.lagging(),
            Standing::Seeking(words) | Standing::Refused(words) => Some(words.clone()),
        };
        Readiness { ready: reason.is_none(), reason: reason.unwrap_or_default() }
    }

    fn lagging(&self) -> Option<String> {
        let image = self.image();
        if !image.nodes.contains_key(&self.node_id()) {
            return Some("this node is not registered yet".to_owned());
        }
        let Some(controller) = self.0.router.controller() else {
            return Some("the controller's replica does not run".to_owned());
        };
        if let Some(what) = unready(&controller) {
            return Some(format!("controller: {what}"));
        }
        // Thousands open in the order of their groups: nearly every answer is found where the last one was, or soon behind.
        let (me, last) = (self.node_id(), GroupId(self.0.conditions.lagged.load(Ordering::Relaxed)));
        let before = image.groups_of_node(me).take_while(|(_, _, partition)| partition.group < last);
        image.groups_of_node_from(me, last).chain(before).find_map(|(topic, index, partition)| {
            let what = self.lags(topic, index, partition.group)?;
            self.0.conditions.lagged.store(partition.group.0, Ordering::Relaxed);
            Some(what)
        })
    }

    /// Why a replica of this node does not serve, if it does not.
    fn lags(&self, topic: &Topic, index: PartitionIndex, group: GroupId) -> Option<String> {
        let name = || format!("{}-{index}", topic.name);
        if let Some(reason) = self.0.router.quarantined(group) {
            return Some(format!("{}: quarantined: {reason}; {RECOVERY}", name()));
        }
        let Some(local) = self.0.router.local(group) else {
            return Some(format!("{}: does not run yet", name()));
        };
        unready(local.raft()).map(|what| format!("{}: {what}", name()))
    }

    /// Counts the replicas of this node that take no part any more because of what is on their disk.
    pub fn count_quarantined(&self) -> i64 {
        let (image, me) = (self.image(), self.node_id());
        let is_placed_here = |group: &GroupId| image.placed(*group).is_some_and(|partition| partition.is_on(me));
        let out = self.0.router.all_quarantined().into_iter().filter(is_placed_here);
        i64::try_from(out.count()).unwrap_or(i64::MAX)
    }

    /// Nodes whose replica of `group` lives and is not in sync: it was not at the end of its leader's log within
    /// `raft.replica_lag_max`.
    pub fn behind(&self, group: GroupId) -> BTreeSet<NodeId> {
        self.0.router.behind(group)
    }

    /// Looks how far the replicas of the partitions led here are behind.
    pub fn look_at_lag(&self) {
        self.0.router.look_at_lag(self.0.config.raft.replica_lag_max);
    }

    /// Counts the partitions led here with fewer replicas alive and in sync than placed, for the metrics.
    pub fn count_under_replicated(&self) -> i64 {
        let (image, router) = (self.image(), &self.0.router);
        // While all nodes live, which is nearly always, nobody looks where partitions are.
        let all_live = image.nodes.keys().all(|node| router.is_alive(*node));
        let under = |(group, led): &&(GroupId, Led)| {
            let has_dead = |partition: &Partition| partition.nodes().iter().any(|node| !router.is_alive(*node));
            image.placed(*group).is_some_and(|placed| !led.behind.is_empty() || !all_live && has_dead(placed))
        };
        i64::try_from(router.leads().iter().filter(under).count()).unwrap_or(i64::MAX)
    }
}

/// Whether a host names only the machine it is asked on.
fn is_local(host: &str) -> bool {
    host.is_empty()
        || host == "localhost"
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip.is_unspecified())
}

fn unready(group: &raft::Group) -> Option<&'static str> {
    match group.mark() {
        mark if mark.stopped => Some("stopped"),
        mark if mark.leader.is_none() => Some("no leader"),
        mark if mark.applied < mark.committed => Some("catching up"),
        _ => None,
    }
}

fn report(group: &raft::Group, name: String) -> GroupReport {
    let metrics = group.metrics();
    let status = metrics.status;
    let me = group.replica();
    let role = match () {
        () if group.quarantined().is_some() => "quarantined",
        () if status.stopped.is_some() => "stopped",
        () if status.is_leader => "leader",
        () if status.learners.contains(&me) => "learner",
        () if status.leader.is_some() => "follower",
        () => "candidate",
    };
    let nodes = |replicas: &BTreeSet<ReplicaId>| replicas.iter().map(|one| one.node()).collect();
    let id: GroupId = group.id();
    GroupReport {
        group: id,
        name,
        leader: status.leader,
        term: status.term,
        role,
        asleep: group.is_asleep(),
        last_index: metrics.last.unwrap_or(0),
        committed: metrics.committed.unwrap_or(0),
        applied: metrics.applied.unwrap_or(0),
        voters: nodes(&status.voters),
        learners: nodes(&status.learners),
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn local_hosts() {
        for host in ["", "localhost", "127.0.0.1", "0.0.0.0", "::1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["10.0.0.1", "kafka-1.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
