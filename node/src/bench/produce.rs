//! `bench produce`: ready-made batches, sent as fast as they are acknowledged, or at a rate.
//! Invariant: a batch counts only once acknowledged within the measured time; a failed one is sent again and keeps its start time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use super::cluster::Target;
use super::histogram::Histogram;
use super::report::Report;
use super::{Load, Topic, disk};
use crate::cli::client::{Client, Error};
use crate::seams::{Clock, SystemClock};

const WARM_UP: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let before_disk = disk_speed(load, target).await?;
    let flow = Flow::start(load, target, topics)?;
    sleep(WARM_UP).await;
    let before = target.sample().await;
    flow.counting.store(true, Ordering::Relaxed);
    let started = Instant::now();
    sleep(Duration::from_secs(load.seconds)).await;
    flow.counting.store(false, Ordering::Relaxed);
    let seconds = started.elapsed().as_secs_f64();
    let after = target.sample().await;
    let outcome = flow.stop().await?;
    let after_disk = disk_speed(load, target).await?;
    let records = outcome.batches * load.records_per_batch() as u64;
    let mut report = Report::new("produce", load, (outcome.bytes, records), seconds).with_cost(
        before,
        after,
        outcome.bytes,
        seconds,
    );
    report.latency = Some((&outcome.histogram).into());
    report.retries = outcome.retries;
    Ok(match (before_disk, after_disk) {
        (Some(before), Some(after)) => report.with_disk(before, after),
        _ => report,
    })
}

/// Measured where the nodes write, which is known for a cluster of our own only.
async fn disk_speed(load: &Load, target: &Target) -> anyhow::Result<Option<f64>> {
    match &target.folder {
        Some(folder) if load.dev => disk::measure(folder).await.map(Some),
        _ => Ok(None),
    }
}

/// One batch of the wanted size, of bytes that do not compress.
pub fn batch(load: &Load) -> anyhow::Result<Bytes> {
    let now = SystemClock::new().wall_ms();
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..load.records_per_batch() {
        let value: Vec<u8> = (0..load.value_bytes()).map(|_| rand::random()).collect();
        builder.push(now, None, Some(&value));
    }
    Ok(builder.build()?)
}

/// The running load.
pub struct Flow {
    /// Whether acknowledged batches count now.
    pub counting: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    slots: JoinSet<Result<Outcome, Error>>,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Batches acknowledged.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Latency.
    pub histogram: Histogram,
}

impl Flow {
    /// Starts `clients` x `in_flight` slots; each sends one batch after the other, to the partitions in turn.
    pub fn start(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Self> {
        let counting = Arc::new(AtomicBool::new(false));
        let stopped = Arc::new(AtomicBool::new(false));
        let places: Vec<(String, i32)> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.clone(), *partition)))
            .collect();
        let (places, turn, batch) = (Arc::new(places), Arc::new(AtomicU64::new(0)), batch(load)?);
        let slots_count = u64::from(load.clients) * u64::from(load.in_flight);
        let pace = load.rate.map(|rate| {
            let batches_per_s = rate as f64 / load.records_per_batch() as f64;
            Duration::from_secs_f64(slots_count as f64 / batches_per_s.max(1e-6))
        });
        let mut slots = JoinSet::new();
        for client in (0..load.clients).map(|_| Client::new(&target.bootstrap)) {
            for _ in 0..load.in_flight {
                let first = Instant::now() + pace.unwrap_or_default() * slots.len() as u32 / slots_count.max(1) as u32;
                let slot = Slot {
                    client: client.clone(),
                    places: places.clone(),
                    turn: turn.clone(),
                    batch: batch.clone(),
                    acks: load.acks_code(),
                    counting: counting.clone(),
                    stopped: stopped.clone(),
                };
                slots.spawn(slot.run(first, pace));
            }
        }
        Ok(Self { counting, stopped, slots })
    }

    /// Stops after the batches on their way.
    pub async fn stop(mut self) -> anyhow::Result<Outcome> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut sum = Outcome::default();
        while let Some(slot) = self.slots.join_next().await {
            let slot = slot??;
            sum.batches += slot.batches;
            sum.bytes += slot.bytes;
            sum.retries += slot.retries;
            sum.histogram.merge(&slot.histogram);
        }
        Ok(sum)
    }
}

struct Slot {
    client: Client,
    places: Arc<Vec<(String, i32)>>,
    turn: Arc<AtomicU64>,
    batch: Bytes,
    acks: i16,
    counting: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Slot {
    async fn run(self, first: Instant, pace: Option<Duration>) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let mut intended = first;
        while !self.stopped.load(Ordering::Relaxed) {
            match pace {
                Some(_) => sleep_until(intended).await,
                None => intended = Instant::now(),
            }
            outcome.retries += self.send().await?;
            if self.counting.load(Ordering::Relaxed) {
                outcome.batches += 1;
                outcome.bytes += self.batch.len() as u64;
                outcome.histogram.record(intended.elapsed());
            }
            intended += pace.unwrap_or_default();
        }
        Ok(outcome)
    }

    async fn send(&self) -> Result<u64, Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let (topic, partition) = &self.places[turn % self.places.len()];
        let mut retries = 0;
        loop {
            match self.client.produce(topic, *partition, self.acks, self.batch.clone()).await {
                Ok(_) => return Ok(retries),
                Err(error) if error.passes() && !self.stopped.load(Ordering::Relaxed) => {
                    self.client.forget_leader(topic, *partition);
                    retries += 1;
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) if error.passes() => return Ok(retries),
                Err(error) => return Err(error),
            }
        }
    }
}
