//! Idle partitions sleep and wake (docs/adr/006): the harness's cuts and deaths stand for what heartbeats between nodes say.

mod harness;

use std::time::Duration;

use harness::{Cluster, write};
use raft::{Kind, ProposeError};

const SECOND: Duration = Duration::from_secs(1);

/// Three replicas that sleep, and the node of their leader.
async fn sleeping() -> (Cluster, u32) {
    let cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    write(&cluster.group(leader), "one").await.unwrap();
    cluster.tend(2 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    (cluster, leader)
}

/// Writes as a partition's actor does.
async fn rouse_and_write(cluster: &Cluster, node: u32, text: &str) -> Result<u64, ProposeError> {
    let group = cluster.group(node);
    group.rouse().await?;
    write(&group, text).await.map(|proposed| proposed.index)
}

#[tokio::test(start_paused = true)]
async fn who_sleeps_says_nothing_and_leads_on() {
    let (cluster, leader) = sleeping().await;
    let (term, before) = (cluster.group(leader).status_now().term, cluster.net.lock().unwrap().bytes);
    cluster.tend(60 * SECOND).await;
    assert_eq!(cluster.net.lock().unwrap().bytes, before, "not a byte in a minute");
    let status = cluster.group(leader).status_now();
    assert!(status.leads() && status.term == term, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_wakes_and_a_linearizable_read_does_not() {
    let (cluster, leader) = sleeping().await;
    assert_eq!(cluster.group(leader).linearize().await, Ok(1 + 1));
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    let begun = tokio::time::Instant::now();
    rouse_and_write(&cluster, leader, "two").await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    cluster.tend(SECOND / 2).await;
    assert_eq!(cluster.asleep(), [] as [u32; 0]);
    cluster.tend(2 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_sleeps_on_an_entry_that_is_missing_somewhere() {
    let cluster = Cluster::new(3, 3, Kind::Partition).await;
    let leader = cluster.leader().await;
    let (one, other) = (1 + leader % 3, 1 + (leader + 1) % 3);
    cluster.isolate(one);
    cluster.isolate(other);
    let lost = tokio::spawn({
        let group = cluster.group(leader);
        async move { write(&group, "nowhere else").await }
    });
    cluster.tend(3 * SECOND).await;
    assert!(!cluster.group(leader).is_asleep());
    cluster.heal();
    cluster.tend(5 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    drop(lost);
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_leader_wakes_and_another_leads() {
    let (mut cluster, leader) = sleeping().await;
    cluster.crash(leader, 0).await;
    cluster.tend(2 * SECOND).await;
    let new = cluster.leader().await;
    assert_ne!(new, leader);
    rouse_and_write(&cluster, new, "two").await.unwrap();
    cluster.tend(3 * SECOND).await;
    assert_eq!(cluster.asleep().len(), 2, "a dead node keeps nobody awake");
    cluster.restart(leader).await;
    cluster.tend(5 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_in_its_sleep_stops_leading() {
    let (cluster, leader) = sleeping().await;
    cluster.isolate(leader);
    cluster.tend(Duration::from_millis(1_500)).await;
    let status = cluster.group(leader).status_now();
    assert!(!status.leads(), "{status:?}");
    let others: Vec<u32> = (1..=3).filter(|node| *node != leader).collect();
    let new = cluster.leader_among(&others).await;
    rouse_and_write(&cluster, new, "two").await.unwrap();
    assert!(rouse_and_write(&cluster, leader, "lost").await.is_err());
    cluster.heal();
    cluster.tend(5 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    assert_eq!(cluster.group(leader).status_now().leader.map(|node| node.0), Some(new));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_restarts_does_not_depose_a_sleeping_leader() {
    let (mut cluster, leader) = sleeping().await;
    let term = cluster.group(leader).status_now().term;
    let follower = 1 + leader % 3;
    cluster.crash(follower, 0).await;
    cluster.restart(follower).await;
    cluster.tend(5 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
    let status = cluster.group(follower).status_now();
    assert_eq!((status.leader.map(|node| node.0), status.term), (Some(leader), term));
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_out_of_sleep() {
    let (cluster, leader) = sleeping().await;
    let target = 1 + leader % 3;
    cluster.group(leader).transfer_leader(model::NodeId(target)).await.unwrap();
    assert_eq!(cluster.leader().await, target);
    cluster.tend(3 * SECOND).await;
    assert_eq!(cluster.asleep(), [1, 2, 3]);
}
