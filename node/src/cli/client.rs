//! A small Kafka client for the commands, the probe of `dev` and the load generator: it speaks the protocol, because the
//! commands must work against any cluster. Owns connections, the map of brokers and leaders, and the retries.
//! Invariant: one connection per broker, requests on it pipelined in call order. Never used by the server.

mod admin;
mod connection;
mod consumer;
mod error;
mod group;
mod producer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wire::kafka::messages::{MetadataRequest, MetadataResponse, RequestBody, metadata::MetadataRequestTopic};
use wire::kafka::{ErrorCode, Str};

pub use admin::{ConfigChange, ConfigEntry};
pub use connection::{Connection, Versions};
pub use consumer::{Fetched, Position, Start};
pub use error::Error;
pub use group::Offsets;
pub use producer::Producer;

/// How long a command tries before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// A client of one cluster; cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    seeds: Vec<String>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    view: Mutex<View>,
}

/// The connection to one address; the lock is held while connecting, so that callers share one attempt.
type Link = tokio::sync::Mutex<Option<Arc<Connection>>>;

/// What the last metadata answers said.
#[derive(Default)]
struct View {
    brokers: BTreeMap<i32, String>,
    controller: Option<i32>,
    leaders: BTreeMap<(String, i32), i32>,
}

/// Waits that grow, until a deadline.
pub struct Patience {
    until: Instant,
    next: Duration,
}

impl Patience {
    /// Starts the clock.
    pub fn new(total: Duration) -> Self {
        Self { until: Instant::now() + total, next: BACKOFF_MIN }
    }

    /// Waits before the next attempt; gives `error` back once the time is over.
    pub async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if Instant::now() + self.next > self.until {
            return Err(error);
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

impl Client {
    /// A client that finds the cluster through `bootstrap`, a list such as `127.0.0.1:9092,127.0.0.1:9093`.
    /// Connects when first needed.
    pub fn new(bootstrap: &str) -> Self {
        let seeds = bootstrap.split(',').map(str::trim).filter(|seed| !seed.is_empty()).map(str::to_owned).collect();
        Self(Arc::new(Inner { seeds, links: Default::default(), view: Default::default() }))
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn link(&self, address: &str) -> Result<Arc<Connection>, Error> {
        let link = {
            let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.entry(address.to_owned()).or_default().clone()
        };
        let mut link = link.lock().await;
        if let Some(connection) = link.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connecting = Connection::connect(address);
        let connection = tokio::time::timeout(CONNECT_DEADLINE, connecting).await.map_err(|_| Error::Timeout)??;
        let connection = Arc::new(connection);
        *link = Some(connection.clone());
        Ok(connection)
    }

    /// A connection to any broker that answers: known brokers first, then the bootstrap addresses.
    pub async fn any(&self) -> Result<Arc<Connection>, Error> {
        let known: Vec<String> = self.view().brokers.values().cloned().collect();
        let mut last = Error::NoBootstrap;
        for address in known.iter().chain(&self.0.seeds) {
            match self.link(address).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to the broker with that id.
    pub async fn broker(&self, id: i32) -> Result<Arc<Connection>, Error> {
        self.link(&self.address(id)?).await
    }

    fn address(&self, id: i32) -> Result<String, Error> {
        self.view().brokers.get(&id).cloned().ok_or(Error::NoLeader)
    }

    /// A connection to the leader of a partition; asks for metadata if it is not known.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Arc<Connection>, Error> {
        self.link(&self.leader_address(topic, partition).await?).await
    }

    /// Where the leader of a partition listens; asks for metadata if it is not known.
    pub async fn leader_address(&self, topic: &str, partition: i32) -> Result<String, Error> {
        let key = (topic.to_owned(), partition);
        let known = self.view().leaders.get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => {
                self.metadata(Some(&[topic]), false).await?;
                self.view().leaders.get(&key).copied().ok_or(Error::NoLeader)?
            }
        };
        self.address(id)
    }

    /// Forgets who leads a partition, after an answer or a disconnect that says so.
    pub fn forget_leader(&self, topic: &str, partition: i32) {
        self.view().leaders.remove(&(topic.to_owned(), partition));
    }

    /// One metadata request: all topics, or those named. Remembers brokers and leaders.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, Error> {
        let named = |name: &&str| MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.any().await?.call(&request).await?;
        self.remember(&response);
        Ok(response)
    }

    fn remember(&self, response: &MetadataResponse) {
        let mut view = self.view();
        if !response.brokers.is_empty() {
            let address = |host: &Str, port: i32| {
                if host.as_str().contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            };
            view.brokers = response.brokers.iter().map(|node| (node.node_id, address(&node.host, node.port))).collect();
        }
        view.controller = Some(response.controller_id).filter(|id| *id >= 0);
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            for partition in &topic.partitions {
                let key = (name.to_string(), partition.partition_index);
                if partition.leader_id >= 0 && partition.error_code == 0 {
                    view.leaders.insert(key, partition.leader_id);
                } else {
                    view.leaders.remove(&key);
                }
            }
        }
    }

    /// Sends to any broker, again on another one after a disconnect or an error that passes.
    pub async fn call<R: RequestBody>(
        &self,
        request: &R,
        error_of: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, Error> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let outcome = match self.any().await {
                Ok(link) => link.call(request).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(response) => match Error::from_code(error_of(&response)) {
                    Some(error) if error.passes() => error,
                    _ => return Ok(response),
                },
                Err(error) if error.passes() => error,
                Err(error) => return Err(error),
            };
            patience.pause(error).await?;
        }
    }

    /// Partition numbers of a topic whose partitions all have a leader. Waits for a topic that comes into being.
    pub async fn partitions(&self, topic: &str, create: bool) -> Result<Vec<i32>, Error> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let outcome = self.metadata(Some(&[topic]), create).await.and_then(|response| partitions_of(&response));
            match outcome {
                Ok(partitions) => return Ok(partitions),
                Err(Error::Code { code: ErrorCode::UnknownTopicOrPartition, .. }) if !create => {
                    return Err(Error::UnknownTopic(topic.to_owned()));
                }
                Err(error) if error.passes() => patience.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

fn partitions_of(response: &MetadataResponse) -> Result<Vec<i32>, Error> {
    let topic = response.topics.first().ok_or(Error::NoLeader)?;
    Error::check(topic.error_code)?;
    if topic.partitions.is_empty() || topic.partitions.iter().any(|partition| partition.leader_id < 0) {
        return Err(Error::NoLeader);
    }
    let mut partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
    partitions.sort_unstable();
    Ok(partitions)
}

/// A protocol string.
pub fn text(value: &str) -> Str {
    Str::from(value.to_owned())
}

/// Kafka's hash of a key (murmur2, seed 0x9747b28c), without the sign: `partition = murmur2(key) % partitions`.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ (key.len() as u32);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// Values of org.apache.kafka.common.utils.Utils.murmur2, from Kafka's UtilsTest.
    #[test]
    fn keys_hash_as_in_kafka() {
        let known: [(&str, i32); 4] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash as u32 & 0x7fff_ffff, "{key}");
        }
    }
}
