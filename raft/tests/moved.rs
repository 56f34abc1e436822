//! Records that were moved: the log below is freed though the log start stays, and who has only the checkpoint reads the same.

mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::*;
use model::Reply;
use model::command::Payload;
use model::partition::{MovedBatch, Relocation};
use model::record::NO_HORIZON;
use model::retention::Segment;
use raft::{Group, Kind};

const SEGMENT: Segment = Segment { bytes: 4_096, ms: i64::MAX };

async fn fill(group: &Group, count: usize) {
    for number in 0..count {
        let bytes = batch(&format!("{number}{}", ".".repeat(500)));
        group.propose(vec![Payload::append(1, vec![bytes])]).await.remove(0).unwrap();
    }
}

/// Moves what is left of `from..to`: the last record of it.
async fn keep_last(group: &Group, from: i64, to: i64) -> Reply {
    let mut bytes = batch("kept").to_vec();
    bytes[..8].copy_from_slice(&(to - 1).to_be_bytes());
    bytes[12..16].copy_from_slice(&1i32.to_be_bytes());
    let after = group.partition(|machine| machine.clean().moves).unwrap();
    let batches = vec![MovedBatch { bytes: Bytes::from(bytes), horizon_ms: NO_HORIZON }];
    let moved = Relocation { after, from, to, batches }.payload(1);
    group.propose(vec![moved]).await.remove(0).unwrap().reply
}

/// Base offsets of what can be read, from the log start to where records are in their first place.
fn places(group: &Group) -> Vec<(i64, i64)> {
    group.partition(|machine| machine.moved().map(|row| (row.from, row.to)).collect()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_moved_frees_the_log_below_and_a_replica_that_was_down_follows() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    for node in 1..=3 {
        cluster.group(node).set_segment(SEGMENT);
    }
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    fill(&group, 40).await;
    let late = leader % 3 + 1;
    cluster.crash(late, 0).await;
    fill(&group, 60).await;
    let before = group.space().unwrap();
    assert_eq!(keep_last(&group, 0, 30).await, Reply::Relocated(true));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let early = group.space().unwrap().purged;
    assert!(early.is_some_and(|upto| upto < 33), "the first thirty are all in one place now: {early:?}");
    assert_eq!(keep_last(&group, 30, 90).await, Reply::Relocated(true));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = group.space().unwrap();
    assert!(after.bytes < before.bytes / 2 && after.purged > early, "{before:?} then {after:?}");
    assert_eq!((after.log_start, after.next_offset), (0, 100));
    let returned = cluster.restart(late).await;
    cluster.converge().await;
    assert_eq!(places(&returned), [(0, 30), (30, 90)]);
    assert_eq!(returned.partition(|m| m.place(0)), group.partition(|m| m.place(0)));
    assert_eq!(returned.quarantined(), None);
    cluster.crash(late, 0).await;
    let again = cluster.restart(late).await;
    assert_eq!(places(&again), [(0, 30), (30, 90)], "from its own rows");
}
