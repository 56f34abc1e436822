//! The command line: noun, then verb; one file per noun. Owns parsing, the runtime of a command and its exit code.
//! Tables for people, `-o json` for programs, errors on standard error with exit code 1 (2 for a bad command line).

pub mod check;
pub mod client;
pub mod cluster;
mod context;
pub mod dev;
pub mod group;
mod http;
pub mod leader;
pub mod node;
pub mod operation;
pub mod output;
pub mod partition;
mod policy;
pub mod queue;
pub mod raft;
pub mod rebalance;
pub mod server;
pub mod topic;
mod vhost;
mod whence;

use std::future::Future;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use http::{Response, delete, get, post, segment};
use output::Format;

use crate::bench;

/// Flotilla: one log, every client. A distributed queue cluster in one binary.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster of real processes on this machine
    Dev(dev::Options),
    /// Run one node
    Server(server::Options),
    /// Topics: ls, create, describe, alter, rm, produce, consume
    Topic(topic::Options),
    /// Queues: ls, describe, declare, bind, unbind, peek, purge, redrive, seek, delete
    Queue(queue::Options),
    /// Exchanges: ls, declare, bind, unbind, delete
    Exchange(queue::ExchangeOptions),
    /// Virtual hosts: ls, add, delete
    Vhost(vhost::Options),
    /// Policies of queues: ls, set, delete
    Policy(policy::Options),
    /// Consumer groups: ls, describe, reset, rebalance, remove, rm
    Group(group::Options),
    /// The cluster as a whole: info, health, can-stop, config, features
    Cluster(cluster::Options),
    /// Nodes: ls, drain, undrain, decommission, recommission, rm
    Node(node::Options),
    /// Replicas of a partition: describe, move
    Partition(partition::Options),
    /// Who leads: transfer
    Leader(leader::Options),
    /// Level what nodes carry: plan, apply, status
    Rebalance(rebalance::Options),
    /// Long work in the cluster: ls, describe, watch, pause, resume, cancel
    Operation(operation::Options),
    /// Raft groups of one node: ls, quorum, transfer
    Raft(raft::Options),
    /// Measure: produce, consume, e2e, idle
    Bench(bench::Options),
    /// Names for clusters: ls, add, use, rm
    Context(context::Options),
    /// Check a configuration file
    Check(check::Options),
    /// Print a completion script
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// How to reach a cluster by the Kafka protocol.
#[derive(Clone, Debug, Args)]
pub struct Bootstrap {
    /// Kafka addresses, with commas
    #[arg(long, short = 'b', env = "FLOTILLA_BOOTSTRAP", default_value_t = context::bootstrap(), global = true)]
    pub bootstrap: String,
}

/// How to reach a node's HTTP listener.
#[derive(Clone, Debug, Args)]
pub struct Admin {
    /// HTTP address of any node
    #[arg(long, env = "FLOTILLA_ADMIN", default_value_t = context::admin(), global = true)]
    pub admin: String,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// How to print
    #[arg(long, short = 'o', value_enum, default_value_t = Format::Table, global = true)]
    pub output: Format,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let chosen = context::choose();
    let cli = Cli::parse();
    // What asks no cluster runs whatever stands in the file of contexts.
    let asks_nobody = matches!(
        cli.command,
        Command::Dev(_) | Command::Server(_) | Command::Check(_) | Command::Completion { .. } | Command::Context(_)
    );
    let chosen = if asks_nobody { Ok(()) } else { chosen };
    match chosen.and_then(|()| run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(options) => on_runtime(dev::run(options)),
        Command::Server(options) => server::run(options),
        Command::Topic(options) => on_runtime(topic::run(options)),
        Command::Queue(options) => on_runtime(queue::run(options)),
        Command::Exchange(options) => on_runtime(queue::run_exchange(options)),
        Command::Vhost(options) => on_runtime(vhost::run(options)),
        Command::Policy(options) => on_runtime(policy::run(options)),
        Command::Group(options) => on_runtime(group::run(options)),
        Command::Cluster(options) => on_runtime(cluster::run(options)),
        Command::Node(options) => on_runtime(node::run(options)),
        Command::Partition(options) => on_runtime(partition::run(options)),
        Command::Leader(options) => on_runtime(leader::run(options)),
        Command::Rebalance(options) => on_runtime(rebalance::run(options)),
        Command::Operation(options) => on_runtime(operation::run(options)),
        Command::Raft(options) => on_runtime(raft::run(options)),
        Command::Bench(options) => on_one_thread(bench::run(options)),
        Command::Context(options) => context::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flotilla", &mut script);
            output::write(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a command to its end; what it leaves behind (a read of standard input) does not hold the process back.
fn on_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    to_its_end(tokio::runtime::Builder::new_multi_thread().worker_threads(2), command)
}

/// The same on this thread alone: a load generator that hands nothing from thread to thread measures less of itself.
fn on_one_thread(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    to_its_end(&mut tokio::runtime::Builder::new_current_thread(), command)
}

fn to_its_end(
    runtime: &mut tokio::runtime::Builder,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(Box::pin(command));
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests;
