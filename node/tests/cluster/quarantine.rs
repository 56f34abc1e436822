//! A node that holds a replica which differs from its leader's: it says so, keeps saying so, and the others go on.
use model::{GroupId, Write};
use storage::engine::sim::SimDisk;
use storage::{Row, RowKind, codec};

use crate::world::{World, append, eventually, read_all, ready, topic};

/// Changes the digest that a stopped node keeps of a log, as other bytes in the log would.
async fn tamper(disk: &SimDisk, group: GroupId) {
    let (writer, reader) = storage::open(disk.open(), storage::Options::default()).unwrap();
    let row = reader.row(group, RowKind::State).unwrap().expect("an applied log");
    let Write::State(mut state) = codec::decode::<Write>(&row, 1 << 20).unwrap() else { panic!("another row") };
    state.digest ^= 1;
    let (sent, done) = tokio::sync::oneshot::channel();
    let value = Some(codec::encode(&Write::State(state)));
    let row = Row { group, kind: RowKind::State, suffix: bytes::Bytes::new(), value };
    writer.put(vec![row], Box::new(move |result| sent.send(result.is_ok()).unwrap()));
    assert!(done.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_is_named_until_the_others_can_replace_it() {
    let world = World::new(3, 3);
    let mut nodes = world.found().await;
    let (partition, group, odd) = {
        let brokers: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
        let partition = topic(&brokers, "odd", 1, 3).await[0];
        for value in 0..5 {
            append(&brokers, partition, &value.to_string()).await;
        }
        let group = brokers[0].image().topic_by_id(partition.topic).unwrap().partitions[0].group;
        let leader = brokers[0].leader(group).node.unwrap();
        let applied = |at: usize| brokers[at].groups().iter().find(|report| report.group == group).unwrap().applied;
        eventually("the same on all", || applied(0) == applied(1) && applied(1) == applied(2)).await;
        (partition, group, if leader.0 == 3 { 2 } else { 3 })
    };
    nodes.remove(odd as usize - 1).stop().await;
    // It lacks a record from now on, so that it is not elected: then the others would be those that differ.
    let others: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    append(&others, partition, "while it is away").await;
    tamper(&world.disks[&odd], group).await;
    // One of the others is away: what is left of the odd one might still be needed.
    let gone = nodes.pop().unwrap();
    let away = gone.broker().node_id().0;
    gone.stop().await;
    for _restart in 0..2 {
        let node = world.start(odd).await;
        let broker = node.broker();
        eventually("it says what is wrong", || broker.readiness().reason.contains("odd-0: quarantined")).await;
        assert!(broker.readiness().reason.contains("keep them running"));
        eventually("it is counted", || broker.count_quarantined() == 1).await;
        let reports = broker.groups();
        assert!(reports.iter().any(|report| report.group == group && report.role == "quarantined"), "{reports:?}");
        node.stop().await;
    }
    nodes.push(world.start(away).await);
    let odd = world.start(odd).await;
    let others: Vec<_> = nodes.iter().map(|node| node.broker()).collect();
    append(&others, partition, "the others go on").await;
    assert_eq!(read_all(&others, partition).await.len(), 7);
    ready(odd.broker()).await;
    eventually("none is left", || odd.broker().count_quarantined() == 0).await;
    let raft = odd.broker().rafts().into_iter().find(|raft| raft.id() == group).unwrap();
    assert_eq!(raft.replica().revision(), 2);
    eventually("it votes again", || raft.status_now().voters.contains(&raft.replica())).await;
}
