//! A node of the simulated cluster: the product's `node::run` with our network, clock and disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use node::config::{AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};
use node::seams::Seams;

use crate::clock::SimClock;
use crate::disk::Disks;
use crate::net::SimNet;
use crate::workload::{KAFKA_PORT, host};
use crate::world::NODES;

const PEER_PORT: u16 = 9740;
const ADMIN_PORT: u16 = 9640;

/// Runs node `id` until its host crashes. An error of the node is an error of the world.
pub async fn serve(id: u32, disks: Disks) -> turmoil::Result {
    let seams = Seams { net: Arc::new(SimNet), clock: Arc::new(SimClock), engine: disks.of(id) };
    let run = Box::pin(node::run(config(id), seams, std::future::pending()));
    run.await.map_err(|error| format!("node {id}: {error}"))?;
    Ok(())
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
