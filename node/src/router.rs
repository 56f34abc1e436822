//! Where every Raft group is: the replicas that run here, and what other nodes say they lead.
//! Owns the table of local partitions and of peers' heartbeats; actors fill it, the broker reads it.
//! Invariant: reading never waits. Never starts or stops anything.
pub mod budget;
mod cursors;
pub mod desk;
pub mod inbox;
pub mod lag;
pub mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

pub use budget::AppendBudget;
pub use inbox::{AppendJob, Committed, Inbox, Refused};
pub use partition::{LocalPartition, Role};

/// A node that never beat is given up only when this one has run for so long: before, nobody had time to.
const NEVER_HEARD: Duration = Duration::from_secs(5);

/// Who leads a group, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known and alive.
    pub node: Option<NodeId>,
    /// Its Raft term, 0 if unknown.
    pub term: u64,
}

/// What a leader says of a group it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// Its Raft term.
    pub term: u64,
    /// Nodes whose replica is not in sync ([`lag`]).
    pub behind: BTreeSet<NodeId>,
}

/// The groups that a node leads.
pub type Leads = Arc<Vec<(GroupId, Led)>>;

/// What a node's heartbeats say.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Changes with every start of its process.
    pub boot: u64,
    /// Whether it hears this start of this node.
    pub hears_us: bool,
    /// Version of its controller image.
    pub image_version: u64,
    /// Its disk takes writes.
    pub disk_ok: bool,
    /// It takes no leadership over.
    pub stopping: bool,
    /// The groups it leads.
    pub leads: BTreeMap<GroupId, Led>,
    /// The terms of `leads`, which change less often.
    terms: Arc<BTreeMap<GroupId, u64>>,
    seen: Instant,
}

impl PeerState {
    /// What a heartbeat says now, but for the groups.
    pub fn now(boot: u64, hears_us: bool, image_version: u64, disk_ok: bool, stopping: bool) -> Self {
        let (leads, terms) = (BTreeMap::new(), Arc::default());
        Self { boot, hears_us, image_version, disk_ok, stopping, leads, terms, seen: Instant::now() }
    }
}

/// The tables.
pub struct Router {
    node: NodeId,
    dead_after: Duration,
    started: Instant,
    local: RwLock<BTreeMap<GroupId, Arc<LocalPartition>>>,
    /// Replicas that take no part any more because of what is on disk, found when they opened or while they ran, and why.
    quarantined: RwLock<BTreeMap<GroupId, String>>,
    controller: RwLock<Option<raft::Group>>,
    peers: RwLock<BTreeMap<NodeId, PeerState>>,
    changes: watch::Sender<u64>,
    /// Counts changes of roles and of who lags.
    roles: AtomicU64,
    /// The groups led here as of that many changes, the controller's first.
    led: Mutex<(u64, Leads)>,
}

