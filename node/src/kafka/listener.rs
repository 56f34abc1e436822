//! Accepts Kafka connections and gives each a task of its own.
//! Owns the bound on connections: one more than allowed is closed at once and counted.
//! Invariant: after `run` returns no connection task is left.
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection;
use super::{LISTENER, Shared};
use crate::seams::{Listener, Stop, Stream};

/// After a failed accept (out of file descriptors, say) wait so long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to answer what they have read when the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Serves `listener` until `stop`, then lets connections finish what they have begun.
pub async fn run(mut listener: Box<dyn Listener>, shared: Arc<Shared>, stop: Stop) {
    let mut connections = JoinSet::new();
    let open = shared.metrics.connections.get_or_create_owned(&LISTENER);
    loop {
        tokio::select! {
            biased;
            () = stop.stopped() => break,
            Some(ended) = connections.join_next() => note_end(ended),
            accepted = listener.accept() => match accepted {
                Ok(stream) => admit(stream, &mut connections, &shared, &stop),
                Err(error) => {
                    tracing::warn!(%error, "accepting a kafka connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        open.set(i64::try_from(connections.len()).unwrap_or(i64::MAX));
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, finish).await.is_err() {
        tracing::info!(connections = connections.len(), "closing kafka connections that are still busy");
        connections.shutdown().await;
    }
}

fn admit(stream: Stream, connections: &mut JoinSet<()>, shared: &Arc<Shared>, stop: &Stop) {
    if connections.len() >= shared.limits.connections_max {
        shared.metrics.connections_refused.get_or_create(&LISTENER).inc();
        tracing::debug!(peer = %stream.peer_addr(), "too many kafka connections, closing the new one");
        return;
    }
    connections.spawn(connection::serve(stream, shared.clone(), stop.clone()));
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a kafka connection task panicked");
    }
}
