//! The contract of `flotilla dev --plain`, which scripts depend on: events, commands, signals, and that nothing outlives it.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Cluster, Options, binary, free_ports};

use crate::{flotilla, ok};

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill -{name} {pid}");
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kill_restart_and_stop_answer_with_their_events() {
    let mut cluster = Cluster::start(Options::default());
    assert_eq!(cluster.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 3]);
    for node in &cluster.nodes {
        assert!(lives(node.pid), "{node:?}");
        TcpStream::connect(&node.kafka).expect("the Kafka port answers");
        TcpStream::connect(&node.peer).expect("the peer port answers");
        TcpStream::connect(node.admin.trim_start_matches("http://")).expect("the HTTP port answers");
    }
    let old = cluster.nodes[1].pid;
    cluster.kill(2);
    assert!(!lives(old));
    cluster.say("kill 2");
    let refused = cluster.expect("refused", Duration::from_secs(30));
    assert_eq!(refused["reason"], "node 2 is down");
    cluster.restart(2);
    assert_ne!(cluster.nodes[1].pid, old);
    let health = ok(&["cluster", "health", "--wait", "--admin", &cluster.nodes[1].admin, "-o", "json"], "");
    assert!(health.contains("\"healthy\": true"), "{health}");
    cluster.say("dance");
    cluster.expect("refused", Duration::from_secs(30));
    let pids: Vec<u32> = cluster.nodes.iter().map(|node| node.pid).collect();
    cluster.say("stop");
    let mut stopped: Vec<u64> =
        (0..3).map(|_| cluster.expect("stopped", Duration::from_secs(20))["id"].as_u64().expect("an id")).collect();
    stopped.sort_unstable();
    assert_eq!(stopped, [1, 2, 3]);
    within(Duration::from_secs(5), "every child is gone", || pids.iter().all(|pid| !lives(*pid)));
}

#[test]
fn a_child_that_dies_by_itself_is_reported_and_stays_down() {
    let mut cluster = Cluster::start(Options::default());
    let pid = cluster.nodes[2].pid;
    signal(pid, "KILL");
    let exited = cluster.expect_exit(Duration::from_secs(10));
    assert_eq!((exited["id"].as_u64(), exited["signal"].as_u64()), (Some(3), Some(9)), "{exited}");
    std::thread::sleep(Duration::from_millis(500));
    assert!(TcpStream::connect(&cluster.nodes[2].kafka).is_err(), "it must stay down");
    cluster.restart(3);
    cluster.stop();
}

#[test]
fn data_is_there_after_a_restart_of_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Options { data: Some(folder.path().join("data")), ..Options::default() };
    let cluster = Cluster::start(options());
    ok(&["topic", "produce", "kept", "-b", &cluster.bootstrap()], "one\ntwo\nthree\n");
    cluster.stop();
    let cluster = Cluster::start(options());
    let read = ok(&["topic", "consume", "kept", "--exit", "-b", &cluster.bootstrap()], "");
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two"]);
    cluster.stop();
}

/// The flags of three nodes on twelve ports from `base`.
fn port_flags(base: u16) -> Vec<String> {
    let flag = |(name, offset): (&str, u16)| [format!("--{name}-port"), (base + offset).to_string()];
    [("kafka", 0), ("admin", 3), ("peer", 6), ("amqp", 9)].into_iter().flat_map(flag).collect()
}

/// What `flotilla dev` says when it cannot start.
fn refused(more: &[String]) -> String {
    let arguments: Vec<&str> =
        ["dev", "--plain", "--ephemeral"].into_iter().chain(more.iter().map(String::as_str)).collect();
    let output = flotilla(&arguments, "");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A cluster started by hand, without the harness: standard input is empty from the start.
fn start_without_input(folder: &Path) -> (Child, Vec<u32>) {
    let mut child = Command::new(binary())
        .args(["dev", "--plain"])
        .args(port_flags(free_ports(12)))
        .arg("--data")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flotilla dev starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(ready["event"], "ready", "{line}");
    let nodes = ready["nodes"].as_array().expect("nodes");
    let pids = nodes.iter().map(|node| node["pid"].as_u64().expect("a pid") as u32).collect();
    (child, pids)
}

#[test]
fn the_end_of_input_stops_nothing_and_sigterm_stops_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, pids) = start_without_input(folder.path());
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("asked").is_none(), "it must go on without input");
    signal(child.id(), "TERM");
    within(Duration::from_secs(20), "it ends", || child.try_wait().expect("asked").is_some());
    within(Duration::from_secs(5), "every child is gone", || pids.iter().all(|pid| !lives(*pid)));
}

#[test]
fn children_end_with_a_parent_that_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, pids) = start_without_input(folder.path());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    within(Duration::from_secs(20), "every child is gone", || pids.iter().all(|pid| !lives(*pid)));
}

#[test]
fn a_busy_port_is_named_with_its_owner() {
    let base = free_ports(12);
    let _listener = TcpListener::bind(("127.0.0.1", base + 1)).expect("bound");
    let text = refused(&port_flags(base));
    let expected = format!("port {} of node 2 (--kafka-port) is taken by cli", base + 1);
    assert!(text.contains(&expected) && text.contains(&format!("(pid {})", std::process::id())), "{text}");
}

#[test]
fn ports_that_two_flags_ask_for_are_named() {
    let base = free_ports(12);
    let mut flags = port_flags(base);
    flags[3] = (base + 2).to_string();
    let text = refused(&flags);
    assert!(text.contains(&format!("port {} of node 1 (--admin-port) is one of --kafka-port too", base + 2)), "{text}");
}

#[test]
fn nodes_that_do_not_start_end_it_with_their_words() {
    let mut flags = port_flags(free_ports(12));
    flags.extend(["--set".to_owned(), "limits.nonsense=1".to_owned()]);
    let text = refused(&flags);
    assert!(text.contains("ended before the cluster was ready") && text.contains("limits.nonsense"), "{text}");
}
