//! `flotilla node ls|drain|undrain|decommission|recommission|rm`: the nodes as one of them sees them, and taking things from them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::operation::{self, Begun, Move};
use super::output::{Format, print, table};
use super::{Admin, Output, delete, get, post};

/// Which node to ask, and what.
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
    /// All nodes
    Ls,
    /// Take all leaderships from a node, before it is stopped; refused if a partition would lose its majority
    Drain(Taking),
    /// Let a node lead again that was drained
    Undrain {
        /// Its id
        node: u32,
    },
    /// Take all replicas from a node, before it is removed; refused if one has no other place
    Decommission(Taking),
    /// Let a node hold replicas again that was decommissioned
    Recommission {
        /// Its id
        node: u32,
    },
    /// Take a decommissioned node that is dead out of the cluster's books; its data folder may not come back
    Rm {
        /// Its id
        node: u32,
        /// Only check
        #[arg(long)]
        dry_run: bool,
    },
}

/// What is taken from a node, and how.
#[derive(Debug, Args)]
struct Taking {
    /// Its id
    node: u32,
    /// Only check, and show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Follow it to its end
    #[arg(long, short)]
    watch: bool,
}

/// A node as `/v1/nodes` gives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Node {
    /// Node id.
    pub id: u32,
    /// Kafka address.
    pub kafka: String,
    /// HTTP address.
    pub admin: String,
    /// Address for the other nodes.
    pub peer: String,
    /// Failure domain.
    pub rack: Option<String>,
    /// Heartbeats arrive.
    pub alive: bool,
    /// Partitions it leads.
    pub leads: usize,
    /// Leads the controller.
    pub controller: bool,
    /// `serving`, `drained` or `leaving`.
    #[serde(default)]
    pub duty: String,
}

impl Node {
    /// What it is in the cluster, in a word.
    pub fn role(&self) -> &'static str {
        match (self.alive, self.controller) {
            (false, _) => "down",
            (true, true) => "controller",
            (true, false) => "member",
        }
    }
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&options.admin.admin, options.output.output);
    match options.verb {
        Verb::Ls => ls(address, format).await,
        Verb::Drain(taking) => take(address, "drain", &taking, format).await,
        Verb::Decommission(taking) => take(address, "decommission", &taking, format).await,
        Verb::Rm { node, dry_run } => {
            let answer = delete(address, &format!("/v1/nodes/{node}"), &json!({ "dry_run": dry_run })).await?;
            answer.json::<serde_json::Value>()?;
            print(format, &node, |node| match dry_run {
                true => format!("it can be done: removal of node {node}\n"),
                false => format!("node {node} is removed; with an empty data folder it may join again\n"),
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Undrain { node } | Verb::Recommission { node } => {
            let answer = post(address, &format!("/v1/nodes/{node}/recommission"), &json!({})).await?;
            answer.json::<serde_json::Value>()?;
            print(format, &node, |node| format!("node {node} serves\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Taken {
    #[serde(flatten)]
    begun: Begun,
    #[serde(default)]
    moves: Vec<Move>,
}

async fn take(address: &str, verb: &str, taking: &Taking, format: Format) -> anyhow::Result<ExitCode> {
    let Taking { node, dry_run, watch } = taking;
    let answer = post(address, &format!("/v1/nodes/{node}/{verb}"), &json!({ "dry_run": dry_run })).await?;
    let taken: Taken = answer.json()?;
    if !dry_run {
        return operation::begun(address, &taken.begun, *watch, format).await;
    }
    print(format, &taken, |taken| match taken.moves.is_empty() {
        true => format!("it can be done: {verb} of node {node}\n"),
        false => operation::moves(&taken.moves),
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn ls(address: &str, format: Format) -> anyhow::Result<ExitCode> {
    let nodes: Vec<Node> = get(address, "/v1/nodes").await?.json()?;
    print(format, &nodes, |nodes| {
        let row = |node: &Node| {
            [
                node.id.to_string(),
                node.role().to_owned(),
                node.kafka.clone(),
                node.admin.clone(),
                node.peer.clone(),
                node.rack.clone().unwrap_or_default(),
                node.leads.to_string(),
                node.duty.clone(),
            ]
        };
        table(
            ["NODE", "ROLE", "KAFKA", "ADMIN", "PEER", "RACK", "LEADS", "DUTY"],
            &nodes.iter().map(row).collect::<Vec<_>>(),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
