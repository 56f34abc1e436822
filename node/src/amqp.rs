//! The AMQP 0-9-1 listener: translates the protocol of RabbitMQ's clients to the broker's verbs.
//! Owns connections and channels: a connection is one task that reads and writes, a channel one task of its own.
//! Never names another protocol, never reaches below the broker.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::controller::topology::Queue;
use tokio::sync::{mpsc, watch};

use crate::broker::Broker;
use crate::listening::{Budget, Listening};
use crate::metrics::{ListenerLabel, Metrics};
use crate::seams::{Listener, Stop};

mod assembly;
mod channel;
mod connection;
mod failure;
mod handshake;
mod input;
mod login;
mod outbox;
mod session;

/// The metric label of this listener.
const LISTENER: ListenerLabel = ListenerLabel { listener: "amqp" };
/// How often the node is asked whether its disk is full.
const DISK_CHECK: Duration = Duration::from_secs(1);
/// Between two attempts to delete a queue that is to go.
const CLEAN_UP_AGAIN: Duration = Duration::from_secs(1);

/// Serves AMQP clients on `listener` until `stop`; returns once every connection is closed.
pub async fn serve(broker: Broker, budget: Budget, listener: Box<dyn Listener>, stop: Stop) {
    let (full, disk_full) = watch::channel(false);
    let metrics = broker.metrics().clone();
    let (left_over, queues) = mpsc::unbounded_channel();
    let connections = AtomicU64::new(0);
    let listening = Listening { listener, label: LISTENER, broker: broker.clone() };
    let shared = Shared { metrics, broker, budget, disk_full, connections, left_over };
    let shared = Arc::new(shared);
    tokio::select! {
        () = listening.serve(stop.clone(), |stream| connection::serve(stream, shared.clone(), stop.clone())) => {}
        () = watch_disk(&shared.broker, full) => {}
        () = clean_up(&shared.broker, queues) => {}
        () = shared.broker.end_lost_connections() => {}
    }
}

/// Says when appends begin and end to be refused; never ends.
async fn watch_disk(broker: &Broker, full: watch::Sender<bool>) {
    loop {
        let is_full = broker.is_disk_full();
        full.send_if_modified(|full| std::mem::replace(full, is_full) != is_full);
        tokio::time::sleep(DISK_CHECK).await;
    }
}

/// Deletes exclusive queues whose connections ended while the controller could not be asked; never ends. What a stop of the node leaves is
/// deleted at its next start.
async fn clean_up(broker: &Broker, mut queues: mpsc::UnboundedReceiver<Arc<Queue>>) {
    while let Some(queue) = queues.recv().await {
        while let Err(error) = broker.delete_this_queue(&queue).await {
            tracing::debug!(queue = queue.name, %error, "an exclusive queue outlives its connection");
            tokio::time::sleep(CLEAN_UP_AGAIN).await;
        }
    }
}

/// What all connections of a node share.
struct Shared {
    broker: Broker,
    metrics: Arc<Metrics>,
    budget: Budget,
    disk_full: watch::Receiver<bool>,
    /// How many there have been: the number of the next.
    connections: AtomicU64,
    /// Exclusive queues that could not be deleted with their connections.
    left_over: mpsc::UnboundedSender<Arc<Queue>>,
}

impl Shared {
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

/// Whether who connects from there is on this machine.
fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}
