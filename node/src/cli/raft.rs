//! `flotilla raft ls`: the Raft groups of one node.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::output::{list, print, table};
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
    /// All groups with a replica on the node
    Ls,
}

/// A group as `/v1/rafts` gives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    /// Group number.
    pub group: u32,
    /// `controller` or `topic-partition`.
    pub name: String,
    /// The leader this replica knows.
    pub leader: Option<u32>,
    /// Raft term, which is the leader epoch.
    pub term: u64,
    /// What this replica is.
    pub role: String,
    /// Idle, without heartbeats of its own.
    #[serde(default)]
    pub asleep: bool,
    /// Last log index here.
    pub last_index: u64,
    /// Committed index known here.
    pub committed: u64,
    /// Applied index.
    pub applied: u64,
    /// Voting nodes.
    pub voters: Vec<u32>,
    /// Learning nodes.
    pub learners: Vec<u32>,
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Verb::Ls = options.verb;
    let groups: Vec<Group> = get(&options.admin.admin, "/v1/rafts").await?.json()?;
    print(options.output.output, &groups, |groups| {
        let row = |group: &Group| {
            [
                group.group.to_string(),
                group.name.clone(),
                group.role.clone(),
                if group.asleep { "yes" } else { "-" }.to_owned(),
                group.leader.map_or_else(|| "-".to_owned(), |id| id.to_string()),
                group.term.to_string(),
                group.last_index.to_string(),
                group.committed.to_string(),
                group.applied.to_string(),
                list(&group.voters),
                list(&group.learners),
            ]
        };
        let head =
            ["GROUP", "NAME", "ROLE", "ASLEEP", "LEADER", "TERM", "LAST", "COMMITTED", "APPLIED", "VOTERS", "LEARNERS"];
        table(head, &groups.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(ExitCode::SUCCESS)
}
