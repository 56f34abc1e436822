//! `bench idle`: makes partitions, writes nothing, and looks at what they cost: time to ready, CPU, memory, fsyncs.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::cluster::Target;
use super::load::Load;
use super::meter::Meter;
use super::report::{Report, Special, round};
use crate::cli::client::Client;

/// What idle partitions cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Idle {
    /// Partitions that exist.
    pub partitions: u32,
    /// From the first CreateTopics to a leader of every partition.
    pub ready_s: f64,
    /// CPU of all processes, as a share of one core.
    pub cpu_percent: f64,
    /// Memory that all processes took on since before the topics, over the number of partitions.
    pub kib_per_partition: f64,
}

/// Runs it; makes the topics itself.
pub async fn run(load: &Load, target: &Target, client: &Client) -> anyhow::Result<Report> {
    let empty = target.sample().await;
    let started = Instant::now();
    let topics = super::create(client, load).await?;
    let ready_s = round(started.elapsed().as_secs_f64());
    let partitions = load.shape.topics * load.shape.partitions;
    let measured = async {
        sleep(Duration::from_secs(load.pace.warm_up)).await;
        let until = async {
            sleep(Duration::from_secs(load.pace.seconds)).await;
            Ok(())
        };
        target.observe(&Meter::default(), until).await
    };
    let outcome = measured.await;
    super::remove(client, &topics).await;
    let window = outcome?;
    let (before, after) = window.samples;
    let idle = Idle {
        partitions,
        ready_s,
        cpu_percent: round((after.cpu_s - before.cpu_s) / window.seconds * 100.0),
        kib_per_partition: round(
            (after.memory.mib_sum - empty.memory.mib_sum).max(0.0) * 1024.0 / f64::from(partitions),
        ),
    };
    Ok(Report { special: Some(Special::Idle(idle)), ..Report::new("idle", load, target, window) })
}
