//! Replicas that move between nodes, come and go, as the controller wants it and the partition's leader carries it out.
use std::time::Duration;

use model::controller::{AlterReplicas, Code, Command, Outcome, Partition, Placing, ReplicaChange, Terms, Wanted};
use model::{NodeId, ReplicaId};
use node::Node;
use node::broker::{Broker, PartitionRef};
use tokio::time::sleep;

use crate::world::{PATIENCE, World, append, eventually, read_all, ready, topic};

fn on(nodes: &[u32]) -> Wanted {
    Wanted::On(nodes.iter().copied().map(NodeId).collect())
}

fn placed(broker: &Broker, partition: PartitionRef) -> Partition {
    broker.image().topic_by_id(partition.topic).unwrap().partition(partition.index).unwrap().clone()
}

fn nodes_of(broker: &Broker, partition: PartitionRef) -> Vec<u32> {
    placed(broker, partition).nodes().iter().map(|node| node.0).collect()
}

async fn ask(broker: &Broker, partition: PartitionRef, to: Wanted) -> Result<(), Code> {
    let topic = broker.image().topic_by_id(partition.topic).unwrap().name.clone();
    let changes = vec![ReplicaChange { topic, index: partition.index, revision: None, to }];
    let what = Placing::AlterReplicas(AlterReplicas { changes, may_change_count: true });
    let reply = broker.control(Command::Place { terms: Terms::default(), what }).await.unwrap();
    let Outcome::Each(mut results) = reply.outcome else { panic!("{reply:?}") };
    results.remove(0).map_err(|refusal| refusal.code)
}

async fn finished(brokers: &[&Broker], partition: PartitionRef) {
    eventually("the change is finished", || brokers.iter().all(|broker| !placed(broker, partition).is_changing)).await;
}

/// Three founders and `more` nodes that joined.
async fn grown(world: &mut World, more: u32) -> Vec<Node> {
    let mut nodes = world.found().await;
    world.expect = 1;
    for node in 4..4 + more {
        nodes.push(world.start(node).await);
    }
    for node in &nodes {
        ready(node.broker()).await;
    }
    nodes
}

