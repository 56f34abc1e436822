//! `flotilla rebalance plan|apply|status`: level what nodes carry.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::operation::{self, Begun, Move, Operation};
use super::output::{bytes, print, table};
use super::{Admin, Output, get, post};

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
    /// Show what would move, what would not and why, and what nodes carry before and after
    Plan {
        /// Only who leads: no byte is copied
        #[arg(long)]
        leaders: bool,
    },
    /// Plan anew and begin
    Apply {
        /// Only who leads: no byte is copied
        #[arg(long)]
        leaders: bool,
        /// Only show the plan
        #[arg(long)]
        dry_run: bool,
        /// Follow it to its end
        #[arg(long, short)]
        watch: bool,
    },
    /// The rebalances that go on
    Status,
}

/// A plan as `/v1/rebalance/plan` gives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    bytes: u64,
    moves: Vec<Move>,
    stays: Vec<Stay>,
    /// What nodes carry.
    pub nodes: Vec<Load>,
}

/// What does not move, and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stay {
    topic: String,
    partition: i32,
    why: String,
}

/// A node of a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Load {
    node: u32,
    replicas: usize,
    replicas_after: usize,
    /// Partitions that it leads.
    pub leaders: usize,
    leaders_after: usize,
    /// Bytes of its replicas.
    pub bytes: u64,
    bytes_after: u64,
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&options.admin.admin, options.output.output);
    match options.verb {
        Verb::Plan { leaders } | Verb::Apply { leaders, dry_run: true, .. } => {
            let asked = json!({ "leaders_only": leaders });
            let plan: Plan = post(address, "/v1/rebalance/plan", &asked).await?.json()?;
            print(format, &plan, show)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Apply { leaders, dry_run: false, watch } => {
            let asked = json!({ "leaders_only": leaders });
            let begun: Begun = post(address, "/v1/rebalance", &asked).await?.json()?;
            operation::begun(address, &begun, watch, format).await
        }
        Verb::Status => {
            let all: Vec<Operation> = get(address, "/v1/operations").await?.json()?;
            let open = |one: &&Operation| one.kind == "rebalance" && !one.is_over();
            let open: Vec<Operation> = all.iter().filter(open).cloned().collect();
            print(format, &open, |open| match open.is_empty() {
                true => "no rebalance goes on\n".to_owned(),
                false => operation::show(open),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(plan: &Plan) -> String {
    let load = |load: &Load| {
        [
            load.node.to_string(),
            format!("{} -> {}", load.replicas, load.replicas_after),
            format!("{} -> {}", load.leaders, load.leaders_after),
            format!("{} -> {}", bytes(load.bytes), bytes(load.bytes_after)),
        ]
    };
    let mut text = table(["NODE", "REPLICAS", "LEADERS", "BYTES"], &plan.nodes.iter().map(load).collect::<Vec<_>>());
    text += &format!("\n{} moves, {} to copy\n", plan.moves.len(), bytes(plan.bytes));
    if !plan.moves.is_empty() {
        text += &operation::moves(&plan.moves);
    }
    if !plan.stays.is_empty() {
        let stay = |stay: &Stay| [format!("{}-{}", stay.topic, stay.partition), stay.why.clone()];
        text += "\n";
        text += &table(["STAYS", "WHY"], &plan.stays.iter().map(stay).collect::<Vec<_>>());
    }
    text
}
