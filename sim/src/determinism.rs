//! Whether a seed decides everything: each runs twice, in two processes, and the logs of all events must be equal.
//! A difference is named by its first event, with what came before it; everything after is its consequence.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::trial::{Outcome, Trial};

/// Events shown before the first that differs.
const BEFORE: usize = 5;

/// Runs each seed twice; fails if two runs differ.
pub async fn run((first, last): (u64, u64)) -> ExitCode {
    let mut equal = true;
    for seed in first..=last {
        let logs = ["a", "b"].map(|run| log_path(seed, run));
        let (one, other) = tokio::join!(trial(seed, &logs[0]), trial(seed, &logs[1]));
        let difference = one.and_then(|one| Ok((one, other?))).and_then(|(one, other)| {
            let difference = first_difference(&logs[0], &logs[1])?;
            Ok((one != other).then(|| format!("hashes {one} and {other}")).into_iter().chain(difference).last())
        });
        match difference {
            Ok(None) => println!("seed {seed}: two runs, the same events"),
            Ok(Some(difference)) => {
                equal = false;
                println!("seed {seed}: two runs differ\n{difference}");
            }
            Err(error) => {
                equal = false;
                println!("seed {seed}: {error:#}");
            }
        }
        logs.iter().for_each(|log| drop(std::fs::remove_file(log)));
    }
    if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn log_path(seed: u64, run: &str) -> PathBuf {
    std::env::temp_dir().join(format!("flotilla-events-{}-{seed}-{run}", std::process::id()))
}

async fn trial(seed: u64, events: &Path) -> anyhow::Result<String> {
    match (Trial { events: Some(events.to_owned()), ..Trial::of(seed) }).run().await {
        Outcome::Ended(report) => Ok(report.hash),
        Outcome::Broken(words) => anyhow::bail!("no verdict: {words}"),
    }
}

/// The first line that differs between two files, in words.
fn first_difference(one: &Path, other: &Path) -> anyhow::Result<Option<String>> {
    let lines = |path| anyhow::Ok(BufReader::new(File::open(path)?).lines());
    let (mut one, mut other) = (lines(one)?, lines(other)?);
    let mut before: Vec<String> = Vec::new();
    for number in 1_u64.. {
        let (left, right) = (one.next().transpose()?, other.next().transpose()?);
        if left == right {
            let Some(line) = left else { return Ok(None) };
            before.push(line);
            if before.len() > BEFORE {
                before.remove(0);
            }
            continue;
        }
        let ended = || "(the run had ended)".to_owned();
        let (left, right) = (left.unwrap_or_else(ended), right.unwrap_or_else(ended));
        let before = before.iter().map(|line| format!("  both: {line}\n")).collect::<String>();
        return Ok(Some(format!("{before}first different event, number {number}:\n  one:   {left}\n  other: {right}")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let paths = ["x", "y"].map(|run| log_path(0, run));
        let compare = |one: &str, other: &str| {
            std::fs::write(&paths[0], one).unwrap();
            std::fs::write(&paths[1], other).unwrap();
            first_difference(&paths[0], &paths[1]).unwrap()
        };
        assert_eq!(compare("a\nb\n", "a\nb\n"), None);
        let text = compare("a\nb\nc\n", "a\nd\nc\n").unwrap();
        assert!(text.contains("number 2") && text.contains("one:   b") && text.contains("other: d"), "{text}");
        assert!(compare("a\n", "a\nb\n").unwrap().contains("the run had ended"));
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}
