//! `flotilla bench`: measures a running cluster, or with --dev a throw-away one, by the Kafka protocol.
//! Owns the load, the clocks and the report; every figure of a report comes from one run. Latency counts from the intended send time.

mod cluster;
mod consume;
mod disk;
mod e2e;
mod histogram;
mod produce;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::client::Client;
use crate::cli::{Bootstrap, Output, output};
use crate::config::units::ByteSize;

/// Where to measure, and what.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write as much as the cluster takes, or at a rate
    Produce(Load),
    /// Write for some seconds, then read it all from the start
    Consume(Load),
    /// Time from sending a record to receiving it, at a rate
    E2e(Load),
    /// Append 1 MiB and sync, again and again
    #[command(hide = true)]
    Disk(disk::Disk),
}

/// The load.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Start a throw-away cluster of three nodes for this run
    #[arg(long)]
    pub dev: bool,
    /// With --dev: where its temporary folder is made
    #[arg(long, default_value = ".")]
    pub data: PathBuf,
    /// How long to measure, after one second of warm-up
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Bytes of one record batch
    #[arg(long, default_value = "16KiB")]
    pub batch: ByteSize,
    /// Bytes of one record
    #[arg(long, default_value = "1KiB")]
    pub record_size: ByteSize,
    /// all or 1; the cluster answers both when a majority has it on disk. Not 0: without an answer there is nothing to
    /// time, and what was lost would count as written
    #[arg(long, default_value = "all", value_parser = ["all", "1"])]
    pub acks: String,
    /// Topics, created for the run and removed after it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub topics: u32,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub partitions: u32,
    /// Replicas; -1 = the cluster's default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i16,
    /// Clients, each with a connection of its own to every node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: u32,
    /// Batches each client has on the way at once
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Records a second of all clients together; as fast as possible without
    #[arg(long)]
    pub rate: Option<u64>,
}

impl Load {
    /// Records that make a batch of about the wanted size.
    fn records_per_batch(&self) -> usize {
        (usize::from(self.batch) / usize::from(self.record_size).max(1)).max(1)
    }

    /// Bytes of each value, so that batch and records have the wanted size with their framing.
    fn value_bytes(&self) -> usize {
        const BATCH_HEADER: usize = 61;
        const RECORD_FRAMING: usize = 10;
        let share = usize::from(self.batch).saturating_sub(BATCH_HEADER) / self.records_per_batch();
        share.min(usize::from(self.record_size)).saturating_sub(RECORD_FRAMING).max(1)
    }

    fn acks_code(&self) -> i16 {
        if self.acks == "1" { 1 } else { -1 }
    }
}

/// Runs it and prints one report.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let format = options.output.output;
    let (verb, load) = match options.verb {
        Verb::Disk(disk) => return disk::run(&disk),
        Verb::Produce(load) => (Kind::Produce, load),
        Verb::Consume(load) => (Kind::Consume, load),
        Verb::E2e(load) => (Kind::E2e, load),
    };
    let mut target = cluster::Target::open(&load, &options.bootstrap.bootstrap).await?;
    let outcome = tokio::select! {
        outcome = Box::pin(measure(verb, &load, &mut target)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    target.close().await;
    let report = outcome?;
    output::print(format, &report, report::Report::table)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy)]
enum Kind {
    Produce,
    Consume,
    E2e,
}

async fn measure(kind: Kind, load: &Load, target: &mut cluster::Target) -> anyhow::Result<report::Report> {
    let client = Client::new(&target.bootstrap);
    let topics = create(&client, load).await?;
    let outcome = match kind {
        Kind::Produce => produce::run(load, target, &topics).await,
        Kind::Consume => consume::run(load, target, &topics).await,
        Kind::E2e => e2e::run(load, target, &topics).await,
    };
    for topic in &topics {
        if let Err(error) = client.delete_topic(&topic.name).await {
            tracing::warn!(topic = topic.name, %error, "the topic of the run could not be removed");
        }
    }
    outcome
}

/// A topic of the run.
#[derive(Clone, Debug)]
struct Topic {
    name: String,
    partitions: Vec<i32>,
}

async fn create(client: &Client, load: &Load) -> anyhow::Result<Vec<Topic>> {
    let run = rand::random::<u32>();
    let mut topics = Vec::new();
    for number in 1..=load.topics {
        let name = format!("flotilla-bench-{run:08x}-{number}");
        client.create_topic(&name, (i32::try_from(load.partitions)?, load.replication), &[]).await?;
        topics.push(name);
    }
    let mut ready = Vec::new();
    for name in topics {
        let partitions = client.partitions(&name, false).await?;
        ready.push(Topic { name, partitions });
    }
    Ok(ready)
}
