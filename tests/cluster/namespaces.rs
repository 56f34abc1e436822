//! Network namespaces joined by one bridge, each with the address that its file in `deploy/config` names. Removed on drop.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::{binary, repository};
use tempfile::TempDir;

/// Namespaces `fl-PID-1..=n`, node i at 10.77.0.i.
pub struct Network {
    prefix: String,
    nodes: u32,
    data: TempDir,
}

/// A `flotilla server` process; killed on drop.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Network {
    /// None where namespaces cannot be made.
    pub fn of(nodes: u32) -> Option<Self> {
        if !crate::can_make_namespaces() {
            return None;
        }
        let prefix = format!("fl{}", std::process::id() % 100_000);
        let network = Self { prefix, nodes, data: TempDir::new().expect("a temporary folder") };
        let hub = network.name(0);
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "add", "hub", "type", "bridge"]);
        ip(&["-n", &hub, "link", "set", "hub", "up"]);
        (1..=nodes).for_each(|node| network.join(&hub, node));
        Some(network)
    }

    fn join(&self, hub: &str, node: u32) {
        let (space, port) = (self.name(node), format!("port{node}"));
        ip(&["netns", "add", &space]);
        ip(&["-n", hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space]);
        ip(&["-n", hub, "link", "set", &port, "master", "hub", "up"]);
        ip(&["-n", &space, "addr", "add", &format!("10.77.0.{node}/24"), "dev", "eth0"]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
    }

    fn name(&self, node: u32) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// A command that runs inside the namespace of `node`.
    pub fn command(&self, node: u32, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(node)]).arg(program);
        command
    }

    /// Starts the server of `node` from its file in `deploy/config`.
    pub fn serve(&self, node: u32) -> Server {
        let config = repository().join(format!("deploy/config/node{node}.toml"));
        let data = self.data.path().join(node.to_string());
        let log = std::fs::File::create(self.data.path().join(format!("{node}.log"))).expect("a log file");
        let mut command = self.command(node, &binary());
        command.arg("server").arg("--config").arg(config).arg("--data").arg(data);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log file")).stderr(log).spawn();
        Server(child.expect("ip netns exec starts the server"))
    }

    /// Where the CLI finds `node`.
    pub fn addresses(&self, node: u32) -> [(&'static str, String); 2] {
        [("FLOTILLA_BOOTSTRAP", format!("10.77.0.{node}:9092")), ("FLOTILLA_ADMIN", format!("10.77.0.{node}:9640"))]
    }

    /// Runs the CLI in the namespace of `node` with `input` on its stdin.
    pub fn pipe(&self, node: u32, arguments: &[&str], input: &str) {
        let mut command = self.command(node, &binary());
        let mut child =
            command.args(arguments).envs(self.addresses(node)).stdin(Stdio::piped()).spawn().expect("the CLI starts");
        child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("the CLI reads");
        assert!(child.wait().expect("the CLI ends").success(), "{arguments:?} failed");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..=self.nodes {
            let _ = Command::new("ip").args(["netns", "del", &self.name(node)]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
