//! Who may speak, and where they are: this node, and the members it knows from registrations, hellos and heartbeats.
//! Invariants: Raft traffic passes only from a (node id, store id) that is registered; a disk never forgets what it synced:
//! who comes back with less than it told of is refused, since it may vote twice and lacks what was confirmed.
//! Never connects.
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use model::controller::Retirements;
use model::{NodeId, StoreId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::hello::{Hello, Lane};
use crate::config::Secret;

/// Why somebody may not speak, in words for the operators of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Not now, or not here.
    #[error("{0}")]
    Stranger(String),
    /// Never again with this data folder.
    #[error("{0}")]
    OldCopy(String),
}

/// A node that may speak: its data folder and peer address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node id.
    pub node: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// This node and all it knows of others.
pub struct Directory {
    me: (NodeId, StoreId, u64),
    /// This node's own disk; `None` tells of nothing synced.
    disk: Option<Arc<dyn storage::Engine>>,
    secret: Secret,
    known: RwLock<Known>,
    /// Why this node's folder must not be used, once a peer has said so.
    condemned: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Known {
    cluster: Option<String>,
    /// How others reach this node's peer listener; empty while unknown.
    address: String,
    members: BTreeMap<NodeId, Entry>,
    /// Nodes that were removed from the cluster.
    retired: Arc<Retirements>,
}

struct Entry {
    member: Member,
    /// The address comes from the member itself, since this node started: a registration may be older.
    told: bool,
    /// The start of its process that it last said hello in.
    boot: u64,
    /// How far its disk was synced, by all that it told since this node started.
    synced: u64,
}

impl Entry {
    fn new(member: Member) -> Self {
        Self { member, told: false, boot: 0, synced: 0 }
    }
}

impl Directory {
    /// Knows only this node.
    pub fn new(node: NodeId, store: StoreId, boot: u64) -> Self {
        let (secret, known, condemned) = (Secret::default(), RwLock::default(), watch::Sender::new(None));
        Self { me: (node, store, boot), disk: None, secret, known, condemned }
    }

    /// Tells the others how far `disk` is synced.
    #[must_use]
    pub fn with_disk(self, disk: Arc<dyn storage::Engine>) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Speaks only to those who know `secret`.
    #[must_use]
    pub fn with_secret(self, secret: Secret) -> Self {
        Self { secret, ..self }
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.me.0
    }

    /// This node's data folder.
    pub fn store(&self) -> StoreId {
        self.me.1
    }

    /// This start of this node.
    pub fn boot(&self) -> u64 {
        self.me.2
    }

    /// The cluster's secret.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// How far this node's disk is synced.
    pub fn synced(&self) -> u64 {
        self.disk.as_ref().map_or(0, |disk| disk.synced())
    }

    /// The cluster, once this node belongs to one.
    pub fn cluster(&self) -> Option<String> {
        self.read().cluster.clone()
    }

    /// This node belongs to `cluster` from now on.
    pub fn set_cluster(&self, cluster: String) {
        self.write().cluster = Some(cluster);
    }

    /// Others reach this node's peer listener at `address`.
    pub fn set_address(&self, address: String) {
        self.write().address = address;
    }

    /// Forgets who was removed from the cluster, and refuses their data folders from now on.
    pub fn retire(&self, retired: Arc<Retirements>) {
        let mut known = self.write();
        known.members.retain(|node, entry| !retired.has(*node, entry.member.store));
        known.retired = retired;
    }

    /// Learns members from registrations. Whoever is not named stays known: only a removal takes a registration back. An
    /// address that the member itself has told is newer than its registration and stays.
    pub fn learn(&self, members: impl IntoIterator<Item = Member>) {
        let mut known = self.write();
        for member in members {
            if known.retired.has(member.node, member.store) {
                continue;
            }
            match known.members.get_mut(&member.node).filter(|old| old.member.store == member.store) {
                Some(old) if old.told => {}
                Some(old) => old.member = member,
                None => drop(known.members.insert(member.node, Entry::new(member))),
            }
        }
    }

