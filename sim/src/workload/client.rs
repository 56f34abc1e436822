//! A small Kafka client: one connection a node, a deadline for each call, leaders and their epochs learned from Metadata.
//! Several requests can be on their way at once; answers come in order. A leader of an older epoch than one known is not believed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;
use wire::kafka::frame;
use wire::kafka::messages::metadata::MetadataRequestTopic;
use wire::kafka::messages::{self, MetadataRequest, RequestBody};

use super::{JOBS, KAFKA_PORT, TABLE, TOPICS, host};
use crate::history::Partition;

/// A request that takes longer is given up, and its connection with it.
const DEADLINE: Duration = Duration::from_secs(3);
/// The same, for clients that look for another leader before the old one can know that there is one.
const IMPATIENT: Duration = Duration::from_millis(500);
/// The version of Metadata that is spoken here.
pub const METADATA_VERSION: i16 = 12;

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

    async fn send<T: RequestBody>(&mut self, version: i16, request: &T) -> anyhow::Result<i32> {
        self.correlation += 1;
        let bytes = messages::encode_request(version, self.correlation, Some("sim"), request)?;
        self.stream.write_all(&bytes).await?;
        Ok(self.correlation)
    }

    async fn receive<T: RequestBody>(&mut self, version: i16, expected: i32) -> anyhow::Result<T::Response> {
        loop {
            if let Some(answer) = frame::next_response(&mut self.received, frame::MAX_FRAME_BYTES)? {
                let (correlation, response) = messages::decode_response(version, answer)?;
                anyhow::ensure!(correlation == expected, "answer {correlation} to request {expected}");
                return Ok(response);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("connection closed");
            }
        }
    }
}

/// Who leads a partition, as last learned.
#[derive(Clone, Copy)]
pub struct Leader {
    /// Which node.
    pub node: u32,
    /// Its leader epoch.
    pub epoch: i32,
}

/// A client of the cluster `node1..=nodes`.
pub struct Client {
    nodes: u32,
    deadline: Duration,
    connections: BTreeMap<u32, Connection>,
    leaders: BTreeMap<Partition, Leader>,
    /// The newest epoch ever heard of; an older leader is a stale one.
    epochs: BTreeMap<Partition, i32>,
    /// The node that is asked next when nobody in particular is meant.
    turn: u32,
}

impl Client {
    /// A client that has not connected yet; `turn` says which node it asks first.
    pub fn new(nodes: u32, turn: u32) -> Self {
        let (connections, leaders, epochs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { nodes, deadline: DEADLINE, connections, leaders, epochs, turn }
    }

    /// One that gives up sooner.
    pub fn impatient(nodes: u32, turn: u32) -> Self {
        Self { deadline: IMPATIENT, ..Self::new(nodes, turn) }
    }

    /// Calls any node: the next one in turn.
    pub async fn call_any<T: RequestBody>(&mut self, version: i16, request: &T) -> anyhow::Result<T::Response> {
        self.turn = self.turn % self.nodes + 1;
        one(self.call(self.turn, version, std::slice::from_ref(request)).await)
    }

    /// Calls the node that [`Client::call_any`] called last.
    pub async fn call_same<T: RequestBody>(&mut self, version: i16, request: &T) -> anyhow::Result<T::Response> {
        one(self.call(self.turn, version, std::slice::from_ref(request)).await)
    }

    /// Calls this very node.
    pub async fn call_node<T: RequestBody>(
        &mut self,
        node: u32,
        version: i16,
        request: &T,
    ) -> anyhow::Result<T::Response> {
        one(self.call(node, version, std::slice::from_ref(request)).await)
    }

    /// The leader of `partition`; asks any node where none is known.
    ///
    /// # Errors
    /// That node does not answer, or knows no leader that is not stale.
    pub async fn leader(&mut self, partition: Partition) -> anyhow::Result<Leader> {
        if !self.leaders.contains_key(&partition) {
            self.learn_leaders(partition.topic).await?;
        }
        self.leaders.get(&partition).copied().context("partition without a leader")
    }

    /// Calls `leader`.
    pub async fn call_leader<T: RequestBody>(
        &mut self,
        leader: Leader,
        version: i16,
        request: &T,
    ) -> anyhow::Result<T::Response> {
        one(self.call(leader.node, version, std::slice::from_ref(request)).await)
    }

    /// Sends all requests to `leader` at once; an answer or an error for each, in order.
    pub async fn call_ahead<T: RequestBody>(
        &mut self,
        leader: Leader,
        version: i16,
        requests: &[T],
    ) -> Vec<anyhow::Result<T::Response>> {
        self.call(leader.node, version, requests).await
    }

    /// Forgets who leads, after an error that says so.
    pub fn forget_leaders(&mut self) {
        self.leaders.clear();
    }

    async fn call<T: RequestBody>(
        &mut self,
        node: u32,
        version: i16,
        requests: &[T],
    ) -> Vec<anyhow::Result<T::Response>> {
        let mut answers = Vec::with_capacity(requests.len());
        let calls =
            tokio::time::timeout(self.deadline, self.call_unbounded(node, version, requests, &mut answers)).await;
        let error = match calls {
            Ok(Ok(())) => return answers,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer from node {node} within {:?}", self.deadline),
        };
        self.connections.remove(&node);
        self.leaders.clear();
        answers.resize_with(requests.len(), || Err(anyhow::anyhow!(error.clone())));
        answers
    }

    async fn call_unbounded<T: RequestBody>(
        &mut self,
        node: u32,
        version: i16,
        requests: &[T],
        answers: &mut Vec<anyhow::Result<T::Response>>,
    ) -> anyhow::Result<()> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => Connection::open(node).await?,
        };
        let mut sent = Vec::with_capacity(requests.len());
        for request in requests {
            sent.push(connection.send(version, request).await?);
        }
        for correlation in sent {
            answers.push(Ok(connection.receive::<T>(version, correlation).await?));
        }
        self.connections.insert(node, connection);
        Ok(())
    }

    /// Asks about the topics that many use, and about `wanted`.
    async fn learn_leaders(&mut self, wanted: &'static str) -> anyhow::Result<()> {
        let named = |name: &str| MetadataRequestTopic::default().with_name(Some(name.to_owned().into()));
        let mut known: Vec<&'static str> = TOPICS.into_iter().chain([TABLE, JOBS]).map(|(name, _)| name).collect();
        if !known.contains(&wanted) {
            known.push(wanted);
        }
        let topics = known.iter().copied().map(named).collect();
        let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        let answer = self.call_any(METADATA_VERSION, &request).await?;
        for (topic, found) in known.into_iter().zip(&answer.topics) {
            for found in &found.partitions {
                let partition = Partition { topic, index: found.partition_index };
                let newest = self.epochs.entry(partition).or_insert(-1);
                let Ok(node) = u32::try_from(found.leader_id) else { continue };
                if found.leader_epoch >= *newest {
                    *newest = found.leader_epoch;
                    self.leaders.insert(partition, Leader { node, epoch: found.leader_epoch });
                }
            }
        }
        Ok(())
    }
}

fn one<T>(answers: Vec<anyhow::Result<T>>) -> anyhow::Result<T> {
    answers.into_iter().next().context("one request has one answer")?
}