fn brokers(nodes: &[Node]) -> Vec<&Broker> {
    nodes.iter().map(Node::broker).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_grows_and_shrinks_with_all_it_holds() {
    let mut world = World::new(5, 3);
    let nodes = grown(&mut world, 2).await;
    let brokers = brokers(&nodes);
    let partition = topic(&brokers, "moved", 1, 3).await[0];
    let group = placed(brokers[0], partition).group;
    let first = nodes_of(brokers[0], partition);
    let mut want = 0;
    for (to, replicas) in [(&[1, 4, 5][..], 3), (&[1, 2, 3, 4, 5], 5), (&[2, 3], 2), (&[4], 1), (&[1, 2, 3], 3)] {
        for _ in 0..20 {
            append(&brokers, partition, &format!("{want}")).await;
            want += 1;
        }
        ask(brokers[0], partition, on(to)).await.unwrap();
        append(&brokers, partition, &format!("{want}")).await;
        want += 1;
        finished(&brokers, partition).await;
        assert_eq!(nodes_of(brokers[0], partition), to, "from {first:?}");
        eventually("only those run it, and they agree", || {
            let rafts: Vec<_> = brokers.iter().flat_map(|b| b.rafts()).filter(|raft| raft.id() == group).collect();
            rafts.len() == replicas && rafts.iter().all(|raft| raft.status_now().voters.len() == replicas)
        })
        .await;
        let values = read_all(&brokers, partition).await;
        assert_eq!(values, (0..want).map(|n| (n, format!("{n}"))).collect::<Vec<_>>());
        let kept = || world.disks.iter().all(|(node, disk)| disk.durable_last(group).is_some() == to.contains(node));
        eventually("only their disks hold it", kept).await;
    }
    let ids: Vec<ReplicaId> = placed(brokers[0], partition).replicas;
    assert!(ids.iter().all(|replica| replica.revision() > 1), "who came back is another replica: {ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_waits_for_a_dead_node_and_can_be_cancelled_or_replaced() {
    let mut world = World::new(5, 3);
    let mut nodes = grown(&mut world, 2).await;
    let partition = topic(&brokers(&nodes), "moved", 1, 3).await[0];
    append(&brokers(&nodes), partition, "before").await;
    let group = placed(nodes[0].broker(), partition).group;
    assert_eq!(ask(nodes[0].broker(), partition, Wanted::Before).await, Err(Code::NoReassignmentInProgress));
    nodes.pop().unwrap().kill().await;
    let all = brokers(&nodes);
    eventually("everybody knows", || all.iter().all(|broker| !broker.is_alive(NodeId(5)))).await;
    assert_eq!(ask(all[0], partition, on(&[1, 2, 5])).await, Err(Code::InvalidReplicaAssignment));

    // It dies when the change is asked for already.
    let fifth = world.start(5).await;
    ready(fifth.broker()).await;
    eventually("everybody knows again", || all.iter().all(|broker| broker.is_alive(NodeId(5)))).await;
    let (asked, ()) = tokio::join!(ask(all[0], partition, on(&[1, 2, 5])), fifth.kill());
    asked.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes_of(all[0], partition), [1, 2, 5, 3]);
    append(&all, partition, "meanwhile").await;
    ask(all[0], partition, Wanted::Before).await.unwrap();
    finished(&all, partition).await;
    let mut back = nodes_of(all[0], partition);
    back.sort_unstable();
    assert_eq!(back, [1, 2, 3]);
    ask(all[0], partition, on(&[1, 2, 4])).await.unwrap();
    finished(&all, partition).await;
    assert_eq!(read_all(&all, partition).await.len(), 2);

    // Who comes back later has nothing left of it.
    let fifth = world.start(5).await;
    ready(fifth.broker()).await;
    eventually("the rest is swept up", || world.disks[&5].durable_last(group).is_none()).await;
    assert!(fifth.broker().rafts().iter().all(|raft| raft.id() != group));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_goes_on_and_a_deleted_topic_ends_it() {
    let mut world = World::new(4, 3);
    let mut nodes = grown(&mut world, 1).await;
    let all = brokers(&nodes);
    let [partition, deleted] = topic(&all, "moved", 2, 3).await[..] else { panic!("two partitions") };
    append(&all, partition, "one").await;
    let group = placed(all[0], partition).group;
    let leader = all[0].leader(group).node.unwrap();
    let to: Vec<u32> = (1..=4).filter(|node| *node != leader.0).collect();
    ask(all[0], partition, on(&to)).await.unwrap();
    nodes.remove(leader.0 as usize - 1).kill().await;
    let all = brokers(&nodes);
    finished(&all, partition).await;
    append(&all, partition, "two").await;
    assert_eq!(read_all(&all, partition).await.len(), 2);
    let back = world.start(leader.0).await;
    ready(back.broker()).await;
    eventually("its replica is swept up", || world.disks[&leader.0].durable_last(group).is_none()).await;

    let mut everybody = all.clone();
    everybody.push(back.broker());
    let group = placed(all[0], deleted).group;
    ask(all[0], deleted, on(&[4])).await.unwrap();
    let delete = model::controller::DeleteTopics { topics: vec![model::controller::TopicRef::Name("moved".into())] };
    all[0].control(Command::DeleteTopics(delete)).await.unwrap();
    eventually("nobody has it any more", || {
        everybody.iter().all(|broker| broker.rafts().iter().all(|raft| raft.id() != group))
            && world.disks.values().all(|disk| disk.durable_last(group).is_none())
    })
    .await;
    tokio::time::timeout(PATIENCE, back.stop()).await.unwrap();
}
