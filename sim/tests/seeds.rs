//! The simulation as every test run sees it: a sweep of seeds, every seed that ever failed, and the proof that a seed decides
//! everything. Runs the commands that a person would; `make test-long` sweeps more.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// Runs a command of the simulation; its output is shown if it fails.
fn succeeds(arguments: &[&str]) -> bool {
    let run = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output();
    let output = run.expect("the simulation starts");
    if !output.status.success() {
        println!("sim {}", arguments.join(" "));
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

#[test]
fn a_seed_decides_everything() {
    assert!(succeeds(&["determinism", "--seeds", "1..3"]), "a seed does not decide everything");
}

#[test]
fn a_sweep_of_seeds_keeps_every_promise() {
    let seeds = if std::env::var_os("FLOTILLA_LONG").is_some() { "1..500" } else { "1..60" };
    assert!(succeeds(&["run", "--seeds", seeds]), "make sim-seed SEED=N tells the story of a failed seed");
}

/// A line begins with the seed and, where the seed alone would not lead there again, the file of its schedule.
#[test]
fn seeds_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let list = include_str!("../seeds/failed.txt");
    let lines = list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(',').next());
    for line in lines {
        let (seed, file) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let file = folder.join(file).display().to_string();
        let schedule = if file.ends_with(".jsonl") { vec!["--schedule", &file] } else { Vec::new() };
        assert!(succeeds(&[&["seed", seed], schedule.as_slice()].concat()), "{line} fails again");
    }
}
