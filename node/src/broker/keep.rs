//! Leaderships in their places, without being asked: a node that is drained hands over what it leads as long as it is so, and what
//! fell to another node while its preferred leader was away goes back (Kafka's `auto.leader.rebalance.enable`).
//! Bounded: `AT_ONCE` transfers at a time, each of which stops its partition for some milliseconds.
use std::time::Duration;

use futures::StreamExt;
use model::controller::{Image, Partition};
use model::{GroupId, NodeId};
use tokio::time::{Instant, sleep, timeout};

use super::Broker;
use super::leadership::Unmoved;

/// How often a drained node looks for leaderships.
const LOOK: Duration = Duration::from_millis(500);
/// Transfers at a time.
const AT_ONCE: usize = 16;
/// Who does not take over by then went away as it was asked: somebody else may be able to.
const PATIENCE: Duration = Duration::from_secs(2);

impl Broker {
    /// Keeps leaderships where they belong, for ever.
    pub async fn keep_leaders(&self) {
        let every = self.0.config.raft.leader_balance_check;
        let mut looked = Instant::now();
        loop {
            sleep(LOOK).await;
            let image = self.image();
            if image.duty(self.node_id()).is_some() {
                self.hand_over(self.successions(&image)).await;
                self.hand_over(self.controller_succession(&image)).await;
            } else if !every.is_zero() && looked.elapsed() >= every {
                looked = Instant::now();
                self.hand_over(self.preferences(&image)).await;
            }
        }
    }

    /// Hands leaderships over to these nodes, as far as that succeeds.
    pub(super) async fn hand_over(&self, wanted: impl IntoIterator<Item = (GroupId, NodeId)>) {
        let transfers = wanted.into_iter().map(async |(group, to)| {
            let moved = timeout(PATIENCE, self.transfer_group(group, to)).await;
            if let Err(unmoved) = moved.unwrap_or_else(|_| Err(Unmoved::Failed("not in time".to_owned()))) {
                tracing::debug!(group = group.0, %unmoved, "a leadership stays for now");
            }
        });
        let transfers: Vec<_> = transfers.collect();
        futures::stream::iter(transfers).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// The partitions led here, with their placements.
    fn led_here<'a>(&self, image: &'a Image) -> impl Iterator<Item = &'a Partition> {
        let leads = |group| self.0.router.local(group).is_some_and(|local| local.role().leads);
        let partitions = image.groups_of_node(self.node_id()).map(|(_, _, partition)| partition);
        partitions.filter(move |partition| leads(partition.group)).collect::<Vec<_>>().into_iter()
    }

    /// Whether a node could lead a group now, and is meant to.
    fn may_lead(&self, image: &Image, group: GroupId, node: NodeId) -> bool {
        image.duty(node).is_none() && self.is_alive(node) && !self.behind(group).contains(&node)
    }

    /// Of every partition led here somebody else who may lead it: they spread by group.
    fn successions(&self, image: &Image) -> Vec<(GroupId, NodeId)> {
        let successor = |partition: &Partition| {
            let group = partition.group;
            let others = partition.wanted().map(|replica| replica.node()).filter(|node| *node != self.node_id());
            let able: Vec<NodeId> = others.filter(|node| self.may_lead(image, group, *node)).collect();
            Some((group, *able.get(group.0 as usize % able.len().max(1))?))
        };
        self.led_here(image).filter_map(successor).collect()
    }

    fn controller_succession(&self, image: &Image) -> Option<(GroupId, NodeId)> {
        let status = self.0.router.controller()?.status_now();
        let others = status.voters.iter().map(|voter| voter.node()).filter(|node| *node != self.node_id());
        let mut able = others.filter(|node| image.duty(*node).is_none() && self.is_alive(*node));
        able.next().filter(|_| status.is_leader).map(|node| (GroupId::CONTROLLER, node))
    }

    /// What is led here although its preferred leader could lead it.
    fn preferences(&self, image: &Image) -> Vec<(GroupId, NodeId)> {
        let preferred = |partition: &Partition| {
            let node = partition.wanted().next()?.node();
            let better = node != self.node_id() && self.may_lead(image, partition.group, node);
            better.then_some((partition.group, node))
        };
        self.led_here(image).filter_map(preferred).collect()
    }
}
