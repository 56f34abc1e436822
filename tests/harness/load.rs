//! Producers of the real franz-go client beside a test, and their verdict: every acknowledged record, read back at the end,
//! stands once at its acknowledged offset.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::repository;

/// Producers at work. Dropped without [`Load::finish`], they end at once.
pub struct Load {
    program: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    pub topic: String,
}

impl Load {
    /// Starts eight producers with acks=all; `rate` records a second each, 0 for as many as go. Returns after the first
    /// acknowledgement, or with None where Go is missing.
    pub fn start(bootstrap: &str, rate: u32) -> Option<Self> {
        let mut program = Command::new(repository().join("tests/clients/run"))
            .args(["--failover", "franz-go", "--producers", "8", "--seconds", "0", "--rate", &rate.to_string()])
            .env("FLOTILLA_BOOTSTRAP", bootstrap)
            .env("FLOTILLA_RF", "3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/clients/run starts");
        let stdin = program.stdin.take();
        let lines = BufReader::new(program.stdout.take().expect("stdout is piped")).lines();
        let mut load = Self { program, stdin, lines, topic: String::new() };
        let first = load.line().expect("the producers say that they have begun");
        if first.starts_with("skip ") {
            return None;
        }
        load.topic = first.strip_prefix("producing ").unwrap_or_else(|| panic!("{first}")).to_owned();
        Some(load)
    }

    fn line(&mut self) -> Option<String> {
        let line = self.lines.next()?.expect("the producers write text");
        println!("{line}");
        Some(line)
    }

    /// Ends producing, waits for the read-back, and checks it; gives the program's last line.
    pub fn finish(mut self) -> String {
        let ended = self.program.try_wait().expect("the program can be waited for");
        assert!(ended.is_none(), "the producers ended by themselves: the rest would prove nothing");
        self.stdin = None;
        let mut last = String::new();
        while let Some(line) = self.line() {
            last = line;
        }
        let status = self.program.wait().expect("the program can be waited for");
        assert!(status.success(), "{last}");
        let acknowledged: u64 = field(&last, "acked=").parse().expect("acked is a number");
        assert!(acknowledged > 1_000, "too few records to prove anything: {last}");
        assert_eq!(field(&last, "duplicates="), "0", "{last}");
        last
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended in good order.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// What follows `name` in a line of `name=value` words.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}
