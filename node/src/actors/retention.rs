//! Retention: moves the log starts of the partitions that this node leads, as their topics' configs say, and lets every local
//! replica free what its log start has passed.
//! Bounded: a look every `storage.retention_check`, `MOVES_AT_ONCE` proposals at a time; one that finds nothing writes nothing.
//! Never deletes by itself: the log start is replicated, and each replica purges up to its own checkpoint below it.
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::command::Payload;
use model::controller::Image;
use tokio::time::{sleep, timeout};

use super::Context;
use crate::router::LocalPartition;

/// Log starts proposed at the same time.
const MOVES_AT_ONCE: usize = 8;
/// A proposal undecided for so long is left to its raft; the next look asks again.
const DEADLINE: Duration = Duration::from_secs(5);

/// Looks for ever.
pub async fn run(context: Arc<Context>, every: Duration) {
    loop {
        sleep(every).await;
        let image = context.image.borrow().clone();
        let locals = futures::stream::iter(context.router.locals());
        locals.for_each_concurrent(MOVES_AT_ONCE, |local| look(&context, &image, local)).await;
    }
}

async fn look(context: &Context, image: &Image, local: Arc<LocalPartition>) {
    let placement = local.placement();
    let Some(topic) = image.topic(&placement.topic).filter(|topic| topic.id == placement.id) else { return };
    let rules = image.retention(topic, Some(context.node));
    let raft = local.raft();
    raft.set_segment(rules.segment);
    raft.purge();
    if !raft.knows_end() {
        return;
    }
    let now_ms = context.clock.wall_ms();
    let Some(log_start) = raft.expired(&rules, now_ms) else { return };
    let proposed = timeout(DEADLINE, raft.propose(vec![Payload::log_start(now_ms, log_start)])).await;
    let moved = matches!(proposed.as_deref(), Ok([Ok(_)]));
    tracing::debug!(group = raft.id().0, log_start, moved, "records are too old or too many");
}
