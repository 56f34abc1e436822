//! `bench e2e`: records at a rate, each carrying its intended send time, timed when a consumer has them.
//! Invariant: the clock of sending and receiving is the same one of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Topic;
use super::cluster::Target;
use super::consume::{end, groups, round};
use super::flow::Flow;
use super::load::Load;
use super::meter::Meter;
use super::payload::{Payload, stamp};
use super::report::Report;
use crate::cli::client::{Client, Error, Position};
use crate::config::units::ByteSize;

const RATE: u64 = 200;
const WAIT: Duration = Duration::from_millis(500);

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let mut load = load.clone();
    load.shape.batch.get_or_insert(ByteSize(0));
    let rate = *load.pace.rate.get_or_insert(RATE);
    let (records, bytes) = (load.shape.records_per_batch(), usize::from(load.shape.record_size));
    let zero = Instant::now();
    let received = Arc::new(Received { zero, meter: Meter::default(), bytes: bytes as u64, count: AtomicU64::new(0) });
    let mut readers = JoinSet::new();
    for _ in 0..load.pace.consumers {
        let client = Client::new(&target.bootstrap);
        for mut group in groups(&client, topics).await? {
            for position in &mut group {
                position.offset = end(&client, &position.topic, position.partition).await?;
            }
            readers.spawn(receive(client.clone(), group, received.clone()));
        }
    }
    let sent = Arc::new(Meter::default());
    let payload = Payload::stamped(zero, records, bytes);
    let mut flow = Flow::start(&load, Some(rate), &target.bootstrap, topics, payload, &sent)?;
    sent.start();
    let window = {
        let mut failure = std::pin::pin!(async {
            tokio::select! {
                error = flow.failure() => error,
                error = ended(&mut readers) => error,
            }
        });
        let mut pause = async |seconds| {
            tokio::select! {
                () = sleep(Duration::from_secs(seconds)) => Ok(()),
                error = &mut failure => Err(error),
            }
        };
        pause(load.pace.warm_up).await?;
        target.observe(&received.meter, pause(load.pace.seconds)).await?
    };
    let retries = flow.stop().await;
    sleep(WAIT).await;
    let expected = sent.stop().0.records * u64::from(load.pace.consumers);
    let mut report = Report::new("e2e", &load, target, window);
    report.retries = retries;
    report.undelivered = Some(expected.saturating_sub(received.count.load(Ordering::Relaxed)));
    Ok(report)
}

/// Why a consumer ended, which none does by itself.
async fn ended(readers: &mut JoinSet<Result<(), Error>>) -> anyhow::Error {
    match readers.join_next().await {
        Some(Ok(Err(error))) => error.into(),
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("a consumer ended"),
    }
}

/// What the consumers got.
struct Received {
    zero: Instant,
    meter: Meter,
    bytes: u64,
    /// Warm-up and the rest at the end included.
    count: AtomicU64,
}

async fn receive(client: Client, mut positions: Vec<Position>, received: Arc<Received>) -> Result<(), Error> {
    loop {
        let fetched = round(&client, &positions, WAIT).await?;
        let now = received.zero.elapsed();
        for partition in &fetched {
            let position = positions.iter_mut().find(|position| position.partition == partition.partition);
            let Some(position) = position else { continue };
            for record in partition.records(position)? {
                let Some(sent) = stamp(record.value.as_deref()) else { continue };
                received.meter.count(1, received.bytes, Some(now.saturating_sub(Duration::from_micros(sent))));
                received.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
