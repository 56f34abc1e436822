//! Nodes as single `flotilla server` processes whose connections to each other go through the fault proxy.
//! Each can be given an environment and be started inside another's namespaces. Nothing outlives a test: a server ends with
//! the pipe on its standard input, and a pause ends by itself even when nobody is left to end it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::{binary, free_ports, http};

/// Ports of one node: Kafka, admin, peer, and the proxy before the peer port.
const PORTS: u16 = 4;

/// One node, running or not.
pub struct Server {
    pub id: u32,
    pub data: PathBuf,
    pub log: PathBuf,
    /// Variables for its next start.
    pub environment: BTreeMap<&'static str, String>,
    /// What runs it, if not the program itself: `nsenter ...`.
    pub launcher: Vec<String>,
    arguments: Vec<String>,
    ports: u16,
    child: Option<Child>,
}

/// A cluster of them.
pub struct Servers {
    pub nodes: Vec<Server>,
    pub proxy: Proxy,
    pub home: TempDir,
}

impl Servers {
    /// Makes `count` nodes, started later; `settings` are for all.
    pub fn new(count: u16, settings: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("flotilla-servers-").tempdir().expect("a temporary folder");
        let base = free_ports(PORTS * count);
        let ports: Vec<u16> = (0..count).map(|index| base + PORTS * index).collect();
        let seeds: Vec<String> = ports.iter().map(|first| format!("127.0.0.1:{}", first + 3)).collect();
        let node = |(id, first): (u32, &u16)| Server::new(id, *first, home.path(), &seeds, settings);
        let nodes = (1..).zip(&ports).map(node).collect();
        let proxied: Vec<(u16, u16)> = ports.iter().map(|first| (first + 3, first + 2)).collect();
        Self { nodes, proxy: Proxy::start(&proxied), home }
    }

    pub fn node(&mut self, id: u32) -> &mut Server {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of this cluster")
    }

    pub fn ids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    pub fn start(&mut self, id: u32) {
        let pid = self.node(id).start();
        self.proxy.process(id, pid);
    }

    pub fn start_all(&mut self) {
        self.ids().into_iter().for_each(|id| self.start(id));
    }

    /// `host:port,...` of every Kafka listener.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| node.kafka().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Why some node is not ready, or None.
    pub fn unready(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(|node| {
            let told = match (node.ended(), http::get(node.admin(), "/readyz")) {
                (Some(status), _) => format!("ended with {status}"),
                (None, Some((200, _))) => return None,
                (None, Some((_, words))) => words,
                (None, None) => "does not answer".to_owned(),
            };
            Some(format!("node {}: {}", node.id, told.trim()))
        })
    }

    /// How long it took until all nodes were ready.
    pub fn ready_within(&mut self, limit: Duration) -> Duration {
        let started = Instant::now();
        while let Some(why) = self.unready() {
            assert!(started.elapsed() < limit, "not ready within {limit:?}: {why}");
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }

    /// The node that leads most partitions, as the first node to answer tells.
    pub fn leader(&self) -> Option<u32> {
        let topics = self.nodes.iter().find_map(|node| http::get(node.admin(), "/v1/topics"))?.1;
        let topics: Value = serde_json::from_str(&topics).ok()?;
        let partitions = topics.as_array()?.iter().filter_map(|topic| topic["partitions"].as_array()).flatten();
        let mut led = BTreeMap::<u64, usize>::new();
        partitions.filter_map(|partition| partition["leader"].as_u64()).for_each(|id| *led.entry(id).or_default() += 1);
        led.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id as u32)
    }
}

impl Server {
    fn new(id: u32, ports: u16, home: &Path, seeds: &[String], settings: &[&str]) -> Self {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let data = home.join(format!("node-{id}"));
        std::fs::create_dir(&data).expect("a folder of its own");
        let flags = [
            ("--node-id", id.to_string()),
            ("--data", data.display().to_string()),
            ("--kafka", at(ports)),
            ("--admin", at(ports + 1)),
            ("--peer", at(ports + 2)),
            ("--amqp", String::new()),
            ("--seeds", seeds.join(",")),
            ("--bootstrap-expect", seeds.len().to_string()),
            ("--set", format!("advertise.peer={}", at(ports + 3))),
        ];
        let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
        let arguments = ["server", "--parent-pipe"].into_iter().map(str::to_owned);
        let arguments = arguments.chain(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        let log = home.join(format!("node-{id}.log"));
        let arguments = arguments.chain(settings).collect();
        Self { id, data, log, environment: BTreeMap::new(), launcher: Vec::new(), arguments, ports, child: None }
    }

    pub fn kafka(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports))
    }

    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports + 1))
    }

    fn start(&mut self) -> u32 {
        assert!(self.child.is_none(), "node {} runs", self.id);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        // The variables are for the node, not for what launches it.
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let mut words = self.launcher.iter().cloned().chain(["env".to_owned()]).chain(variables);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg(binary()).args(&self.arguments).stdin(Stdio::piped());
        let child = command.stdout(log.try_clone().expect("a log file")).stderr(log).spawn().expect("a server starts");
        self.child.insert(child).id()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            drop(child.kill());
            child.wait().expect("the child can be waited for");
        }
    }

    /// Ends it in good order, by the end of its standard input.
    pub fn stop(&mut self) {
        drop(self.child.as_mut().and_then(|child| child.stdin.take()));
        self.await_end();
    }

    /// Ends it in good order, as an operator does.
    pub fn terminate(&mut self) {
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success(), "node {} cannot be told to stop", self.id);
        self.await_end();
    }

    fn await_end(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ended().is_none() {
            assert!(Instant::now() < deadline, "node {} does not stop", self.id);
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = None;
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("the child can be asked"))
    }

    /// SIGSTOP, and SIGCONT `length` later, by a process that does not depend on this one; returns after both.
    pub fn pause(&self, length: Duration) {
        let script = format!("kill -STOP {0}; sleep {1}; kill -CONT {0}", self.pid(), length.as_secs_f64());
        let status = Command::new("sh").args(["-c", &script]).status().expect("sh runs");
        assert!(status.success(), "node {} cannot be paused", self.id);
    }

    /// What it said since `from`, in bytes of its log.
    pub fn said(&self, from: u64) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[(from as usize).min(log.len())..]).into_owned()
    }

    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for Servers {
    /// A failed test keeps the logs: what the nodes said is the evidence.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let kept =
                    std::env::temp_dir().join(format!("flotilla-failed-{}-node-{}.log", std::process::id(), node.id));
                if std::fs::copy(&node.log, &kept).is_ok() {
                    println!("log of node {}: {}", node.id, kept.display());
                }
            }
        }
    }
}
