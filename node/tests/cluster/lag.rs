//! A follower that lives but does not keep up: counted, and not in sync in anybody's eyes until it has caught up.
use std::collections::BTreeSet;
use std::time::Duration;

use model::NodeId;

use crate::world::{World, append, eventually, ready, topic};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_takes_a_replica_out_of_sync_and_a_quick_one_brings_it_back() {
    let world = World::new(3, 3);
    let mut nodes = Vec::new();
    for node in 1..=3 {
        let mut config = world.config(node);
        config.raft.replica_lag_max = Duration::from_millis(1_500);
        nodes.push(world.start_with(config).await.unwrap());
    }
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    for broker in &brokers {
        ready(broker).await;
    }
    let partition = topic(&brokers, "slow", 1, 3).await[0];
    append(&brokers, partition, "before").await;
    let group = brokers[0].image().topic_by_id(partition.topic).unwrap().partitions[0].group;
    let leader = brokers[0].leader(group).node.unwrap();
    let slow = (1..=3).map(NodeId).find(|node| *node != leader && brokers[0].controller() != Some(*node)).unwrap();
    let under = || brokers.iter().map(|broker| broker.count_under_replicated()).sum::<i64>();
    eventually("all are in sync", || under() == 0).await;

    world.disks[&slow.0].set_fsync(Duration::from_secs(4), Duration::from_secs(4));
    append(&brokers, partition, "two of three have it").await;
    let behind = |expected: &[NodeId]| {
        let expected: BTreeSet<NodeId> = expected.iter().copied().collect();
        brokers.iter().all(|broker| broker.behind(group) == expected)
    };
    eventually("everybody knows who is behind", || behind(&[slow])).await;
    eventually("it beats all the while", || brokers.iter().all(|broker| broker.is_alive(slow))).await;
    eventually("it is counted", || under() == 1).await;

    world.disks[&slow.0].set_fsync(Duration::ZERO, Duration::ZERO);
    eventually("everybody knows that it has caught up", || behind(&[])).await;
    eventually("all are in sync again", || under() == 0).await;
}
