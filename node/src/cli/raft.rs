//! `flotilla raft ls|quorum|transfer`: the Raft groups of one node, and the controller's.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::leader::transfer;
use super::output::{Format, list, print, table};
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
    /// How far the members of the controller's group are
    Quorum,
    /// Hand the controller over to another of its voters
    Transfer {
        /// Its node
        #[arg(long)]
        to: u32,
    },
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
    let (address, format) = (&options.admin.admin, options.output.output);
    match options.verb {
        Verb::Ls => ls(address, format).await,
        Verb::Quorum => quorum(address, format).await,
        Verb::Transfer { to } => transfer(address, "/v1/controller/leader", Some(to), format).await,
    }
}

/// The controller's members as `/v1/quorum` gives them.
#[derive(Deserialize, Serialize)]
struct Quorum {
    leader: u32,
    term: u64,
    committed: u64,
    members: Vec<Member>,
}

#[derive(Deserialize, Serialize)]
struct Member {
    node: u32,
    votes: bool,
    matched: Option<u64>,
    heard_ms_ago: Option<u64>,
    is_caught_up: bool,
}

async fn quorum(address: &str, format: Format) -> anyhow::Result<ExitCode> {
    let quorum: Quorum = get(address, "/v1/quorum").await?.json()?;
    print(format, &quorum, |quorum| {
        let known = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let row = |member: &Member| {
            let role = match member {
                _ if member.node == quorum.leader => "leader",
                member if member.votes => "voter",
                _ => "learner",
            };
            let lag = member.matched.map(|matched| quorum.committed.saturating_sub(matched));
            [member.node.to_string(), role.to_owned(), known(member.matched), known(lag), known(member.heard_ms_ago)]
        };
        let rows: Vec<_> = quorum.members.iter().map(row).collect();
        format!("term {}, committed {}\n", quorum.term, quorum.committed)
            + &table(["NODE", "ROLE", "MATCHED", "LAG", "HEARD MS AGO"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn ls(address: &str, format: Format) -> anyhow::Result<ExitCode> {
    let groups: Vec<Group> = get(address, "/v1/rafts").await?.json()?;
    print(format, &groups, |groups| {
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
