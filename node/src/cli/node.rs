//! `flotilla node ls`: the nodes as one of them sees them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::output::{print, table};
use super::{Admin, Output, get};

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
    let Verb::Ls = options.verb;
    let nodes: Vec<Node> = get(&options.admin.admin, "/v1/nodes").await?.json()?;
    print(options.output.output, &nodes, |nodes| {
        let row = |node: &Node| {
            [
                node.id.to_string(),
                node.role().to_owned(),
                node.kafka.clone(),
                node.admin.clone(),
                node.peer.clone(),
                node.rack.clone().unwrap_or_default(),
                node.leads.to_string(),
            ]
        };
        table(["NODE", "ROLE", "KAFKA", "ADMIN", "PEER", "RACK", "LEADS"], &nodes.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(ExitCode::SUCCESS)
}
