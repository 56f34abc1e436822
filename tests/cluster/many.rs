//! Thousands of partitions on three small nodes: they start, elect, serve, sleep, and are all there after a restart of everything.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Servers, count, feed};

use crate::retention::flotilla;
use crate::together;

/// Of each topic; a debug build beside other tests is slow to make them.
const PARTITIONS: (usize, usize) = (100, 500);
/// With this many keys no partition stays empty, but for one chance in a million.
const RECORDS_PER_PARTITION: usize = 20;

#[test]
fn thousands_of_partitions_serve_before_and_after_a_restart() {
    let _room = together();
    if Command::new("kcat").arg("-V").output().is_err() {
        println!("skipped: no kcat");
        return;
    }
    let topics: Vec<String> = (0..count(1, 20)).map(|number| format!("many-{number}")).collect();
    let partitions = count(PARTITIONS.0, PARTITIONS.1);
    let all = topics.len() * partitions;
    let mut servers = Servers::new(3, &["limits.partitions_max=12000"]);
    servers.start_all();
    servers.ready_within(Duration::from_secs(40));

    let started = Instant::now();
    for topic in &topics {
        flotilla(&servers, &["topic", "create", topic, "--partitions", &partitions.to_string(), "--replication", "3"]);
    }
    println!("{all} partitions of three replicas created after {:?}", started.elapsed());
    topics.iter().for_each(|topic| write(&servers, topic, partitions));
    println!("a record in each after {:?}", started.elapsed());

    for node in 1..=3 {
        servers.node(node).kill();
    }
    let started = Instant::now();
    servers.start_all();
    servers.ready_within(Duration::from_secs(300));
    println!("three nodes ready {:?} after a kill of all", started.elapsed());
    topics.iter().for_each(|topic| read(&servers, topic, partitions));
    println!("every partition read {:?} after the kill", started.elapsed());
}

fn write(servers: &Servers, topic: &str, partitions: usize) {
    let lines: String =
        (0..partitions * RECORDS_PER_PARTITION).map(|number| format!("{number}:of {topic}\n")).collect();
    let arguments = ["-P", "-b", &servers.bootstrap(), "-t", topic, "-K", ":", "-X", "acks=all"];
    let output = feed(Command::new("kcat").args(arguments), &lines);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn read(servers: &Servers, topic: &str, partitions: usize) {
    let wanted = partitions * RECORDS_PER_PARTITION;
    let lines =
        flotilla(servers, &["topic", "consume", topic, "--start", "earliest", "-n", &wanted.to_string(), "-o", "json"]);
    let records = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let (keys, places): (BTreeSet<String>, BTreeSet<u64>) =
        records.map(|record| (record["key"].to_string(), record["partition"].as_u64().expect("a partition"))).unzip();
    assert_eq!((keys.len(), places.len()), (wanted, partitions), "{topic}");
}
