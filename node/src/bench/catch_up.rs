//! `bench catch-up`: consumers read what was filled in while producers go on at a rate. What producers wait meanwhile, beside what
//! they waited before. Owns the phases. The consumers have a thread of their own, so that they do not hold up the producers' clock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::beside::{Beside, RATE, phase};
use super::cluster::Target;
use super::load::Load;
use super::meter::{Interval, Meter};
use super::report::{Report, Special, round};
use super::{Topic, consume, produce};
use crate::cli::client::Position;
use crate::cli::output::bytes;

/// What the end of the filling leaves to do is over by then.
const SETTLE: Duration = Duration::from_secs(5);

/// What consumers of old records cost those who produced meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct CatchUp {
    /// Bytes of values that were read, by all consumers together.
    pub read_bytes: u64,
    /// How long it took.
    pub took_s: f64,
    /// 10^6 bytes of values a second.
    pub read_mb_per_s: f64,
    /// Before the consumers came, and until they had read what was filled in.
    #[serde(flatten)]
    pub beside: Beside,
}

impl CatchUp {
    /// For people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let read = format!("{} in {} s, {} MB/s", bytes(self.read_bytes), self.took_s, self.read_mb_per_s);
        [("read", read)].into_iter().chain(self.beside.rows()).collect()
    }
}

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let ends = consume::fill(load, None, target, topics).await?;
    sleep(SETTLE).await;
    let meter = Arc::new(Meter::default());
    let mut flow = produce::start(load, Some(load.pace.rate.unwrap_or(RATE)), target, topics, &meter)?;
    let (catch_up, intervals) = tokio::select! {
        measured = measure(load, target, topics, &ends, &meter) => measured?,
        error = flow.failure() => return Err(error),
    };
    let (settings, special, retries) = (load.into(), Some(Special::CatchUp(catch_up)), flow.stop().await);
    Ok(Report { bench: "catch-up", settings, special, retries, intervals, ..Report::default() })
}

/// What came out, and the seconds of the reading.
async fn measure(
    load: &Load,
    target: &Target,
    topics: &[Topic],
    ends: &Arc<Vec<Position>>,
    meter: &Meter,
) -> anyhow::Result<(CatchUp, Vec<Interval>)> {
    sleep(Duration::from_secs(load.pace.warm_up)).await;
    let undisturbed = async {
        sleep(Duration::from_secs(load.pace.seconds)).await;
        Ok(())
    };
    let (before, _) = phase(target, meter, undisturbed).await?;
    let (started, read) = (Instant::now(), Arc::new(Meter::default()));
    read.start();
    let (meanwhile, intervals) = phase(target, meter, elsewhere(load, target, topics, ends, &read)).await?;
    let took = started.elapsed().as_secs_f64();
    let read_bytes = read.stop().0.bytes;
    let catch_up = CatchUp {
        read_bytes,
        took_s: round(took),
        read_mb_per_s: round(read_bytes as f64 / took / 1e6),
        beside: Beside::new(before, meanwhile),
    };
    Ok((catch_up, intervals))
}

/// Reads everything up to `ends`, on another thread.
#[expect(clippy::disallowed_methods, reason = "a thread of the bench, not of a node")]
async fn elsewhere(
    load: &Load,
    target: &Target,
    topics: &[Topic],
    ends: &Arc<Vec<Position>>,
    read: &Arc<Meter>,
) -> anyhow::Result<()> {
    let (load, bootstrap, topics) = (load.clone(), target.bootstrap.clone(), topics.to_vec());
    let (ends, read) = (ends.clone(), read.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(consume::drain_all(&load, &bootstrap, &topics, &ends, &read))
    });
    reading.await.context("the consumers' thread failed")?
}
