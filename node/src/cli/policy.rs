//! `flotilla policy ...`: arguments for all queues whose names match, which can change while the queues live.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use model::controller::topology::DEFAULT_VHOST;
use serde_json::{Value, json};

use super::output::{print, table};
use super::queue::{argument, shown};
use super::{Admin, Output, delete, get, post, segment};
use crate::broker::{PolicyDeclaration, PolicyReport, Scalar};

/// Which node to ask, and what about policies.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    /// Virtual host
    #[arg(long, global = true, default_value = DEFAULT_VHOST)]
    vhost: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All policies of the virtual host
    Ls,
    /// Make a policy, or change it
    Set {
        /// Its name
        name: String,
        /// The regular expression that a queue's name has to match somewhere
        pattern: String,
        /// What it sets, such as message-ttl=60000 or max-length=10000
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = argument)]
        definition: Vec<(String, Scalar)>,
        /// Of all that match the highest is the queue's
        #[arg(long, default_value_t, allow_hyphen_values = true)]
        priority: i32,
        /// all, queues, classic_queues, quorum_queues or streams
        #[arg(long, default_value = "all")]
        apply_to: String,
    },
    /// Delete a policy
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs a command about policies.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format, vhost) = (&*options.admin.admin, options.output.output, options.vhost);
    match options.verb {
        Verb::Ls => {
            let mut policies: Vec<PolicyReport> = get(address, "/v1/policies").await?.json()?;
            policies.retain(|report| report.policy.vhost == vhost);
            print(format, &policies, |policies| {
                let row = |PolicyReport { policy, queues }: &PolicyReport| {
                    let (name, pattern) = (policy.name.clone(), policy.pattern.clone());
                    let (priority, queues) = (policy.priority.to_string(), queues.to_string());
                    [name, pattern, policy.apply_to.clone(), priority, shown(&policy.definition), queues]
                };
                let head = ["POLICY", "PATTERN", "APPLIES TO", "PRIORITY", "DEFINITION", "QUEUES"];
                table(head, &policies.iter().map(row).collect::<Vec<_>>())
            })?;
        }
        Verb::Set { name, pattern, definition, priority, apply_to } => {
            let definition = definition.into_iter().collect();
            let wanted = PolicyDeclaration { vhost, name, pattern, apply_to, priority, definition };
            post(address, "/v1/policies", &json!(wanted)).await?.json::<Value>()?;
            print(format, &wanted, |wanted| format!("policy {} is there\n", wanted.name))?;
        }
        Verb::Delete { name } => {
            let path = format!("/v1/policies/{}", segment(&name));
            delete(address, &path, &json!({ "vhost": vhost })).await?.json::<Value>()?;
            print(format, &json!({ "name": name, "result": "deleted" }), |_| format!("deleted {name}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
