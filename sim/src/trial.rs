//! One run in a process of its own: process-global state would leak from run to run. Used by every command that runs many.
//! A trial that hangs is ended after `DEADLINE`; its outcome is then a failure like any other.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use model::planted::Bug;
use tokio::process::Command;

use crate::report::Report;

/// Real time that a run may take, on a machine that is busy with others.
const DEADLINE: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// The seed.
    pub seed: u64,
    /// A schedule instead of the seed's own.
    pub schedule: Option<PathBuf>,
    /// Where the events go.
    pub events: Option<PathBuf>,
    /// Further arguments of `sim seed`.
    pub options: Vec<String>,
}

/// How it ended.
pub enum Outcome {
    /// With a report.
    Ended(Report),
    /// Without one: the simulation itself failed. In words.
    Broken(String),
}

impl Trial {
    /// The run of `seed` with nothing changed.
    pub fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The same with a bug in it.
    pub fn planted(mut self, bug: Option<Bug>) -> Self {
        self.options.extend(bug.into_iter().flat_map(|bug| ["--planted".to_owned(), bug.name().to_owned()]));
        self
    }

    /// Runs it.
    pub async fn run(&self) -> Outcome {
        let own = std::env::current_exe().expect("a process knows its own path");
        let mut command = Command::new(own);
        command.args(["seed", &self.seed.to_string(), "--json"]).args(&self.options);
        for (option, path) in [("--schedule", &self.schedule), ("--events", &self.events)] {
            if let Some(path) = path {
                command.arg(option).arg(path);
            }
        }
        let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
        match tokio::time::timeout(DEADLINE, running).await {
            Ok(Ok(output)) => match serde_json::from_slice(&output.stdout) {
                Ok(report) => Outcome::Ended(report),
                Err(_) => Outcome::Broken(format!("{}: {}", output.status, first_panic(&output.stderr))),
            },
            Ok(Err(error)) => Outcome::Broken(format!("cannot be run: {error}")),
            Err(_) => Outcome::Broken(format!("no verdict within {} s", DEADLINE.as_secs())),
        }
    }
}

impl Outcome {
    /// What broke, by name; `None` if nothing did.
    pub fn promise(&self) -> Option<&str> {
        match self {
            Outcome::Ended(report) => report.promise(),
            Outcome::Broken(_) => Some("no verdict"),
        }
    }
}

/// The first panic names the cause; later ones are its echo.
fn first_panic(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let from = text.find("panicked at").unwrap_or_default();
    text[from..].lines().take(4).collect::<Vec<_>>().join(" | ")
}