fn lock<T>(table: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    table.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock_mut<T>(table: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    table.write().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Empty tables of `node`; another node is dead after `dead_after` without a heartbeat.
    pub fn new(node: NodeId, dead_after: Duration) -> Self {
        Self {
            node,
            dead_after,
            started: Instant::now(),
            local: RwLock::default(),
            quarantined: RwLock::default(),
            controller: RwLock::default(),
            peers: RwLock::default(),
            changes: watch::Sender::new(0),
            roles: AtomicU64::new(1),
            led: Mutex::default(),
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The running replica of `group`.
    pub fn local(&self, group: GroupId) -> Option<Arc<LocalPartition>> {
        lock(&self.local).get(&group).cloned()
    }

    /// How many replicas run here.
    pub fn replicas(&self) -> usize {
        lock(&self.local).len()
    }

    /// All running replicas.
    pub fn locals(&self) -> Vec<Arc<LocalPartition>> {
        lock(&self.local).values().cloned().collect()
    }

    /// A replica runs now.
    pub fn insert(&self, partition: Arc<LocalPartition>) {
        lock_mut(&self.quarantined).remove(&partition.group());
        lock_mut(&self.local).insert(partition.group(), partition);
        self.changed();
    }

    /// A replica takes no part any more because of what is on disk.
    pub fn quarantine(&self, group: GroupId, reason: String) {
        lock_mut(&self.quarantined).insert(group, reason);
    }

    /// Why the replica of `group` on this node takes no part, if so: found on disk, or while it ran.
    pub fn quarantined(&self, group: GroupId) -> Option<String> {
        match self.local(group) {
            Some(local) => local.raft().quarantined(),
            None => lock(&self.quarantined).get(&group).cloned(),
        }
    }

    /// The groups whose replica here takes no part any more, and those whose replica did when it was taken away.
    pub fn all_quarantined(&self) -> Vec<GroupId> {
        lock(&self.quarantined).keys().copied().collect()
    }

    /// A replica runs no longer. Those who wait for it are woken.
    pub fn remove(&self, group: GroupId) {
        if let Some(gone) = lock_mut(&self.local).remove(&group) {
            gone.pulse();
        }
        self.changed();
    }

    /// The controller's raft, once it runs here.
    pub fn controller(&self) -> Option<raft::Group> {
        lock(&self.controller).clone()
    }

    /// The controller's raft runs now, or no longer.
    pub fn set_controller(&self, group: Option<raft::Group>) {
        *lock_mut(&self.controller) = group;
        self.changed();
    }

    /// Follows the coming and going of local replicas.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.role_changed();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Notes a heartbeat, with the groups that `from` leads if they may have changed; true if the node's process is another one
    /// than before.
    pub fn heard(&self, from: NodeId, said: PeerState, leads: Option<BTreeMap<GroupId, Led>>) -> bool {
        let mut peers = lock_mut(&self.peers);
        let state = peers.entry(from).or_insert_with(|| said.clone());
        let restarted = state.boot != said.boot;
        let before = std::mem::replace(state, said);
        if !restarted {
            (state.leads, state.terms) = (before.leads, before.terms);
        }
        if let Some(leads) = leads {
            let terms: BTreeMap<_, _> = leads.iter().map(|(group, led)| (*group, led.term)).collect();
            if *state.terms != terms {
                state.terms = Arc::new(terms);
            }
            state.leads = leads;
        }
        restarted
    }

    /// The start of another node's process that is heard now.
    pub fn hears(&self, node: NodeId) -> Option<u64> {
        let peers = lock(&self.peers);
        peers.get(&node).filter(|peer| peer.seen.elapsed() < self.dead_after).map(|peer| peer.boot)
    }

    /// The other nodes that live, for the sleep of rafts.
    pub fn around(&self) -> raft::Around {
        let peers = lock(&self.peers);
        let living = peers.iter().filter(|(_, peer)| peer.seen.elapsed() < self.dead_after);
        let neighbour = |(node, peer): (&NodeId, &PeerState)| {
            let PeerState { boot, hears_us, terms, .. } = peer;
            (*node, raft::Neighbour { boot: *boot, hears_us: *hears_us, leads: terms.clone() })
        };
        raft::Around(living.map(neighbour).collect())
    }

    /// Whether `node` is this one or has beaten lately.
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.node || lock(&self.peers).get(&node).is_some_and(|peer| peer.seen.elapsed() < self.dead_after)
    }

    /// Whether `node` lives, and not for another moment only.
    pub fn stays(&self, node: NodeId) -> bool {
        self.is_alive(node) && !lock(&self.peers).get(&node).is_some_and(|peer| peer.stopping)
    }

    /// Whether new replicas should rather not go to `node`: it stopped beating, or never began.
    pub fn is_given_up(&self, node: NodeId) -> bool {
        let heard = lock(&self.peers).contains_key(&node);
        !self.is_alive(node) && (heard || self.started.elapsed() >= NEVER_HEARD)
    }

    /// What `node` said last.
    pub fn peer(&self, node: NodeId) -> Option<PeerState> {
        lock(&self.peers).get(&node).cloned()
    }

    /// Whether another node that lives says that it leads `group`.
    pub fn is_led_elsewhere(&self, group: GroupId) -> bool {
        self.claim(group).is_some()
    }

    /// The newest claim of a living node to lead `group`.
    fn claim(&self, group: GroupId) -> Option<Leadership> {
        let peers = lock(&self.peers);
        let living = peers.iter().filter(|(_, peer)| peer.seen.elapsed() < self.dead_after);
        let claims = living
            .filter_map(|(node, peer)| Some(Leadership { node: Some(*node), term: peer.leads.get(&group)?.term }));
        claims.max_by_key(|claim| claim.term)
    }

    /// Who leads `group`: the newest term wins among this node's raft and the heartbeats of living nodes.
    pub fn leader(&self, group: GroupId) -> Leadership {
        let own = self.role(group).map(|role| Leadership { node: role.leader, term: role.term });
        let claimed = self.claim(group).unwrap_or(Leadership { node: None, term: 0 });
        let best = match own {
            Some(own) if own.term > claimed.term || (own.term == claimed.term && own.node.is_some()) => own,
            _ => claimed,
        };
        Leadership { node: best.node.filter(|node| self.is_alive(*node)), term: best.term }
    }

    fn role(&self, group: GroupId) -> Option<Role> {
        if group == GroupId::CONTROLLER {
            return self.controller().map(|controller| Role::of(&controller.status().borrow()));
        }
        self.local(group).map(|local| local.role())
    }

    /// Whether some node that has beaten before is silent now.
    pub fn has_dead(&self) -> bool {
        lock(&self.peers).values().any(|peer| peer.seen.elapsed() >= self.dead_after)
    }

    /// The role of a partition here may have changed.
    pub fn role_changed(&self) {
        self.roles.fetch_add(1, Ordering::AcqRel);
    }

    /// The groups this node leads. Asked with every heartbeat: partitions whose roles stay cost nothing.
    pub fn leads(&self) -> Leads {
        let led = |role: Role, behind| role.is_leader.then_some(Led { term: role.term, behind });
        let controller = self.role(GroupId::CONTROLLER).and_then(|role| led(role, BTreeSet::new()));
        let controller = controller.map(|led| (GroupId::CONTROLLER, led));
        let now = self.roles.load(Ordering::Acquire);
        let mut known = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.1.first().filter(|(group, _)| *group == GroupId::CONTROLLER);
        if known.0 != now || first != controller.as_ref() {
            let locals = lock(&self.local);
            let partitions = locals.iter().map(|(group, local)| (*group, led(local.role(), local.behind())));
            let partitions = partitions.filter_map(|(group, led)| Some((group, led?)));
            *known = (now, Arc::new(controller.into_iter().chain(partitions).collect()));
        }
        known.1.clone()
    }

    /// Nodes whose replica of `group` is not in sync, as its leader says. Whether they live is another question.
    pub fn behind(&self, group: GroupId) -> BTreeSet<NodeId> {
        match self.leader(group).node {
            Some(node) if node == self.node => self.local(group).map(|local| local.behind()),
            Some(node) => lock(&self.peers).get(&node).and_then(|peer| Some(peer.leads.get(&group)?.behind.clone())),
            None => None,
        }
        .unwrap_or_default()
    }

    /// Looks how far the replicas of the partitions led here are behind.
    pub fn look_at_lag(&self, max: Duration) {
        let leads = self.leads();
        let locals = lock(&self.local);
        let led = leads.iter().filter_map(|(group, _)| locals.get(group));
        if led.filter(|local| local.look_at_lag(max)).count() > 0 {
            self.role_changed();
        }
    }
}
