//! How a node comes to belong to a cluster (DESIGN.md section 9): founded by the expected founders, or joined later.
//! Owns the roster, the durable memory of that one decision; it is on disk before anybody is told.
//! Invariants: a folder takes part in one founding only; a node whose id is registered with another folder starts no
//! raft. Never formats, never guesses: what it waits for or why it refuses is said in words.
mod roster;
mod seek;
mod visits;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use model::NodeId;
use model::controller::Registration;
use tokio::sync::{Notify, watch};

use crate::broker::{Broker, Standing};
use crate::config::{Config, Listeners};
use crate::peer::Peers;
use crate::peer::directory::{Directory, Member};
use crate::peer::messages::Seen;

pub use roster::Roster;

/// The ports this node listens on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Kafka clients.
    pub kafka: u16,
    /// HTTP.
    pub admin: u16,
    /// Other nodes.
    pub peer: u16,
    /// AMQP clients, if it does.
    pub amqp: Option<u16>,
}

/// The way of one node into its cluster.
pub struct Bootstrap {
    config: Config,
    ports: Ports,
    peers: Arc<Peers>,
    engine: Arc<dyn storage::Engine>,
    standing: watch::Sender<Standing>,
    state: Mutex<State>,
    decided: Notify,
    broker: OnceLock<Broker>,
}

#[derive(Default)]
struct State {
    roster: Option<Roster>,
    /// Who answered the last probes, without this node.
    sees: BTreeMap<NodeId, Seen>,
    /// This node's address on the way to its seeds, for a listener bound to all addresses.
    my_ip: Option<IpAddr>,
}

impl Bootstrap {
    /// Reads what the folder remembers.
    ///
    /// # Errors
    /// What the engine says.
    pub fn new(
        config: Config,
        ports: Ports,
        peers: Arc<Peers>,
        engine: Arc<dyn storage::Engine>,
        standing: watch::Sender<Standing>,
    ) -> Result<Self, storage::Error> {
        let roster: Option<Roster> = storage::roster::read(engine.as_ref())?;
        if let Some(roster) = &roster {
            peers.directory().set_cluster(roster.cluster.clone());
            peers.directory().learn(roster.members.iter().cloned());
        }
        let state = Mutex::new(State { roster, ..State::default() });
        let (decided, broker) = (Notify::new(), OnceLock::new());
        let bootstrap = Self { config, ports, peers, engine, standing, state, decided, broker };
        bootstrap.tell_address();
        Ok(bootstrap)
    }

    /// Every hello of this node carries its address from now on, if it is known how others reach it.
    fn tell_address(&self) {
        let is_unknown = self.peer_endpoint().0.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        if !is_unknown {
            self.directory().set_address(self.me().address);
        }
    }

    /// Joins are carried out through this facade.
    pub fn attach(&self, broker: Broker) {
        let _attached_once = self.broker.set(broker);
    }

    fn directory(&self) -> &Directory {
        self.peers.directory()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node says of itself to the other nodes.
    fn me(&self) -> Member {
        let address = self.peer_endpoint();
        let address = format!("{}:{}", bracketed(&address.0), address.1);
        Member { node: self.directory().node(), store: self.directory().store(), address }
    }

    /// Host and port for the other nodes: `advertise`, else the bound address, else the address on the way to a seed.
    fn peer_endpoint(&self) -> (String, u16) {
        let listener = &self.config.listeners.peer;
        if let Some(advertised) = listener.advertise.as_deref().and_then(host_port) {
            return advertised;
        }
        let bound = listener.bind.ip();
        let ip = if bound.is_unspecified() { self.state().my_ip.unwrap_or(bound) } else { bound };
        (ip.to_string(), self.ports.peer)
    }

    /// This node's registration in the controller.
    pub fn registration(&self) -> Registration {
        let endpoint = |advertise: &Option<String>, bound: IpAddr, port| {
            let advertised = advertise.as_deref().and_then(host_port);
            // An empty host stands for the address that a client itself connected to.
            let fixed = if bound.is_unspecified() || bound.is_loopback() { String::new() } else { bound.to_string() };
            advertised.unwrap_or((fixed, port))
        };
        let Listeners { kafka, admin, amqp, .. } = &self.config.listeners;
        let mut listeners = vec![
            ("kafka", endpoint(&kafka.advertise, kafka.bind.ip(), self.ports.kafka)),
            ("admin", endpoint(&admin.advertise, admin.bind.ip(), self.ports.admin)),
            ("peer", self.peer_endpoint()),
        ];
        if let (Some(bind), Some(port)) = (amqp.bind, self.ports.amqp) {
            listeners.push(("amqp", endpoint(&amqp.advertise, bind.ip(), port)));
        }
        let endpoint = |(host, port)| model::controller::Endpoint { host, port };
        Registration {
            id: self.directory().node(),
            store: self.directory().store(),
            listeners: listeners.into_iter().map(|(name, address)| (name.to_owned(), endpoint(address))).collect(),
            rack: self.config.rack.clone(),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Splits `host:port`, brackets of an IPv6 address included.
pub fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_split() {
        assert_eq!(host_port("a.example:1"), Some(("a.example".to_owned(), 1)));
        assert_eq!(host_port("[::1]:9"), Some(("::1".to_owned(), 9)));
        assert_eq!(host_port("nothing"), None);
        assert_eq!(host_port(":9"), None);
        assert_eq!(bracketed("::1"), "[::1]");
    }
}
