//! A process of a simulated node: the product's node on a tokio runtime of its own, whose time passes only when the world
//! says so. Killing it is dropping it: nothing of it runs on, nothing is closed in order.
//! Never uses turmoil: its sockets are its kernel's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use model::GroupId;
use node::broker::Broker;
use node::config::Config;
use node::seams::Seams;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the world tells a running node.
pub enum Order {
    /// Stop in order, as by SIGTERM.
    Stop,
    /// One partition's actor panics.
    Panic(GroupId),
}

/// Orders that wait for the process.
const ORDERS: usize = 16;

/// A running node.
pub struct Process {
    runtime: Runtime,
    main: JoinHandle<Result<(), String>>,
    broker: Arc<Mutex<Option<Broker>>>,
    orders: mpsc::Sender<Order>,
    started: Instant,
    /// How long it has run, on its own clock.
    elapsed: Duration,
}

impl Process {
    /// Starts the node; it does something at the next tick.
    pub fn start(config: Config, seams: Seams) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime without sockets");
        let broker: Arc<Mutex<Option<Broker>>> = Arc::default();
        let (orders, told) = mpsc::channel(ORDERS);
        let main = runtime.spawn(run(config, seams, broker.clone(), told));
        let started = runtime.block_on(async { Instant::now() });
        Self { runtime, main, broker, orders, started, elapsed: Duration::ZERO }
    }

    /// Lets the process run for so long on its own clock. Timers have a resolution of a millisecond; the rest is kept.
    pub fn tick(&mut self, passed: Duration) {
        self.elapsed += passed;
        let whole = Duration::from_millis(u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX));
        let until = self.started + whole;
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    /// So much time passed while the process did not run: its timers notice at once.
    pub fn wake(&mut self, missed: Duration) {
        self.elapsed += missed;
        let whole = Duration::from_millis(u64::try_from(missed.as_millis()).unwrap_or(u64::MAX));
        self.runtime.block_on(tokio::time::advance(whole));
    }

    /// Tells it something. False if it is too busy to hear.
    pub fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// Does something within the process, as its code would.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// The node's facade, once it has started; for looking only.
    pub fn broker(&self) -> Option<Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<Result<(), String>> {
        let ended = self.main.is_finished().then(|| (&mut self.main).now_or_never()).flatten()?;
        Some(ended.unwrap_or_else(|panic| Err(panic.to_string())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn run(
    config: Config,
    seams: Seams,
    broker: Arc<Mutex<Option<Broker>>>,
    mut orders: mpsc::Receiver<Order>,
) -> Result<(), String> {
    let mut node = node::Node::start(config, seams).await.map_err(|error| error.to_string())?;
    *broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.broker().clone());
    let ended = loop {
        tokio::select! { biased;
            error = node.failed() => break Err(error.to_string()),
            order = orders.recv() => match order {
                Some(Order::Panic(group)) => node.panic(group).await,
                Some(Order::Stop) | None => break Ok(()),
            },
        }
    };
    // As `node::run` does.
    match &ended {
        Ok(()) => node.stop().await,
        Err(_) => node.kill().await,
    }
    ended
}
