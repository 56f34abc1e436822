//! Seeded storms of crashes, power failures, cuts and transfers under concurrent writers: at the end every
//! acknowledged record is at its acknowledged offset on every replica, and all replicas are the same.
//! `SEEDS=n` runs n of them, from `FIRST`; a failure names its seed (openraft's own election timeouts are not seeded).

mod harness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::*;
use model::machine::AppendReply;
use model::{NodeId, Reply};
use raft::{Error, Group, Kind};

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % below
    }
}

type Ledger = Arc<Mutex<BTreeMap<i64, String>>>;
type Handles = Arc<Mutex<BTreeMap<u32, Group>>>;

/// Writes numbered records to whoever leads, and remembers what was acknowledged where.
async fn writer(name: u32, handles: Handles, ledger: Ledger) {
    for n in 0.. {
        let leader = handles.lock().unwrap().values().find(|group| group.status_now().leads()).cloned();
        let Some(leader) = leader else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let texts: Vec<String> = (0..3).map(|part| format!("{name}.{n}.{part}")).collect();
        let proposal = leader.propose(texts.iter().map(|text| payload(text)).collect());
        let Ok(results) = tokio::time::timeout(Duration::from_secs(2), proposal).await else { continue };
        for (result, text) in results.into_iter().zip(texts) {
            let Ok(proposed) = result else { continue };
            let Reply::Append(replies) = proposed.reply else { panic!("{:?}", proposed.reply) };
            let AppendReply::Ok { base_offset } = replies[0] else { panic!("{replies:?}") };
            let before = ledger.lock().unwrap().insert(base_offset, text);
            assert_eq!(before, None, "offset {base_offset} given twice");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn publish(cluster: &Cluster, handles: &Handles) {
    let open = cluster.nodes.iter().filter_map(|(node, groups)| Some((*node, groups.get(GROUP)?)));
    *handles.lock().unwrap() = open.collect();
}

async fn strike(cluster: &mut Cluster, dice: &mut Dice) {
    let node = dice.roll(3) as u32 + 1;
    match dice.roll(8) {
        0 | 1 => {
            let keep = dice.roll(4) as usize;
            cluster.crash(node, keep).await;
            tokio::time::sleep(Duration::from_millis(dice.roll(2_000))).await;
            cluster.restart(node).await;
        }
        2 => {
            let keep = dice.roll(3) as usize;
            for node in 1..=3 {
                cluster.crash(node, keep).await;
            }
            for node in 1..=3 {
                cluster.restart(node).await;
            }
        }
        3 => cluster.isolate(node),
        4 => cluster.cut(node, node % 3 + 1),
        5 => {
            let slow = Duration::from_millis(1 + dice.roll(200));
            cluster.disks[&node].set_fsync(Duration::from_millis(1), slow);
        }
        6 => {
            if let Some(leader) = (1..=3).map(|node| cluster.group(node)).find(|group| group.status_now().is_leader) {
                leader.transfer_leader(NodeId(node)).await.ok();
            }
        }
        _ => cluster.heal(),
    }
}

async fn storm(seed: u64) {
    let mut dice = Dice(seed);
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    let (handles, ledger) = (Handles::default(), Ledger::default());
    publish(&cluster, &handles);
    let writers: Vec<_> = (0..4).map(|name| tokio::spawn(writer(name, handles.clone(), ledger.clone()))).collect();
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(dice.roll(1_500))).await;
        strike(&mut cluster, &mut dice).await;
        publish(&cluster, &handles);
    }
    cluster.heal();
    let mut left = 100;
    while write(&cluster.group(cluster.leader().await), "healed").await.is_err() {
        left -= 1;
        assert!(left > 0, "seed {seed}: no write succeeds after the healing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for writer in writers {
        writer.abort();
        if let Err(end) = writer.await {
            assert!(end.is_cancelled(), "seed {seed}: {end}");
        }
    }
    cluster.converge().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ledger = ledger.lock().unwrap().clone();
    assert!(ledger.len() > 500, "seed {seed}: only {} records were acknowledged", ledger.len());
    for node in 1..=3 {
        let texts = texts(&cluster.disks[&node], &cluster.group(node)).await;
        for (offset, text) in &ledger {
            assert_eq!(texts.get(*offset as usize), Some(text), "seed {seed}, node {node}, offset {offset}");
        }
    }
}

/// One replica has other bytes under the same log id (a bug, a bad disk, a folder restored from elsewhere).
#[tokio::test(start_paused = true)]
async fn a_replica_with_other_bytes_stops_for_good_instead_of_serving_them() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    assert_eq!(cluster.leader().await, 1);
    let leader = cluster.group(1);
    let Ok(proposed) = write(&leader, "before").await else { panic!() };
    cluster.converge().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.crash(3, usize::MAX).await;
    write(&leader, "right").await.unwrap();

    let (writer, reader) = storage::open(cluster.disks[&3].open(), storage::Options::default()).unwrap();
    assert_eq!(reader.last(GROUP).unwrap(), Some((proposed.index, proposed.term)));
    let wrong = storage::LogEntry { index: proposed.index + 1, term: proposed.term, payload: payload("wrong") };
    writer.append(GROUP, vec![wrong], Box::new(|result| result.unwrap()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(writer);

    let bad = cluster.restart(3).await;
    let mut status = bad.status();
    let stops = status.wait_for(|status| status.stopped.is_some());
    if tokio::time::timeout(Duration::from_secs(10), stops).await.is_err() {
        panic!("it goes on: {:?} {:?}", bad.metrics(), leader.metrics());
    }
    write(&leader, "after").await.unwrap();
    let stopped = status.borrow().stopped.clone().unwrap();
    assert!(stopped.contains("quarantined: its log differs from its leader's"), "{stopped}");
    assert!(bad.quarantined().is_some() && !bad.status_now().leads());
    assert!(leader.metrics().matched[&replica(3)] < leader.metrics().last, "it acknowledges nothing");
    assert!(cluster.group(2).status_now().stopped.is_none());

    cluster.crash(3, 0).await;
    for _restart in 0..2 {
        cluster.boot(3);
        let opened = cluster.nodes[&3].open(GROUP, Kind::Partition, replica(3), None).await;
        let Err(Error::Quarantined { reason, .. }) = opened else { panic!("{opened:?}") };
        assert!(reason.contains("differs from its leader's"), "{reason}");
    }
    cluster.nodes[&3].destroy(GROUP, ANY).await.unwrap();
    cluster.nodes[&3].open(GROUP, Kind::Partition, replica(3), None).await.expect("nothing is left of it");
}

#[test]
fn storms_lose_nothing_acknowledged() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    let first = std::env::var("FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        println!("seed {seed}");
        runtime.block_on(storm(seed));
    }
}
