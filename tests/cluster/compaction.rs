//! Compaction with real processes and a real client: the newest value of each key stays, at its offset; disk space comes back.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::Servers;
use serde_json::Value;

use crate::retention::{described, flotilla};
use crate::together;

const TOPIC: &str = "addresses";
const UPDATES: usize = 100_000;
const KEYS: usize = 1_000;
const VALUE_BYTES: usize = 200;
/// What is left of a log of about 22 MiB.
const LEFT_BYTES_MAX: u64 = 6 << 20;
const COMPACTED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn the_newest_value_of_each_key_stays_at_its_offset() {
    let _room = together();
    if Command::new("kcat").arg("-V").output().is_err() {
        println!("skipped: no kcat");
        return;
    }
    let mut servers = Servers::new(3, &["storage.retention_check=500ms"]);
    servers.start_all();
    servers.ready_within(Duration::from_secs(40));
    let create = ["topic", "create", TOPIC, "--partitions", "1", "--replication", "3"];
    let configs = ["--config", "cleanup.policy=compact", "--config", "segment.bytes=1048576"];
    flotilla(&servers, &[&create[..], &configs[..]].concat());
    produce(&servers.bootstrap());
    let started = Instant::now();
    loop {
        let replicas: Vec<Value> = serde_json::from_str(&described(&servers, TOPIC)).expect("JSON");
        let small = |one: &Value| one["bytes"].as_u64().is_some_and(|bytes| bytes < LEFT_BYTES_MAX);
        if replicas.len() == 3 && replicas.iter().all(small) {
            assert!(
                replicas.iter().all(|one| one["log_start"] == 0 && one["high_watermark"] == UPDATES),
                "{replicas:?}"
            );
            break;
        }
        assert!(started.elapsed() < COMPACTED_WITHIN, "{replicas:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    check(&servers.bootstrap());
    servers.nodes.iter_mut().for_each(harness::Server::kill);
    servers.start_all();
    servers.ready_within(Duration::from_secs(40));
    check(&servers.bootstrap());
}

fn value(number: usize) -> String {
    format!("{number:0VALUE_BYTES$}")
}

fn produce(bootstrap: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", bootstrap, "-t", TOPIC, "-p", "0", "-K:", "-X", "acks=all"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat starts");
    let mut input = kcat.stdin.take().expect("stdin is piped");
    for number in 0..UPDATES {
        writeln!(input, "{}:{}", number % KEYS, value(number)).expect("kcat reads");
    }
    drop(input);
    assert!(kcat.wait().expect("kcat ends").success());
}

/// Reads all of it: offsets rise, each record is the one that was written there, and of each key the newest is there.
fn check(bootstrap: &str) {
    let arguments = ["-C", "-b", bootstrap, "-t", TOPIC, "-p", "0", "-o", "beginning", "-e", "-f", "%o %k %s\n"];
    let output = Command::new("kcat").args(arguments).output().expect("kcat runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut next, mut records) = (0, 0);
    for line in text.lines() {
        let [offset, key, there] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        let (offset, key): (usize, usize) = (offset.parse().expect("an offset"), key.parse().expect("a key"));
        assert!(offset >= next, "{offset} after {next}");
        assert_eq!((key, there), (offset % KEYS, value(offset).as_str()), "at {offset}");
        newest.insert(key, offset);
        (next, records) = (offset + 1, records + 1);
    }
    assert_eq!(next, UPDATES, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(records < UPDATES / 3, "{records} records are left");
    assert!(newest.len() == KEYS && newest.iter().all(|(key, offset)| *offset == UPDATES - KEYS + key));
}
