//! Makes the schedule of a failing seed as short as it can be while the same promise still breaks (delta debugging, Zeller 1999):
//! first halves, quarters and so on of its acts are left out, then what is left is made to last less long.
//! An act goes with its end, so no schedule on the way leaves the world broken. Every trial is a process of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::future::join_all;

use crate::nemesis;
use crate::schedule::{Act, Schedule};
use crate::trial::{Outcome, Trial};
use crate::world::NODES;

/// What is not shortened any more.
const LENGTH_MS_MIN: u64 = 10;

/// What to shrink.
#[derive(clap::Args)]
pub struct Options {
    /// The failing seed.
    seed: u64,
    /// A schedule to begin with instead of the seed's own.
    #[arg(long)]
    schedule: Option<PathBuf>,
    /// Where the shortest failing schedule goes; `shrunk-SEED.jsonl` by default.
    #[arg(long)]
    into: Option<PathBuf>,
    /// Trials at a time.
    #[arg(long, default_value_t = crate::sweep::cores())]
    jobs: usize,
    /// Further arguments of `sim seed`, such as a planted bug.
    #[arg(last = true)]
    options: Vec<String>,
}

struct Shrink {
    seed: u64,
    options: Vec<String>,
    jobs: usize,
    promise: String,
    trials: u64,
}

/// Shrinks, tells how far it came, and writes the result.
///
/// # Errors
/// Files that cannot be read or written.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Options { seed, schedule, into, jobs, options } = options;
    let own = || Ok(nemesis::schedule(seed, NODES));
    let schedule = schedule.as_deref().map_or_else(own, Schedule::read)?;
    let mut shrink = Shrink { seed, options, jobs: jobs.max(1), promise: String::new(), trials: 0 };
    let Some(promise) = shrink.breaks(&schedule.acts, 0).await else {
        println!("seed {seed} breaks no promise: there is nothing to shrink");
        return Ok(ExitCode::FAILURE);
    };
    println!("seed {seed} breaks {promise} with {} acts", schedule.acts.len());
    shrink.promise = promise;
    let acts = shrink.fewer(schedule.acts).await;
    let acts = shrink.shorter(acts).await;
    let into = into.unwrap_or_else(|| format!("shrunk-{seed}.jsonl").into());
    Schedule::new(acts.clone()).write(&into)?;
    acts.iter().for_each(|act| println!("{}", tell(act)));
    println!("{} acts are left after {} trials, in {}", acts.len(), shrink.trials, into.display());
    println!("sim seed {seed} --schedule {} {}", into.display(), shrink.options.join(" "));
    Ok(ExitCode::SUCCESS)
}

fn tell(act: &Act) -> String {
    let until = act.until_ms.map_or(String::new(), |until| format!(" until {:.3}s", until as f64 / 1000.0));
    format!("{:>9.3}s {}{until}", act.at_ms as f64 / 1000.0, act.fault)
}

impl Shrink {
    /// The promise that breaks with these acts.
    async fn breaks(&self, acts: &[Act], slot: usize) -> Option<String> {
        let path = trial_path(self.seed, slot);
        if let Err(error) = Schedule::new(acts.to_vec()).write(&path) {
            panic!("a trial needs its schedule: {error:#}");
        }
        let trial = Trial { schedule: Some(path.clone()), options: self.options.clone(), ..Trial::of(self.seed) };
        let outcome: Outcome = trial.run().await;
        drop(std::fs::remove_file(&path));
        outcome.promise().map(str::to_owned)
    }

    /// The first of the candidates that still breaks the promise; as many are tried at a time as there are jobs.
    async fn first(&mut self, candidates: Vec<Vec<Act>>) -> Option<Vec<Act>> {
        for some in candidates.chunks(self.jobs) {
            self.trials += some.len() as u64;
            let trials = some.iter().enumerate().map(|(slot, acts)| self.breaks(acts, slot));
            let broken = join_all(trials).await;
            let found = broken.iter().position(|broken| broken.as_ref() == Some(&self.promise));
            if let Some(found) = found {
                return Some(some[found].clone());
            }
        }
        None
    }

    /// Leaves out ever smaller pieces, until nothing can be left out.
    async fn fewer(&mut self, mut acts: Vec<Act>) -> Vec<Act> {
        let mut pieces = 2;
        while !acts.is_empty() {
            let length = acts.len().div_ceil(pieces);
            let without = |piece: usize| {
                let left_out = piece * length..(piece + 1) * length;
                acts.iter().enumerate().filter(|(at, _)| !left_out.contains(at)).map(|(_, act)| act.clone()).collect()
            };
            let candidates = (0..acts.len().div_ceil(length)).map(without).collect();
            match self.first(candidates).await {
                Some(fewer) => {
                    println!("{} acts, {} trials", fewer.len(), self.trials);
                    acts = fewer;
                    pieces = (pieces - 1).max(2);
                }
                None if length == 1 => break,
                None => pieces = (pieces * 2).min(acts.len()),
            }
        }
        acts
    }

    /// Halves how long each act lasts, as often as the promise still breaks.
    async fn shorter(&mut self, mut acts: Vec<Act>) -> Vec<Act> {
        for at in 0..acts.len() {
            while let Some(halved) = halved(&acts[at]) {
                let mut candidate = acts.clone();
                candidate[at] = halved;
                let Some(shorter) = self.first(vec![candidate]).await else { break };
                acts = shorter;
            }
        }
        acts
    }
}

/// The act, lasting half as long.
fn halved(act: &Act) -> Option<Act> {
    let length = act.until_ms?.saturating_sub(act.at_ms) / 2;
    (length >= LENGTH_MS_MIN).then(|| Act { until_ms: Some(act.at_ms + length), ..act.clone() })
}

fn trial_path(seed: u64, slot: usize) -> PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("flotilla-trial-{}-{seed}-{slot}.jsonl", std::process::id()))
}
