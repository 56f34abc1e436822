//! Real nodes that are killed, stopped, cut off, filled up, damaged and robbed of their power, under real producers: franz-go
//! with acks=all and idempotence. Afterwards every acknowledged record must be read back once, at its acknowledged offset.
//! Here: kill -9 alone. `make test` does a few kills and rounds, `make test-long` the full count: 40 kills of single nodes,
//! 10 of all three, 30 of a queue's leader, 20 losses of power, 30 rounds of the mixed schedule.

mod chaos;
mod damage;
mod faults;
mod full_disk;
mod power;
mod queues;
mod small_disk;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use harness::load::{Load, field};
use harness::{Cluster, Options, count, silence_ms_max};

/// A node stays down for so long.
const DOWN: Duration = Duration::from_millis(1_500);
/// The cluster is whole for so long between two kills.
const WHOLE: Duration = Duration::from_millis(2_500);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_killed_node_costs_no_record_and_two_seconds_at_most() {
    let _turn = turn();
    let kills = count(4, 40);
    let Some(report) = under_load(kills, |cluster, number| {
        // Every node in turn, beginning anywhere: leaders of all partitions die sooner or later.
        let node = (number as u32 * 2) % 3 + 1;
        cluster.kill(node);
        sleep(DOWN);
        cluster.restart(node);
    }) else {
        return;
    };
    let silence: u64 = field(&report, "gap_ms=").parse().expect("gap_ms is a number");
    assert!(silence <= silence_ms_max(), "{silence} ms without an acknowledgement on a partition: {report}");
}

#[test]
fn all_three_nodes_killed_at_once_lose_no_record() {
    let _turn = turn();
    under_load(count(2, 10), |cluster, _| {
        (1..=3).for_each(|node| cluster.kill(node));
        sleep(DOWN);
        // A node alone cannot become ready: its group needs a majority. So all three come back together.
        cluster.restart_all(&[1, 2, 3]);
    });
}

/// Produces while `kill` is done `kills` times; gives the verifying program's last line, or None where Go is missing.
fn under_load(kills: usize, mut kill: impl FnMut(&mut Cluster, usize)) -> Option<String> {
    let mut cluster = Cluster::start(Options::default());
    let load = Load::start(&cluster.bootstrap(), 0)?;
    for number in 0..kills {
        sleep(WHOLE);
        kill(&mut cluster, number);
    }
    sleep(WHOLE);
    let report = load.finish();
    cluster.stop();
    Some(report)
}
