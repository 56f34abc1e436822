//! Many seeds: a process each (process-global state would leak from run to run), a few at a time, a summary at the end.

use std::process::{Child, Command, ExitCode, Stdio};

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

/// Runs the seeds of the range; fails if one failed.
pub fn run((first, last): (u64, u64), jobs: usize, fail_fast: bool) -> ExitCode {
    let mut waiting = (first..=last).rev().collect::<Vec<_>>();
    let mut running: Vec<(u64, Child)> = Vec::new();
    let mut failed = Vec::new();
    let mut passed = 0;
    loop {
        while running.len() < jobs.max(1) && (failed.is_empty() || !fail_fast) {
            let Some(seed) = waiting.pop() else { break };
            running.push((seed, start(seed)));
        }
        if running.is_empty() {
            break;
        }
        let (seed, child) = running.remove(0);
        let output = child.wait_with_output().expect("a simulation can be waited for");
        print!("{}", String::from_utf8_lossy(&output.stdout));
        if output.status.success() {
            passed += 1;
        } else {
            failed.push(seed);
            println!("seed {seed}: {} (make sim-seed SEED={seed} tells the story)", output.status);
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(seed: u64) -> Child {
    let own = std::env::current_exe().expect("a process knows its own path");
    let arguments = ["seed".to_string(), seed.to_string(), "--quiet".to_string()];
    Command::new(own).args(arguments).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("a simulation starts")
}
