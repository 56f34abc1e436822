//! Growing, shrinking and handing over: 1 -> 3 -> 4 -> 3 replicas, transfers to the living and the dead, founding.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::*;
use model::NodeId;
use raft::{Error, Group, Kind};
use storage::RowKind;

const PATIENCE: Duration = Duration::from_secs(10);

/// Adds `node` as a voter: learner first, promoted when it has caught up.
async fn join(cluster: &Cluster, leader: &Group, node: u32) {
    cluster.nodes[&node].open(GROUP, cluster.kind, replica(node), None).await.unwrap();
    leader.add_learner(replica(node)).await.unwrap();
    leader.caught_up(replica(node), PATIENCE).await.unwrap();
    let mut voters = leader.status_now().voters;
    voters.insert(replica(node));
    leader.change_voters(voters).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_becomes_three_becomes_four_and_the_leader_leaves() {
    let cluster = Cluster::new(4, 1, Kind::Partition).await;
    let first = cluster.group(cluster.leader().await);
    let mut want = Vec::new();
    for n in 0..100 {
        write(&first, &format!("{n}")).await.unwrap();
        want.push(format!("{n}"));
    }
    for node in 2..=4 {
        join(&cluster, &first, node).await;
        write(&first, &format!("with {node}")).await.unwrap();
        want.push(format!("with {node}"));
    }
    assert_eq!(first.status_now().voters, (1..=4).map(replica).collect());
    cluster.converge().await;

    first.transfer_leader(NodeId(3)).await.unwrap();
    let third = cluster.group(cluster.leader_among(&[3]).await);
    third.change_voters((2..=4).map(replica).collect()).await.unwrap();
    write(&third, "without 1").await.unwrap();
    want.push("without 1".to_owned());
    cluster.nodes[&1].destroy(GROUP, ANY).await.unwrap();
    assert!(cluster.nodes[&1].get(GROUP).is_none());
    assert_eq!(cluster.disks[&1].durable_last(GROUP), None);
    cluster.converge().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for node in 2..=4 {
        let group = cluster.group(node);
        assert_eq!(group.status_now().voters, (2..=4).map(replica).collect());
        assert_eq!(texts(&cluster.disks[&node], &group).await, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_learner_is_not_caught_up_before_it_has_the_bytes() {
    let cluster = Cluster::new(2, 1, Kind::Partition).await;
    let leader = cluster.group(cluster.leader().await);
    let large = "x".repeat(200_000);
    for _ in 0..20 {
        write(&leader, &large).await.unwrap();
    }
    cluster.nodes[&2].open(GROUP, Kind::Partition, replica(2), None).await.unwrap();
    cluster.cut(1, 2);
    leader.add_learner(replica(2)).await.unwrap();
    assert!(!leader.is_caught_up(replica(2)).unwrap(), "4 MB are missing");
    let late = leader.caught_up(replica(2), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
    cluster.heal();
    leader.caught_up(replica(2), PATIENCE).await.unwrap();
    assert!(leader.metrics().matched[&replica(2)] > Some(14));
    assert_eq!(cluster.group(2).is_caught_up(replica(1)), Err(Error::NotLeader { leader: Some(NodeId(1)) }));
    leader.remove_learner(replica(2)).await.unwrap();
    assert_eq!(leader.status_now().learners, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_within_a_few_round_trips() {
    let cluster = Cluster::new(3, 3, Kind::Partition).await;
    let mut want = Vec::new();
    for round in 0..6u32 {
        let leader = cluster.leader().await;
        let target = leader % 3 + 1;
        write(&cluster.group(leader), &format!("{round}")).await.unwrap();
        want.push(format!("{round}"));
        let start = tokio::time::Instant::now();
        cluster.group(leader).transfer_leader(NodeId(target)).await.unwrap();
        assert_eq!(cluster.leader_among(&[target]).await, target);
        assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    }
    let outsider = cluster.group(cluster.leader().await).transfer_leader(NodeId(9)).await.unwrap_err();
    assert!(matches!(outsider, Error::Membership(_)), "{outsider:?}");
    let follower = (1..=3).find(|node| !cluster.group(*node).status_now().is_leader).unwrap();
    let refused = cluster.group(follower).transfer_leader(NodeId(1)).await.unwrap_err();
    assert!(matches!(refused, Error::NotLeader { leader: Some(_) }), "{refused:?}");
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_to_a_dead_node_ends_in_a_leader_all_the_same() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    let dead = leader % 3 + 1;
    cluster.crash(dead, 0).await;
    let group = cluster.group(leader);
    let start = tokio::time::Instant::now();
    group.transfer_leader(NodeId(dead)).await.ok();
    let next = cluster.leader().await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    write(&cluster.group(next), "alive").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_other_founders_found_the_group_when_the_first_never_comes() {
    let mut cluster = Cluster::new(3, 0, Kind::Partition).await;
    let founders: Vec<_> = (1..=3).map(replica).collect();
    for node in 2..=3 {
        cluster.nodes[&node].open(GROUP, Kind::Partition, replica(node), Some(founders.clone())).await.unwrap();
    }
    let leader = cluster.leader().await;
    write(&cluster.group(leader), "two of three").await.unwrap();
    cluster.nodes[&1].open(GROUP, Kind::Partition, replica(1), Some(founders)).await.unwrap();
    cluster.converge().await;
    cluster.crash(leader, 0).await;
    cluster.leader().await;
}

/// As found by simulated seed 263: who has voted is founded for openraft, also if its candidate died with the only log.
#[tokio::test(start_paused = true)]
async fn the_other_founders_found_the_group_when_the_first_dies_as_a_candidate() {
    let mut cluster = Cluster::new(3, 0, Kind::Partition).await;
    let founders: Vec<_> = (1..=3).map(replica).collect();
    cluster.nodes[&2].open(GROUP, Kind::Partition, replica(2), None).await.unwrap();
    cluster.cut(1, 3);
    cluster.disks[&1].set_fsync(Duration::from_millis(50), Duration::from_millis(50));
    cluster.nodes[&1].open(GROUP, Kind::Partition, replica(1), Some(founders.clone())).await.unwrap();
    while cluster.disks[&2].durable_row(GROUP, RowKind::Vote).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(cluster.group(2).metrics().last, None, "the candidate replicated already: the test shows nothing");
    cluster.crash(1, 0).await;
    cluster.nodes[&2].close(GROUP).await.unwrap();
    for node in 2..=3 {
        cluster.nodes[&node].open(GROUP, Kind::Partition, replica(node), Some(founders.clone())).await.unwrap();
    }
    let leader = cluster.leader().await;
    write(&cluster.group(leader), "two of three").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_new_replicas_of_revision_one_found_a_group() {
    let cluster = Cluster::new(2, 0, Kind::Partition).await;
    let second = model::ReplicaId::new(NodeId(1), 2);
    let group = cluster.nodes[&1].open(GROUP, Kind::Partition, second, Some(vec![second])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(group.metrics().last, None);
    assert!(!group.status_now().is_leader);
    let stranger = cluster.nodes[&2].open(GROUP, Kind::Partition, replica(2), Some(vec![replica(3)])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stranger.metrics().last, None);
    let twice = cluster.nodes[&2].open(GROUP, Kind::Partition, replica(2), None).await.unwrap_err();
    assert_eq!(twice, Error::AlreadyOpen(GROUP));
}

/// A node that lost its disk must come back under a new replica id: the old id is not answered for.
#[tokio::test(start_paused = true)]
async fn a_replica_does_not_answer_for_another_id() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.group(cluster.leader().await);
    write(&leader, "one").await.unwrap();
    cluster.crash(3, 0).await;
    cluster.disks.insert(3, storage::engine::sim::SimDisk::new(33));
    cluster.boot(3);
    let reborn = model::ReplicaId::new(NodeId(3), 2);
    let group = cluster.nodes[&3].open(GROUP, Kind::Partition, reborn, None).await.unwrap();
    write(&leader, "two").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(group.metrics().last, None, "entries for replica 3.1 must not reach 3.2");
    leader.add_learner(reborn).await.unwrap();
    leader.caught_up(reborn, PATIENCE).await.unwrap();
    leader.change_voters([replica(1), replica(2), reborn].into()).await.unwrap();
    write(&leader, "three").await.unwrap();
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_group_opens_again_where_it_was() {
    let cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    for n in 0..300 {
        write(&group, &format!("{n}")).await.unwrap();
    }
    let state = group.partition(|machine| *machine.state()).unwrap();
    cluster.nodes[&1].close(GROUP).await.unwrap();
    assert_eq!(cluster.nodes[&1].close(GROUP).await, Err(Error::NotOpen(GROUP)));
    assert!(write(&group, "late").await.is_err());
    let group = cluster.nodes[&1].open(GROUP, Kind::Partition, replica(1), None).await.unwrap();
    assert_eq!(group.partition(|machine| *machine.state()), Some(state), "recovered from its rows, not replayed");
    cluster.leader().await;
    write(&group, "again").await.unwrap();
    assert_eq!(group.partition(|machine| machine.high_watermark()), Some(301));
}
