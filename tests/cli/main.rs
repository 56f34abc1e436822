//! End-to-end tests of the command line: the contract of `flotilla dev --plain`, the topic commands, configuration errors.

mod bench;
mod config;
mod context;
mod dev;
mod group;
mod queue;
mod topic;

use std::process::{Command, Output};

/// Runs `flotilla` with these arguments and this standard input, to its end.
fn flotilla(arguments: &[&str], input: &str) -> Output {
    harness::feed(Command::new(harness::binary()).args(arguments), input)
}

/// The same, for a command that must succeed; gives its standard output.
fn ok(arguments: &[&str], input: &str) -> String {
    let output = flotilla(arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "flotilla {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("UTF-8")
}
