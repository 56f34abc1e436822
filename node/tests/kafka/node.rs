//! One node of its own, on the simulated disk and real loopback sockets.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::config::{self, Amqp, AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};
use node::seams::{EngineFactory, Seams, SystemClock, TcpNet};
use storage::engine::sim::SimDisk;
use tokio::time::{Instant, sleep};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;
use wire::kafka::messages::create_topics::CreatableTopic;
use wire::kafka::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use wire::kafka::messages::{CreateTopicsRequest, MetadataRequest, ProduceRequest};
use wire::kafka::{Str, Uuid};

use crate::client::Client;

#[path = "ports.rs"]
mod ports;

/// How long a node may take to lead everything.
const READY: Duration = Duration::from_secs(20);

/// A running node; crashes when dropped.
pub struct Node {
    pub id: i32,
    pub kafka: SocketAddr,
    pub running: node::Node,
}

/// The simulated disk as every folder's engine.
struct OneDisk(SimDisk);

impl EngineFactory for OneDisk {
    fn open(&self, _data: &Path, _: &config::Storage) -> Result<Arc<dyn storage::Engine>, storage::Error> {
        Ok(self.0.open())
    }
}

fn config() -> Config {
    let free = Listener { bind: SocketAddr::from(([127, 0, 0, 1], 0)), advertise: None };
    Config {
        node_id: 1,
        cluster_id: None,
        data: "unused".into(),
        listeners: Listeners { kafka: free.clone(), admin: free.clone(), peer: free, amqp: Amqp::default() },
        seeds: Vec::new(),
        bootstrap_expect: 1,
        rack: None,
        limits: Limits::default(),
        // The records of these tests are of 1970, and a busy machine keeps a node from beating for a moment.
        storage: Storage { retention_check: Duration::from_secs(3600), ..Storage::default() },
        raft: Raft { node_dead_after: Duration::from_secs(2), ..Raft::default() },
        insecure: false,
        auto_create: AutoCreate::default(),
    }
}

/// Starts a node with these settings changed; returns once it is ready.
pub async fn start_with(change: impl FnOnce(&mut Config)) -> Node {
    let mut config = config();
    change(&mut config);
    let id = i32::try_from(config.node_id).expect("a small number");
    let engine = Arc::new(OneDisk(SimDisk::new(7)));
    let seams = Seams { net: Arc::new(TcpNet), clock: Arc::new(SystemClock::new()), engine };
    let running = node::Node::start(config, seams).await.expect("a node that starts");
    until("a member", || async { running.broker().readiness().ready.then_some(()) }).await;
    Node { id, kafka: running.addresses().kafka, running }
}

/// Three nodes that know each other; returns once all are ready.
pub async fn start_three() -> Vec<Node> {
    start_three_with(|_| {}).await
}

/// The same, with other settings.
pub async fn start_three_with(change: impl Fn(&mut Config)) -> Vec<Node> {
    let peers: Vec<SocketAddr> = (0..3).map(|_| ports::free_address()).collect();
    let change = &change;
    let starts = (1..).zip(&peers).map(|(node_id, peer)| {
        let seeds = peers.iter().map(ToString::to_string).collect();
        start_with(move |config| {
            config.node_id = node_id;
            config.listeners.peer.bind = *peer;
            (config.seeds, config.bootstrap_expect) = (seeds, 3);
            change(config);
        })
    });
    futures::future::join_all(starts).await
}

/// A node with default settings.
pub async fn start() -> Node {
    start_with(|_| {}).await
}

/// Asks again until there is an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + READY;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come in {READY:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

impl Node {
    pub fn broker(&self) -> &node::broker::Broker {
        self.running.broker()
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.kafka).await
    }

    /// Creates a topic and waits until each partition has a leader; gives its id.
    pub async fn topic(&self, name: &str, partitions: i32) -> Uuid {
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: -1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let created = until("the controller", || async {
            let answer = self.client().await.call(7, &request).await;
            let [topic] = answer.topics.as_slice() else { panic!("one topic") };
            (topic.error_code == 0 || topic.error_code == 36).then_some(())
        });
        created.await;
        self.led(name).await
    }

    /// Waits until each partition of a topic has a leader; gives the topic's id.
    pub async fn led(&self, name: &str) -> Uuid {
        until("leaders", || async {
            let metadata = self.client().await.call(12, &ask_for(name, false)).await;
            let topic = metadata.topics.first()?;
            let led = topic.error_code == 0 && topic.partitions.iter().all(|partition| partition.leader_id > 0);
            led.then_some(topic.topic_id)
        })
        .await
    }
}

/// Sets broker keys for the whole cluster, and waits until this node knows.
pub async fn set_cluster_config(client: &mut Client, values: &[(&str, &str)]) {
    set_config(client, (4, ""), values).await;
}

/// The same of a resource of this type and name: 2 is a topic, 4 the cluster.
pub async fn set_config(client: &mut Client, (resource_type, name): (i8, &str), values: &[(&str, &str)]) {
    use wire::kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
    let config = |(name, value): &(&str, &str)| AlterableConfig {
        name: (*name).to_owned().into(),
        value: Some((*value).to_owned().into()),
        ..Default::default()
    };
    let configs = values.iter().map(config).collect();
    let resource_name = name.to_owned().into();
    let resource = AlterConfigsResource { resource_type, resource_name, configs, ..Default::default() };
    let request =
        wire::kafka::messages::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(client.call(1, &request).await.responses[0].error_code, 0);
}

/// A client of a node that has found this group's coordinator; a group does not wait there for its first members.
pub async fn coordinated(node: &Node, group: &Str) -> Client {
    let keys = vec![group.clone()];
    let request = wire::kafka::messages::FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
    until("a coordinator", || async {
        let found = node.client().await.call(4, &request).await;
        (found.coordinators[0].error_code == 0).then_some(())
    })
    .await;
    let mut client = node.client().await;
    set_cluster_config(&mut client, &[("group.initial.rebalance.delay.ms", "0")]).await;
    client
}

/// A Metadata request for one topic by name.
pub fn ask_for(name: &str, allow_auto_topic_creation: bool) -> MetadataRequest {
    let topic = wire::kafka::messages::metadata::MetadataRequestTopic {
        name: Some(name.to_owned().into()),
        ..Default::default()
    };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation, ..Default::default() }
}

/// A batch of records with these values, at timestamps 1, 2, 3, ...
pub fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (timestamp, value) in (1..).zip(values) {
        builder.push(timestamp, Some(b"key"), Some(value.as_bytes()));
    }
    builder.build().expect("a valid batch")
}

/// A Produce request for one partition, acks=all.
pub fn produce(topic: &str, index: i32, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index, records: Some(records), ..Default::default() };
    let name = Str::from(topic.to_owned());
    let topic = TopicProduceData { name, partition_data: vec![partition], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

/// The one partition of a Produce response.
pub fn produced(response: &wire::kafka::messages::ProduceResponse) -> &PartitionProduceResponse {
    let [topic] = response.responses.as_slice() else { panic!("one topic, not {response:?}") };
    let [partition] = topic.partition_responses.as_slice() else { panic!("one partition, not {topic:?}") };
    partition
}
