//! One node from start to stop: opens the store, binds the listeners, finds its cluster, runs the actors, serves.
//! Owns the order of starting and of stopping. A future without statics: the simulation runs many in one process.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::controller::{Command, Image, Outcome};
use model::{GroupId, NodeId, StoreId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actors::{Context, OPENINGS, Tree};
use crate::bootstrap::{Bootstrap, Ports, Roster};
use crate::broker::{Broker, Parts, Standing};
use crate::config::Config;
use crate::listening::Budget;
use crate::metrics::Metrics;
use crate::peer::directory::{Directory, Member};
use crate::peer::listener::{self, Server};
use crate::peer::messages::Heartbeat;
use crate::peer::{Peers, heartbeat};
use crate::router::{AppendBudget, Router};
use crate::seams::{Listener, Seams, Stop, Stopper};
use crate::services::NodeServices;
use crate::{admin, amqp, kafka};

/// Between two attempts to register this node.
const REGISTER_RETRY: Duration = Duration::from_millis(200);
/// Between two looks for leaderships while the last clients are answered.
const LEAVE_AGAIN: Duration = Duration::from_millis(100);
/// How often gauges that nobody pushes are looked at.
const SURVEY: Duration = Duration::from_secs(1);
/// So many times as long as a look took nobody looks again: a fifth of a percent of a core.
const SURVEY_REST: u32 = 500;
/// However long it took: a node that is short of time may have been kept from it.
const SURVEY_MAX: Duration = Duration::from_secs(10);

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be used; the text says what to do.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A listener cannot be bound.
    #[error("cannot listen for {what} on {address}: {error}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Founding or joining failed for good.
    #[error("cannot take part in a cluster: {0}")]
    Bootstrap(String),
    /// The disk failed while running: nothing was acknowledged that is not on a majority.
    #[error("the node stopped because its store failed: {0}")]
    StoreFailed(String),
    /// A part of the node ended that never should.
    #[error("{0}")]
    Internal(String),
}

/// Where a running node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Kafka clients.
    pub kafka: SocketAddr,
    /// HTTP.
    pub admin: SocketAddr,
    /// Other nodes.
    pub peer: SocketAddr,
    /// AMQP clients.
    pub amqp: Option<SocketAddr>,
}

/// A node that runs. Dropping it without [`Node::stop`] is a crash.
pub struct Node {
    broker: Broker,
    addresses: Addresses,
    /// Ends serving clients; the peers are needed longer.
    stopper: Stopper,
    peers_stopper: Stopper,
    serving: JoinSet<()>,
    background: JoinSet<()>,
    life: tokio::task::JoinHandle<Result<(), Error>>,
    engine: Arc<dyn storage::Engine>,
    closed: watch::Receiver<Option<storage::Closed>>,
    tree: Arc<tokio::sync::Mutex<Option<Tree>>>,
}

/// Runs a node until `stop` ends, then stops it cleanly.
///
/// # Errors
/// It cannot start, or its store failed.
pub async fn run(config: Config, seams: Seams, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let mut node = Node::start(config, seams).await?;
    let ended = tokio::select! {
        () = stop => Ok(()),
        error = node.failed() => Err(error),
    };
    match &ended {
        Ok(()) => node.stop().await,
        // A store that failed completes nothing any more: closing in order would only wait for it.
        Err(_) => node.kill().await,
    }
    ended
}

struct Listeners {
    kafka: Box<dyn Listener>,
    admin: Box<dyn Listener>,
    peer: Box<dyn Listener>,
    amqp: Option<Box<dyn Listener>>,
}

