//! The deterministic world: a whole cluster in one process, where every run is a number.
//! `sim seed N` runs one world and tells its story; `sim run --seeds A..B` runs a process a seed, several at a time.
//! The product's node runs in here unchanged; only its seams (network, clock, disk) are ours.
#![deny(unsafe_code)]

mod checker;
mod clock;
mod cluster;
mod disk;
mod entropy;
mod fault;
mod history;
mod nemesis;
mod net;
mod probe;
mod sweep;
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
    Seed {
        /// The number that decides everything.
        seed: u64,
        /// Prints the verdict only.
        #[arg(long)]
        quiet: bool,
    },
    /// Runs a range of seeds, each in a process of its own.
    Run {
        /// First and last seed: `1..20`.
        #[arg(long, value_parser = sweep::parse_range)]
        seeds: (u64, u64),
        /// Processes at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Stops at the first failing seed.
        #[arg(long)]
        fail_fast: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Seed { seed, quiet } => one(seed, quiet),
        Command::Run { seeds, jobs, fail_fast } => sweep::run(seeds, jobs, fail_fast),
    }
}

fn one(seed: u64, quiet: bool) -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    }
    entropy::seed(seed);
    let history = world::run(seed);
    if !quiet {
        for line in history.story() {
            println!("{line}");
        }
        for (name, count) in &history.counts {
            println!("{count:>9} {name}");
        }
    }
    for violation in history.violations.iter().take(20) {
        println!("violated: {violation}");
    }
    let verdict = if history.violations.is_empty() { "ok" } else { "FAILED" };
    println!("{verdict} seed {seed} hash {:016x}", history.hash());
    if history.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
