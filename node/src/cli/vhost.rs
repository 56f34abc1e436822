//! `flotilla vhost ...`: virtual hosts, which keep the queues and exchanges of one use apart from those of another.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{print, table};
use super::{Admin, Output, delete, get, post, segment};
use crate::broker::VhostReport;

/// Which node to ask, and what about virtual hosts.
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
    /// All virtual hosts
    Ls,
    /// Make a virtual host
    Add {
        /// Its name
        name: String,
    },
    /// Delete a virtual host with its queues, their messages, and its exchanges; its connections end
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs a command about virtual hosts.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&*options.admin.admin, options.output.output);
    match options.verb {
        Verb::Ls => {
            let vhosts: Vec<VhostReport> = get(address, "/v1/vhosts").await?.json()?;
            print(format, &vhosts, |vhosts| {
                let row = |one: &VhostReport| [one.name.clone(), one.queues.to_string(), one.exchanges.to_string()];
                table(["VHOST", "QUEUES", "EXCHANGES"], &vhosts.iter().map(row).collect::<Vec<_>>())
            })?;
        }
        Verb::Add { name } => {
            post(address, "/v1/vhosts", &json!({ "name": name })).await?.json::<Value>()?;
            print(format, &json!({ "name": name }), |_| format!("virtual host {name} is there\n"))?;
        }
        Verb::Delete { name } => {
            delete(address, &format!("/v1/vhosts/{}", segment(&name)), &json!({})).await?.json::<Value>()?;
            print(format, &json!({ "name": name, "result": "deleted" }), |_| format!("deleted {name}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
