//! Idle partitions of whole nodes sleep, wake for an append, and get another leader when theirs dies in its sleep.
use std::time::Duration;

use node::Node;

use crate::world::{World, append, eventually, read_all, ready, topic};

/// Partitions that sleep on these nodes, as operators see it, and as the metrics count it.
fn asleep(nodes: &[Node]) -> (usize, usize) {
    let of = |node: &Node| node.broker().groups().iter().filter(|group| group.asleep).count();
    let text = |node: &Node| node.broker().metrics().encode();
    let counted = |node: &Node| {
        let value = text(node).lines().find_map(|line| line.strip_prefix("flotilla_quiescent_groups ")?.parse().ok());
        value.unwrap_or(0)
    };
    (nodes.iter().map(of).sum(), nodes.iter().map(counted).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_partitions_sleep_wake_for_an_append_and_survive_their_leader() {
    let world = World::new(3, 3);
    let mut nodes = Vec::new();
    for node in 1..=3 {
        let mut config = world.config(node);
        config.raft.quiesce_after = Duration::from_millis(300);
        nodes.push(world.start_with(config).await.unwrap());
    }
    for node in &nodes {
        ready(node.broker()).await;
    }
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    let partitions = topic(&brokers, "idle", 6, 3).await;
    eventually("all replicas sleep", || asleep(&nodes) == (18, 18)).await;
    for (place, partition) in partitions.iter().enumerate() {
        append(&brokers, *partition, &format!("first of {place}")).await;
    }
    eventually("all sleep again", || asleep(&nodes) == (18, 18)).await;
    let gone = nodes.remove(0);
    gone.kill().await;
    let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    for (place, partition) in partitions.iter().enumerate() {
        append(&brokers, *partition, &format!("second of {place}")).await;
        let expected = ["first", "second"].map(|word| format!("{word} of {place}"));
        let values = read_all(&brokers, *partition).await;
        assert_eq!(values.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), expected);
    }
    eventually("the two that are left sleep", || asleep(&nodes).0 == 12).await;
    nodes.push(world.start(1).await);
    ready(nodes[2].broker()).await;
    eventually("all three sleep", || asleep(&nodes).0 == 18).await;
}
