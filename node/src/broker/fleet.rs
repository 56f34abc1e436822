//! The cluster as plans see it: image, lives, lags, and the bytes that each node says its replicas have.
//! Only reads; a node that does not answer is planned with as if its replicas had the bytes that others say.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use model::balance::{self, Carrier, Fleet, Piece, Plan, Risk};
use model::controller::{Duty, Image};
use model::{GroupId, NodeId, PartitionIndex};
use tokio::time::timeout;

use super::Broker;
use crate::peer::questions::{Answered, Question};

/// A node that does not say its sizes by then is planned without.
const SIZES: Duration = Duration::from_secs(2);
/// Kafka's name for the controller's log: a partition among those that a node is needed for.
const CONTROLLER: &str = "__cluster_metadata";

impl Broker {
    /// The cluster now.
    pub async fn fleet(&self) -> Fleet {
        let image = self.image();
        let sizes = self.sizes(&image).await;
        let alive: BTreeSet<NodeId> = image.nodes.keys().copied().filter(|node| self.is_alive(*node)).collect();
        let carrier = |node: &model::controller::Node| {
            let duty = image.duty(node.id);
            let (rack, takes) = (node.rack.clone(), alive.contains(&node.id));
            Carrier { rack, takes, leaves: duty == Some(Duty::Leaving), leads: duty.is_none() }
        };
        let nodes = image.nodes.values().map(|node| (node.id, carrier(node))).collect();
        let (alive, sizes) = (&alive, &sizes);
        let pieces = image.topics.values().flat_map(|topic| {
            (0..).map(PartitionIndex).zip(&topic.partitions).map(move |(index, partition)| {
                let replicas: Vec<NodeId> = partition.wanted().map(|replica| replica.node()).collect();
                let behind = self.behind(partition.group);
                let well = |node: &NodeId| alive.contains(node) && !behind.contains(node);
                Piece {
                    topic: topic.name.clone(),
                    index,
                    bytes: sizes.get(&partition.group).copied().unwrap_or(0),
                    well: replicas.iter().copied().filter(well).collect(),
                    replicas,
                    is_changing: partition.is_changing,
                }
            })
        });
        Fleet { nodes, pieces: pieces.collect() }
    }

    /// Bytes of one replica of each group: of the largest, since the others catch up to it.
    async fn sizes(&self, image: &Image) -> BTreeMap<GroupId, u64> {
        let living = image.nodes.keys().copied().filter(|node| self.is_alive(*node));
        let asked = living.map(|node| timeout(SIZES, self.ask(node, Question::Sizes)));
        let mut sizes = BTreeMap::new();
        for answer in join_all(asked).await {
            let Ok(Ok(Answered::Sizes(told))) = answer else { continue };
            for (group, bytes) in told {
                let known = sizes.entry(group).or_insert(0);
                *known = bytes.max(*known);
            }
        }
        sizes
    }

    /// A plan that levels what nodes carry, or only who leads.
    pub async fn plan_rebalance(&self, leaders_only: bool) -> Plan {
        let fleet = self.fleet().await;
        if leaders_only { balance::plan_leaders(&fleet) } else { balance::plan(&fleet) }
    }

    /// The partitions that would have no majority any more if `node` stopped now, the controller's among them.
    pub async fn stop_risks(&self, node: NodeId) -> Vec<Risk> {
        let mut fleet = self.fleet().await;
        // What ends with its connection is not lost by a node that stops: its clients go.
        let image = self.image();
        let ends = |topic: &str| {
            let queue = image.topic(topic).and_then(|topic| image.queue_of_topic(topic.id));
            queue.is_some_and(|queue| queue.spec.exclusive.is_some())
        };
        fleet.pieces.retain(|piece| !ends(&piece.topic));
        fleet.pieces.extend(self.controller_piece().await);
        balance::quorum_lost(&fleet, node)
    }

    /// The controller's group; nobody is well in it while nobody leads.
    async fn controller_piece(&self) -> Option<Piece> {
        let known = self.0.router.controller()?.status_now();
        let quorum = self.quorum(GroupId::CONTROLLER).await.ok();
        let voters = quorum.iter().flat_map(|quorum| &quorum.members).filter(|member| member.votes);
        let well: BTreeSet<NodeId> =
            voters.clone().filter(|member| self.is_alive(member.node)).map(|member| member.node).collect();
        let told: Vec<NodeId> = voters.map(|member| member.node).collect();
        let replicas = if told.is_empty() { known.voters.iter().map(|voter| voter.node()).collect() } else { told };
        let (topic, index) = (CONTROLLER.to_owned(), PartitionIndex(0));
        Some(Piece { topic, index, bytes: 0, replicas, well, is_changing: false })
    }
}
