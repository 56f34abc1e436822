//! The one facade between the protocols and the log: append, read, wake, offsets, control.
//! Owns no data: it finds the partition's actor or replica, waits, and translates outcomes.
//! Invariant: appends of one caller to one partition are proposed in call order. Never a word of one protocol.
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use model::controller::{self, Image};
use model::{GroupId, NodeId};
use tokio::sync::watch;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::seams::Clock;

mod error;
mod types;

pub use error::{Error, Leader};
pub use types::*;

/// The facade; cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    config: Config,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    image: watch::Receiver<Arc<Image>>,
}

impl Broker {
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
        NodeId(self.0.config.node_id)
    }

    /// The cluster's id; empty until this node belongs to one.
    pub fn cluster_id(&self) -> String {
        String::new()
    }

    /// The controller's leader, if known.
    pub fn controller(&self) -> Option<NodeId> {
        None
    }

    /// Who leads `group`: from this node's own raft, else from the leaders' heartbeats.
    pub fn leader(&self, _group: GroupId) -> Leader {
        Leader { node: None, epoch: -1 }
    }

    /// Host and port of `node` for a client that reached this node at its address `via`: the registered `advertise`
    /// address if there is one, else the host the client itself used with that node's port (DESIGN.md section 7).
    pub fn node_address(&self, _node: NodeId, _kind: ListenerKind, via: SocketAddr) -> Option<(String, u16)> {
        Some((via.ip().to_string(), via.port()))
    }

    /// Appends batches; they are enqueued by this call, in call order, and the future only waits for the commit.
    pub fn append(&self, _request: AppendRequest) -> BoxFuture<'static, Result<Appended, Error>> {
        Box::pin(async { Err(Error::Busy) })
    }

    /// Reads committed batches from an offset. Returns at once, with no batches at the high watermark.
    ///
    /// # Errors
    /// Not the leader, epoch checks (KIP-320), offset outside the log, or not available yet on a new leader.
    pub async fn read(&self, _request: ReadRequest) -> Result<ReadResult, Error> {
        Err(Error::Busy)
    }

    /// A waiter on these partitions. Make it before reading: changes since its making count.
    pub fn wake(&self, _partitions: &[PartitionRef]) -> Wake {
        Wake(())
    }

    /// Finds the offset at a position.
    ///
    /// # Errors
    /// Not the leader, epoch checks, or the deadline of the linearizer.
    pub async fn list_offset(
        &self,
        _partition: PartitionRef,
        _position: Position,
        _leader_epoch: Option<i32>,
    ) -> Result<OffsetAt, Error> {
        Err(Error::Busy)
    }

    /// The largest epoch not above `epoch` and the offset at which it ends (OffsetForLeaderEpoch, KIP-279/320);
    /// (-1, -1) if there is none.
    ///
    /// # Errors
    /// Not the leader, or epoch checks on `current_leader_epoch`.
    pub async fn epoch_end(
        &self,
        _partition: PartitionRef,
        _epoch: i32,
        _current_leader_epoch: Option<i32>,
    ) -> Result<(i32, i64), Error> {
        Err(Error::Busy)
    }

    /// Moves the log start up to `before` (-1: the high watermark); answers the new log start.
    ///
    /// # Errors
    /// Not the leader, `before` above the high watermark, or the deadline.
    pub async fn delete_records(&self, _partition: PartitionRef, _before: i64) -> Result<i64, Error> {
        Err(Error::Busy)
    }

    /// Runs a controller command on the controller's leader, wherever it is, and waits until this node's image has it.
    ///
    /// # Errors
    /// No leader within the deadline; the outcome is then unknown. A refusal is in the reply.
    pub async fn control(&self, _command: controller::Command) -> Result<controller::Reply, Error> {
        Err(Error::Busy)
    }

    /// A fresh producer id with epoch 0.
    ///
    /// # Errors
    /// The controller cannot be reached for a new block.
    pub async fn producer_id(&self) -> Result<(i64, i16), Error> {
        Err(Error::Busy)
    }

    /// Asks for a topic on a client's first use. Never waits: names are merged and created in bounded entries, the
    /// client asks again. `bucket` belongs to the client's connection.
    pub fn auto_create(&self, _topic: &str, _bucket: &TokenBucket) -> AutoCreation {
        AutoCreation::Disabled
    }

    /// A bucket for one connection.
    pub fn token_bucket(&self) -> TokenBucket {
        TokenBucket
    }

    /// This node's log directory.
    pub fn log_dirs(&self) -> Vec<LogDir> {
        Vec::new()
    }

    /// The rafts of this node.
    pub fn groups(&self) -> Vec<GroupReport> {
        Vec::new()
    }

    /// The nodes of the cluster.
    pub fn nodes(&self) -> Vec<NodeReport> {
        Vec::new()
    }

    /// Whether this node serves: caught up on every assigned raft.
    pub fn readiness(&self) -> Readiness {
        Readiness::default()
    }
}

/// How many topics one connection may still auto-create.
pub struct TokenBucket;

/// See [`Broker::wake`].
pub struct Wake(());

impl Wake {
    /// Ends when the high watermark or the leadership of one of the partitions changed since the making of this waiter
    /// or the last return. Cancel safe.
    pub async fn changed(&mut self) {
        std::future::pending().await
    }
}
