//! A cluster in one process: simulated disks, an in-memory transport with delay, cuts and deaths, paused time.
//! Invariant: what a dead incarnation of a node says is never heard.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::command::Payload;
use model::{GroupId, NodeId, ReplicaId};
use raft::{
    Around, Frame, Group, Groups, Kind, Lane, Neighbour, Options, ProposeError, Proposed, Transport, TransportError,
};
use storage::engine::sim::SimDisk;
use tokio::sync::{mpsc, oneshot};

pub const GROUP: GroupId = GroupId(1024);
/// Later than every replica.
pub const ANY: ReplicaId = ReplicaId(u32::MAX as u64);
pub const DELAY: Duration = Duration::from_millis(1);
/// Partitions sleep only where somebody tends them.
pub const QUIESCE_AFTER: Duration = Duration::from_millis(500);

pub fn replica(node: u32) -> ReplicaId {
    ReplicaId::new(NodeId(node), 1)
}

/// A record batch of one record whose body is `text`, as Kafka v2 has it. The CRC is any sum of the text: nobody here
/// checks it, but the digest of a log is made of it.
pub fn batch(text: &str) -> Bytes {
    let mut bytes = vec![0u8; 61];
    bytes[8..12].copy_from_slice(&(49 + text.len() as i32).to_be_bytes());
    bytes[16] = 2;
    let sum = text.bytes().fold(1u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    bytes[17..21].copy_from_slice(&sum.to_be_bytes());
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&1i32.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Bytes::from(bytes)
}

pub fn payload(text: &str) -> Payload {
    Payload::append(1, vec![batch(text)])
}

/// Who can hear whom, and who is alive.
#[derive(Default)]
pub struct Wires {
    homes: BTreeMap<NodeId, (u64, Groups)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    lanes: BTreeMap<(NodeId, NodeId, bool), mpsc::UnboundedSender<Parcel>>,
    pub bytes: u64,
    incarnations: u64,
}

struct Parcel {
    at: tokio::time::Instant,
    group: GroupId,
    frame: Frame,
    answer: oneshot::Sender<Frame>,
}

pub type Net = Arc<Mutex<Wires>>;

/// One incarnation of a node's way out.
struct Link {
    net: Net,
    node: NodeId,
    incarnation: u64,
}

fn open(net: &Net, from: NodeId, to: NodeId) -> Option<Groups> {
    let wires = net.lock().unwrap();
    if wires.cut.contains(&(from, to)) {
        return None;
    }
    wires.homes.get(&to).map(|(_, groups)| groups.clone())
}

impl Transport for Link {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        group: GroupId,
        frame: Frame,
    ) -> BoxFuture<'static, Result<Frame, TransportError>> {
        let unreachable = TransportError::Unreachable { node: to, reason: "nobody there".to_owned() };
        let broken = TransportError::Broken { node: to, reason: "cut".to_owned() };
        let (answer, answered) = oneshot::channel();
        let alive = {
            let mut wires = self.net.lock().unwrap();
            wires.bytes += frame.len() as u64;
            wires.homes.get(&self.node).is_some_and(|(incarnation, _)| *incarnation == self.incarnation)
        };
        if !alive || open(&self.net, self.node, to).is_none() {
            return futures::future::ready(Err(unreachable)).boxed();
        }
        let parcel = Parcel { at: tokio::time::Instant::now() + DELAY, group, frame, answer };
        let from = self.node;
        let net = self.net.clone();
        let mut wires = self.net.lock().unwrap();
        let sender = wires.lanes.entry((from, to, lane == Lane::Append)).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(carry(net, from, to, receiver));
            sender
        });
        sender.send(parcel).ok();
        async move { answered.await.map_err(|_| broken) }.boxed()
    }
}

