//! The deterministic world: a whole cluster in one process, where every run is a number.
//! `sim seed N` runs one world and tells its story; the other commands run many, a process each.
//! The product's node runs in here unchanged; only its seams (network, clock, disk) are ours.
#![deny(unsafe_code)]

mod checker;
mod clock;
mod cluster;
mod coverage;
mod determinism;
mod disk;
mod entropy;
mod excuse;
mod fault;
mod history;
mod kernel;
mod lookout;
mod mutants;
mod nemesis;
mod net;
mod operator;
mod panics;
mod probe;
mod process;
mod report;
mod schedule;
mod seed;
mod shrink;
mod sweep;
mod trial;
mod workload;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the cluster in a simulated world.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed and tells what happened; the last line is the verdict, the seed and the hash of the history.
    Seed(seed::Options),
    /// Runs a range of seeds, each in a process of its own.
    Run(sweep::Options),
    /// Makes the fault schedule of a failing seed as short as it can be.
    Shrink(shrink::Options),
    /// Plants one bug after the other and counts the seeds until it is found. Needs the feature `planted`.
    Mutants(mutants::Options),
    /// Lists the scenarios of the nemesis with the cases of docs/simulation.md that they show.
    Scenarios,
    /// Runs each seed twice, in two processes, and names the first event that differs.
    Determinism {
        /// First and last seed: `1..3`.
        #[arg(long, value_parser = sweep::parse_range)]
        seeds: (u64, u64),
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Seed(options) => seed::run(&options),
        Command::Run(options) => many(async { Ok(sweep::run(options).await) }),
        Command::Shrink(options) => many(shrink::run(options)),
        Command::Mutants(options) => many(async { Ok(mutants::run(options).await) }),
        Command::Scenarios => {
            nemesis::every().for_each(|scenario| println!("{:<40} {:?}", scenario.name, scenario.cases));
            Ok(ExitCode::SUCCESS)
        }
        Command::Determinism { seeds } => many(async { Ok(determinism::run(seeds).await) }),
    }
}

/// For the commands that only start processes and wait for them.
fn many(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
