//! What every listener for clients does: accepts connections, gives each a task of its own, and holds them to the node's bounds.
//! Owns the bound on connections (one more than allowed is closed at once and counted) and the memory budget of requests.
//! Invariant: after `serve` returns no connection task is left. Never a word of a protocol.
mod budget;

use std::time::Duration;

use tokio::task::JoinSet;

use crate::broker::{Broker, Standing};
use crate::metrics::ListenerLabel;
use crate::seams::{Listener, Stop, Stream};

pub use budget::{Budget, Taken};

/// After a failed accept (out of file descriptors, say) wait so long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to answer what they have read when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long a connection may wait for a node that has just started to take part in its cluster; then the client tries another.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// One bound listener of a node.
pub struct Listening {
    /// Where connections come from.
    pub listener: Box<dyn Listener>,
    /// The protocol, for logs and metrics.
    pub label: ListenerLabel,
    /// The node's: whether it takes part, where connections are counted, how many there may be.
    pub broker: Broker,
}

impl Listening {
    /// Serves until `stop`, then lets connections finish what they have begun; `connection` is one from begin to end.
    pub async fn serve<F>(mut self, stop: Stop, connection: impl Fn(Stream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        let open = self.broker.metrics().connections.get_or_create_owned(&self.label);
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => break,
                Some(ended) = connections.join_next() => self.note_end(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok(stream) => if self.has_room(&stream, connections.len()) {
                        connections.spawn(self.admit(&stop, connection(stream)));
                    },
                    Err(error) => {
                        tracing::warn!(%error, listener = self.label.listener, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
            open.set(i64::try_from(connections.len()).unwrap_or(i64::MAX));
        }
        let listener = self.label.listener;
        drop(self);
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, finish).await.is_err() {
            tracing::info!(connections = connections.len(), listener, "closing connections that are still busy");
            connections.shutdown().await;
        }
    }

    /// Serves a connection once the node is a member. Before, it knows of no topic, and a client that hears so often enough gives up
    /// what it wanted to write.
    fn admit<F: Future<Output = ()>>(&self, stop: &Stop, connection: F) -> impl Future<Output = ()> + use<F> {
        let (mut standing, stop) = (self.broker.standing(), stop.clone());
        async move {
            let is_member = standing.wait_for(|standing| matches!(standing, Standing::Member));
            let joined = tokio::select! {
                joined = tokio::time::timeout(JOIN_GRACE, is_member) => matches!(joined, Ok(Ok(_))),
                () = stop.stopped() => false,
            };
            if joined {
                connection.await;
            }
        }
    }

    fn has_room(&self, stream: &Stream, open: usize) -> bool {
        let has_room = open < self.broker.config().limits.connections_max;
        if !has_room {
            self.broker.metrics().connections_refused.get_or_create(&self.label).inc();
            tracing::debug!(peer = %stream.peer_addr(), listener = self.label.listener, "too many connections, closing the new one");
        }
        has_room
    }

    fn note_end(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, listener = self.label.listener, "a connection task panicked");
        }
    }
}
