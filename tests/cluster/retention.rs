//! Retention with real processes and a real client: disk space comes back, and consumers begin where the log does.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Servers, binary, http};
use serde_json::Value;

use crate::together;

const TOPIC: &str = "ledger";
/// What is written, and the least of it that every disk must give back.
const LINES: usize = 150_000;
const LINE_BYTES: usize = 1_000;
const FREED_BYTES_MIN: u64 = 100 << 20;
/// Deleted ranges are gathered for half a minute before their space is given back.
const FREED_WITHIN: Duration = Duration::from_secs(100);

#[test]
fn disk_space_comes_back_and_consumers_begin_at_the_log_start() {
    let _room = together();
    if Command::new("kcat").arg("-V").output().is_err() {
        println!("skipped: no kcat");
        return;
    }
    let mut servers = Servers::new(3, &["storage.retention_check=500ms", "storage.memtable_bytes=4MiB"]);
    servers.start_all();
    servers.ready_within(Duration::from_secs(40));
    flotilla(&servers, &["topic", "create", TOPIC, "--partitions", "1", "--replication", "3"]);
    produce(&servers.bootstrap());
    let full: Vec<u64> = servers.nodes.iter().map(|node| du(&node.data)).collect();

    flotilla(&servers, &["topic", "alter", TOPIC, "--set", "retention.bytes=8388608"]);
    let started = Instant::now();
    while let Some(why) = servers.nodes.iter().zip(&full).find_map(|(node, full)| {
        let now = du(&node.data);
        (now + FREED_BYTES_MIN > *full).then(|| format!("node {} still holds {now} of {full} bytes", node.id))
    }) {
        assert!(started.elapsed() < FREED_WITHIN, "{why}: {}", described(&servers, TOPIC));
        std::thread::sleep(Duration::from_millis(200));
    }
    let replicas: Vec<Value> = serde_json::from_str(&described(&servers, TOPIC)).expect("JSON");
    assert_eq!(replicas.len(), 3, "{replicas:?}");
    let start = replicas[0]["log_start"].as_u64().expect("a log start");
    let kept = (LINES as u64 - start) * LINE_BYTES as u64;
    assert!((8 << 20..40 << 20).contains(&kept), "{kept} bytes are kept");
    assert!(replicas.iter().all(|one| one["purged"].as_u64() > Some(0)), "{replicas:?}");
    assert_eq!(first_offset(&servers.bootstrap()), start);

    flotilla(&servers, &["topic", "alter", TOPIC, "--set", "retention.ms=1"]);
    let started = Instant::now();
    loop {
        let replicas: Vec<Value> = serde_json::from_str(&described(&servers, TOPIC)).expect("JSON");
        if replicas.iter().all(|one| one["log_start"] == one["high_watermark"] && one["pinned_by"] == "nothing") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{replicas:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub fn flotilla(servers: &Servers, arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).env("FLOTILLA_BOOTSTRAP", servers.bootstrap());
    let output = command.env("FLOTILLA_ADMIN", servers.nodes[0].admin().to_string()).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn described(servers: &Servers, topic: &str) -> String {
    assert_eq!(http::ask(servers.nodes[1].admin(), "/v1/partitions").0, 200);
    flotilla(servers, &["partition", "describe", topic, "0", "-o", "json"])
}

fn produce(bootstrap: &str) {
    let mut kcat = Command::new("kcat")
        .args(["-P", "-b", bootstrap, "-t", TOPIC, "-p", "0", "-X", "acks=all"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat starts");
    let mut input = kcat.stdin.take().expect("stdin is piped");
    for number in 0..LINES {
        writeln!(input, "{number:0width$}", width = LINE_BYTES).expect("kcat reads");
    }
    drop(input);
    assert!(kcat.wait().expect("kcat ends").success());
}

fn first_offset(bootstrap: &str) -> u64 {
    let arguments = ["-C", "-b", bootstrap, "-t", TOPIC, "-p", "0", "-o", "beginning", "-c", "1", "-f", "%o\n"];
    let output = Command::new("kcat").args(arguments).output().expect("kcat runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Bytes that a folder takes on its disk.
fn du(folder: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(folder).output().expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("du says a number")
}
