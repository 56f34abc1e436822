//! The Kafka listener: translates the Kafka protocol to the broker's verbs.
//! Owns connections, their memory budget and the table of APIs; one file per API in `api`.
//! Never names another protocol, never reaches below the broker.
use std::net::SocketAddr;
use std::sync::Arc;

use crate::broker::{Broker, ListenerKind, TokenBucket};
use crate::config::Limits;
use crate::listening::{Budget, Listening};
use crate::metrics::{ListenerLabel, Metrics};
use crate::seams::{Listener, Stop, Stream};
use model::NodeId;
use sessions::{Bounds, Sessions};
use tokio::sync::SetOnce;
use wire::kafka::Str;

mod api;
mod connection;
mod errors;
mod response;
mod sessions;
mod table;
mod view;

/// The metric label of this listener.
const LISTENER: ListenerLabel = ListenerLabel { listener: "kafka" };

/// Serves Kafka clients on `listener` until `stop`; returns once every connection is closed.
pub async fn serve(broker: Broker, budget: Budget, listener: Box<dyn Listener>, stop: Stop) {
    let shared = Arc::new(Shared::new(broker.clone(), budget));
    let listening = Listening { listener, label: LISTENER, broker };
    let connection = |mut stream: Stream| {
        let client = Client::new(&shared.broker, &mut stream);
        connection::serve(stream, shared.clone(), Arc::new(client), stop.clone())
    };
    listening.serve(stop.clone(), connection).await;
}

/// What all connections of a node share.
struct Shared {
    broker: Broker,
    metrics: Arc<Metrics>,
    limits: Limits,
    budget: Budget,
    sessions: Sessions,
    rules: api::rules::Known,
}

impl Shared {
    fn new(broker: Broker, budget: Budget) -> Self {
        let limits = broker.config().limits.clone();
        let metrics = broker.metrics().clone();
        let bounds = Bounds { sessions: limits.fetch_sessions_max, partitions: limits.fetch_session_partitions_max };
        let sessions = Sessions::new(bounds, metrics.sessions.clone());
        Self { metrics, broker, limits, budget, sessions, rules: Default::default() }
    }
}

/// One connection's other side.
struct Client {
    /// The address the client connected to: what it is told about this node.
    via: SocketAddr,
    peer: SocketAddr,
    /// How many topics it may still create by naming them.
    topics: TokenBucket,
    /// Set by the first answer that is more than a greeting. A client may take the end of a connection before it for a refusal and
    /// give up what it wanted to write (franz-go does: it could be a login that failed), so until then the end is a reset.
    answered: Arc<SetOnce<()>>,
}

impl Client {
    fn new(broker: &Broker, stream: &mut Stream) -> Self {
        let (via, peer) = (stream.local_addr(), stream.peer_addr());
        Self { via, peer, topics: broker.token_bucket(), answered: stream.reset_until() }
    }
}

/// One request being answered: everything its API may look at.
#[derive(Clone)]
struct Call {
    shared: Arc<Shared>,
    client: Arc<Client>,
    version: i16,
    correlation_id: i32,
    /// What the client calls itself.
    client_id: Str,
}

impl Call {
    fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// Where the client connects from, as Kafka shows it.
    fn client_host(&self) -> String {
        format!("/{}", self.client.peer.ip().to_canonical())
    }

    /// Host, port and rack of a node as this client shall reach it.
    fn endpoint(&self, node: NodeId) -> Option<(String, u16, Option<String>)> {
        let (host, port) = self.broker().node_address(node, ListenerKind::Kafka, self.client.via)?;
        let rack = self.broker().image().nodes.get(&node).and_then(|node| node.rack.clone());
        Some((host, port, rack))
    }
}