async fn carry(net: Net, from: NodeId, to: NodeId, mut parcels: mpsc::UnboundedReceiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        tokio::time::sleep_until(parcel.at).await;
        let Some(groups) = open(&net, from, to) else { continue };
        let answering = groups.handle(from, parcel.group, parcel.frame);
        let net = net.clone();
        tokio::spawn(async move {
            let answer = answering.await.expect("our own frames are good");
            tokio::time::sleep(DELAY).await;
            if open(&net, to, from).is_some() {
                parcel.answer.send(answer).ok();
            }
        });
    }
}

pub struct Cluster {
    pub net: Net,
    pub disks: BTreeMap<u32, SimDisk>,
    pub nodes: BTreeMap<u32, Groups>,
    pub kind: Kind,
    pub options: Options,
}

impl Cluster {
    /// `nodes` nodes, a group founded on the first `founders` of them.
    pub async fn new(nodes: u32, founders: u32, kind: Kind) -> Self {
        Self::with_options(nodes, founders, kind, Options::default()).await
    }

    /// The same, hosted with these options.
    pub async fn with_options(nodes: u32, founders: u32, kind: Kind, options: Options) -> Self {
        let (disks, nodes_up) = (BTreeMap::new(), BTreeMap::new());
        let mut cluster = Cluster { net: Net::default(), disks, nodes: nodes_up, kind, options };
        for node in 1..=nodes {
            let disk = SimDisk::new(u64::from(node));
            disk.set_fsync(Duration::from_millis(1), Duration::from_millis(3));
            cluster.disks.insert(node, disk);
            cluster.boot(node);
        }
        let members: Vec<ReplicaId> = (1..=founders).map(replica).collect();
        for node in 1..=founders {
            cluster.nodes[&node].open(GROUP, kind, replica(node), Some(members.clone())).await.unwrap();
        }
        cluster
    }

    /// Attaches a new process to the node's disk, without opening a group.
    pub fn boot(&mut self, node: u32) {
        let (writer, reader) = storage::open(self.disks[&node].open(), storage::Options::default()).unwrap();
        let incarnation = {
            let mut wires = self.net.lock().unwrap();
            wires.incarnations += 1;
            wires.incarnations
        };
        let link = Link { net: self.net.clone(), node: NodeId(node), incarnation };
        let options = Options { quiesce_after: Some(QUIESCE_AFTER), ..self.options.clone() };
        let groups = Groups::new(options, writer, reader, Arc::new(link));
        self.net.lock().unwrap().homes.insert(NodeId(node), (incarnation, groups.clone()));
        self.nodes.insert(node, groups);
    }

    /// Power failure of one node: only the first `keep` unsynced batches survive.
    pub async fn crash(&mut self, node: u32, keep: usize) {
        self.net.lock().unwrap().homes.remove(&NodeId(node));
        self.disks[&node].crash(keep);
        if let Some(groups) = self.nodes.remove(&node) {
            for group in groups.all() {
                groups.close(group.id()).await.ok();
            }
        }
    }

    /// Ends a node in order; the power goes afterwards.
    pub async fn stop(&mut self, node: u32) {
        if let Some(groups) = self.nodes.remove(&node) {
            groups.close(GROUP).await.unwrap();
            assert!(groups.is_at_rest());
        }
        self.crash(node, 0).await;
    }

    pub async fn restart(&mut self, node: u32) -> Group {
        self.boot(node);
        self.nodes[&node].open(GROUP, self.kind, replica(node), None).await.unwrap()
    }

    pub fn group(&self, node: u32) -> Group {
        self.nodes[&node].get(GROUP).expect("open")
    }

    pub fn cut(&self, a: u32, b: u32) {
        self.net.lock().unwrap().cut.extend([(NodeId(a), NodeId(b)), (NodeId(b), NodeId(a))]);
    }

