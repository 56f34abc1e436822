//! `bench e2e`: single records at a rate, each carrying its intended send time, timed when a consumer has them.
//! Invariant: the clock of sending and receiving is the same one of this process.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use super::cluster::Target;
use super::histogram::Histogram;
use super::report::Report;
use super::{Load, Topic};
use crate::cli::client::{Client, Error, Position, Start};
use crate::seams::{Clock, SystemClock};

const RATE: u64 = 200;
const WARM_UP: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(500);
const STAMP_BYTES: usize = 8;

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let (sender, done) = watch::channel(false);
    let zero = Instant::now();
    let client = Client::new(&target.bootstrap);
    let mut readers = JoinSet::new();
    for topic in topics {
        for partition in &topic.partitions {
            let offset = client.offset(&topic.name, *partition, Start::Latest).await?;
            let position = Position { topic: topic.name.clone(), partition: *partition, offset };
            readers.spawn(receive(Client::new(&target.bootstrap), position, zero, done.clone()));
        }
    }
    let before = target.sample().await;
    let started = Instant::now() + WARM_UP;
    let sent = send(load, target, topics, (zero, started)).await?;
    let seconds = started.elapsed().as_secs_f64();
    tokio::time::sleep(WAIT).await;
    sender.send_replace(true);
    let mut histogram = Histogram::default();
    while let Some(reader) = readers.join_next().await {
        histogram.merge(&reader??);
    }
    let after = target.sample().await;
    let bytes = sent * load.record_size.0;
    let mut report = Report::new("e2e", load, (bytes, sent), seconds).with_cost(before, after, bytes, seconds);
    report.latency = Some((&histogram).into());
    report.retries = sent.saturating_sub(histogram.count());
    Ok(report)
}

async fn send(
    load: &Load,
    target: &Target,
    topics: &[Topic],
    (zero, begin): (Instant, Instant),
) -> anyhow::Result<u64> {
    let clients: Vec<Client> = (0..load.clients).map(|_| Client::new(&target.bootstrap)).collect();
    let places: Vec<(Arc<str>, i32)> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.as_str().into(), *partition)))
        .collect();
    let pace = Duration::from_secs_f64(1.0 / load.rate.unwrap_or(RATE).max(1) as f64);
    let mut on_the_way = JoinSet::new();
    let count = (load.seconds as f64 / pace.as_secs_f64()) as u64;
    let wall = SystemClock::new();
    for number in 0..count {
        let intended = begin + pace.mul_f64(number as f64);
        sleep_until(intended).await;
        let mut value = vec![0; usize::from(load.record_size).max(STAMP_BYTES)];
        let stamp = u64::try_from((intended - zero).as_micros())?;
        value[..STAMP_BYTES].copy_from_slice(&stamp.to_le_bytes());
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(wall.wall_ms(), None, Some(&value));
        let (topic, partition) = places[number as usize % places.len()].clone();
        let (client, acks, bytes) =
            (clients[number as usize % clients.len()].clone(), load.acks_code(), batch.build()?);
        on_the_way.spawn(async move { client.produce(&topic, partition, acks, bytes).await });
        while let Some(answer) = on_the_way.try_join_next() {
            answer??;
        }
    }
    while let Some(answer) = on_the_way.join_next().await {
        answer??;
    }
    Ok(count)
}

async fn receive(
    client: Client,
    mut position: Position,
    zero: Instant,
    done: watch::Receiver<bool>,
) -> Result<Histogram, Error> {
    let mut histogram = Histogram::default();
    while !*done.borrow() {
        let fetched = client.fetch(std::slice::from_ref(&position), WAIT).await?;
        let now = zero.elapsed();
        for partition in &fetched {
            for record in partition.records(&mut position)? {
                let stamp = record.value.as_deref().and_then(|value| value.first_chunk::<STAMP_BYTES>().copied());
                if let Some(stamp) = stamp {
                    histogram.record(now.saturating_sub(Duration::from_micros(u64::from_le_bytes(stamp))));
                }
            }
        }
    }
    Ok(histogram)
}
