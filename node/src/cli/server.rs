//! `flotilla server`: one node in this process until SIGTERM, SIGINT or the end of its parent.
//! Owns the real seams and the runtime; everything else is `node::run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::{check, output};
use crate::config::load::{Loaded, Sources, load};
use crate::config::settings::Settings;
use crate::config::units::Raw;
use crate::seams::{Rocks, Seams, Stop};
use crate::telemetry;

/// Flags of the server; every setting can also be given by file, by `FLOTILLA__SECTION__KEY` and by `--set`.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Configuration file (TOML)
    #[arg(long, short = 'c')]
    config: Option<PathBuf>,
    /// This node's number, 1 or more, unique in the cluster
    #[arg(long)]
    node_id: Option<String>,
    /// Folder that holds everything this node keeps
    #[arg(long)]
    data: Option<String>,
    /// Kafka listener
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// Listener for the other nodes
    #[arg(long, value_name = "ADDR")]
    peer: Option<String>,
    /// HTTP listener
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// AMQP listener; empty: none
    #[arg(long, value_name = "ADDR")]
    amqp: Option<String>,
    /// Peer addresses to find the cluster through, with commas
    #[arg(long)]
    seeds: Option<String>,
    /// Founders of a new cluster
    #[arg(long, value_name = "N")]
    bootstrap_expect: Option<String>,
    /// Allow public addresses although clients are not authenticated
    #[arg(long)]
    insecure: bool,
    /// human or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other setting
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the effective configuration with the source of each value, and end
    #[arg(long)]
    print_config: bool,
    /// Stop when standard input ends: the parent holds the other end
    #[arg(long, hide = true)]
    parent_pipe: bool,
}

impl Options {
    fn sources(&self) -> anyhow::Result<Sources> {
        let file = self.config.as_deref().map(check::read).transpose()?;
        let insecure = self.insecure.then(|| "true".to_owned());
        let flags = [
            ("--node-id", "node_id", &self.node_id),
            ("--data", "data", &self.data),
            ("--kafka", "listeners.kafka", &self.kafka),
            ("--peer", "listeners.peer", &self.peer),
            ("--admin", "listeners.admin", &self.admin),
            ("--amqp", "listeners.amqp", &self.amqp),
            ("--seeds", "seeds", &self.seeds),
            ("--bootstrap-expect", "bootstrap_expect", &self.bootstrap_expect),
            ("--log-format", "log.format", &self.log_format),
            ("--insecure", "insecure", &insecure),
        ];
        let given = flags.into_iter().filter_map(|(flag, key, value)| {
            value.as_ref().map(|value| (flag.to_owned(), key, Raw::Text(value.clone())))
        });
        Ok(Sources {
            file,
            variables: std::env::vars().collect(),
            flags: given.collect(),
            assignments: self.set.clone(),
        })
    }
}

/// Loads, then runs until told to stop.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let loaded: Loaded = load(&options.sources()?)?;
    if options.print_config {
        output::write(loaded.print().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Settings { node, log_format, log_level, workers } = loaded.settings;
    telemetry::start(log_format, &log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers as usize).enable_all().build()?;
    let (seams, data) = (Seams::real(), node.data.clone());
    let result = runtime.block_on(async {
        let (stopper, stop) = Stop::channel();
        let watch = tokio::spawn(async move {
            let reason = stop_reason(options.parent_pipe).await;
            tracing::info!(reason, "stopping");
            stopper.stop();
        });
        let result = Box::pin(crate::run(node, seams, async move { stop.stopped().await })).await;
        watch.abort();
        result
    });
    runtime.shutdown_background();
    if !Rocks::wait_closed(&data) {
        tracing::warn!("the store is still open at the end of the process");
    }
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for a reason to stop.
async fn stop_reason(parent_pipe: bool) -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return "signals cannot be watched";
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = parent_gone(), if parent_pipe => "the parent ended",
    }
}

/// Ends when standard input does.
async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while stdin.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}
