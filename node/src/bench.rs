//! `flotilla bench`: measures a running cluster, or with --dev a throw-away one, by the Kafka protocol.
//! Owns the load, the clocks and the report; every figure of a report comes from one run. Latency counts from the intended
//! send time. All of it runs on one thread, so that it takes one core at most; only the consumers of `catch-up` have one of their own.

mod beside;
mod catch_up;
mod cluster;
mod consume;
mod disk;
mod e2e;
mod failover;
mod flow;
mod histogram;
mod idle;
mod lane;
mod load;
mod meter;
mod payload;
mod produce;
mod rebalance;
mod report;
mod sample;
mod svg;
mod ticker;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::cli::client::{Client, Error, PATIENCE, Patience};
use crate::cli::{Bootstrap, Output, output};
use cluster::Target;
use load::Load;
use report::Report;

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
    /// Time from when a record should be sent to when a consumer has it, at a rate
    E2e(Load),
    /// What partitions cost that nobody uses
    Idle(Load),
    /// Kill the node that leads most, again and again, and time until its partitions acknowledge
    Failover(failover::Options),
    /// Let a fourth node join under a load, spread the replicas anew, and time what clients wait meanwhile
    Rebalance(Load),
    /// Write for some seconds, then read it all while producers go on at a rate, and time what these wait meanwhile
    CatchUp(Load),
    /// Append and sync, again and again
    #[command(hide = true)]
    Disk(disk::Disk),
}

/// Runs it and prints one report.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let load = match &options.verb {
        Verb::Disk(disk) => return disk::run(disk),
        Verb::Produce(load) | Verb::Consume(load) | Verb::E2e(load) | Verb::Idle(load) => load,
        Verb::Rebalance(load) | Verb::CatchUp(load) => load,
        Verb::Failover(failover) => &failover.load,
    };
    let mut target = Target::open(&load.place, &options.bootstrap.bootstrap).await?;
    let outcome = tokio::select! {
        outcome = Box::pin(measure(&options.verb, load, &mut target)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    target.close().await;
    let report = outcome?;
    if let Some(file) = &load.svg {
        std::fs::write(file, svg::draw(&report)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    output::print(options.output.output, &report, Report::table)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(verb: &Verb, load: &Load, target: &mut Target) -> anyhow::Result<Report> {
    let client = Client::new(&target.bootstrap);
    if matches!(verb, Verb::Idle(_)) {
        return idle::run(load, target, &client).await;
    }
    let topics = create(&client, load).await?;
    let outcome = match verb {
        Verb::Consume(_) => consume::run(load, target, &topics).await,
        Verb::E2e(_) => e2e::run(load, target, &topics).await,
        Verb::Rebalance(_) => rebalance::run(load, target, &topics).await,
        Verb::CatchUp(_) => catch_up::run(load, target, &topics).await,
        Verb::Failover(options) => failover::run(options, target, &topics).await,
        _ => produce::run(load, target, &topics).await,
    };
    remove(&client, &topics).await;
    outcome
}

/// A topic of the run.
#[derive(Clone, Debug)]
struct Topic {
    name: String,
    partitions: Vec<i32>,
}

impl Topic {
    /// Its partitions, each with the topic's name.
    fn places(&self) -> impl Iterator<Item = (String, i32)> {
        self.partitions.iter().map(|partition| (self.name.clone(), *partition))
    }
}

/// Creates the topics of a run and waits until every partition has a leader.
async fn create(client: &Client, load: &Load) -> anyhow::Result<Vec<Topic>> {
    let (run, shape) = (rand::random::<u32>(), &load.shape);
    let mut topics = Vec::new();
    for number in 1..=shape.topics {
        let name = format!("flotilla-bench-{run:08x}-{number}");
        client.create_topic(&name, (i32::try_from(shape.partitions)?, shape.replication), &shape.config).await?;
        topics.push(name);
    }
    let mut ready = Vec::new();
    for name in topics {
        let partitions = settled(client, &name).await?;
        ready.push(Topic { name, partitions });
    }
    Ok(ready)
}

/// The partitions of a topic that was just created: a broker may not have heard of it yet.
async fn settled(client: &Client, name: &str) -> anyhow::Result<Vec<i32>> {
    let mut patience = Patience::new(PATIENCE);
    loop {
        match client.partitions(name, false).await {
            Ok(partitions) => return Ok(partitions),
            Err(error @ Error::UnknownTopic(_)) => patience.pause(error).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn remove(client: &Client, topics: &[Topic]) {
    for topic in topics {
        if let Err(error) = client.delete_topic(&topic.name).await {
            tracing::warn!(topic = topic.name, %error, "the topic of the run could not be removed");
        }
    }
}
