//! kill -9 of real nodes under real producers: 8 concurrent franz-go producers with acks=all and idempotence while nodes die
//! and return. Afterwards every acknowledged record must be read back once, at its acknowledged offset.
//! `make test` does a few kills, `make test-long` the full count: 40 of single nodes, 10 of all three at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use harness::{Cluster, Options, count, repository};

/// The longest silence of any partition after a single kill.
const SILENCE_MS_MAX: u64 = 2_000;
/// A node stays down for so long.
const DOWN: Duration = Duration::from_millis(1_500);
/// The cluster is whole for so long between two kills.
const WHOLE: Duration = Duration::from_millis(2_500);
/// Wall time that one kill, its restart and the pauses may take; the producers go on at least that long.
const KILL_SECONDS_MAX: usize = 12;

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
    assert!(silence <= SILENCE_MS_MAX, "{silence} ms without an acknowledgement on a partition: {report}");
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
    let mut program = producers(&cluster, kills * KILL_SECONDS_MAX);
    let output = BufReader::new(program.stdout.take().expect("stdout is piped"));
    let mut last = String::new();
    for line in output.lines().map_while(Result::ok) {
        println!("{line}");
        if line.starts_with("producing ") {
            for number in 0..kills {
                sleep(WHOLE);
                kill(&mut cluster, number);
                let ended = program.try_wait().expect("the program can be waited for");
                assert!(ended.is_none(), "the producers ended after {number} kills: the rest would prove nothing");
            }
        }
        last = line;
    }
    let status = program.wait().expect("the program can be waited for");
    assert!(status.success(), "{last}");
    if last.starts_with("skip ") {
        return None;
    }
    let acknowledged: u64 = field(&last, "acked=").parse().expect("acked is a number");
    assert!(acknowledged > 1_000, "too few records to prove anything: {last}");
    assert_eq!(field(&last, "duplicates="), "0", "{last}");
    cluster.stop();
    Some(last)
}

fn producers(cluster: &Cluster, seconds: usize) -> Child {
    Command::new(repository().join("tests/clients/run"))
        .args(["--failover", "franz-go", "--producers", "8", "--seconds", &seconds.to_string()])
        .env("FLOTILLA_BOOTSTRAP", cluster.bootstrap())
        .env("FLOTILLA_RF", "3")
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/clients/run starts")
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {line:?}"))
}
