//! Producers of the real franz-go client beside a test, and their verdict: every acknowledged record, read back at the end,
//! stands once at its acknowledged offset.

use std::process::Command;

use crate::program::Program;
use crate::{count, repository};

/// Producers at work. Dropped without [`Load::finish`], they end at once.
pub struct Load {
    program: Program,
    pub topic: String,
}

impl Load {
    /// Starts eight producers with acks=all; `rate` records a second each, 0 for as many as go. Returns after the first
    /// acknowledgement, or with None where Go is missing.
    pub fn start(bootstrap: &str, rate: u32) -> Option<Self> {
        let mut command = Command::new(repository().join("tests/clients/run"));
        command.args(["--failover", "franz-go", "--producers", "8", "--seconds", "0", "--rate", &rate.to_string()]);
        let mut program = Program::start(command.env("FLOTILLA_BOOTSTRAP", bootstrap).env("FLOTILLA_RF", "3"));
        let first = program.line().expect("the producers say that they have begun");
        if first.starts_with("skip ") {
            return None;
        }
        let topic = first.strip_prefix("producing ").unwrap_or_else(|| panic!("{first}")).to_owned();
        Some(Self { program, topic })
    }

    /// Ends producing, waits for the read-back, and checks it; gives the program's last line.
    pub fn finish(self) -> String {
        let last = self.program.finish();
        let acknowledged: usize = field(&last, "acked=").parse().expect("acked is a number");
        assert!(acknowledged > count(200, 1_000), "too few records to prove anything: {last}");
        assert_eq!(field(&last, "duplicates="), "0", "{last}");
        last
    }
}

/// What follows `name` in a line of `name=value` words.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}
