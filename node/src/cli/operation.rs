//! `flotilla operation ls|watch|pause|resume|cancel`: long work that goes on in the cluster, whoever began it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use super::output::{Format, bytes, list, pairs, print, table, write};
use super::{Admin, Output, get, post};

/// Between two looks at an operation.
const LOOK: Duration = Duration::from_millis(300);
/// A node that does not answer is asked again so many times: another may be about to lead.
const TRIES: u32 = 20;
/// Characters of a progress bar.
const BAR: usize = 30;

/// Which node to ask, and what.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Those that go on, and the last that have ended
    Ls,
    /// Each move of one
    Describe {
        /// Its number
        id: u64,
    },
    /// Follow one to its end; exit code 1 if it ends otherwise than finished
    Watch {
        /// Its number
        id: u64,
    },
    /// Begin nothing new
    Pause {
        /// Its number
        id: u64,
    },
    /// Go on
    Resume {
        /// Its number
        id: u64,
    },
    /// End one; what is being copied goes back
    Cancel {
        /// Its number
        id: u64,
    },
}

/// An operation as `/v1/operations` gives it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Operation {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub kind: String,
    /// The node that it is about.
    pub node: Option<u32>,
    /// How it stands.
    pub state: String,
    /// When it was begun, ms since 1970.
    pub started_ms: i64,
    /// When it changed last, ms since 1970.
    pub changed_ms: i64,
    /// How much there is.
    pub total: u32,
    /// How much is done.
    pub finished: u32,
    /// Bytes to copy.
    pub bytes: u64,
    /// Bytes copied.
    pub bytes_done: u64,
    /// What it waits for, or how it ended.
    pub note: String,
    /// Its moves.
    #[serde(default)]
    pub moves: Vec<Move>,
}

/// A partition that moves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Move {
    /// Topic name.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Nodes before.
    pub from: Vec<u32>,
    /// Nodes afterwards.
    pub to: Vec<u32>,
    /// Bytes to copy.
    pub bytes: u64,
    /// How it stands.
    pub state: String,
    /// How much is copied.
    pub copied_percent: Option<u8>,
}

/// What a verb that begins something answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Begun {
    /// The operation, if there was something to do.
    pub operation: Option<u64>,
}

impl Operation {
    /// Whether it has ended, however.
    pub fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "running" | "paused")
    }

    fn what(&self) -> String {
        self.node.map_or_else(|| self.kind.clone(), |node| format!("{} of node {node}", self.kind))
    }
}

/// Runs it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let (address, format) = (&options.admin.admin, options.output.output);
    let (id, verb) = match options.verb {
        Verb::Ls => {
            let operations: Vec<Operation> = get(address, "/v1/operations").await?.json()?;
            print(format, &operations, |operations| show(operations))?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Describe { id } => {
            print(format, &look(address, id).await?, describe)?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Watch { id } => return watch(address, id, format).await,
        Verb::Pause { id } => (id, "pause"),
        Verb::Resume { id } => (id, "resume"),
        Verb::Cancel { id } => (id, "cancel"),
    };
    post(address, &format!("/v1/operations/{id}/{verb}"), &json!({})).await?.json::<serde_json::Value>()?;
    print(format, &look(address, id).await?, describe)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what was begun, and follows it if that is wanted.
pub async fn begun(address: &str, begun: &Begun, follow: bool, format: Format) -> anyhow::Result<ExitCode> {
    match begun.operation {
        Some(id) if follow => watch(address, id, format).await,
        _ => {
            print(format, begun, |begun| match begun.operation {
                Some(id) => format!("operation {id} has begun: flotilla operation watch {id}\n"),
                None => "nothing to do\n".to_owned(),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One of them.
pub async fn look(address: &str, id: u64) -> anyhow::Result<Operation> {
    get(address, &format!("/v1/operations/{id}")).await?.json()
}

/// One line that is written over again on a terminal, a line for each change elsewhere. An end of the program does not end it.
pub async fn watch(address: &str, id: u64, format: Format) -> anyhow::Result<ExitCode> {
    let (mut told, mut failures) = (String::new(), 0);
    let operation = loop {
        match look(address, id).await {
            Ok(operation) => {
                failures = 0;
                let line = progress(&operation);
                if format == Format::Table && line != told {
                    write(format!("{line}\n").as_bytes())?;
                    told = line;
                }
                if operation.is_over() {
                    break operation;
                }
            }
            Err(error) if failures >= TRIES => return Err(error),
            Err(_again) => failures += 1,
        }
        sleep(LOOK).await;
    };
    if format == Format::Json {
        print(format, &operation, describe)?;
    }
    match operation.state.as_str() {
        "finished" => Ok(ExitCode::SUCCESS),
        other => bail!("operation {id} is {other}: {}", operation.note),
    }
}

fn progress(operation: &Operation) -> String {
    let Operation { id, state, finished, total, .. } = operation;
    let full = if *total == 0 { BAR } else { *finished as usize * BAR / *total as usize };
    let bar = "#".repeat(full) + &".".repeat(BAR - full.min(BAR));
    let copied = if operation.bytes == 0 {
        String::new()
    } else {
        format!("  {} of {}", bytes(operation.bytes_done), bytes(operation.bytes))
    };
    let copying = operation.moves.iter().filter(|one| one.state == "copying");
    let copying: Vec<String> =
        copying.map(|one| format!("{}-{} {}%", one.topic, one.partition, one.copied_percent.unwrap_or(0))).collect();
    let line = format!(
        "operation {id}  {}  [{bar}] {finished}/{total}{copied}  {state}  {} {}",
        operation.what(),
        operation.note,
        copying.join(" ")
    );
    line.trim_end().to_owned()
}

pub(super) fn show(operations: &[Operation]) -> String {
    let row = |operation: &Operation| {
        [
            operation.id.to_string(),
            operation.what(),
            operation.state.clone(),
            format!("{}/{}", operation.finished, operation.total),
            format!("{} of {}", bytes(operation.bytes_done), bytes(operation.bytes)),
            operation.note.clone(),
        ]
    };
    table(["ID", "WHAT", "STATE", "DONE", "COPIED", "NOTE"], &operations.iter().map(row).collect::<Vec<_>>())
}

fn describe(operation: &Operation) -> String {
    let head = pairs(&[
        ("operation", operation.id.to_string()),
        ("what", operation.what()),
        ("state", operation.state.clone()),
        ("done", format!("{} of {}", operation.finished, operation.total)),
        ("copied", format!("{} of {}", bytes(operation.bytes_done), bytes(operation.bytes))),
        ("note", operation.note.clone()),
    ]);
    if operation.moves.is_empty() { head } else { head + "\n" + &moves(&operation.moves) }
}

/// A table of moves.
pub fn moves(moves: &[Move]) -> String {
    let row = |one: &Move| {
        let percent = one.copied_percent.map(|percent| format!(" {percent}%")).unwrap_or_default();
        let state = format!("{}{percent}", one.state);
        [format!("{}-{}", one.topic, one.partition), list(&one.from), list(&one.to), bytes(one.bytes), state]
    };
    table(["PARTITION", "FROM", "TO", "BYTES", "STATE"], &moves.iter().map(row).collect::<Vec<_>>())
}
