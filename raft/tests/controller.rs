//! The controller group: commands and replies, snapshots by count and by bytes, recovery from snapshot and log,
//! a late replica that can only be reached by a snapshot, damaged disks.

mod harness;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use harness::*;
use model::command::{Payload, Tag};
use model::controller::{AllocateProducerIds, Command, Outcome, Registration};
use model::machine::DeadReason;
use model::{NodeId, Reply, StoreId};
use raft::{Error, Group, Kind};
use storage::codec;

fn command(command: &Command) -> Payload {
    Payload::command(Tag::Controller, 1, codec::encode(command))
}

fn register(node: u32) -> Command {
    Command::RegisterNode(Registration {
        id: NodeId(node),
        store: StoreId(u64::from(node)),
        listeners: BTreeMap::new(),
        rack: None,
    })
}

fn allocate() -> Command {
    Command::AllocateProducerIds(AllocateProducerIds { node: NodeId(1), count: 1 })
}

async fn ask(group: &Group, what: Command) -> Outcome {
    let proposed = group.propose(vec![command(&what)]).await.remove(0).unwrap();
    match proposed.reply {
        Reply::Controller(reply) => reply.outcome,
        other => panic!("{other:?}"),
    }
}

async fn allocate_many(group: &Group, count: usize) {
    for _ in 0..count / 100 {
        let results = group.propose((0..100).map(|_| command(&allocate())).collect()).await;
        assert!(results.iter().all(Result::is_ok));
    }
}

/// Waits until the controller's images are equal everywhere.
async fn same_image(cluster: &Cluster) -> i64 {
    for _ in 0..1_000 {
        let images: Vec<_> = cluster.nodes.values().map(|groups| groups.get(GROUP).unwrap().image().unwrap()).collect();
        if images.windows(2).all(|pair| pair[0] == pair[1]) {
            return images[0].next_producer_id;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("images differ for 10 s");
}

#[tokio::test(start_paused = true)]
async fn commands_are_decoded_applied_and_answered_everywhere() {
    let cluster = Cluster::new(3, 3, Kind::Controller).await;
    let leader = cluster.group(cluster.leader().await);
    assert!(matches!(ask(&leader, register(1)).await, Outcome::Node(Ok(_))));
    for first in 0..10 {
        let Outcome::ProducerIds(Ok(block)) = ask(&leader, allocate()).await else { panic!() };
        assert_eq!(block.first, first);
    }
    assert_eq!(same_image(&cluster).await, 10);
    let foreign =
        leader.propose(vec![payload("a batch"), Payload::command(Tag::Controller, 1, Bytes::from_static(b"?"))]);
    let dead: Vec<Reply> = foreign.await.into_iter().map(|result| result.unwrap().reply).collect();
    assert_eq!(dead, [Reply::Dead(DeadReason::Foreign(Tag::Append as u8)), Reply::Dead(DeadReason::Body)]);
    assert!(leader.partition(|_| ()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_controller_recovers_from_snapshot_and_log_and_serves_late_replicas() {
    let mut cluster = Cluster::new(4, 3, Kind::Controller).await;
    let leader = cluster.group(cluster.leader().await);
    ask(&leader, register(1)).await;
    allocate_many(&leader, 10_500).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = leader.metrics();
    assert!(metrics.snapshot >= Some(10_000), "{metrics:?}");
    assert!(metrics.purged >= Some(8_500) && metrics.purged < metrics.snapshot, "{metrics:?}");
    allocate_many(&leader, 200).await;

    cluster.nodes[&4].open(GROUP, Kind::Controller, replica(4), None).await.unwrap();
    leader.add_learner(replica(4)).await.unwrap();
    leader.caught_up(replica(4), Duration::from_secs(10)).await.unwrap();
    leader.change_voters((1..=4).map(replica).collect()).await.unwrap();
    assert_eq!(same_image(&cluster).await, 10_700);
    assert!(cluster.group(4).metrics().snapshot.is_some(), "it came by snapshot");

    for node in 1..=4 {
        cluster.crash(node, 0).await;
    }
    for node in 1..=4 {
        cluster.restart(node).await;
    }
    cluster.leader().await;
    assert_eq!(same_image(&cluster).await, 10_700);
}

#[tokio::test(start_paused = true)]
async fn many_bytes_make_a_snapshot_before_many_entries_do() {
    let cluster = Cluster::new(1, 1, Kind::Controller).await;
    let leader = cluster.group(cluster.leader().await);
    let large = Payload::command(Tag::Controller, 1, Bytes::from(vec![0; 500_000]));
    for _ in 0..40 {
        leader.propose(vec![large.clone()]).await.remove(0).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = leader.metrics();
    assert!(metrics.snapshot > Some(30), "16 MiB are due: {metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_contradicts_itself_is_quarantined() {
    let mut cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    for n in 0..20 {
        write(&group, &format!("{n}")).await.unwrap();
    }
    let last = group.metrics().last.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.crash(1, usize::MAX).await;

    let (writer, _) = storage::open(cluster.disks[&1].open(), storage::Options::default()).unwrap();
    writer.truncate_after(GROUP, Some(last - 5), Box::new(|result| result.unwrap()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(writer);
    cluster.boot(1);
    let error = cluster.nodes[&1].open(GROUP, Kind::Partition, replica(1), None).await.unwrap_err();
    assert!(matches!(error, Error::Quarantined { .. }), "{error:?}");
    assert!(cluster.nodes[&1].get(GROUP).is_none());
    assert!(cluster.disks[&1].durable(GROUP, last - 5).is_some(), "nothing is purged on doubt");
}