impl Node {
    /// Starts a node; it finds its cluster in the background and serves HTTP meanwhile.
    ///
    /// # Errors
    /// The data folder or a listener cannot be used.
    pub async fn start(config: Config, seams: Seams) -> Result<Self, Error> {
        let (listeners, addresses) = bind(&config, &seams).await?;
        let engine = seams.engine.open(&config.data, &config.storage)?;
        let node = NodeId(config.node_id);
        let owner = storage::Owner { node, cluster: config.cluster_id.clone() };
        let identity = storage::identity::claim(engine.as_ref(), &owner, StoreId(rand::random()))?;
        let resumes = storage::identity::take_left(engine.as_ref())?;
        let (tail_bytes, aside_pauses) = (config.limits.tail_cache_bytes, config.storage.old_reads_pause);
        let options = storage::Options { tail_bytes, aside_pauses, ..Default::default() };
        let (writer, reader) = storage::open(engine.clone(), options)?;
        let (closed, metrics) = (writer.closed(), Arc::new(Metrics::with_store(writer.stats())));
        let (stopper, stop) = Stop::channel();
        let (peers_stopper, peers_stop) = Stop::channel();
        let directory = Directory::new(node, identity.store, rand::random());
        let directory = Arc::new(directory.with_disk(engine.clone()).with_secret(config.raft.secret.clone()));
        identity.cluster.into_iter().for_each(|cluster| directory.set_cluster(cluster));
        let peers = Arc::new(Peers::new(directory, seams.net.clone(), peers_stop.clone()));
        let options = raft::Options {
            quiesce_after: Some(config.raft.quiesce_after).filter(|after| !after.is_zero()),
            catch_up_bytes_per_second: config.raft.catch_up_bytes_per_second,
            resumes,
            ..raft::Options::default()
        };
        let groups = raft::Groups::new(options, writer, reader.clone(), peers.clone());
        let router = Arc::new(Router::new(node, config.raft.node_dead_after));
        let budget = Arc::new(AppendBudget::new(config.limits.append_bytes));
        let image = watch::Sender::new(Arc::<Image>::default());
        let standing = watch::Sender::new(Standing::Seeking("starting".to_owned()));
        let broker = Broker::new(Parts {
            config: config.clone(),
            metrics: metrics.clone(),
            clock: seams.clock.clone(),
            router: router.clone(),
            peers: peers.clone(),
            reader,
            budget: budget.clone(),
            image: image.subscribe(),
            standing: standing.subscribe(),
        });
        let ports = Ports {
            kafka: addresses.kafka.port(),
            admin: addresses.admin.port(),
            peer: addresses.peer.port(),
            amqp: addresses.amqp.map(|at| at.port()),
        };
        let shard_bounds = model::coordinator::Bounds {
            groups: config.limits.shard_groups_max,
            offsets: config.limits.shard_offsets_max,
        };
        let bootstrap = Bootstrap::new(config, ports, peers.clone(), engine.clone(), standing.clone())?;
        let bootstrap = Arc::new(bootstrap);
        bootstrap.attach(broker.clone());
        let (boot, store) = (peers.directory().boot(), peers.directory().store());
        let openings = Arc::new(Semaphore::new(OPENINGS));
        let clock = seams.clock;
        let context =
            Context { node, store, boot, groups, router, budget, openings, shard_bounds, clock, metrics, image };
        let tree = Arc::default();
        let context = Arc::new(context);
        let start = Start { broker, peers, bootstrap, engine, context, standing, tree, stop, peers_stop };
        Ok(start.go(listeners, addresses, [stopper, peers_stopper], closed))
    }

    /// The facade.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Makes one partition's actor panic: fault drills and tests.
    pub async fn panic(&self, group: GroupId) {
        if let Some(tree) = &*self.tree.lock().await {
            tree.panic(group);
        }
    }

    /// Ends when the node cannot go on, and says why. Cancel safe.
    pub async fn failed(&mut self) -> Error {
        let mut closed = self.closed.clone();
        tokio::select! {
            failure = closed.wait_for(Option::is_some) => {
                let why = failure.ok().and_then(|why| why.as_ref().map(ToString::to_string));
                Error::StoreFailed(why.unwrap_or_else(|| "its committer ended".to_owned()))
            }
            ended = &mut self.life => match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) => Error::Internal("the node ended by itself".to_owned()),
                Err(panic) => Error::Internal(panic.to_string()),
            },
        }
    }

    /// Ends at once, as a crash would: nobody is answered, nothing is closed.
    pub async fn kill(mut self) {
        self.peers_stopper.stop();
        self.stopper.stop();
        self.life.abort();
        if let Some(tree) = self.tree.lock().await.take() {
            tree.kill();
        }
        self.serving.shutdown().await;
        self.background.shutdown().await;
    }

    /// Stops cleanly: readiness ends, leaderships are handed over, clients are answered and let go, then the rafts close, then the store.
    pub async fn stop(mut self) {
        self.broker.stop();
        // The others say the same if they stop too: then nothing is handed over, and whoever leads goes on when all are back.
        tokio::time::sleep(self.broker.config().raft.node_heartbeat * 3 / 2).await;
        self.let_clients_go().await;
        self.life.abort();
        let tree = self.tree.lock().await.take();
        let in_order = match tree {
            Some(tree) => tree.stop().await,
            None => false,
        };
        self.peers_stopper.stop();
        self.background.shutdown().await;
        if in_order {
            self.leave_store();
        }
        tracing::info!(in_order, "the node has stopped");
    }

    fn leave_store(&self) {
        if let Err(error) = storage::identity::leave(self.engine.as_ref()) {
            tracing::warn!(%error, "the data folder does not say that the node stopped in order: its partitions will elect leaders");
        }
    }

    /// Hands over what it leads, then closes the listeners and answers what was read. Who is elected meanwhile, since the others were
    /// away, hands over too: clients do not get to this leader any more.
    async fn let_clients_go(&mut self) {
        let tree = self.tree.lock().await;
        let leave = async || {
            if let Some(tree) = &*tree {
                tree.leave().await;
            }
        };
        leave().await;
        self.stopper.stop();
        let answered = async { while self.serving.join_next().await.is_some() {} };
        let leaving = async {
            loop {
                tokio::time::sleep(LEAVE_AGAIN).await;
                leave().await;
            }
        };
        tokio::select! {
            () = answered => {}
            () = leaving => {}
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.life.abort();
    }
}

