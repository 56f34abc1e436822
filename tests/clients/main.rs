//! Runs the real Kafka and AMQP clients of `tests/clients/*` against a three-node cluster; a missing language is skipped in words.
//! One cluster at a time: two cores serve one cluster and one client well.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harness::{Cluster, Options, repository};

/// What a client may be without an acknowledgement after one node is killed; tests/crash holds the exact figure.
const SILENCE_MS_MAX: u64 = 10_000;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `tests/clients/run` aimed at a cluster.
fn runner(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new(repository().join("tests/clients/run"));
    command.args(arguments).env("FLOTILLA_BOOTSTRAP", cluster.bootstrap()).env("FLOTILLA_RF", "3");
    command.env("FLOTILLA_AMQP", cluster.amqp());
    command
}

/// Runs client programs to their end and shows what they print; fails with the lines of what failed, so that these are never far to seek.
fn all_pass(arguments: &[&str]) {
    let _turn = turn();
    let cluster = Cluster::start(Options::default());
    let mut programs = runner(&cluster, arguments).stdout(Stdio::piped()).spawn().expect("tests/clients/run starts");
    let output = BufReader::new(programs.stdout.take().expect("stdout is piped"));
    let mut failed = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        println!("{line}");
        if line.starts_with("FAIL ") {
            failed.push(line);
        }
    }
    let status = programs.wait().expect("the programs can be waited for");
    assert!(status.success(), "tests/clients/run: {status}\n{}", failed.join("\n"));
    cluster.stop();
}

#[test]
fn every_client_writes_and_reads() {
    all_pass(&[]);
}

#[test]
fn every_client_works_with_queues() {
    all_pass(&["--queues"]);
}

#[test]
fn every_client_consumes_as_a_group() {
    all_pass(&["--group"]);
}

/// FLOTILLA_LONG=1: twenty members, at the intervals that a cluster has by default.
#[test]
fn a_rolling_restart_moves_no_partition_for_nothing() {
    let (members, partitions) = (harness::count(4, 20), harness::count(12, 40));
    all_pass(&["--rolling", &members.to_string(), &partitions.to_string()]);
}

#[test]
fn rdkafka_passes_its_own_tests() {
    all_pass(&["rdkafka"]);
}

#[test]
fn kafka_go_goes_on_after_a_kill() {
    survives_a_kill("kafka-go");
}

#[test]
fn franz_go_goes_on_after_a_kill() {
    survives_a_kill("franz-go");
}

/// Kills a node under the client's producers, brings it back, and lets the program check every acknowledged record.
fn survives_a_kill(client: &str) {
    let _turn = turn();
    let mut cluster = Cluster::start(Options::default());
    let mut program = runner(&cluster, &["--failover", client, "--seconds", "10"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/clients/run starts");
    let output = BufReader::new(program.stdout.take().expect("stdout is piped"));
    let mut last = String::new();
    for line in output.lines().map_while(Result::ok) {
        println!("{line}");
        if line.starts_with("producing ") {
            std::thread::sleep(Duration::from_secs(2));
            cluster.kill(2);
            std::thread::sleep(Duration::from_secs(4));
            cluster.restart(2);
        }
        last = line;
    }
    let status = program.wait().expect("the program can be waited for");
    assert!(status.success(), "{last}");
    if last.starts_with("skip ") {
        return;
    }
    let silence: u64 = last
        .split(' ')
        .find_map(|word| word.strip_prefix("gap_ms="))
        .and_then(|number| number.parse().ok())
        .expect("the program names the longest silence");
    assert!(silence <= SILENCE_MS_MAX, "{last}");
    cluster.stop();
}
