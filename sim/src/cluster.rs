//! A node of the simulated cluster: the product's `node::run` with our network, clock and disk.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use node::broker::Broker;
use node::config::{AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};
use node::seams::Seams;

use crate::clock::SimClock;
use crate::disk::Disks;
use crate::net::SimNet;
use crate::workload::{KAFKA_PORT, host};
use crate::world::NODES;

const PEER_PORT: u16 = 9740;
const ADMIN_PORT: u16 = 9640;

/// What a node's process does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "processes that can be paused come with the kernel of sockets")]
pub enum State {
    /// It runs.
    Up,
    /// It stands still, sockets open.
    Paused,
    /// There is none.
    Down,
}

/// A node as seen from outside the world: for looking, never for touching.
pub struct View {
    /// Its number, from 1.
    pub node: u32,
    /// What its process does.
    pub state: State,
    /// Its facade, once it has started.
    pub broker: Option<Broker>,
}

/// Where a running node leaves its facade for the probe.
#[derive(Clone, Default)]
pub struct Window(Rc<RefCell<Option<Broker>>>);

impl Window {
    /// What can be seen of `node` now.
    pub fn view(&self, node: u32) -> View {
        let broker = self.0.borrow().clone();
        View { node, state: if broker.is_some() { State::Up } else { State::Down }, broker }
    }
}

/// Closes the window when the node ends, however it ends.
struct Shown(Window);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.0.take();
    }
}

/// Runs node `id` until its host crashes. An error of the node is an error of the world.
pub async fn serve(id: u32, disks: Disks, window: Window) -> turmoil::Result {
    let seams = Seams { net: Arc::new(SimNet), clock: Arc::new(SimClock), engine: disks.of(id) };
    let start = Box::pin(node::Node::start(config(id), seams));
    let mut node = start.await.map_err(|error| format!("node {id}: {error}"))?;
    window.0.replace(Some(node.broker().clone()));
    let _shown = Shown(window);
    let error = node.failed().await;
    Err(format!("node {id}: {error}").into())
}

fn config(id: u32) -> Config {
    let listener = |port, advertise| Listener { bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), advertise };
    Config {
        node_id: id,
        cluster_id: None,
        data: PathBuf::from("/simulated"),
        listeners: Listeners {
            kafka: listener(KAFKA_PORT, None),
            peer: listener(PEER_PORT, Some(format!("{}:{PEER_PORT}", host(id)))),
            admin: listener(ADMIN_PORT, None),
        },
        seeds: (1..=NODES).map(|node| format!("{}:{PEER_PORT}", host(node))).collect(),
        bootstrap_expect: NODES,
        rack: None,
        limits: Limits::default(),
        storage: Storage::default(),
        raft: Raft::default(),
        insecure: true,
        auto_create: AutoCreate::default(),
    }
}
