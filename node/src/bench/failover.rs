//! `bench failover`: SIGKILL for the node that leads most, round after round, under a load at a rate; times until each partition that
//! it led has acknowledged a record that was due after the kill. Owns the rounds.
//! Invariant: a node is killed only while all of a throw-away cluster's nodes serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Target;
use super::flow::Flow;
use super::histogram::Histogram;
use super::load::Load;
use super::meter::Meter;
use super::report::{Report, Special, round};
use super::{Topic, produce};
use crate::cli::client::Client;
use crate::cli::dev::{Event, Fleet, Order};

/// Requests of each client that may wait for a leader, so that the dead node's partitions do not hold up the others.
const IN_FLIGHT_MIN: u32 = 5_000;
/// A round that takes longer failed.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Between a node's return and the next kill: its replicas take in what they have missed.
const REST: Duration = Duration::from_secs(4);

/// A failover measurement.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Kills
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    #[command(flatten)]
    pub load: Load,
}

/// How long partitions stood still.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Failover {
    /// Kills.
    pub rounds: u32,
    /// The fewest partitions that a killed node led.
    pub led_min: usize,
    /// All partitions of all rounds: median from the kill to an acknowledged record that was due after it.
    pub partition_p50_ms: f64,
    /// The slowest partition of each round, median of the rounds.
    pub round_p50_ms: f64,
    /// The same, 99% of the rounds.
    pub round_p99_ms: f64,
}

/// Runs it.
pub async fn run(options: &Options, target: &mut Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let mut load = options.load.clone();
    load.pace.in_flight = load.pace.in_flight.max(IN_FLIGHT_MIN);
    let meter = Arc::new(Meter::default());
    let mut flow = produce::start(&load, Some(load.pace.rate.unwrap_or(2_000)), target, topics, &meter)?;
    sleep(Duration::from_secs(load.pace.warm_up)).await;
    let client = Client::new(&target.bootstrap);
    let fleet = target.fleet().context("failover kills nodes: only with --dev")?;
    let (mut partitions, mut slowest, mut led_min) = (Histogram::default(), Histogram::default(), usize::MAX);
    for _ in 0..options.rounds {
        let (victim, led) = most_leading(&client, topics).await?;
        let times = one_round(fleet, victim, led, (&meter, &mut flow)).await?;
        led_min = led_min.min(times.len());
        times.iter().for_each(|time| partitions.record(*time, 1));
        slowest.record(times.into_iter().max().unwrap_or_default(), 1);
        sleep(REST).await;
    }
    let failover = Failover {
        rounds: options.rounds,
        led_min,
        partition_p50_ms: round(partitions.quantile_ms(0.5)),
        round_p50_ms: round(slowest.quantile_ms(0.5)),
        round_p99_ms: round(slowest.quantile_ms(0.99)),
    };
    let retries = flow.stop().await;
    Ok(Report {
        bench: "failover",
        settings: (&load).into(),
        special: Some(Special::Failover(failover)),
        retries,
        ..Report::default()
    })
}

/// The node that leads the most partitions of the run, and their places in the load's list.
async fn most_leading(client: &Client, topics: &[Topic]) -> anyhow::Result<(u32, BTreeSet<usize>)> {
    let mut led: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    let mut place = 0;
    for topic in topics {
        let answer = client.metadata(Some(&[&topic.name]), false).await?;
        let partitions = answer.topics.first().map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        for partition in &topic.partitions {
            let leader =
                partitions.iter().find(|found| found.partition_index == *partition).map(|found| found.leader_id);
            if let Some(leader) = leader.and_then(|leader| u32::try_from(leader).ok()) {
                led.entry(leader).or_default().insert(place);
            }
            place += 1;
        }
    }
    led.into_iter().max_by_key(|(_, places)| places.len()).context("nobody leads")
}

async fn one_round(
    fleet: &mut Fleet,
    victim: u32,
    led: BTreeSet<usize>,
    (meter, flow): (&Meter, &mut Flow),
) -> anyhow::Result<Vec<Duration>> {
    fleet.order(Order::Kill(victim)).map_err(anyhow::Error::msg)?;
    meter.expect(Instant::now(), led);
    let back = async {
        loop {
            if let Some(times) = meter.all_back() {
                return times;
            }
            sleep(POLL).await;
        }
    };
    let times = tokio::select! {
        times = timeout(PATIENCE, back) => times.context("partitions stand still")?,
        error = flow.failure() => return Err(error),
    };
    expect(fleet, |event| matches!(event, Event::Killed { .. })).await?;
    fleet.order(Order::Restart(victim)).map_err(anyhow::Error::msg)?;
    expect(fleet, |event| matches!(event, Event::Restarted { .. })).await?;
    Ok(times)
}

async fn expect(fleet: &mut Fleet, wanted: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
    match timeout(PATIENCE, fleet.next()).await.context("a node does not come back")? {
        Some(event) if wanted(&event) => Ok(()),
        event => bail!("unexpected: {event:?}"),
    }
}
