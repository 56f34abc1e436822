//! What a server process is told: the node's `Config`, and what concerns the process only (log lines, threads).
//! Owns the defaults of a node started without any configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::units::LogFormat;
use super::{Amqp, AutoCreate, Config, Limits, Listener, Listeners, Raft, Storage};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: Config,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are: `info`, `info,raft=debug`; the variable RUST_LOG wins.
    pub log_level: String,
    /// Worker threads of the async runtime.
    pub workers: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let node = Config {
            node_id: 1,
            cluster_id: None,
            data: PathBuf::from("flotilla-data"),
            listeners: Listeners {
                kafka: loopback(9092),
                peer: loopback(9740),
                admin: loopback(9640),
                amqp: Amqp { bind: Some(loopback(5672).bind), ..Amqp::default() },
            },
            seeds: Vec::new(),
            bootstrap_expect: 1,
            rack: None,
            limits: Limits::default(),
            storage: Storage::default(),
            raft: Raft::default(),
            insecure: false,
            auto_create: AutoCreate::default(),
        };
        Self { node, log_format: LogFormat::Human, log_level: "info,openraft=error".to_owned(), workers: 2 }
    }
}

fn loopback(port: u16) -> Listener {
    Listener { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), advertise: None }
}
