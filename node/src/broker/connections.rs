//! The client connections of this node that operators see by name, and can end. Owns the list; a connection is on it as long as
//! its [`Registered`] lives. Bounded by the listener's own bound on connections.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Broker;
use crate::peer::questions::{Answered, ConnectionReport, Question};

/// How often virtual hosts are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// See the file header.
#[derive(Default)]
pub(super) struct Connections {
    last: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
}

struct Open {
    report: ConnectionReport,
    channels: Arc<AtomicUsize>,
    close: oneshot::Sender<String>,
}

/// Who has connected.
pub struct Connected {
    /// Where from.
    pub peer: SocketAddr,
    /// The address it reached.
    pub local: SocketAddr,
    /// Whose login it was.
    pub user: String,
    /// Its virtual host.
    pub vhost: String,
    /// What the client says of itself.
    pub client: BTreeMap<String, String>,
}

/// A connection on the list.
pub struct Registered {
    broker: Broker,
    number: u64,
    channels: Arc<AtomicUsize>,
    closed: oneshot::Receiver<String>,
}

impl Registered {
    /// It has so many channels.
    pub fn has_channels(&self, count: usize) {
        self.channels.store(count, Ordering::Relaxed);
    }

    /// Why an operator ends it; comes once. Cancel safe.
    pub async fn closed(&mut self) -> String {
        (&mut self.closed).await.unwrap_or_default()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.broker.0.connections.open().remove(&self.number);
    }
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Puts a connection on the list.
    pub fn register_connection(&self, connected: Connected) -> Registered {
        let Connected { peer, local, user, vhost, client } = connected;
        let report = ConnectionReport {
            name: format!("{peer} -> {local}"),
            node: self.node_id(),
            user,
            vhost,
            peer_host: peer.ip().to_canonical().to_string(),
            peer_port: peer.port(),
            host: local.ip().to_canonical().to_string(),
            port: local.port(),
            connected_ms: self.clock().wall_ms(),
            client,
            channels: 0,
        };
        let connections = &self.0.connections;
        let number = connections.last.fetch_add(1, Ordering::Relaxed);
        let (close, closed) = oneshot::channel();
        let channels = Arc::new(AtomicUsize::new(0));
        connections.open().insert(number, Open { report, channels: channels.clone(), close });
        Registered { broker: self.clone(), number, channels, closed }
    }

    /// The connections of this node.
    pub(super) fn connections_here(&self) -> Vec<ConnectionReport> {
        let open = self.0.connections.open();
        let report =
            |open: &Open| ConnectionReport { channels: open.channels.load(Ordering::Relaxed), ..open.report.clone() };
        open.values().map(report).collect()
    }

    /// Ends the connections to virtual hosts that are no more, for ever.
    pub async fn end_lost_connections(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let image = self.image();
            let is_lost = |_: &u64, open: &mut Open| image.topology.vhost(&open.report.vhost).is_none();
            for (_, Open { report, close, .. }) in self.0.connections.open().extract_if(.., is_lost) {
                let _gone = close.send(format!("vhost '{}' is deleted", report.vhost));
            }
        }
    }

    /// The connections of all nodes that answer, by name.
    pub async fn connections(&self) -> Vec<ConnectionReport> {
        let answers = self.ask_all(Question::Connections, DEADLINE).await;
        let mut all: Vec<ConnectionReport> = Vec::new();
        for answer in answers {
            if let Answered::Connections(connections) = answer {
                all.extend(connections);
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Ends the connection of this name, wherever it is; whether there was one.
    pub async fn close_connection(&self, name: &str, why: &str) -> bool {
        let question = Question::CloseConnection { name: name.to_owned(), why: why.to_owned() };
        let answers = self.ask_all(question, DEADLINE).await;
        answers.iter().any(|answer| matches!(answer, Answered::Closed(true)))
    }

    /// The same of a connection of this node.
    pub(super) fn close_connection_here(&self, name: &str, why: &str) -> bool {
        let mut open = self.0.connections.open();
        let number = open.iter().find(|(_, open)| open.report.name == name).map(|(number, _)| *number);
        let Some(found) = number.and_then(|number| open.remove(&number)) else { return false };
        found.close.send(why.to_owned()).is_ok()
    }
}
