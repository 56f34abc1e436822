//! Does the simulation find bugs? Plants each of `model::planted` in turn and runs seeds until a checker names a broken promise.
//! A run that ends without a verdict (the simulation itself failed) finds nothing, nor does a seed that fails without the bug.
//! Invariant: the table holds the lowest seed that finds the bug, however many processes ran at a time.

use std::process::ExitCode;

use futures::{StreamExt, stream};
use model::planted::Bug;
use tokio::time::Instant;

use crate::sweep;
use crate::trial::{Outcome, Trial};

/// Which bugs, and how long to look for each.
#[derive(clap::Args)]
pub struct Options {
    /// Seeds to try for each bug, at most.
    #[arg(long, default_value_t = 200)]
    seeds_max: u64,
    /// Only these bugs.
    #[arg(long, value_parser = parse_bug)]
    only: Vec<Bug>,
    /// Processes at a time; as many as there are cores by default.
    #[arg(long, default_value_t = sweep::cores())]
    jobs: usize,
}

/// Reads the name of a bug.
///
/// # Errors
/// No such bug, or no bug can be planted in this build.
pub fn parse_bug(name: &str) -> Result<Bug, String> {
    if !cfg!(feature = "planted") {
        return Err("this build can plant no bugs: build it with --features planted".to_owned());
    }
    Bug::named(name).ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("no bug has this name; there are {}", names.join(", "))
    })
}

/// Plants `bug` in this process.
pub fn plant(bug: Bug) {
    #[cfg(feature = "planted")]
    model::planted::plant(bug);
    #[cfg(not(feature = "planted"))]
    unreachable!("parse_bug lets no bug through, {} neither", bug.name());
}

/// What came of looking for one bug.
#[derive(Default)]
struct Hunt {
    /// The lowest seed that found it, and the name of the promise that broke.
    found: Option<(u64, String)>,
    /// Runs without a verdict, or of a seed that fails without the bug, too.
    void: u64,
}

/// Runs seeds with each bug, prints the table; fails unless every bug was found.
pub async fn run(options: Options) -> ExitCode {
    if !cfg!(feature = "planted") {
        println!("this build can plant no bugs: build it with --features planted");
        return ExitCode::FAILURE;
    }
    let bugs = if options.only.is_empty() { Bug::ALL } else { &options.only };
    println!("{:<24} {:>5}  {:<32} {:>7}", "bug", "seed", "found by", "seconds");
    let mut found = 0;
    for bug in bugs {
        let started = Instant::now();
        let hunt = hunt(*bug, options.seeds_max, options.jobs.max(1)).await;
        let seconds = started.elapsed().as_secs_f64();
        let (seed, promise) = hunt
            .found
            .as_ref()
            .map_or(("-".to_owned(), "nobody"), |(seed, promise)| (seed.to_string(), promise.as_str()));
        let void = if hunt.void == 0 { String::new() } else { format!("  {} void runs", hunt.void) };
        println!("{:<24} {seed:>5}  {promise:<32} {seconds:>7.1}{void}", bug.name());
        found += usize::from(hunt.found.is_some());
    }
    println!("{found} of {} found", bugs.len());
    if found == bugs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks for `bug` in the seeds from 1 on, in their order.
async fn hunt(bug: Bug, seeds_max: u64, jobs: usize) -> Hunt {
    let trial = |seed| async move { (seed, Trial::of(seed).planted(Some(bug)).run().await) };
    let mut ended = stream::iter((1..=seeds_max).map(trial)).buffered(jobs);
    let mut hunt = Hunt::default();
    while let Some((seed, outcome)) = ended.next().await {
        let Outcome::Ended(report) = outcome else {
            hunt.void += 1;
            continue;
        };
        let Some(promise) = report.promise() else { continue };
        if Trial::of(seed).run().await.promise().is_none() {
            hunt.found = Some((seed, promise.to_owned()));
            break;
        }
        hunt.void += 1;
    }
    hunt
}
