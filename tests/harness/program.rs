//! A client program beside a test: told lines on its standard input, heard by lines. Dropped without [`Program::finish`] it ends at once.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running program; what it prints is shown.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { child, stdin, lines }
    }

    /// Its next line; None after the last.
    pub fn line(&mut self) -> Option<String> {
        let line = self.lines.next()?.expect("the program writes text");
        println!("{line}");
        Some(line)
    }

    /// Tells it a line, and gives the next line that it prints.
    pub fn ask(&mut self, line: &str) -> String {
        let stdin = self.stdin.as_mut().expect("its input is open until it is finished");
        writeln!(stdin, "{line}").expect("the program reads its input");
        self.line().expect("the program answers")
    }

    /// Ends its input, waits for its end, and checks that it succeeded; gives its last line.
    pub fn finish(mut self) -> String {
        let ended = self.child.try_wait().expect("the program can be waited for");
        assert!(ended.is_none(), "the program ended by itself: the rest would prove nothing");
        self.stdin = None;
        let mut last = String::new();
        while let Some(line) = self.line() {
            last = line;
        }
        let status = self.child.wait().expect("the program can be waited for");
        assert!(status.success(), "{last}");
        last
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended in good order.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
