//! `bench produce`: the same batch again and again, as fast as it is acknowledged, or at a rate.
//! Invariant: a batch counts only once acknowledged within the measured time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::cluster::Target;
use super::flow::Flow;
use super::load::Load;
use super::meter::Meter;
use super::payload::Payload;
use super::report::Report;
use super::{Topic, disk};

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let disk_before = disk::measure(target).await?;
    let meter = Arc::new(Meter::default());
    let mut flow = start(load, load.pace.rate, target, topics, &meter)?;
    let window = {
        let mut failure = std::pin::pin!(flow.failure());
        tokio::select! {
            () = sleep(Duration::from_secs(load.pace.warm_up)) => {}
            error = &mut failure => return Err(error),
        }
        let until = async {
            tokio::select! {
                () = sleep(Duration::from_secs(load.pace.seconds)) => Ok(()),
                error = &mut failure => Err(error),
            }
        };
        target.observe(&meter, until).await?
    };
    let retries = flow.stop().await;
    let mut report = Report::new("produce", load, target, window);
    report.retries = retries;
    Ok(report.with_disk(disk_before, disk::measure(target).await?))
}

/// The load of this measurement, and what fills the topics of another.
pub fn start(
    load: &Load,
    rate: Option<u64>,
    target: &Target,
    topics: &[Topic],
    meter: &Arc<Meter>,
) -> anyhow::Result<Flow> {
    let payload = Payload::fixed(load.shape.records_per_batch(), usize::from(load.shape.record_size))?;
    Flow::start(load, rate, &target.bootstrap, topics, payload, meter)
}
