//! Many seeds: a process each, as many at a time as asked, progress while they run and the sums at the end.
//! Lines of seeds come in the order in which they end.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use model::planted::Bug;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::report::Report;
use crate::trial::{Outcome, Trial};
use crate::{coverage, mutants};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(20);

/// Reads `A..B` as the first and the last seed.
///
/// # Errors
/// Anything that is not two numbers in order.
pub fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").ok_or("a range is written FIRST..LAST")?;
    let first = first.parse::<u64>().map_err(|error| error.to_string())?;
    let last = last.trim_start_matches('=').parse::<u64>().map_err(|error| error.to_string())?;
    if first <= last { Ok((first, last)) } else { Err(format!("{first} is above {last}")) }
}

/// How to sweep.
#[derive(clap::Args)]
pub struct Options {
    /// First and last seed: `1..20`.
    #[arg(long, value_parser = parse_range)]
    seeds: (u64, u64),
    /// Processes at a time; as many as there are cores by default.
    #[arg(long, default_value_t = cores())]
    jobs: usize,
    /// Stops at the first failing seed.
    #[arg(long)]
    fail_fast: bool,
    /// Fails unless every situation of the list was reached: for sets of seeds that are large enough.
    #[arg(long)]
    sometimes: bool,
    /// Plants this bug in every run. Needs the feature `planted`.
    #[arg(long, value_parser = mutants::parse_bug)]
    planted: Option<Bug>,
}

/// How many processes run well at a time here.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

struct Sweep {
    seeds: u64,
    passed: u64,
    failed: Vec<u64>,
    sums: Report,
    started: Instant,
    told: Instant,
}

/// Runs the seeds; fails if one failed.
pub async fn run(options: Options) -> ExitCode {
    let (first, last) = options.seeds;
    let now = Instant::now();
    let (sums, failed) = (Report::default(), Vec::new());
    let mut sweep = Sweep { seeds: last - first + 1, passed: 0, failed, sums, started: now, told: now };
    let (mut waiting, mut running) = (first..=last, JoinSet::new());
    loop {
        while running.len() < options.jobs.max(1) && (sweep.failed.is_empty() || !options.fail_fast) {
            let Some(seed) = waiting.next() else { break };
            let trial = Trial::of(seed).planted(options.planted);
            running.spawn(async move { (seed, trial.run().await) });
        }
        let Some(ended) = running.join_next().await else { break };
        let (seed, outcome) = ended.expect("a trial never panics");
        sweep.ended(seed, outcome);
    }
    sweep.summary();
    let missed = sweep.missed();
    let unmet = options.sometimes && !missed.is_empty();
    if sweep.failed.is_empty() && !unmet { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sweep {
    fn ended(&mut self, seed: u64, outcome: Outcome) {
        match outcome {
            Outcome::Ended(report) if report.violations.is_empty() => {
                self.passed += 1;
                self.sums.add(&report);
                println!("{}", report.verdict());
            }
            Outcome::Ended(report) => {
                self.failed.push(seed);
                self.sums.add(&report);
                report.violations.iter().for_each(|violation| println!("violated: {violation}"));
                println!("{} (make sim-seed SEED={seed} tells the story)", report.verdict());
            }
            Outcome::Broken(words) => {
                self.failed.push(seed);
                println!("FAILED seed {seed} without a verdict: {words}");
            }
        }
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let done = self.passed + self.failed.len() as u64;
            eprintln!("{done} of {} seeds, {} failed, {}", self.seeds, self.failed.len(), self.speed());
        }
    }

    fn speed(&self) -> String {
        let simulated = self.sums.simulated_ms as f64 / 1000.0;
        let wall = self.started.elapsed().as_secs_f64();
        format!("{simulated:.0} simulated s in {wall:.0} s: {:.1} a second", simulated / wall)
    }

    fn missed(&self) -> BTreeSet<&'static str> {
        let reached = |name: &&str| self.sums.counts.contains_key(*name);
        coverage::SOMETIMES.iter().copied().filter(|name| !reached(name)).collect()
    }

    fn summary(&self) {
        println!("{}", self.sums.tables());
        let faults: u64 = self.sums.coverage.faults.values().sum();
        println!("{:.2} simulated hours, {faults} faults, {}", self.sums.simulated_ms as f64 / 3.6e6, self.speed());
        let missed = self.missed();
        let reached = coverage::SOMETIMES.len() - missed.len();
        println!("situations: {reached} of {} reached, missing {missed:?}", coverage::SOMETIMES.len());
        println!("{} passed, {} failed {:?}", self.passed, self.failed.len(), self.failed);
    }
}
