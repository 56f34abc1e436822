//! `flotilla leader transfer`: hand a partition over to another of its replicas.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::output::{Format, print};
use super::{Admin, Output, post};

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
    /// Hand a partition over; clients follow by themselves
    Transfer {
        /// Its topic
        topic: String,
        /// Its number
        partition: u32,
        /// Node of the new leader; else the preferred one
        #[arg(long)]
        to: Option<u32>,
    },
}

#[derive(Deserialize, Serialize)]
struct LedBy {
    node: u32,
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Verb::Transfer { topic, partition, to } = options.verb;
    let path = format!("/v1/topics/{topic}/partitions/{partition}/leader");
    transfer(&options.admin.admin, &path, to, options.output.output).await
}

/// Hands over what is at `path`.
pub async fn transfer(address: &str, path: &str, to: Option<u32>, format: Format) -> anyhow::Result<ExitCode> {
    let led: LedBy = post(address, path, &json!({ "node": to })).await?.json()?;
    print(format, &led, |led| format!("node {} leads\n", led.node))?;
    Ok(ExitCode::SUCCESS)
}
