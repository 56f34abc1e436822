//! One server process: started with a pipe whose end stops it, killed by a real SIGKILL, waited for.
//! Owns the process until it is reaped. Its log lines go to a file in the data folder, appended.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use tokio::process::{Child as Process, Command};
use tokio::sync::mpsc;

/// What a running child can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Kill,
    Stop,
}

/// The handle of a running child. Dropping it stops the child.
pub struct Child {
    /// Process id.
    pub pid: u32,
    orders: mpsc::UnboundedSender<Order>,
}

/// Told once, when the process is gone.
pub struct Exit {
    /// Node.
    pub id: u32,
    /// Which process, since a node may have had several.
    pub pid: u32,
    /// How it ended.
    pub status: std::io::Result<ExitStatus>,
}

impl Child {
    /// Starts `flotilla server` with `arguments`; its end is told to `exits`.
    pub fn spawn(
        id: u32,
        arguments: &[String],
        log: &Path,
        exits: mpsc::UnboundedSender<Exit>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let file = open_log(log)?;
        let process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start node {id}"))?;
        let pid = process.id().context("the process ended at once")?;
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(attend(id, pid, process, inbox, exits));
        Ok(Self { pid, orders })
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.orders.send(Order::Kill).ok();
    }

    /// Asks it to stop by closing its pipe.
    pub fn stop(&self) {
        self.orders.send(Order::Stop).ok();
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

async fn attend(
    id: u32,
    pid: u32,
    mut process: Process,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    exits: mpsc::UnboundedSender<Exit>,
) {
    let mut pipe = process.stdin.take();
    let mut open = true;
    let status = loop {
        tokio::select! {
            status = process.wait() => break status,
            order = inbox.recv(), if open => match order {
                Some(Order::Kill) => drop(process.start_kill()),
                Some(Order::Stop) => pipe = None,
                None => (open, pipe) = (false, None),
            },
        }
    };
    drop(pipe);
    drop(exits.send(Exit { id, pid, status }));
}