    /// A member is at the address that it is called at, or that it tells itself. Nobody becomes a member by that.
    pub fn hear(&self, node: NodeId, store: StoreId, address: String) {
        let mut known = self.write();
        if let Some(entry) = known.members.get_mut(&node).filter(|entry| entry.member.store == store)
            && !address.is_empty()
        {
            entry.member.address = address;
            entry.told = true;
        }
    }

    /// A member has said hello and was admitted.
    pub(super) fn met(&self, hello: &Hello) {
        self.hear(hello.node, hello.store, hello.address.clone());
        if let Some(entry) = self.write().members.get_mut(&hello.node).filter(|entry| entry.member.store == hello.store)
        {
            (entry.boot, entry.synced) = (hello.boot, entry.synced.max(hello.synced));
        }
    }

    /// A member's disk is synced so far.
    pub fn told_synced(&self, node: NodeId, synced: u64) {
        if let Some(entry) = self.write().members.get_mut(&node) {
            entry.synced = entry.synced.max(synced);
        }
    }

    /// A peer refuses this node's folder for ever.
    pub(super) fn condemn(&self, words: String) {
        self.condemned.send_replace(Some(words));
    }

    /// Waits until a peer refuses this node's folder for ever; why.
    pub async fn condemned(&self) -> String {
        let mut condemned = self.condemned.subscribe();
        let words = condemned.wait_for(Option::is_some).await.ok().and_then(|words| words.clone());
        words.unwrap_or_default()
    }

    /// A member's peer address.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.read().members.get(&node).map(|entry| entry.member.address.clone())
    }

    /// Everybody known, this node included if registered.
    pub fn members(&self) -> Vec<Member> {
        self.read().members.values().map(|entry| entry.member.clone()).collect()
    }

    /// This node's own hello.
    pub fn hello(&self, lane: Lane) -> Hello {
        let (node, store, boot) = self.me;
        let known = self.read();
        let (cluster, address) = (known.cluster.clone(), known.address.clone());
        Hello { cluster, node, store, boot, lane, address, synced: self.synced() }
    }

    /// Whether the speaker may go on. The words of a refusal are for the operator of either side.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        let known = self.read();
        if known.retired.has(hello.node, hello.store) {
            return Err(Refusal::OldCopy(format!(
                "node {} was removed from the cluster; set its data folder aside, and it may join anew with an empty one",
                hello.node
            )));
        }
        let entry = known.members.get(&hello.node).filter(|entry| entry.member.store == hello.store);
        match entry.and_then(|entry| went_back(entry, hello)) {
            Some(words) => Err(Refusal::OldCopy(words)),
            None => self.belongs(&known, hello).map_err(Refusal::Stranger),
        }
    }

    fn belongs(&self, known: &Known, hello: &Hello) -> Result<(), String> {
        if let (Some(ours), Some(theirs)) = (&known.cluster, &hello.cluster)
            && ours != theirs
        {
            return Err(format!("node {} belongs to cluster {theirs}, this is cluster {ours}", hello.node));
        }
        if hello.node == self.me.0 && hello.store != self.me.1 {
            return Err(format!("node id {} is this node's own: every node needs its own id", hello.node));
        }
        if hello.lane == Lane::Visit {
            return Ok(());
        }
        if known.cluster.is_none() {
            return Err(format!("node {} belongs to no cluster yet", self.me.0));
        }
        match known.members.get(&hello.node).map(|entry| entry.member.store) {
            Some(store) if store == hello.store => Ok(()),
            Some(store) => Err(format!(
                "node {} is registered with the data folder {store}, not {}: its folder was wiped or exchanged",
                hello.node, hello.store
            )),
            None => Err(format!("node {} is not registered in this cluster yet", hello.node)),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In another start of its process, a disk has at least what it told of in the last one.
fn went_back(entry: &Entry, hello: &Hello) -> Option<String> {
    let (node, told, now) = (hello.node, entry.synced, hello.synced);
    (hello.boot != entry.boot && now < told).then(|| {
        format!(
            "the disk of node {node} was synced up to write {told} and comes back with {now}: it is an old copy of itself or has \
             lost what was synced; set its data folder aside and let the node be rebuilt from its peers"
        )
    })
}
