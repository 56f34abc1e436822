//! Purging at the log start: what is freed, who gets a checkpoint, and that no crash on the way shows a hole.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use harness::*;
use model::Reply;
use model::command::Payload;
use model::machine::AppendReply;
use model::retention::{Rules, Segment};
use raft::{Error, Group, Kind};
use storage::RowKind;

const SEGMENT: Segment = Segment { bytes: 4_096, ms: i64::MAX };

/// A record of an idempotent producer, large enough that a few fill a segment.
fn produced(sequence: i32) -> Bytes {
    let mut bytes = batch(&format!("{sequence}{}", ".".repeat(500))).to_vec();
    bytes[43..51].copy_from_slice(&7i64.to_be_bytes());
    bytes[51..53].copy_from_slice(&0i16.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    Bytes::from(bytes)
}

async fn append(group: &Group, sequence: i32) -> AppendReply {
    let payload = Payload::append(1 + i64::from(sequence), vec![produced(sequence)]);
    match group.propose(vec![payload]).await.remove(0).unwrap().reply {
        Reply::Append(replies) => replies[0],
        other => panic!("{other:?}"),
    }
}

async fn fill(group: &Group, sequences: std::ops::Range<i32>) {
    for sequence in sequences {
        assert_eq!(append(group, sequence).await, AppendReply::Ok { base_offset: i64::from(sequence) });
    }
}

async fn cut(group: &Group, offset: i64) {
    let reply = group.propose(vec![Payload::log_start(1, offset)]).await.remove(0).unwrap().reply;
    assert_eq!(reply, Reply::LogStart(offset));
}

async fn cluster() -> (Cluster, u32) {
    let cluster = Cluster::new(3, 3, Kind::Partition).await;
    for node in 1..=3 {
        cluster.group(node).set_segment(SEGMENT);
    }
    let leader = cluster.leader().await;
    (cluster, leader)
}

/// Waits until every replica on `nodes` is purged to the same entry, on its disk too, and gives it.
async fn purged(cluster: &Cluster, nodes: &[u32]) -> u64 {
    for _ in 0..1_000 {
        let all: BTreeSet<_> = nodes.iter().map(|node| cluster.group(*node).space().unwrap().purged).collect();
        if let (Some(Some(purged)), 1) = (all.first(), all.len())
            && nodes.iter().all(|node| cluster.disks[node].durable(GROUP, *purged).is_none())
        {
            return *purged;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all: Vec<_> = nodes.iter().map(|node| cluster.group(*node).space()).collect();
    panic!("not purged alike within 10 s: {all:#?}");
}

#[tokio::test(start_paused = true)]
async fn every_replica_frees_what_the_log_start_has_passed() {
    let (cluster, leader) = cluster().await;
    let group = cluster.group(leader);
    fill(&group, 0..100).await;
    let before = group.space().unwrap();
    assert!(before.checkpoints > 5 && before.purged.is_none(), "{before:?}");
    assert_eq!(before.pinned_by(), "retention");
    cut(&group, 60).await;
    let upto = purged(&cluster, &[1, 2, 3]).await;
    cluster.converge().await;
    for node in 1..=3 {
        let group = cluster.group(node);
        let space = group.space().unwrap();
        assert!(space.bytes < before.bytes / 2, "{space:?} of {before:?}");
        let (first, start) = group.partition(|m| (m.locate(60).unwrap(), m.log_start())).unwrap();
        assert!(first.index > upto && first.base_offset <= 60 && start == 60, "{first:?} purged {upto}");
        assert_eq!(cluster.disks[&node].durable(GROUP, upto), None);
        assert!(cluster.disks[&node].durable(GROUP, upto + 1).is_some());
    }
    fill(&group, 100..110).await;
    let rules = Rules::new(-1, 8_192, i64::MAX, 4_096);
    let start = group.expired(&rules, 0).expect("there is too much");
    let kept = 110 - start;
    assert!((14..30).contains(&kept), "{kept} records of 600 bytes are kept");
    cut(&group, start).await;
    assert_eq!(group.expired(&rules, 0), None);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_down_across_a_purge_gets_a_checkpoint_and_refuses_the_same_retries() {
    let (mut cluster, leader) = cluster().await;
    let group = cluster.group(leader);
    fill(&group, 0..20).await;
    let late = leader % 3 + 1;
    cluster.crash(late, 0).await;
    fill(&group, 20..100).await;
    cut(&group, 97).await;
    let others: Vec<u32> = (1..=3).filter(|node| *node != late).collect();
    let upto = purged(&cluster, &others).await;
    assert!(upto > 30, "{upto}");
    let returned = cluster.restart(late).await;
    cluster.converge().await;
    assert!(returned.space().unwrap().purged >= Some(upto));
    assert_eq!(returned.partition(|m| m.log_start()), Some(97));
    assert_eq!(append(&group, 99).await, AppendReply::Duplicate { base_offset: 99 });
    cluster.converge().await;
    let next = |node: u32| cluster.group(node).partition(|m| (m.next_offset(), m.producers().clone())).unwrap();
    assert_eq!(next(late), next(leader), "a retry is a retry there too");
    assert_eq!(returned.quarantined(), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_begins_at_the_log_start_and_can_lead() {
    let cluster = Cluster::new(2, 1, Kind::Partition).await;
    let first = cluster.group(cluster.leader().await);
    first.set_segment(SEGMENT);
    fill(&first, 0..60).await;
    cut(&first, 45).await;
    purged(&cluster, &[1]).await;
    cluster.nodes[&2].open(GROUP, Kind::Partition, replica(2), None).await.unwrap();
    first.add_learner(replica(2)).await.unwrap();
    first.caught_up(replica(2), Duration::from_secs(10)).await.unwrap();
    first.change_voters([1, 2].map(replica).into()).await.unwrap();
    first.transfer_leader(model::NodeId(2)).await.unwrap();
    let second = cluster.group(cluster.leader_among(&[2]).await);
    assert_eq!(append(&second, 59).await, AppendReply::Duplicate { base_offset: 59 });
    assert_eq!(append(&second, 60).await, AppendReply::Ok { base_offset: 60 });
    assert_eq!(second.partition(|m| (m.log_start(), m.next_offset())), Some((45, 61)));
    cluster.converge().await;
}

/// Power fails at every step of what moving the log start sets off.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_a_purge_shows_no_hole() {
    for (wait_ms, keep) in (0..14).flat_map(|wait| [0, 1, 2, usize::MAX].map(|keep| (wait, keep))) {
        let mut cluster = Cluster::new(1, 1, Kind::Partition).await;
        let group = cluster.group(cluster.leader().await);
        group.set_segment(SEGMENT);
        fill(&group, 0..30).await;
        cut(&group, 25).await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        cluster.crash(1, keep).await;
        let group = cluster.restart(1).await;
        cluster.leader().await;
        assert_eq!(group.partition(|m| (m.log_start(), m.next_offset())), Some((25, 30)), "{wait_ms} ms, {keep}");
        assert_eq!(append(&group, 29).await, AppendReply::Duplicate { base_offset: 29 });
        group.purge();
        fill(&group, 30..32).await;
        let upto = purged(&cluster, &[1]).await;
        let first = group.partition(|m| m.locate(25)).flatten().unwrap();
        assert!(first.index > upto, "{first:?} {upto}");
    }
}

/// Power fails at every step of an installation.
#[tokio::test(start_paused = true)]
async fn a_crash_while_a_checkpoint_is_installed_is_survived() {
    let (mut cluster, leader) = cluster().await;
    let group = cluster.group(leader);
    let late = leader % 3 + 1;
    cluster.crash(late, 0).await;
    fill(&group, 0..60).await;
    cut(&group, 55).await;
    let others: Vec<u32> = (1..=3).filter(|node| *node != late).collect();
    purged(&cluster, &others).await;
    for (wait_ms, keep) in (0..20).map(|wait| (2 * wait, wait as usize % 3)) {
        cluster.restart(late).await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        cluster.crash(late, keep).await;
    }
    let returned = cluster.restart(late).await;
    cluster.converge().await;
    assert_eq!(returned.partition(|m| (m.log_start(), m.next_offset())), Some((55, 60)));
    fill(&group, 60..63).await;
    cluster.converge().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_purged_without_its_checkpoint_is_quarantined() {
    let mut cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    group.set_segment(SEGMENT);
    fill(&group, 0..30).await;
    cut(&group, 25).await;
    purged(&cluster, &[1]).await;
    cluster.crash(1, usize::MAX).await;
    let (writer, reader) = storage::open(cluster.disks[&1].open(), storage::Options::default()).unwrap();
    let rows = reader.rows(GROUP, RowKind::Checkpoint).unwrap();
    let gone = |(suffix, _)| storage::Row { group: GROUP, kind: RowKind::Checkpoint, suffix, value: None };
    writer.put(rows.into_iter().map(gone).collect(), Box::new(|result| result.unwrap()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(writer);
    cluster.boot(1);
    let opened = cluster.nodes[&1].open(GROUP, Kind::Partition, replica(1), None).await;
    let Err(Error::Quarantined { reason, .. }) = opened else { panic!("{opened:?}") };
    assert!(reason.contains("without a checkpoint"), "{reason}");
}
