//! The simulation as every test run sees it: a sweep of seeds, every seed that ever failed, and the proof that a seed decides
//! everything (two processes, one hash). `make test-long` sweeps more.
#![forbid(unsafe_code)]

use std::process::Command;

/// Runs one seed in a process of its own; gives its success and its last line.
fn seed(seed: u64) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["seed", &seed.to_string(), "--quiet"])
        .output()
        .expect("the simulation starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdict = text.lines().last().map_or(errors.clone(), str::to_owned);
    if !output.status.success() {
        println!("{text}{errors}");
    }
    (output.status.success(), verdict)
}

#[test]
fn a_seed_decides_everything() {
    for number in [1, 2, 3] {
        let (first, second) = (seed(number).1, seed(number).1);
        assert_eq!(first, second, "two runs of seed {number} differ");
    }
}

#[test]
fn a_sweep_of_seeds_keeps_every_promise() {
    let last = if std::env::var_os("FLOTILLA_LONG").is_some() { 220 } else { 20 };
    let failed: Vec<u64> = (1..=last).filter(|number| !seed(*number).0).collect();
    assert!(failed.is_empty(), "failing seeds: {failed:?} (make sim-seed SEED=N tells the story)");
}

#[test]
fn seeds_that_once_failed_pass() {
    let list = include_str!("../seeds/failed.txt");
    let numbers = list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(',').next());
    for number in numbers.map(|number| number.trim().parse().expect("a line begins with its seed")) {
        assert!(seed(number).0, "seed {number} fails again");
    }
}
