//! When a cluster may be called ready: every node says it serves, and a record written by a client was read back.
//! The probe's topic is removed afterwards, so that nobody sees it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::{Instant, sleep};
use wire::compression::Compression;
use wire::kafka::ErrorCode;
use wire::kafka::batch::BatchBuilder;

use crate::cli::client::{Client, Error, Patience, Position, Producer, Start};
use crate::cli::get;
use crate::seams::{Clock, SystemClock};

const POLL: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(60);
/// Kafka's rule makes names that start with two underscores look internal.
pub const PROBE_TOPIC: &str = "__flotilla_probe";

/// Waits until a node answers 200 on /readyz.
pub async fn node(admin: &str) {
    while !get(admin, "/readyz").await.is_ok_and(|answer| answer.status == 200) {
        sleep(POLL).await;
    }
}

/// Waits until all nodes serve, then sends the probe.
pub async fn cluster(client: &Client, admins: &[String]) -> anyhow::Result<()> {
    let started = Instant::now();
    let all = futures::future::join_all(admins.iter().map(|admin| node(admin)));
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        bail!("not every node was ready within {} s{}", PATIENCE.as_secs(), reasons(admins).await);
    }
    let nodes_ms = started.elapsed().as_millis() as u64;
    probe(client, admins.len()).await.context("the produce-consume probe failed")?;
    let probe_ms = started.elapsed().as_millis() as u64 - nodes_ms;
    tracing::info!(nodes_ms, probe_ms, "nodes and probe");
    Ok(())
}

async fn reasons(admins: &[String]) -> String {
    let mut text = String::new();
    for admin in admins {
        match get(admin, "/readyz").await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => text.push_str(&format!("\n  {admin}: {}", answer.body.trim())),
            Err(error) => text.push_str(&format!("\n  {error:#}")),
        }
    }
    text
}

async fn probe(client: &Client, nodes: usize) -> anyhow::Result<()> {
    let replication = i16::try_from(nodes.min(3)).unwrap_or(1);
    match client.create_topic(PROBE_TOPIC, (1, replication), &[]).await {
        Ok(()) | Err(Error::Code { code: ErrorCode::TopicAlreadyExists, .. }) => {}
        Err(error) => return Err(error).context("create a topic"),
    }
    client.partitions(PROBE_TOPIC, false).await.or_else(ignore_unknown).context("find its leader")?;
    let clock = SystemClock::new();
    let value = format!("probe of {}", clock.wall_ms());
    let mut producer = Producer::new(client.clone(), PATIENCE).await.context("take a producer id")?;
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(clock.wall_ms(), None, Some(value.as_bytes()));
    let offset = producer.send(PROBE_TOPIC, 0, batch).await.context("produce")?;
    let read = read_back(client, offset).await.context("consume")?;
    ensure!(read == value.as_bytes(), "another record was read than was written at offset {offset}");
    client.delete_topic(PROBE_TOPIC).await.context("remove the topic")?;
    Ok(())
}

/// A node whose image is behind does not know the topic yet; the produce tries again by itself.
fn ignore_unknown(error: Error) -> Result<Vec<i32>, Error> {
    if matches!(error, Error::UnknownTopic(_)) { Ok(Vec::new()) } else { Err(error) }
}

async fn read_back(client: &Client, offset: i64) -> Result<Vec<u8>, Error> {
    let mut position = Position { topic: PROBE_TOPIC.to_owned(), partition: 0, offset };
    position.offset = client.offset(PROBE_TOPIC, 0, Start::Offset(offset)).await?;
    let mut patience = Patience::new(PATIENCE);
    loop {
        let outcome = client.fetch(std::slice::from_ref(&position), Duration::from_millis(200)).await;
        let error = match outcome {
            Ok(fetched) => {
                let mut records = Vec::new();
                for partition in &fetched {
                    records.extend(partition.records(&mut position)?);
                }
                match records.into_iter().find(|record| record.offset == offset) {
                    Some(record) => return Ok(record.value.unwrap_or_default().to_vec()),
                    None => Error::Timeout,
                }
            }
            Err(error) if error.passes() => {
                client.forget_leader(PROBE_TOPIC, 0);
                error
            }
            Err(error) => return Err(error),
        };
        patience.pause(error).await?;
    }
}
