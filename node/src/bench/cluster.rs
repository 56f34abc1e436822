//! The cluster under measurement: a throw-away one of our own, or one that runs. Owns the children of the former.
//! Samples of its nodes: CPU and memory from /proc (nodes of this machine only), fsyncs from /metrics.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as _, FromArgMatches};

use super::Load;
use crate::cli::client::Client;
use crate::cli::dev::{Fleet, Options as DevOptions, port_owner, stop as stop_fleet};
use crate::cli::get;

/// Kernel ticks a second of /proc/PID/stat: USER_HZ, 100 on Linux everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// What is measured.
pub struct Target {
    /// Kafka addresses.
    pub bootstrap: String,
    /// A folder on the nodes' disk, if it is known.
    pub folder: Option<PathBuf>,
    nodes: Vec<Node>,
    own: Option<(Fleet, tempfile::TempDir)>,
}

struct Node {
    admin: String,
    pid: Option<u32>,
}

/// Sums over all nodes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// CPU seconds used so far.
    pub cpu_s: f64,
    /// Largest resident memory of one node, in MiB.
    pub rss_mib_max: f64,
    /// Fsyncs so far.
    pub fsyncs: f64,
}

impl Target {
    /// Starts a cluster, or looks at the one that runs.
    pub async fn open(load: &Load, bootstrap: &str) -> anyhow::Result<Self> {
        if load.dev { Self::start(load).await } else { Self::find(bootstrap).await }
    }

    async fn start(load: &Load) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("flotilla-bench-").tempdir_in(&load.data);
        let folder = folder.with_context(|| format!("cannot make a folder in {}", load.data.display()))?;
        let options = dev_options()?;
        let mut fleet = Fleet::new(&options, folder.path())?;
        if let Err(error) = fleet.ready().await {
            stop_fleet(fleet).await;
            return Err(error);
        }
        let nodes =
            fleet.members().into_iter().map(|member| Node { admin: member.admin, pid: Some(member.pid) }).collect();
        let (bootstrap, path) = (fleet.bootstrap(), folder.path().to_owned());
        Ok(Self { bootstrap, folder: Some(path), nodes, own: Some((fleet, folder)) })
    }

    async fn find(bootstrap: &str) -> anyhow::Result<Self> {
        let metadata = Client::new(bootstrap).metadata(Some(&[]), false).await?;
        let mut nodes = Vec::new();
        for broker in &metadata.brokers {
            let pid = u16::try_from(broker.port).ok().and_then(port_owner).map(|(pid, _)| pid);
            let admin = admin_of(broker.node_id, pid).await;
            nodes.push(Node { admin: admin.unwrap_or_default(), pid });
        }
        Ok(Self { bootstrap: bootstrap.to_owned(), folder: Some(PathBuf::from(".")), nodes, own: None })
    }

    /// A look at all nodes.
    pub async fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        for node in &self.nodes {
            if let Some(pid) = node.pid {
                sample.cpu_s += cpu_seconds(pid).unwrap_or(0.0);
                sample.rss_mib_max = sample.rss_mib_max.max(rss_mib(pid).unwrap_or(0.0));
            }
            if let Ok(page) = get(&node.admin, "/metrics").await {
                sample.fsyncs += counter(&page.body, "flotilla_fsync_seconds_count");
            }
        }
        sample
    }

    /// Stops and removes a throw-away cluster.
    pub async fn close(self) {
        if let Some((fleet, folder)) = self.own {
            stop_fleet(fleet).await;
            drop(folder);
        }
    }
}

/// The admin address of a node of this machine, as its own listener at the default distance tells it.
async fn admin_of(id: i32, pid: Option<u32>) -> Option<String> {
    pid?;
    let asked = std::env::var("FLOTILLA_ADMIN").unwrap_or_else(|_| "127.0.0.1:9640".to_owned());
    let nodes: Vec<crate::cli::node::Node> = get(&asked, "/v1/nodes").await.ok()?.json().ok()?;
    nodes.into_iter().find(|node| i64::from(node.id) == i64::from(id)).map(|node| node.admin)
}

/// Options of `flotilla dev` on ports that are free now.
fn dev_options() -> anyhow::Result<DevOptions> {
    const FIRST: u16 = 31_000;
    const LAST: u16 = 32_000;
    const PORTS: u16 = 9;
    let spread = (std::process::id() % 100) as u16 * PORTS;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let bases = (0..(LAST - FIRST) / PORTS).map(|turn| FIRST + (spread + turn * PORTS) % (LAST - FIRST - PORTS));
    let base = bases.into_iter().find(|base| (*base..base + PORTS).all(is_free)).context("no free ports")?;
    let command = DevOptions::augment_args(clap::Command::new("dev").no_binary_name(true));
    let ports = [("--kafka-port", base), ("--admin-port", base + 3), ("--peer-port", base + 6)];
    let arguments = ports.iter().flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()]);
    Ok(DevOptions::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn rss_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn counter(page: &str, name: &str) -> f64 {
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_sampled() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).is_some());
        assert!(rss_mib(pid).is_some_and(|mib| mib > 0.5));
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let page = "# TYPE flotilla_fsync_seconds histogram\nflotilla_fsync_seconds_sum 7.5\nflotilla_fsync_seconds_count 42\n";
        assert_eq!(counter(page, "flotilla_fsync_seconds_count"), 42.0);
    }
}
