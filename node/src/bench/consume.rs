//! `bench consume`: fills the topics for some seconds, then reads them from the start, all partitions at once.
//! Invariant: only whole record batches that came with a good CRC count.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wire::kafka::batch::read_batches;

use super::cluster::Target;
use super::produce::Flow;
use super::report::Report;
use super::{Load, Topic};
use crate::cli::client::{Client, Error, Position, Start};

const WAIT: Duration = Duration::from_millis(100);

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let flow = Flow::start(load, target, topics)?;
    sleep(Duration::from_secs(load.seconds)).await;
    flow.stop().await?;
    let before = target.sample().await;
    let started = Instant::now();
    let mut readers = JoinSet::new();
    for topic in topics {
        for partition in &topic.partitions {
            let position = Position { topic: topic.name.clone(), partition: *partition, offset: 0 };
            readers.spawn(read(Client::new(&target.bootstrap), position));
        }
    }
    let (mut bytes, mut records) = (0, 0);
    while let Some(reader) = readers.join_next().await {
        let (read_bytes, read_records) = reader??;
        bytes += read_bytes;
        records += read_records;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = target.sample().await;
    Ok(Report::new("consume", load, (bytes, records), seconds).with_cost(before, after, bytes, seconds))
}

async fn read(client: Client, mut position: Position) -> Result<(u64, u64), Error> {
    let end = client.offset(&position.topic, position.partition, Start::Latest).await?;
    let (mut bytes, mut records) = (0, 0);
    while position.offset < end {
        for fetched in client.fetch(std::slice::from_ref(&position), WAIT).await? {
            for batch in read_batches(fetched.batches) {
                let batch = batch?;
                let header = batch.header();
                bytes += batch.bytes().len() as u64;
                records += u64::try_from(header.record_count).unwrap_or(0);
                position.offset = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
        }
    }
    Ok((bytes, records))
}
