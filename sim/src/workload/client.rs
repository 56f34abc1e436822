//! A small Kafka client: one connection a node, one request at a time, a deadline for each, leaders learned from Metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;
use wire::kafka::frame;
use wire::kafka::messages::{self, MetadataRequest, RequestBody};

use super::{KAFKA_PORT, PARTITIONS, TOPIC, host};

/// A request that takes longer is given up, and its connection with it.
const DEADLINE: Duration = Duration::from_secs(3);
const METADATA_VERSION: i16 = 12;

struct Connection {
    stream: TcpStream,
    received: BytesMut,
    correlation: i32,
}

impl Connection {
    async fn open(node: u32) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((host(node).as_str(), KAFKA_PORT)).await?;
        Ok(Self { stream, received: BytesMut::new(), correlation: 0 })
    }

    async fn call<T: RequestBody>(&mut self, version: i16, request: &T) -> anyhow::Result<T::Response> {
        self.correlation += 1;
        let bytes = messages::encode_request(version, self.correlation, Some("sim"), request)?;
        self.stream.write_all(&bytes).await?;
        loop {
            if let Some(answer) = frame::next_response(&mut self.received, frame::MAX_FRAME_BYTES)? {
                let (correlation, response) = messages::decode_response(version, answer)?;
                anyhow::ensure!(
                    correlation == self.correlation,
                    "answer {correlation} to request {}",
                    self.correlation
                );
                return Ok(response);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("connection closed");
            }
        }
    }
}

/// A client of the cluster `node1..=nodes`.
pub struct Client {
    nodes: u32,
    connections: BTreeMap<u32, Connection>,
    leaders: BTreeMap<i32, u32>,
    /// The node that is asked next when nobody in particular is meant.
    turn: u32,
}

impl Client {
    /// A client that has not connected yet; `turn` says which node it asks first.
    pub fn new(nodes: u32, turn: u32) -> Self {
        Self { nodes, connections: BTreeMap::new(), leaders: BTreeMap::new(), turn }
    }

    /// Calls any node: the next one in turn.
    pub async fn call_any<T: RequestBody>(&mut self, version: i16, request: &T) -> anyhow::Result<T::Response> {
        self.turn = self.turn % self.nodes + 1;
        self.call(self.turn, version, request).await
    }

    /// Calls the leader of `partition` as last learned; learns leaders first where none is known.
    pub async fn call_leader<T: RequestBody>(
        &mut self,
        partition: i32,
        version: i16,
        request: &T,
    ) -> anyhow::Result<T::Response> {
        if !self.leaders.contains_key(&partition) {
            self.learn_leaders().await?;
        }
        let leader = *self.leaders.get(&partition).context("partition without a leader")?;
        self.call(leader, version, request).await
    }

    /// Forgets who leads, after an error that says so.
    pub fn forget_leaders(&mut self) {
        self.leaders.clear();
    }

    async fn call<T: RequestBody>(&mut self, node: u32, version: i16, request: &T) -> anyhow::Result<T::Response> {
        let outcome = tokio::time::timeout(DEADLINE, self.call_unbounded(node, version, request)).await;
        let outcome =
            outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer from node {node} within {DEADLINE:?}")));
        if outcome.is_err() {
            self.connections.remove(&node);
            self.leaders.clear();
        }
        outcome
    }

    async fn call_unbounded<T: RequestBody>(
        &mut self,
        node: u32,
        version: i16,
        request: &T,
    ) -> anyhow::Result<T::Response> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => Connection::open(node).await?,
        };
        let response = connection.call(version, request).await?;
        self.connections.insert(node, connection);
        Ok(response)
    }

    async fn learn_leaders(&mut self) -> anyhow::Result<()> {
        let topic = messages::metadata::MetadataRequestTopic::default().with_name(Some(TOPIC.to_string().into()));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let answer = self.call_any(METADATA_VERSION, &request).await?;
        let topic = answer.topics.first().context("metadata without the topic")?;
        let led = topic.partitions.iter().filter_map(|p| Some((p.partition_index, u32::try_from(p.leader_id).ok()?)));
        self.leaders = led.filter(|(_, leader)| (1..=self.nodes).contains(leader)).collect();
        anyhow::ensure!(self.leaders.len() == PARTITIONS as usize, "not all partitions have a leader");
        Ok(())
    }
}
