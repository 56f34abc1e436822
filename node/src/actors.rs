//! The actors of a node (ractor): a root that supervises the controller actor and one actor per local partition replica.
//! Owns starting, restarting and ending them. One partition's failure restarts that partition only.
//! Names carry the node id, nobody is looked up by name: many nodes share one process in the simulation.
mod controller;
mod coordinator;
mod entries;
mod failover;
mod linger;
mod partition;
mod quiesce;
mod retention;
mod root;

use std::sync::Arc;
use std::time::Duration;

use model::controller::Image;
use model::{GroupId, NodeId, ReplicaId, StoreId};
use ractor::{Actor, ActorRef};
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;
use crate::router::{AppendBudget, Router};
use crate::seams::Clock;

/// A failed actor is started again after this, doubled with each failure up to the second value.
const RESTART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long stopping the tree may take.
const STOP: Duration = Duration::from_secs(10);
/// With this reason an actor ends for good.
const DESTROYED: &str = "destroyed";

/// Rafts of partitions that open at a time: thousands of elections at once time each other out, in order they take seconds.
pub const OPENINGS: usize = 256;

/// What every actor needs.
pub struct Context {
    /// This node.
    pub node: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// This start of it: names in ractor's registry are never used twice.
    pub boot: u64,
    /// The rafts of this node.
    pub groups: raft::Groups,
    /// Where running replicas are announced.
    pub router: Arc<Router>,
    /// Bytes that may be in flight.
    pub budget: Arc<AppendBudget>,
    /// What a coordinator shard that is led here may hold.
    pub shard_bounds: model::coordinator::Bounds,
    /// Time of day for the entries.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Rafts of partitions that open at a time, until they know a leader.
    pub openings: Arc<Semaphore>,
    /// Where the controller actor publishes the image.
    pub image: watch::Sender<Arc<Image>>,
}

/// How the controller's raft begins on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerStart {
    /// This node's replica.
    pub replica: ReplicaId,
    /// All replicas, on the founders only.
    pub founders: Option<Vec<ReplicaId>>,
}

/// The running tree.
pub struct Tree {
    root: ActorRef<root::Message>,
    ended: watch::Receiver<bool>,
    router: Arc<Router>,
    groups: raft::Groups,
    helpers: [tokio::task::AbortHandle; 4],
}

impl Tree {
    /// Starts the root, the controller actor, and from now on what the image says.
    ///
    /// # Errors
    /// The controller's replica cannot be opened.
    pub async fn start(
        context: Arc<Context>,
        controller: ControllerStart,
        retention_check: Duration,
    ) -> Result<Self, ractor::SpawnErr> {
        let mut image = context.image.subscribe();
        let name = format!("n{}/b{}/root", context.node, context.boot);
        let (router, groups) = (context.router.clone(), context.groups.clone());
        let retaining = retention::run(context.clone(), retention_check);
        let (root, running) = Actor::spawn(Some(name), root::Root { context: context.clone() }, controller).await?;
        let told = root.clone();
        let following = async move {
            loop {
                let now = image.borrow_and_update().clone();
                if told.cast(root::Message::Image(now)).is_err() || image.changed().await.is_err() {
                    return;
                }
            }
        };
        let helpers = [
            tokio::spawn(following).abort_handle(),
            tokio::spawn(failover::run(router.clone())).abort_handle(),
            tokio::spawn(retaining).abort_handle(),
            tokio::spawn(quiesce::run(context)).abort_handle(),
        ];
        let (alive, ended) = watch::channel(false);
        tokio::spawn(async move {
            let _however = running.await;
            alive.send_replace(true);
        });
        Ok(Self { root, ended, router, groups, helpers })
    }

    /// Makes the actor of `group` panic: fault drills only.
    pub fn panic(&self, group: GroupId) {
        let _stopping = self.root.cast(root::Message::Panic(group));
    }

    /// Ends everything at once.
    pub fn kill(self) {
        self.helpers.iter().for_each(tokio::task::AbortHandle::abort);
        self.root.get_cell().stop_children(None);
        self.root.kill();
    }

    /// Turns true when the root has ended.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Hands the leaderships of this node over, as far as others take them.
    pub async fn leave(&self) {
        failover::leave(&self.router).await;
    }

    /// Stops everything; whether all rafts are closed, and all that they wrote is on disk.
    pub async fn stop(self) -> bool {
        self.helpers.iter().for_each(tokio::task::AbortHandle::abort);
        let _already_stopped = self.root.stop_and_wait(None, Some(STOP)).await;
        self.groups.is_at_rest()
    }
}

/// A raft may end by itself (a panic within it); then its actor fails, and both begin anew. One in quarantine stays.
fn check_runs(raft: &raft::Group) -> Result<(), String> {
    match raft.status_now().stopped {
        Some(why) if raft.quarantined().is_none() => Err(format!("its raft ended: {why}")),
        _ => Ok(()),
    }
}
