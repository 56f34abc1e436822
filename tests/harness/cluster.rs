//! `flotilla dev --plain` as an object: started on ports of its own, driven by lines on stdin, heard by JSON lines on stdout.
//! Dropping it stops the children; nothing outlives a test.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::{binary, free_ports};

/// How a cluster is started.
pub struct Options {
    pub nodes: u16,
    /// Kept data; None means `--ephemeral`.
    pub data: Option<PathBuf>,
    pub ready_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 3, data: None, ready_within: Duration::from_secs(60) }
    }
}

/// A node as the `ready` event names it.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub id: u32,
    pub pid: u32,
    pub kafka: String,
    pub admin: String,
    pub peer: String,
    pub amqp: String,
}

/// A running cluster.
pub struct Cluster {
    child: Child,
    stdin: ChildStdin,
    events: Receiver<Value>,
    pub nodes: Vec<Node>,
}

impl Cluster {
    pub fn start(options: Options) -> Self {
        let base = free_ports(4 * options.nodes);
        let mut command = Command::new(binary());
        command.args(["dev", "--plain", "--nodes", &options.nodes.to_string()]);
        for (index, flag) in ["--kafka-port", "--amqp-port", "--admin-port", "--peer-port"].iter().enumerate() {
            command.arg(flag).arg((base + index as u16 * options.nodes).to_string());
        }
        match &options.data {
            Some(data) => command.arg("--data").arg(data),
            None => command.arg("--ephemeral"),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flotilla dev starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let events = listen(&mut child);
        let mut cluster = Self { child, stdin, events, nodes: Vec::new() };
        let ready = cluster.expect("ready", options.ready_within);
        cluster.nodes = serde_json::from_value(ready["nodes"].clone()).expect("ready names its nodes");
        cluster
    }

    /// `host:port,...` of every Kafka listener.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| node.kafka.as_str()).collect::<Vec<_>>().join(",")
    }

    /// `amqp://host:port` of every AMQP listener, with commas.
    pub fn amqp(&self) -> String {
        self.nodes.iter().map(|node| format!("amqp://{}", node.amqp)).collect::<Vec<_>>().join(",")
    }

    pub fn kill(&mut self, id: u32) {
        self.say(&format!("kill {id}"));
        let event = self.expect("killed", Duration::from_secs(10));
        assert_eq!(event["id"], id, "{event}");
    }

    pub fn restart(&mut self, id: u32) {
        self.say(&format!("restart {id}"));
        let (restarted, pid) = self.restarted();
        assert_eq!(restarted, id);
        self.nodes.iter_mut().filter(|node| node.id == id).for_each(|node| node.pid = pid);
    }

    /// Restarts several nodes that may need each other to become ready.
    pub fn restart_all(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| self.say(&format!("restart {id}")));
        for _ in ids {
            let (id, pid) = self.restarted();
            self.nodes.iter_mut().filter(|node| node.id == id).for_each(|node| node.pid = pid);
        }
    }

    fn restarted(&mut self) -> (u32, u32) {
        let event = self.expect("restarted", Duration::from_secs(60));
        let number = |name: &str| event[name].as_u64().expect("restarted names id and pid") as u32;
        (number("id"), number("pid"))
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("flotilla dev reads its stdin");
        self.stdin.flush().expect("flotilla dev reads its stdin");
    }

    /// The next event named `name`; others are passed over, except an unexpected exit of a child.
    pub fn expect(&mut self, name: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event =
                self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no event {name:?} within {within:?}"));
            if event["event"] == name {
                return event;
            }
            assert_ne!(event["event"], "exited", "a node died by itself: {event}");
        }
    }

    /// The event of a child that died by itself; for tests that make it die.
    pub fn expect_exit(&mut self, within: Duration) -> Value {
        let event = self.events.recv_timeout(within).unwrap_or_else(|_| panic!("no event within {within:?}"));
        assert_eq!(event["event"], "exited", "{event}");
        event
    }

    /// Ends the cluster by the contract's `stop` and waits for the process.
    pub fn stop(mut self) {
        self.say("stop");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                assert!(status.success(), "flotilla dev ended with {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("flotilla dev did not stop within 30 s");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = writeln!(self.stdin, "stop");
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the event lines on a thread of its own, so that a silent child costs a timeout and not a hang.
fn listen(child: &mut Child) -> Receiver<Value> {
    let stdout = child.stdout.take().expect("stdout is piped");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a JSON event: {line:?}: {error}"));
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}