/// What starting needs.
struct Start {
    broker: Broker,
    peers: Arc<Peers>,
    bootstrap: Arc<Bootstrap>,
    engine: Arc<dyn storage::Engine>,
    context: Arc<Context>,
    standing: watch::Sender<Standing>,
    tree: Arc<tokio::sync::Mutex<Option<Tree>>>,
    stop: Stop,
    peers_stop: Stop,
}

impl Start {
    fn go(
        self,
        listeners: Listeners,
        addresses: Addresses,
        [stopper, peers_stopper]: [Stopper; 2],
        closed: watch::Receiver<Option<storage::Closed>>,
    ) -> Node {
        let (mut serving, mut background) = (JoinSet::new(), JoinSet::new());
        let limits = self.broker.config().limits.clone();
        let server = Server {
            directory: self.peers.directory().clone(),
            services: Arc::new(NodeServices {
                boot: self.context.boot,
                groups: self.context.groups.clone(),
                router: self.context.router.clone(),
                broker: self.broker.clone(),
                bootstrap: self.bootstrap.clone(),
            }),
            append_budget: Arc::new(Semaphore::new(limits.peer_append_bytes)),
            queue_budget: Arc::new(Semaphore::new(limits.peer_append_bytes)),
            visitors: Arc::new(Semaphore::new(listener::VISITORS_MAX)),
            append_budget_bytes: limits.peer_append_bytes,
            metrics: self.context.metrics.clone(),
        };
        background.spawn(listener::serve(Arc::new(server), listeners.peer, self.peers_stop.clone()));
        background.spawn(self.beat(closed.clone()));
        background.spawn(survey(self.broker.clone()));
        background.spawn(learn(self.peers.clone(), self.context.image.subscribe()));
        background.spawn(self.bootstrap.clone().refresh_addresses());
        let (broker, stop) = (self.broker.clone(), self.stop.clone());
        background.spawn(async move { broker.create_wished(stop).await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.change_replicas().await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.renew_replicas().await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.keep_leaders().await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.keep_owners().await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.run_operations().await });
        let broker = self.broker.clone();
        background.spawn(async move { broker.keep_queues().await });
        let serve = admin::serve(self.broker.clone(), listeners.admin, self.stop.clone());
        serving.spawn(async move { note("admin", serve.await) });
        let budget = Budget::new(limits.request_memory_bytes);
        serving.spawn(kafka::serve(self.broker.clone(), budget.clone(), listeners.kafka, self.stop.clone()));
        if let Some(listener) = listeners.amqp {
            serving.spawn(amqp::serve(self.broker.clone(), budget, listener, self.stop.clone()));
        }
        let (broker, engine, tree) = (self.broker.clone(), self.engine.clone(), self.tree.clone());
        let life = tokio::spawn(self.live());
        Node { broker, addresses, stopper, peers_stopper, serving, background, life, engine, closed, tree }
    }

    fn beat(&self, closed: watch::Receiver<Option<storage::Closed>>) -> impl Future<Output = ()> + Send + use<> {
        let (broker, router) = (self.broker.clone(), self.context.router.clone());
        let (peers, every) = (self.peers.clone(), broker.config().raft.node_heartbeat);
        let directory = peers.directory().clone();
        let hears = {
            let router = router.clone();
            move |node| router.hears(node)
        };
        let now = move || Heartbeat {
            boot: directory.boot(),
            hears: None,
            synced: directory.synced(),
            image_version: broker.image().version,
            disk_ok: closed.borrow().is_none() && !broker.is_disk_full(),
            stopping: broker.is_stopping(),
            leads: None,
        };
        heartbeat::run(peers, every, hears, now, move || router.leads())
    }

    /// Lives until it is stopped, or until a peer has reason to refuse its data folder for ever.
    async fn live(self) -> Result<(), Error> {
        let (peers, bootstrap) = (self.peers.clone(), self.bootstrap.clone());
        tokio::select! {
            lived = self.take_part() => lived,
            words = peers.directory().condemned() => {
                bootstrap.condemn(&words)?;
                Err(Error::Storage(storage::Error::Corrupt(words)))
            }
        }
    }

