//! The cluster under measurement: a throw-away one of our own, or one that runs, ours or any that speaks Kafka's protocol.
//! Owns the children of the former, and the window of time in which things count.

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use clap::{Args as _, FromArgMatches};
use tokio::time::{Instant, sleep_until};

use super::load::Place;
use super::meter::{Counts, Interval, Meter};
use super::sample::{self, Memory, Node, Sample};
use crate::cli::client::Client;
use crate::cli::dev::{Fleet, Options as DevOptions, port_owner, stop as stop_fleet};
use crate::cli::get;

/// Every so often an interval ends.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is measured.
pub struct Target {
    /// Kafka addresses.
    pub bootstrap: String,
    /// A folder on the disk to measure, if it is known.
    pub disk: Option<PathBuf>,
    nodes: Vec<Node>,
    own: Option<(Fleet, tempfile::TempDir)>,
}

/// What a run used and counted.
pub struct Window {
    /// How long it took.
    pub seconds: f64,
    /// All of it.
    pub counts: Counts,
    /// By the second.
    pub intervals: Vec<Interval>,
    /// At the start and at the end.
    pub samples: (Sample, Sample),
    /// The most memory at the end of any interval.
    pub memory: Memory,
}

impl Target {
    /// Starts a cluster, or looks at the one that runs.
    pub async fn open(place: &Place, bootstrap: &str) -> anyhow::Result<Self> {
        if place.dev { Self::start(place).await } else { Self::find(place, bootstrap).await }
    }

    async fn start(place: &Place) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("flotilla-bench-").tempdir_in(&place.data);
        let folder = folder.with_context(|| format!("cannot make a folder in {}", place.data.display()))?;
        let mut fleet = Fleet::new(&dev_options(&place.set)?, folder.path())?;
        if let Err(error) = fleet.ready().await {
            stop_fleet(fleet).await;
            return Err(error);
        }
        let member = |member: crate::cli::dev::Member| Node { admin: Some(member.admin), pid: Some(member.pid) };
        let nodes = fleet.members().into_iter().map(member).collect();
        let (bootstrap, path) = (fleet.bootstrap(), folder.path().to_owned());
        Ok(Self { bootstrap, disk: Some(path), nodes, own: Some((fleet, folder)) })
    }

    async fn find(place: &Place, bootstrap: &str) -> anyhow::Result<Self> {
        let mut nodes: Vec<Node> = place.pid.iter().map(|pid| Node { admin: None, pid: Some(*pid) }).collect();
        if nodes.is_empty() {
            for broker in Client::new(bootstrap).metadata(Some(&[]), false).await?.brokers {
                let pid = u16::try_from(broker.port).ok().and_then(port_owner).map(|(pid, _)| pid);
                nodes.push(Node { admin: admin_of(broker.node_id, pid).await, pid });
            }
        }
        Ok(Self { bootstrap: bootstrap.to_owned(), disk: place.disk.clone(), nodes, own: None })
    }

    /// The nodes of a throw-away cluster.
    pub fn fleet(&mut self) -> Option<&mut Fleet> {
        self.own.as_mut().map(|(fleet, _)| fleet)
    }

    /// How many processes are looked at.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A look at all of them.
    pub async fn sample(&self) -> Sample {
        Sample::of(&self.nodes).await
    }

    /// Counts from now until `until` ends, an interval after the other.
    pub async fn observe(
        &self,
        meter: &Meter,
        until: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Window> {
        let before = self.sample().await;
        meter.start();
        let started = Instant::now();
        let (mut last, mut memory) = (started, before.memory);
        let mut until = pin!(until);
        loop {
            let ended = tokio::select! {
                outcome = &mut until => outcome.map(|()| true)?,
                () = sleep_until(last + INTERVAL) => false,
            };
            let now = Instant::now();
            // A short rest at the end would be a wild point of the curve.
            if !ended || now - last > INTERVAL / 2 {
                meter.cut(now - started, now - last);
                memory = memory.max(sample::memory(&self.nodes));
                last = now;
            }
            if ended {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let (counts, intervals) = meter.stop();
        let samples = (before, self.sample().await);
        Ok(Window { seconds, counts, intervals, memory: memory.max(samples.1.memory), samples })
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
fn dev_options(settings: &[String]) -> anyhow::Result<DevOptions> {
    const FIRST: u16 = 31_000;
    const LAST: u16 = 32_000;
    /// Of each kind, one for a node that joins later among them.
    const NODES: u16 = 4;
    const PORTS: u16 = 4 * NODES;
    let spread = (std::process::id() % 100) as u16 * PORTS;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let bases = (0..(LAST - FIRST) / PORTS).map(|turn| FIRST + (spread + turn * PORTS) % (LAST - FIRST - PORTS));
    let base = bases.into_iter().find(|base| (*base..base + PORTS).all(is_free)).context("no free ports")?;
    let command = DevOptions::augment_args(clap::Command::new("dev").no_binary_name(true));
    let ports = [
        ("--kafka-port", base),
        ("--admin-port", base + NODES),
        ("--peer-port", base + 2 * NODES),
        ("--amqp-port", base + 3 * NODES),
    ];
    let arguments = ports.iter().flat_map(|(flag, port)| [(*flag).to_owned(), port.to_string()]);
    let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]);
    Ok(DevOptions::from_arg_matches(&command.try_get_matches_from(arguments.chain(settings))?)?)
}
