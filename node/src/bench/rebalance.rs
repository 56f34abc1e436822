//! `bench rebalance`: a node joins under a load at a rate, and the replicas are spread anew. What clients wait meanwhile, beside what they
//! waited before. Owns the phases.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::beside::{Beside, RATE, phase};
use super::cluster::Target;
use super::load::Load;
use super::meter::{Interval, Meter};
use super::report::{Report, Special, round};
use super::{Topic, produce};
use crate::cli::operation::{self, Begun};
use crate::cli::output::bytes;
use crate::cli::post;
use crate::cli::rebalance::Plan;

/// Between two looks at what goes on.
const POLL: Duration = Duration::from_millis(200);
/// What a node that has just started does is over by then.
const SETTLE: Duration = Duration::from_secs(5);

/// What a rebalance cost those who produced meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Rebalance {
    /// Partitions that got another replica or leader.
    pub moves: u32,
    /// Bytes copied, as planned.
    pub moved_bytes: u64,
    /// How long it took.
    pub took_s: f64,
    /// Before the node came, and from the start of the rebalance to its end.
    #[serde(flatten)]
    pub beside: Beside,
    /// How far the bytes of a node are from the mean at the end, percent: the furthest.
    pub bytes_off_percent: f64,
    /// The same of leaderships, as a number.
    pub leaders_off: f64,
}

impl Rebalance {
    /// For people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let [before, meanwhile] = self.beside.rows();
        vec![
            ("moved", format!("{} partitions, {} in {} s", self.moves, bytes(self.moved_bytes), self.took_s)),
            before,
            meanwhile,
            ("off mean", format!("{}% of bytes, {} leaders", self.bytes_off_percent, self.leaders_off)),
        ]
    }
}

/// Runs it.
pub async fn run(load: &Load, target: &mut Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let meter = Arc::new(Meter::default());
    let mut flow = produce::start(load, Some(load.pace.rate.unwrap_or(RATE)), target, topics, &meter)?;
    let (rebalance, intervals) = tokio::select! {
        measured = measure(load, target, &meter) => measured?,
        error = flow.failure() => return Err(error),
    };
    let (settings, special, retries) = (load.into(), Some(Special::Rebalance(rebalance)), flow.stop().await);
    Ok(Report { bench: "rebalance", settings, special, retries, intervals, ..Report::default() })
}

/// What came out, and the seconds of the rebalance.
async fn measure(load: &Load, target: &mut Target, meter: &Meter) -> anyhow::Result<(Rebalance, Vec<Interval>)> {
    sleep(Duration::from_secs(load.pace.warm_up)).await;
    let before = phase(target, meter, async {
        sleep(Duration::from_secs(load.pace.seconds)).await;
        Ok(())
    });
    let (before, _) = before.await?;
    let fleet = target.fleet().context("a node joins a cluster of our own: only with --dev")?;
    fleet.join().await?;
    sleep(SETTLE).await;
    let admin = fleet.members().first().map(|member| member.admin.clone()).context("no node")?;
    let begun: Begun = post(&admin, "/v1/rebalance", &json!({})).await?.json()?;
    let (id, started) = (begun.operation.context("nothing is to be moved")?, Instant::now());
    let (meanwhile, intervals) = phase(target, meter, over(&admin, id)).await?;
    let (took, done) = (started.elapsed(), operation::look(&admin, id).await?);
    if done.state != "finished" {
        bail!("the rebalance is {}: {}", done.state, done.note);
    }
    let plan: Plan = post(&admin, "/v1/rebalance/plan", &json!({})).await?.json()?;
    let off = |of: fn(&crate::cli::rebalance::Load) -> f64| {
        let mean = plan.nodes.iter().map(of).sum::<f64>() / plan.nodes.len().max(1) as f64;
        (plan.nodes.iter().map(|node| (of(node) - mean).abs()).fold(0.0, f64::max), mean.max(1e-9))
    };
    let ((bytes_off, mean), (leaders_off, _)) = (off(|node| node.bytes as f64), off(|node| node.leaders as f64));
    let rebalance = Rebalance {
        moves: done.finished,
        moved_bytes: done.bytes,
        took_s: round(took.as_secs_f64()),
        beside: Beside::new(before, meanwhile),
        bytes_off_percent: round(bytes_off / mean * 100.0),
        leaders_off: round(leaders_off),
    };
    Ok((rebalance, intervals))
}

/// Waits for the end of an operation.
async fn over(admin: &str, id: u64) -> anyhow::Result<()> {
    while !operation::look(admin, id).await?.is_over() {
        sleep(POLL).await;
    }
    Ok(())
}
