//! Long work: it is planned, begun, steered, goes on under another controller, and replaces who dies meanwhile.
use std::collections::BTreeSet;
use std::time::Duration;

use model::controller::{Duty, OperationKind, OperationState};
use model::{GroupId, NodeId, PartitionIndex};
use node::Node;
use node::broker::{Broker, NotBegun};

use crate::world::{World, append, eventually, read_all, ready, topic};

fn state(broker: &Broker, id: u64) -> OperationState {
    broker.image().operations[&id].state
}

async fn finished(broker: &Broker, id: u64) {
    eventually("the operation has ended", || state(broker, id).is_end()).await;
    let operation = broker.image().operations[&id].clone();
    assert_eq!((operation.state, operation.finished), (OperationState::Finished, operation.total), "{operation:?}");
}

fn nodes_of(broker: &Broker, topic: &str, index: i32) -> Vec<u32> {
    let image = broker.image();
    let partition = image.topic(topic).unwrap().partition(PartitionIndex(index)).unwrap();
    assert!(!partition.is_changing);
    partition.nodes().iter().map(|node| node.0).collect()
}

fn replicas(broker: &Broker, node: u32) -> usize {
    broker.image().groups_of_node(NodeId(node)).count()
}

/// Founders and the nodes that join, all ready and known to be alive by all.
async fn cluster(world: &World, count: u32) -> Vec<Node> {
    let mut nodes = world.found().await;
    for id in world.expect + 1..=count {
        let node = world.start(id).await;
        ready(node.broker()).await;
        nodes.push(node);
    }
    for node in &nodes {
        let broker = node.broker();
        eventually("all live", || (1..=count).all(|id| broker.is_alive(NodeId(id)))).await;
    }
    nodes
}

