//! `flotilla cluster info|health|can-stop|config|features`: one answer about all nodes. Health asks every node whether it serves.

mod config;
mod features;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::node::Node;
use super::output::{Format, list, pairs, print, table};
use super::{Admin, Output, get};
use crate::config::units::parse_duration;

const POLL: Duration = Duration::from_millis(200);

/// Which cluster to ask, and what.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Id, controller, nodes
    Info,
    /// Whether a node can stop and every partition keeps a majority in sync; exit code 1 and the list if not
    CanStop {
        /// Its id
        node: u32,
    },
    /// Whether every node serves and every partition has a leader; exit code 1 if not
    Health {
        /// Ask again until healthy
        #[arg(long, short)]
        wait: bool,
        /// How long to wait
        #[arg(long, default_value = "60s", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Settings of the cluster: get, set, unset, diff, history
    Config {
        #[command(subcommand)]
        verb: config::Verb,
    },
    /// What is switched for the whole cluster: ls, set, finalize
    Features {
        #[command(subcommand)]
        verb: features::Verb,
    },
}

/// What `/v1/cluster` says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cluster {
    /// The cluster's id.
    pub cluster_id: String,
    /// Who answered.
    pub node_id: u32,
    /// Who leads the controller.
    pub controller: Option<u32>,
    /// Topics.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// All nodes.
    pub nodes: Vec<Node>,
}

/// The outcome of a look at all nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Nothing is wrong.
    pub healthy: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Who leads the controller.
    pub controller: Option<u32>,
    /// Nodes that serve.
    pub nodes_ready: Vec<u32>,
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&options.admin.admin, options.output.output);
    match options.verb {
        Verb::Info => info(address, format).await,
        Verb::Config { verb } => config::run(address, verb, format).await,
        Verb::Features { verb } => features::run(address, verb, format).await,
        Verb::CanStop { node } => can_stop(address, node, format).await,
        Verb::Health { wait, timeout } => {
            let deadline = Instant::now() + if wait { timeout } else { Duration::ZERO };
            let mut health = look(address).await;
            while !health.healthy && Instant::now() < deadline {
                sleep(POLL).await;
                health = look(address).await;
            }
            print(format, &health, show_health)?;
            Ok(if health.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// What `/v1/nodes/N/can-stop` says.
#[derive(Deserialize, Serialize)]
struct CanStop {
    safe: bool,
    risks: Vec<Risk>,
}

#[derive(Deserialize, Serialize)]
struct Risk {
    topic: String,
    partition: i32,
    left: usize,
    needed: usize,
}

async fn can_stop(address: &str, node: u32, format: Format) -> anyhow::Result<ExitCode> {
    let answer: CanStop = get(address, &format!("/v1/nodes/{node}/can-stop")).await?.json()?;
    print(format, &answer, |answer| {
        if answer.safe {
            return format!("safe: node {node} can stop\n");
        }
        let row = |risk: &Risk| {
            [format!("{}-{}", risk.topic, risk.partition), risk.left.to_string(), risk.needed.to_string()]
        };
        let rows: Vec<_> = answer.risks.iter().map(row).collect();
        format!("unsafe: without node {node} these have no majority in sync\n")
            + &table(["PARTITION", "LEFT", "NEEDED"], &rows)
    })?;
    Ok(if answer.safe { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn info(address: &str, format: Format) -> anyhow::Result<ExitCode> {
    let cluster: Cluster = get(address, "/v1/cluster").await?.json()?;
    print(format, &cluster, |cluster| {
        let alive: Vec<u32> = cluster.nodes.iter().filter(|node| node.alive).map(|node| node.id).collect();
        pairs(&[
            ("cluster", cluster.cluster_id.clone()),
            ("controller", cluster.controller.map_or_else(|| "none".to_owned(), |id| format!("node {id}"))),
            ("nodes", format!("{} of {} alive ({})", alive.len(), cluster.nodes.len(), list(&alive))),
            ("topics", cluster.topics.to_string()),
            ("partitions", format!("{}, {} without a leader", cluster.partitions, cluster.leaderless)),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks one node for the list, then every node whether it serves.
pub async fn look(address: &str) -> Health {
    let mut health = Health { healthy: false, problems: Vec::new(), controller: None, nodes_ready: Vec::new() };
    let cluster: Cluster = match get(address, "/v1/cluster").await.and_then(|answer| answer.json()) {
        Ok(cluster) => cluster,
        Err(error) => {
            health.problems.push(format!("{error:#}"));
            return health;
        }
    };
    health.controller = cluster.controller;
    if cluster.controller.is_none() {
        health.problems.push("the controller has no leader".to_owned());
    }
    if cluster.leaderless > 0 {
        health.problems.push(format!("{} of {} partitions have no leader", cluster.leaderless, cluster.partitions));
    }
    for node in &cluster.nodes {
        match get(&node.admin, "/readyz").await {
            Ok(answer) if answer.status == 200 => health.nodes_ready.push(node.id),
            Ok(answer) => health.problems.push(format!("node {} is not ready: {}", node.id, answer.body.trim())),
            Err(error) => health.problems.push(format!("node {}: {error:#}", node.id)),
        }
    }
    health.healthy = health.problems.is_empty() && !cluster.nodes.is_empty();
    health
}

fn show_health(health: &Health) -> String {
    let mut text = pairs(&[
        ("healthy", if health.healthy { "yes" } else { "no" }.to_owned()),
        ("controller", health.controller.map_or_else(|| "none".to_owned(), |id| format!("node {id}"))),
        ("ready", list(&health.nodes_ready)),
    ]);
    for problem in &health.problems {
        text.push_str(&format!("problem     {problem}\n"));
    }
    text
}
