//! `sim seed N`: one run, told as a story or as a report, with the files that somebody asked for.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use model::planted::Bug;

use crate::history::{History, operation};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::{entropy, mutants, nemesis, world};

/// Which run, and what of it is wanted.
#[derive(clap::Args)]
pub struct Options {
    /// The number that decides everything.
    seed: u64,
    /// Prints broken promises and the verdict only.
    #[arg(long)]
    quiet: bool,
    /// Prints one JSON object instead of the story.
    #[arg(long)]
    json: bool,
    /// Faults from this file instead of the seed's own.
    #[arg(long)]
    schedule: Option<PathBuf>,
    /// Writes the seed's own schedule to this file and runs nothing.
    #[arg(long)]
    write_schedule: Option<PathBuf>,
    /// Plants this bug first. Needs the feature `planted`.
    #[arg(long, value_parser = mutants::parse_bug)]
    planted: Option<Bug>,
    /// Writes what clients asked and were told to this file, a JSON object a line, as Jepsen's checkers read it.
    #[arg(long)]
    history: Option<PathBuf>,
    /// Writes every event that goes into the hash to this file.
    #[arg(long)]
    events: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// Files that cannot be read or written.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    options.planted.into_iter().for_each(mutants::plant);
    let seed = options.seed;
    let own = || Ok(nemesis::schedule(seed, world::NODES));
    let schedule = options.schedule.as_deref().map_or_else(own, Schedule::read)?;
    if let Some(path) = &options.write_schedule {
        schedule.write(path)?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        log.with_ansi(false).without_time().init();
    }
    let mut history = History::default();
    if let Some(path) = &options.events {
        let file = File::create(path).with_context(|| format!("events {}", path.display()))?;
        history = History::with_events(BufWriter::new(file));
    }
    entropy::seed(seed);
    let mut history = world::run(seed, &schedule, history);
    history.flush_events()?;
    if let Some(path) = &options.history {
        let file = File::create(path).with_context(|| format!("history {}", path.display()))?;
        operation::write_lines(&history.operations, BufWriter::new(file))?;
    }
    let report = Report::of(seed, &history);
    match () {
        () if options.json => println!("{}", serde_json::to_string(&report)?),
        () if options.quiet => verdict(&report),
        () => {
            println!("{}", schedule.summary());
            history.story().iter().for_each(|line| println!("{line}"));
            println!("{}", report.tables());
            verdict(&report);
        }
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(report: &Report) {
    report.violations.iter().for_each(|violation| println!("violated: {violation}"));
    println!("{}", report.verdict());
}
