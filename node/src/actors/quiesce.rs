//! Lets the idle partitions of the node sleep and wakes them (docs/adr/006): looks at all of them, again and again.
//! Never decides: that is `raft`'s, by what the heartbeats between nodes say.
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Context;

/// How often the partitions are looked at: half of a node's heartbeat, so that its death is seen as soon as it counts.
const LOOK: Duration = Duration::from_millis(50);

/// Looks after the sleepers for ever.
pub async fn run(context: Arc<Context>) {
    loop {
        sleep(LOOK).await;
        let asleep = context.groups.tend(context.router.around());
        context.metrics.raft.quiescent.set(i64::try_from(asleep).unwrap_or(i64::MAX));
    }
}
