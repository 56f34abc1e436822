//! The roll call of a new leader. What an earlier one delivered may be with consumers of any node: each living node is asked, one without
//! consumers of the queue says so, and the others attend with what they hold. Bounded in time: who is silent for `GRACE` is not waited for.
use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::{GroupId, NodeId};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::peer::queues::{Heard, Told};

/// Gateways may claim what their consumers hold for so long.
const GRACE: Duration = Duration::from_secs(1);

/// See the file header.
pub(super) struct Roll {
    pub(super) until: Instant,
    /// Who did not attend, nor say that nobody will.
    silent: BTreeSet<NodeId>,
    /// A node, if it has no consumers.
    answers: FuturesUnordered<BoxFuture<'static, Option<NodeId>>>,
}

impl Roll {
    /// Nobody is waited for.
    pub(super) fn over() -> Self {
        Self { until: Instant::now(), silent: BTreeSet::new(), answers: FuturesUnordered::new() }
    }

    /// Asks all nodes but those that are given up; one that was not heard of yet since this node started may live.
    pub(super) fn call(broker: &Broker, group: GroupId) -> Self {
        let image = broker.image();
        let silent: BTreeSet<NodeId> =
            image.nodes.keys().copied().filter(|node| !broker.0.router.is_given_up(*node)).collect();
        let ask = |node: &NodeId| -> BoxFuture<'static, Option<NodeId>> {
            let (node, answer) = (*node, broker.tell_queue(*node, group, Told::Call, Vec::new()));
            Box::pin(async move { matches!(answer.await, Ok((Heard::Done, _))).then_some(node) })
        };
        let answers = silent.iter().map(ask).collect();
        Self { until: Instant::now() + GRACE, silent, answers }
    }

    /// Waits for the next answer; `None` if there is none to come.
    pub(super) async fn answered(&mut self) -> Option<()> {
        let nobody = self.answers.next().await?;
        nobody.into_iter().for_each(|node| self.attended(node));
        Some(())
    }

    /// All consumers of this node are known.
    pub(super) fn attended(&mut self, node: NodeId) {
        self.silent.remove(&node);
    }

    /// Nobody is waited for any more.
    pub(super) fn is_over(&self) -> bool {
        self.silent.is_empty() || Instant::now() >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_all_are_known_or_its_time_is() {
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let nobody = |node: NodeId| -> BoxFuture<'static, Option<NodeId>> { Box::pin(async move { Some(node) }) };
        let answers = [nobody(nodes[1]), Box::pin(async { None })].into_iter().collect();
        let mut roll = Roll { until: Instant::now() + GRACE, silent: nodes.into(), answers };
        while roll.answered().await.is_some() {}
        assert_eq!(roll.silent, BTreeSet::from([nodes[0], nodes[2]]));
        roll.attended(nodes[0]);
        assert!(!roll.is_over());
        let mut known = Roll { until: roll.until, silent: roll.silent.clone(), answers: FuturesUnordered::new() };
        known.attended(nodes[2]);
        assert!(known.is_over());
        tokio::time::advance(GRACE).await;
        assert!(roll.is_over());
    }
}