/// A replica that lags for a moment on a busy machine makes a stop unsafe: asked until it is safe.
async fn drained(broker: &Broker, node: u32) -> u64 {
    loop {
        match broker.drain(NodeId(node), false).await {
            Ok(id) => return id.unwrap(),
            Err(NotBegun::Quorum(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_is_filled_while_the_controller_moves_and_nothing_is_lost() {
    let world = World::new(4, 3);
    let mut nodes = world.found().await;
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    let partitions = topic(&brokers, "t", 12, 3).await;
    for partition in &partitions {
        append(&brokers, *partition, "kept").await;
    }
    nodes.push(world.start(4).await);
    ready(nodes[3].broker()).await;
    let broker = nodes[0].broker();
    eventually("node 4 lives", || broker.is_alive(NodeId(4))).await;
    let plan = broker.plan_rebalance(false).await;
    assert!(!plan.moves.is_empty() && plan.stays.is_empty(), "{plan:?}");
    let id = broker.rebalance(false).await.unwrap().unwrap();
    assert!(matches!(broker.rebalance(false).await, Err(NotBegun::Refused(_))), "one at a time");
    let leader = broker.controller();
    let other = [1, 2, 3].map(NodeId).into_iter().find(|node| Some(*node) != leader).unwrap();
    // A busy machine may have another leader by now, or none that hands over in time.
    drop(broker.transfer_group(GroupId::CONTROLLER, other).await);
    finished(broker, id).await;
    for node in 1..=4 {
        assert!((8..=10).contains(&replicas(broker, node)), "node {node} has {}", replicas(broker, node));
    }
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    for partition in &partitions {
        append(&brokers, *partition, "new").await;
        let values: Vec<String> = read_all(&brokers, *partition).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["kept", "new"]);
    }
    assert_eq!(broker.rebalance(false).await.unwrap(), None, "all is level");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_leads_nothing_until_it_is_restored() {
    let world = World::new(3, 3);
    let mut nodes = world.found().await;
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    let partitions = topic(&brokers, "t", 9, 3).await;
    for partition in &partitions {
        append(&brokers, *partition, "a").await;
    }
    let broker = brokers[0];
    let leads = |node: u32| {
        let report = broker.nodes().into_iter().find(|report| report.id.0 == node).unwrap();
        report.leads + usize::from(report.controller)
    };
    let id = drained(broker, 2).await;
    finished(broker, id).await;
    assert_eq!(broker.image().duty(NodeId(2)), Some(Duty::Drained));
    eventually("it leads nothing", || leads(2) == 0).await;
    for partition in &partitions {
        append(&brokers, *partition, "b").await;
    }
    eventually("it is given nothing", || leads(2) == 0).await;
    broker.restore(NodeId(2)).await.unwrap();
    assert!(matches!(broker.restore(NodeId(2)).await, Err(NotBegun::Refused(_))));
    nodes.pop().unwrap().kill().await;
    let broker = nodes[0].broker();
    eventually("node 3 is dead", || !broker.is_alive(NodeId(3))).await;
    let refused = broker.drain(NodeId(2), true).await;
    let Err(NotBegun::Quorum(risks)) = refused else { panic!("{refused:?}") };
    let at_risk: BTreeSet<&str> = risks.iter().map(|risk| risk.topic.as_str()).collect();
    assert_eq!((risks.len(), at_risk.into_iter().collect::<Vec<_>>()), (10, vec!["__cluster_metadata", "t"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_emptied_if_its_replicas_have_another_place() {
    let world = World::new(4, 3);
    let nodes = cluster(&world, 4).await;
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    let partitions = topic(&brokers, "t", 8, 3).await;
    for partition in &partitions {
        append(&brokers, *partition, "kept").await;
    }
    let broker = brokers[0];
    let id = broker.decommission(NodeId(2)).await.unwrap();
    finished(broker, id).await;
    assert_eq!((replicas(broker, 2), broker.image().duty(NodeId(2))), (0, Some(Duty::Leaving)));
    eventually("another votes in its place", || {
        let voters = broker.rafts()[0].status_now().voters;
        voters.len() == 3 && voters.iter().all(|voter| voter.node() != NodeId(2))
    })
    .await;
    for partition in &partitions {
        assert_eq!(read_all(&brokers, *partition).await.len(), 1);
    }
    let refused = broker.decommission(NodeId(1)).await;
    assert!(matches!(&refused, Err(NotBegun::NoPlace(stays)) if !stays.is_empty()), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_while_it_is_filled_is_replaced_and_a_paused_move_waits() {
    let world = World::new(5, 3);
    let mut nodes = Vec::new();
    for id in 1..=5 {
        let mut config = world.config(id);
        // Longer than it takes to begin a move to a node that has just died.
        config.raft.node_dead_after = Duration::from_secs(6);
        nodes.push(world.start_with(config).await.unwrap());
    }
    for node in &nodes {
        ready(node.broker()).await;
    }
    let brokers: Vec<&Broker> = nodes[..3].iter().map(Node::broker).collect();
    let partition = topic(&brokers, "t", 1, 3).await[0];
    append(&brokers, partition, "kept").await;
    let broker = nodes[0].broker().clone();
    eventually("all live", || (4..=5).all(|id| broker.is_alive(NodeId(id)))).await;
    let before: BTreeSet<u32> = nodes_of(&broker, "t", 0).into_iter().collect();
    let stay: Vec<u32> = before.iter().copied().take(2).collect();
    let to = |node: u32| [stay[0], stay[1], node].map(NodeId).to_vec();
    let refused = broker.move_partition("t", PartitionIndex(0), to(stay[0])).await;
    assert!(matches!(refused, Err(NotBegun::Refused(_))), "{refused:?}");
    let outsider = (1..=5).find(|node| !before.contains(node)).unwrap();
    let other = (1..=5).rev().find(|node| !before.contains(node) && *node != outsider).unwrap();
    let dying = nodes.remove(outsider as usize - 1);
    dying.kill().await;
    let id = broker.move_partition("t", PartitionIndex(0), to(outsider)).await.unwrap();
    broker.steer(id, OperationState::Paused).await.unwrap();
    eventually("its death is known", || !broker.is_alive(NodeId(outsider))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let paused = broker.image().operations[&id].clone();
    assert!(paused.moves[0].to.contains(&NodeId(outsider)), "a paused one is left alone: {paused:?}");
    broker.steer(id, OperationState::Running).await.unwrap();
    finished(&broker, id).await;
    let now: BTreeSet<u32> = nodes_of(&broker, "t", 0).into_iter().collect();
    assert_eq!(now, BTreeSet::from([stay[0], stay[1], other]), "{:?}", broker.image().operations[&id]);
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    assert_eq!(read_all(&brokers, partition).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_order_makes_another_leader_and_what_has_ended_stays_so() {
    let world = World::new(3, 3);
    let nodes = world.found().await;
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    let partition = topic(&brokers, "t", 1, 3).await[0];
    let broker = brokers[0];
    append(&brokers, partition, "a").await;
    let turned: Vec<NodeId> = nodes_of(broker, "t", 0).into_iter().rev().map(NodeId).collect();
    let id = broker.move_partition("t", PartitionIndex(0), turned.clone()).await.unwrap();
    finished(broker, id).await;
    eventually("the new preferred leader leads", || {
        let led = broker.image().partition_of_group(GroupId::FIRST_PARTITION).is_some();
        led && broker.leader(GroupId::FIRST_PARTITION).node == Some(turned[0])
    })
    .await;
    assert_eq!(broker.image().operations[&id].kind, OperationKind::Move);
    for (verb, to) in [("pause", OperationState::Paused), ("cancel", OperationState::Cancelled)] {
        assert!(matches!(broker.steer(id, to).await, Err(NotBegun::Refused(_))), "{verb} after the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_node_is_removed_when_it_is_dead_and_only_an_empty_folder_comes_back() {
    let mut world = World::new(4, 3);
    let mut nodes = cluster(&world, 4).await;
    let brokers: Vec<&Broker> = nodes.iter().map(Node::broker).collect();
    topic(&brokers, "t", 4, 3).await;
    let broker = nodes[0].broker().clone();
    let against = async |node: u32| match broker.remove_node(NodeId(node), true).await {
        Err(NotBegun::InUse(_, against)) => against.join(", "),
        other => panic!("{other:?}"),
    };
    let used = against(2).await;
    for reason in ["it is alive", "it is not decommissioned", "replica(s)", "it votes"] {
        assert!(used.contains(reason), "{used}");
    }
    let id = broker.decommission(NodeId(4)).await.unwrap();
    finished(&broker, id).await;
    assert_eq!(against(4).await, "it is alive, or was until a moment ago");
    nodes.pop().unwrap().kill().await;
    eventually("its death is known", || !broker.is_alive(NodeId(4))).await;
    let removed = async |dry_run: bool| broker.remove_node(NodeId(4), dry_run).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while removed(true).await.is_err() {
        assert!(tokio::time::Instant::now() < until, "{:?}", removed(true).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(broker.image().nodes.contains_key(&NodeId(4)), "a dry run removes nothing");
    removed(false).await.unwrap();
    let gone = |broker: &Broker| !broker.image().nodes.contains_key(&NodeId(4));
    eventually("all have forgotten it", || nodes.iter().all(|node| gone(node.broker()))).await;
    let member = |broker: &Broker| {
        let status = broker.rafts()[0].status_now();
        status.voters.iter().chain(&status.learners).any(|replica| replica.node() == NodeId(4))
    };
    eventually("the controller's group has, too", || !member(&broker)).await;

    let mut returned = world.start(4).await;
    let error = tokio::time::timeout(Duration::from_secs(20), returned.failed()).await.expect("it ends");
    assert!(error.to_string().contains("was removed from the cluster"), "{error}");
    returned.kill().await;
    assert!(gone(&broker));

    world.disks.insert(4, storage::engine::sim::SimDisk::new(44));
    let fresh = world.start(4).await;
    ready(fresh.broker()).await;
    eventually("it is known", || !gone(&broker)).await;
    let registered = broker.image().nodes[&NodeId(4)].clone();
    assert_eq!((registered.incarnation, broker.image().duty(NodeId(4))), (2, None));
    eventually("it is a member of the controller's group", || member(&broker)).await;
}
