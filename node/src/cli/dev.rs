//! `flotilla dev`: a cluster of real processes on this machine, in one command. Owns the data folder and the children.
//! With a terminal a live view, otherwise (or with --plain) one JSON event a line, which scripts depend on.
//! Invariant: no child outlives this process: each watches a pipe that ends with it.

mod checker;
mod child;
mod fleet;
mod plain;
mod ports;
mod ready;
mod view;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::units::LogFormat;
use crate::telemetry;

pub use fleet::{Event, Fleet, Member, Order};
pub use ports::owner as port_owner;

/// How the cluster is made.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Nodes, each a process of its own
    #[arg(long, short = 'n', default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Folder for the data, kept from run to run
    #[arg(long, default_value = "flotilla-dev", conflicts_with = "ephemeral")]
    pub data: PathBuf,
    /// Keep nothing: a temporary folder, removed at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Kafka port of node 1; node i has the port i-1 above
    #[arg(long, default_value_t = 9092)]
    pub kafka_port: u16,
    /// AMQP port of node 1
    #[arg(long, default_value_t = 5672)]
    pub amqp_port: u16,
    /// HTTP port of node 1
    #[arg(long, default_value_t = 9640)]
    pub admin_port: u16,
    /// Port of node 1 for the other nodes
    #[arg(long, default_value_t = 9740)]
    pub peer_port: u16,
    /// Events as JSON lines instead of the live view; commands `kill ID`, `restart ID`, `stop` on standard input
    #[arg(long)]
    pub plain: bool,
    /// A setting for every node
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Starts the cluster, then follows commands until it is stopped.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    if std::env::var_os("RUST_LOG").is_some() {
        telemetry::start(LogFormat::Human, "info");
    }
    let plain = options.plain || !std::io::stdout().is_terminal();
    if let Err(busy) = ports::check(&options) {
        bail!("{busy}");
    }
    let home = Home::open(&options)?;
    let mut fleet = Fleet::new(&options, home.path())?;
    let result = if plain { plain::run(&mut fleet).await } else { view::run(&mut fleet, &options, &home).await };
    stop(fleet).await;
    drop(home);
    result.map(|()| ExitCode::SUCCESS)
}

/// Stops every node and waits for their end.
pub async fn stop(mut fleet: Fleet) {
    drop(fleet.order(Order::Stop));
    while fleet.next().await.is_some() {}
}

/// The data folder; a temporary one is removed when dropped.
pub enum Home {
    /// Named by the user.
    Kept(PathBuf),
    /// Made for this run.
    Temporary(tempfile::TempDir),
}

impl Home {
    /// Makes the folder.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        if options.ephemeral {
            let folder = tempfile::Builder::new().prefix("flotilla-dev-").tempdir();
            return Ok(Self::Temporary(folder.context("cannot make a temporary folder")?));
        }
        std::fs::create_dir_all(&options.data).with_context(|| format!("cannot make {}", options.data.display()))?;
        Ok(Self::Kept(std::path::absolute(&options.data)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}
