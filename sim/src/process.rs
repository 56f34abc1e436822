//! A process of a simulated node: the product's node on a tokio runtime of its own, whose time passes only when the world
//! says so. Killing it is dropping it: nothing of it runs on, nothing is closed in order.
//! Never uses turmoil: its sockets are its kernel's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use node::broker::Broker;
use node::config::Config;
use node::seams::Seams;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A running node.
pub struct Process {
    runtime: Runtime,
    main: JoinHandle<Result<(), String>>,
    broker: Arc<Mutex<Option<Broker>>>,
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
        let main = runtime.spawn(run(config, seams, broker.clone()));
        let started = runtime.block_on(async { Instant::now() });
        Self { runtime, main, broker, started, elapsed: Duration::ZERO }
    }

    /// Lets the process run for so long on its own clock. Timers have a resolution of a millisecond; the rest is kept.
    pub fn tick(&mut self, passed: Duration) {
        self.elapsed += passed;
        let whole = Duration::from_millis(u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX));
        let until = self.started + whole;
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
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

async fn run(config: Config, seams: Seams, broker: Arc<Mutex<Option<Broker>>>) -> Result<(), String> {
    let mut node = node::Node::start(config, seams).await.map_err(|error| error.to_string())?;
    *broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.broker().clone());
    let error = node.failed().await;
    node.stop().await;
    Err(error.to_string())
}
