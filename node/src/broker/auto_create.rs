//! Topics made by their first use, bounded: names are merged, at most 64 go into one controller entry, and a token
//! bucket per connection and one for the node limit the rate. Nobody waits: the client asks again.
//! Bounded by `WAITING_MAX` names of at most 249 bytes.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::TopicId;
use model::controller::{Command, CreateTopics, NewTopic, Outcome};
use model::limits::AUTO_CREATED_PER_ENTRY_MAX;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{AutoCreation, Broker};
use crate::seams::Stop;

/// Names that wait for the controller.
const WAITING_MAX: usize = 1024;
/// New topics a second and at once: for a connection, for the node.
const CONNECTION: (f64, f64) = (20.0, 100.0);
const NODE: (f64, f64) = (100.0, 500.0);
/// A refused name is not tried again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// After the controller could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// How many topics one connection, or the node, may still create.
pub struct TokenBucket(Mutex<Bucket>);

struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    fn new((rate, burst): (f64, f64)) -> Self {
        Self(Mutex::new(Bucket { rate, burst, tokens: burst, filled: Instant::now() }))
    }

    fn take(&self) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = bucket.filled.elapsed().as_secs_f64() * bucket.rate;
        bucket.filled = Instant::now();
        bucket.tokens = (bucket.tokens + gained).min(bucket.burst);
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        has
    }
}

/// The names that wait.
pub(super) struct Wishes {
    node: TokenBucket,
    names: Mutex<Names>,
    arrived: Notify,
}

#[derive(Default)]
struct Names {
    waiting: BTreeSet<String>,
    under_way: BTreeSet<String>,
    refused: BTreeMap<String, Instant>,
}

impl Wishes {
    pub(super) fn new() -> Self {
        Self { node: TokenBucket::new(NODE), names: Mutex::default(), arrived: Notify::new() }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, topic: &str, connection: &TokenBucket) -> AutoCreation {
        let mut names = self.names();
        if names.waiting.contains(topic) || names.under_way.contains(topic) {
            return AutoCreation::Pending;
        }
        if names.refused.get(topic).is_some_and(|at| at.elapsed() < REFUSED_FOR) {
            return AutoCreation::Refused;
        }
        if names.waiting.len() >= WAITING_MAX || !connection.take() || !self.node.take() {
            return AutoCreation::Refused;
        }
        names.waiting.insert(topic.to_owned());
        drop(names);
        self.arrived.notify_one();
        AutoCreation::Pending
    }

    fn take(&self) -> Vec<String> {
        let mut names = self.names();
        let mut taken = Vec::new();
        while taken.len() < AUTO_CREATED_PER_ENTRY_MAX {
            let Some(name) = names.waiting.pop_first() else { break };
            taken.push(name);
        }
        names.under_way.extend(taken.iter().cloned());
        taken
    }

    fn settle(&self, refused: Vec<String>) {
        let mut names = self.names();
        names.under_way.clear();
        names.refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
        names.refused.extend(refused.into_iter().map(|name| (name, Instant::now())));
    }
}

impl Broker {
    /// Asks for a topic on a client's first use. Never waits: names are merged and created in bounded entries, the
    /// client asks again. `bucket` belongs to the client's connection. The name must be legal. Refused while this node
    /// hosts as many replicas as its memory is meant for.
    pub fn auto_create(&self, topic: &str, bucket: &TokenBucket) -> AutoCreation {
        if !self.0.config.auto_create.enabled || !self.image().auto_creates_topics(Some(self.node_id())) {
            return AutoCreation::Disabled;
        }
        if self.0.router.replicas() >= self.0.config.limits.partitions_max {
            return AutoCreation::Refused;
        }
        self.0.wishes.wish(topic, bucket)
    }

    /// A bucket for one connection.
    pub fn token_bucket(&self) -> TokenBucket {
        TokenBucket::new(CONNECTION)
    }

    /// Creates what was wished for, until `stop`.
    pub async fn create_wished(&self, stop: Stop) {
        let working = async {
            loop {
                self.0.wishes.arrived.notified().await;
                loop {
                    let names = self.0.wishes.take();
                    if names.is_empty() {
                        break;
                    }
                    self.create_these(names).await;
                }
            }
        };
        tokio::select! {
            () = stop.stopped() => {}
            () = working => {}
        }
    }

    async fn create_these(&self, names: Vec<String>) {
        let topics = names.iter().map(|name| NewTopic::named(name.clone(), random_topic_id())).collect();
        let command = Command::CreateTopics(CreateTopics { topics, validate_only: false, auto: true });
        let refused = match self.control(command).await.map(|reply| reply.outcome) {
            Ok(Outcome::Created(results)) => {
                let failed = names.into_iter().zip(results).filter(|(_, result)| result.is_err());
                failed.map(|(name, _)| name).collect()
            }
            Ok(_) => names,
            Err(error) => {
                tracing::info!(%error, "topics were not created");
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
        };
        self.0.wishes.settle(refused);
    }
}

/// A version 4 UUID: random, never zero.
pub fn random_topic_id() -> TopicId {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    TopicId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_names_are_bounded() {
        let wishes = Wishes::new();
        let bucket = TokenBucket::new(CONNECTION);
        let wished: Vec<_> = (0..10_000).map(|name| wishes.wish(&format!("t{name}"), &bucket)).collect();
        let pending = wished.iter().filter(|wish| **wish == AutoCreation::Pending).count();
        assert_eq!(pending, 100);
        assert_eq!(wishes.wish("t0", &bucket), AutoCreation::Pending, "merged, at no cost");
        assert_eq!(wishes.take().len(), AUTO_CREATED_PER_ENTRY_MAX);
        assert_eq!(wishes.wish("t0", &bucket), AutoCreation::Pending, "under way");
        wishes.settle(vec!["t0".to_owned()]);
        assert_eq!(wishes.wish("t0", &bucket), AutoCreation::Refused);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(wishes.wish("t0", &bucket), AutoCreation::Pending);
    }
}