    /// Finds the cluster, starts the actors, registers the node; then waits for the end.
    async fn take_part(self) -> Result<(), Error> {
        let roster = self.bootstrap.settle().await.map_err(Error::Bootstrap)?;
        tokio::spawn(until(self.stop.clone(), self.bootstrap.clone().tell_founders(roster.clone())));
        tokio::spawn(until(self.stop.clone(), self.broker.clone().compact()));
        let retention_check = self.broker.config().storage.retention_check;
        let tree = Tree::start(self.context.clone(), roster.start(), retention_check).await;
        let tree = tree.map_err(|error| Error::Internal(format!("the controller's replica: {error}")))?;
        let mut ended = tree.ended();
        *self.tree.lock().await = Some(tree);
        self.register(&roster).await;
        tokio::select! {
            () = self.stop.stopped() => Ok(()),
            _ = ended.wait_for(|ended| *ended) => Err(Error::Internal("the root actor ended".to_owned())),
        }
    }

    /// Tells the controller where this node is, as often as it takes.
    async fn register(&self, roster: &Roster) {
        let founders = u32::try_from(roster.founders.len()).unwrap_or(u32::MAX);
        let found = Command::Found { cluster_id: roster.cluster.clone(), founders };
        while founders > 0 && self.broker.image().cluster_id.is_empty() {
            if let Err(error) = self.broker.control(found.clone()).await {
                tracing::debug!(%error, "the cluster has no name yet");
                tokio::time::sleep(REGISTER_RETRY).await;
            }
        }
        loop {
            match self.broker.control(Command::RegisterNode(self.bootstrap.registration())).await {
                Ok(reply) => match reply.outcome {
                    Outcome::Node(Err(refusal)) => {
                        tracing::error!(%refusal, "the controller does not register this node");
                        self.standing.send_replace(Standing::Refused(refusal.to_string()));
                        return;
                    }
                    _ => break,
                },
                Err(error) => tracing::info!(%error, "this node is not registered yet"),
            }
            tokio::time::sleep(REGISTER_RETRY).await;
        }
        tracing::info!(cluster = roster.cluster, "this node is a member");
        self.standing.send_replace(Standing::Member);
    }
}

fn note(what: &'static str, ended: std::io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(what, %error, "a listener failed");
    }
}

async fn until(stop: Stop, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.stopped() => {}
        () = work => {}
    }
}

async fn bind(config: &Config, seams: &Seams) -> Result<(Listeners, Addresses), Error> {
    let one = async |what, address: SocketAddr| {
        let failed = |error| Error::Bind { what, address, error };
        let bound = seams.net.bind(&address.to_string()).await.map_err(failed)?;
        let local = bound.local_addr().map_err(failed)?;
        Ok::<_, Error>((bound, local))
    };
    let (kafka, kafka_at) = one("kafka clients", config.listeners.kafka.bind).await?;
    let (admin, admin_at) = one("http", config.listeners.admin.bind).await?;
    let (peer, peer_at) = one("other nodes", config.listeners.peer.bind).await?;
    let (amqp, amqp_at) = match config.listeners.amqp.bind {
        Some(address) => one("amqp clients", address).await.map(|(bound, at)| (Some(bound), Some(at)))?,
        None => (None, None),
    };
    let addresses = Addresses { kafka: kafka_at, admin: admin_at, peer: peer_at, amqp: amqp_at };
    Ok((Listeners { kafka, admin, peer, amqp }, addresses))
}

/// Learns the members and their addresses from the image.
async fn learn(peers: Arc<Peers>, mut image: watch::Receiver<Arc<Image>>) {
    loop {
        let now = image.borrow_and_update().clone();
        let member = |node: &model::controller::Node| {
            let peer = node.listeners.get("peer")?;
            let host = if peer.host.contains(':') { format!("[{}]", peer.host) } else { peer.host.clone() };
            Some(Member { node: node.id, store: node.store, address: format!("{host}:{}", peer.port) })
        };
        peers.directory().retire(now.retired.clone());
        peers.directory().learn(now.nodes.values().filter_map(|node| member(node)));
        if image.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps gauges current that follow from several rooms. With thousands of partitions a look takes long, and the next one waits.
async fn survey(broker: Broker) {
    let mut took = Duration::ZERO;
    loop {
        tokio::time::sleep((took * SURVEY_REST).clamp(SURVEY, SURVEY_MAX)).await;
        let began = Instant::now();
        broker.look_at_lag();
        broker.metrics().raft.quarantined.set(broker.count_quarantined());
        broker.metrics().raft.under_replicated.set(broker.count_under_replicated());
        broker.look_at_disk();
        took = began.elapsed();
    }
}
