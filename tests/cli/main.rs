//! End-to-end tests of the command line: the contract of `flotilla dev --plain`, the topic commands, configuration errors.

mod config;
mod dev;
mod topic;

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `flotilla` with these arguments and this standard input, to its end.
fn flotilla(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(harness::binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flotilla starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("flotilla reads its input");
    drop(stdin);
    child.wait_with_output().expect("flotilla ends")
}

/// The same, for a command that must succeed; gives its standard output.
fn ok(arguments: &[&str], input: &str) -> String {
    let output = flotilla(arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "flotilla {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("UTF-8")
}