    pub fn isolate(&self, node: u32) {
        for other in self.disks.keys().copied().filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    pub fn heal(&self) {
        self.net.lock().unwrap().cut.clear();
    }

    /// What the heartbeats between nodes would tell `node`: of a cut link nothing.
    fn around(&self, node: u32) -> Around {
        let wires = self.net.lock().unwrap();
        let hears = |to, from| !wires.cut.contains(&(from, to)) && wires.homes.contains_key(&from);
        let others = wires.homes.iter().filter(|(other, _)| other.0 != node && hears(NodeId(node), **other));
        let neighbour = |(other, (boot, groups)): (&NodeId, &(u64, Groups))| {
            let led = groups.get(GROUP).map(|group| group.status_now()).filter(|status| status.is_leader);
            let leads = Arc::new(led.map(|status| (GROUP, status.term)).into_iter().collect());
            (*other, Neighbour { boot: *boot, hears_us: hears(*other, NodeId(node)), leads })
        };
        Around(others.map(neighbour).collect())
    }

    /// Lets time pass with the nodes tending their partitions, as a node's actors do.
    pub async fn tend(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let around: Vec<_> = self.nodes.keys().map(|node| self.around(*node)).collect();
            for (groups, around) in self.nodes.values().zip(around) {
                groups.tend(around);
            }
        }
    }

    /// The nodes whose replica sleeps.
    pub fn asleep(&self) -> Vec<u32> {
        self.nodes.keys().copied().filter(|node| self.group(*node).is_asleep()).collect()
    }

    /// The node that leads now, once there is one that knows the end of its log.
    pub async fn leader(&self) -> u32 {
        for _ in 0..1_000 {
            let leader = self.nodes.iter().find(|(_, groups)| groups.get(GROUP).is_some_and(|g| g.knows_end()));
            if let Some((node, _)) = leader {
                return *node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader within 10 s");
    }

    /// A leader among `nodes`.
    pub async fn leader_among(&self, nodes: &[u32]) -> u32 {
        for _ in 0..1_000 {
            if let Some(node) = nodes.iter().find(|node| self.group(**node).knows_end()) {
                return *node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader among {nodes:?} within 10 s");
    }

    /// Waits until every open replica has applied the same entries, and checks that they are the same bytes.
    pub async fn converge(&self) -> u64 {
        let groups: Vec<Group> = self.nodes.values().filter_map(|groups| groups.get(GROUP)).collect();
        for _ in 0..1_000 {
            let states: Vec<_> =
                groups.iter().map(|group| group.partition(|machine| *machine.state()).unwrap()).collect();
            let last = groups.iter().filter_map(|group| group.metrics().last).max();
            if states.iter().all(|state| Some(state.applied_index) == last) {
                let digests: BTreeSet<u64> = states.iter().map(|state| state.digest).collect();
                assert_eq!(digests.len(), 1, "replicas diverged: {states:?}");
                return last.unwrap_or(0);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let all: Vec<_> = groups.iter().map(|group| (group.replica(), group.metrics())).collect();
        panic!("no convergence within 10 s: {all:#?}");
    }
}

/// Proposes one text and waits, at most ten seconds.
pub async fn write(group: &Group, text: &str) -> Result<Proposed, ProposeError> {
    let results = tokio::time::timeout(Duration::from_secs(10), group.propose(vec![payload(text)])).await;
    results.unwrap_or_else(|_| vec![Err(ProposeError::Busy)]).remove(0)
}

/// The texts of a replica's applied log, in order.
pub async fn texts(disk: &SimDisk, group: &Group) -> Vec<String> {
    let applied = group.metrics().applied.unwrap_or(0);
    let mut texts = Vec::new();
    for index in 0..=applied {
        if let Some((_, stored)) = disk.durable(GROUP, index) {
            let entry = Payload::from_bytes(stored).unwrap();
            if entry.header().unwrap().tag == model::command::Tag::Append {
                texts.extend(entry.body.iter().map(|batch| String::from_utf8(batch[61..].to_vec()).unwrap()));
            }
        }
    }
    texts
}
