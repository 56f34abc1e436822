//! The one facade between the protocols and the log: append, read, wake, offsets, control.
//! Owns no data: it finds the partition's actor or replica, waits, and translates outcomes.
//! Invariant: appends of one caller to one partition are proposed in call order. Never a word of one protocol.
mod append;
mod auto_create;
mod compact;
mod configs;
mod connections;
mod control;
mod error;
mod features;
mod fleet;
mod groups;
mod keep;
mod lag;
mod leadership;
mod locate;
mod offsets;
mod operations;
pub mod queues;
mod read;
mod replicas;
mod scan;
mod topology;
pub mod trace;
mod types;
mod view;
mod wake;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use model::NodeId;
use model::controller::Image;
use tokio::sync::watch;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::router::{AppendBudget, Router};
use crate::seams::Clock;

pub use crate::peer::questions::{
    ConnectionReport, ConsumerGroup, GroupMember, GroupStanding, Member, PartitionLag, Quorum, Rebalanced,
};
pub use auto_create::{TokenBucket, random_topic_id};
pub use configs::{NotSet, Setting, SettingChanged, SettingsChange};
pub use connections::{Connected, Registered};
pub use error::{Error, Leader};
pub use features::{FeatureChange, FeatureReport};
pub use groups::NotRebalanced;
pub use leadership::Unmoved;
pub use operations::NotBegun;
pub use read::bytes_of;
pub use topology::{
    BindingReport, DestinationKind, ExchangeDeclaration, ExchangeReport, PolicyDeclaration, PolicyReport,
    QueueDeclaration, QueueReport, Scalar, TopologyFailure, Values, VhostReport,
};
pub use types::*;
pub use wake::Wake;

pub use crate::router::desk::{Beating, Denied, Joined, Joining, Synced};

/// Whether this node belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It looks for one; the words say what it waits for.
    Seeking(String),
    /// It may not take part; the words say why and what to do.
    Refused(String),
    /// It does.
    Member,
}

/// What the facade stands on.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where every group is.
    pub router: Arc<Router>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// The log.
    pub reader: storage::Reader,
    /// Bytes that may be in flight.
    pub budget: Arc<AppendBudget>,
    /// The controller's image.
    pub image: watch::Receiver<Arc<Image>>,
    /// Whether this node belongs to a cluster.
    pub standing: watch::Receiver<Standing>,
}

/// The facade; cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    config: Config,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    router: Arc<Router>,
    peers: Arc<Peers>,
    reader: storage::Reader,
    budget: Arc<AppendBudget>,
    image: watch::Receiver<Arc<Image>>,
    standing: watch::Receiver<Standing>,
    producer_ids: tokio::sync::Mutex<Range<i64>>,
    wishes: auto_create::Wishes,
    queues: queues::Queues,
    connections: connections::Connections,
    groups: Groups,
    conditions: Conditions,
}

/// Of consumer groups.
#[derive(Default)]
struct Groups {
    /// Held by who makes the coordinator shards.
    making: tokio::sync::Mutex<()>,
    /// What lags were, for their growth.
    lags: lag::Lags,
}

/// Why this node may refuse, for a while or for good.
#[derive(Default)]
struct Conditions {
    disk_full: AtomicBool,
    stopping: AtomicBool,
    /// A replica that did not serve yet when somebody asked.
    lagged: AtomicU32,
}

impl Broker {
    /// The facade of one node.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, metrics, clock, router, peers, reader, budget, image, standing } = parts;
        let producer_ids = tokio::sync::Mutex::new(0..0);
        let wishes = auto_create::Wishes::new();
        Self(Arc::new(Inner {
            config,
            metrics,
            clock,
            router,
            peers,
            reader,
            budget,
            image,
            standing,
            producer_ids,
            wishes,
            queues: queues::Queues::new(),
            connections: connections::Connections::default(),
            groups: Groups::default(),
            conditions: Conditions::default(),
        }))
    }

    /// The configuration of this node.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The metrics of this node.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The controller's image as applied here: nodes, topics, configs.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    /// Follows the image.
    pub fn image_watch(&self) -> watch::Receiver<Arc<Image>> {
        self.0.image.clone()
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.0.router.node()
    }

    /// The cluster's id; empty until this node belongs to one.
    pub fn cluster_id(&self) -> String {
        self.0.peers.directory().cluster().unwrap_or_default()
    }

    /// The controller's leader, if known.
    pub fn controller(&self) -> Option<NodeId> {
        self.0.router.leader(model::GroupId::CONTROLLER).node
    }

    /// Whether `node` beats.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.0.router.is_alive(node)
    }

    /// Whether so little space is left that appends are refused.
    pub fn is_disk_full(&self) -> bool {
        self.0.conditions.disk_full.load(Ordering::Relaxed)
    }

    /// The living nodes whose disks take no appends.
    pub fn disk_alarms(&self) -> Vec<NodeId> {
        let image = self.image();
        let alarmed = |node: &NodeId| match *node == self.node_id() {
            true => self.is_disk_full(),
            false => self.is_alive(*node) && self.0.router.peer(*node).is_some_and(|peer| !peer.disk_ok),
        };
        image.nodes.keys().copied().filter(alarmed).collect()
    }

    /// Says from now on that this node does not serve: it is about to hand its leaderships over and to stop.
    pub fn stop(&self) {
        self.0.conditions.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.0.conditions.stopping.load(Ordering::Relaxed)
    }

    /// Looks how much space is left; says so when that begins or ends to be too little.
    pub fn look_at_disk(&self) {
        let Ok(usage) = self.0.reader.disk_usage() else { return };
        let bytes = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.0.metrics.storage.disk_free_bytes.set(bytes(usage.free));
        self.0.metrics.storage.disk_used_bytes.set(bytes(usage.used));
        let least = self.0.config.storage.disk_free_bytes_min;
        let full = usage.free < least;
        if self.0.conditions.disk_full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(free_bytes = usage.free, least, full, "appends are refused while the disk is full");
        }
    }

    /// Whether this node belongs to a cluster, and when that changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.clone()
    }
}

/// A Raft term as Kafka's leader epoch; -1 where none is known.
fn epoch_of(term: u64) -> i32 {
    if term == 0 { -1 } else { i32::try_from(term).unwrap_or(i32::MAX) }
}
