//! Nodes with simulated disks on loopback ports, and short ways to say what tests say often.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::PartitionIndex;
use model::controller::{Command, CreateTopics, NewTopic, Outcome};
use node::broker::{self, AppendRequest, Appended, Broker, Error, PartitionRef, ReadRequest, random_topic_id};
use node::config::{self, Amqp, AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};
use node::seams::{EngineFactory, Seams, SystemClock, TcpNet};
use node::{Error as NodeError, Node};
use storage::Engine;
use storage::engine::sim::SimDisk;
use tokio::time::{Instant, sleep};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use crate::ports::free_address;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct Disk(SimDisk);

impl EngineFactory for Disk {
    fn open(&self, _: &Path, _: &config::Storage) -> Result<Arc<dyn Engine>, storage::Error> {
        Ok(self.0.open())
    }
}

/// Ports and disks, by node id.
pub struct World {
    peers: BTreeMap<u32, SocketAddr>,
    pub disks: BTreeMap<u32, SimDisk>,
    pub expect: u32,
    pub seeds: Vec<u32>,
}

impl World {
    /// `nodes` machines; the first `expect` of them found the cluster and are everybody's seeds.
    pub fn new(nodes: u32, expect: u32) -> Self {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
        let _only_once = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let peers = (1..=nodes).map(|node| (node, free_address())).collect();
        let disks = (1..=nodes).map(|node| (node, SimDisk::new(u64::from(node)))).collect();
        Self { peers, disks, expect, seeds: (1..=expect).collect() }
    }

    /// Gives every node a new address.
    pub fn move_all(&mut self) {
        self.peers.values_mut().for_each(|address| *address = free_address());
    }

    pub fn config(&self, node: u32) -> Config {
        let free = Listener { bind: "127.0.0.1:0".parse().unwrap(), advertise: None };
        let peer = Listener { bind: self.peers[&node], advertise: None };
        let seeds = self.seeds.iter().filter(|_| self.peers.len() > 1);
        Config {
            node_id: node,
            cluster_id: None,
            data: "unused".into(),
            listeners: Listeners { kafka: free.clone(), admin: free, peer, amqp: Amqp::default() },
            seeds: seeds.map(|seed| self.peers[seed].to_string()).collect(),
            bootstrap_expect: self.expect,
            rack: None,
            limits: Limits::default(),
            // The records of these tests are of 1970, and a busy machine keeps a node from beating for a moment.
            storage: Storage { retention_check: Duration::from_secs(3600), ..Storage::default() },
            raft: Raft { node_dead_after: Duration::from_secs(2), ..Raft::default() },
            insecure: false,
            auto_create: AutoCreate::default(),
        }
    }

    pub async fn try_start(&self, node: u32) -> Result<Node, NodeError> {
        self.start_with(self.config(node)).await
    }

    pub async fn start_with(&self, config: Config) -> Result<Node, NodeError> {
        let engine = Arc::new(Disk(self.disks[&config.node_id].clone()));
        let seams = Seams { net: Arc::new(TcpNet), clock: Arc::new(SystemClock::new()), engine };
        Node::start(config, seams).await
    }

    pub async fn start(&self, node: u32) -> Node {
        self.try_start(node).await.unwrap()
    }

    /// Starts the founders and waits until all are ready.
    pub async fn found(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for node in 1..=self.expect {
            nodes.push(self.start(node).await);
        }
        for node in &nodes {
            ready(node.broker()).await;
        }
        nodes
    }
}

/// Waits until `holds`.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn ready(broker: &Broker) {
    let until = Instant::now() + PATIENCE;
    while !broker.readiness().ready {
        assert!(Instant::now() < until, "node {} is not ready: {}", broker.node_id(), broker.readiness().reason);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Creates a topic and waits until every given broker knows a leader of each partition.
pub async fn topic(brokers: &[&Broker], name: &str, partitions: i32, replication: i16) -> Vec<PartitionRef> {
    topic_as(brokers, NewTopic { partitions, replication, ..NewTopic::named(name, random_topic_id()) }).await
}

/// The same for a topic that is described whole.
pub async fn topic_as(brokers: &[&Broker], new: NewTopic) -> Vec<PartitionRef> {
    let partitions = new.partitions;
    let create = CreateTopics { topics: vec![new], validate_only: false, auto: false };
    let reply = brokers[0].control(Command::CreateTopics(create)).await.unwrap();
    let Outcome::Created(created) = reply.outcome else { panic!("{reply:?}") };
    let topic = created[0].as_ref().unwrap().id;
    for broker in brokers {
        eventually("every partition has a leader", || {
            let image = broker.image();
            let Some(topic) = image.topic_by_id(topic) else { return false };
            topic.partitions.iter().all(|partition| broker.leader(partition.group).node.is_some())
        })
        .await;
    }
    (0..partitions).map(|index| PartitionRef { topic, index: PartitionIndex(index) }).collect()
}

/// One batch of records with these values.
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (place, value) in (0..).zip(values) {
        builder.push(1_000 + place, None, Some(value.as_bytes()));
    }
    builder.build().unwrap()
}

pub fn request(partition: PartitionRef, batches: Vec<Bytes>) -> AppendRequest {
    AppendRequest { partition, batches, timeout: Duration::from_secs(5) }
}

/// Appends at whichever node leads, however often that changes.
pub async fn append(nodes: &[&Broker], partition: PartitionRef, value: &str) -> Appended {
    let until = Instant::now() + PATIENCE;
    loop {
        for broker in nodes {
            match broker.append(request(partition, vec![batch(&[value])])).await {
                Ok(appended) => return appended,
                Err(Error::NotLeader { .. } | Error::Unavailable(_) | Error::UnknownPartition | Error::Timeout) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(Instant::now() < until, "nobody takes an append");
        sleep(Duration::from_millis(20)).await;
    }
}

pub fn read_request(partition: PartitionRef, offset: i64) -> ReadRequest {
    ReadRequest { partition, offset, max_bytes: 1 << 20, leader_epoch: None, at_least_one: true }
}

/// All values from the leader, whoever it is, with their offsets.
pub async fn read_all(nodes: &[&Broker], partition: PartitionRef) -> Vec<(i64, String)> {
    let until = Instant::now() + PATIENCE;
    let mut refusals = Vec::new();
    loop {
        for broker in nodes {
            match read_from(broker, partition).await {
                Ok(values) => return values,
                Err(error) => refusals.push((broker.node_id(), error)),
            }
        }
        assert!(Instant::now() < until, "nobody answers a read: {:?}", &refusals[refusals.len() - nodes.len()..]);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn read_from(broker: &Broker, partition: PartitionRef) -> Result<Vec<(i64, String)>, broker::Error> {
    let mut values = Vec::new();
    let mut offset = 0;
    loop {
        let read = broker.read(read_request(partition, offset)).await?;
        for stored in &read.batches {
            let view = wire::kafka::Batch::take(&mut stored.bytes.clone()).unwrap();
            for (place, record) in (0..).zip(view.records(1 << 20).unwrap()) {
                let value = record.unwrap().value.unwrap();
                values.push((stored.base_offset + place, String::from_utf8(value.to_vec()).unwrap()));
            }
            offset = stored.next_offset;
        }
        if offset >= read.high_watermark {
            return Ok(values);
        }
    }
}
