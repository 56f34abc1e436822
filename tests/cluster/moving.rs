//! Replicas that move between real nodes under real producers: from three nodes to five, and back to three others than they may
//! have been on; then one of these loses its disk, is rebuilt from its peers, and is needed for the majority. All that was
//! acknowledged is read back at the end.

use std::fmt::Write;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::load::Load;
use harness::{Servers, binary, feed, http, repository};
use serde_json::Value;

use crate::{alone, within};

/// New replicas are sent so little that clients work while they catch up.
const SETTINGS: [&str; 1] = ["raft.catch_up_bytes_per_second=8MiB"];
/// Of each of the eight producers.
const RECORDS_A_SECOND: u32 = 100;
/// What the topic holds beside what the producers write: more than a new replica may lack, in each partition.
const LINES: usize = 400;
const LINE_BYTES: usize = 60_000;
const READY_WITHIN: Duration = Duration::from_secs(40);
/// A node must be silent for a while before its lost disk is believed, and asks every five seconds.
const REBUILT_WITHIN: Duration = Duration::from_secs(30);
const WIPED_WITHIN: Duration = Duration::from_secs(30);
/// How long the load goes on without the third node.
const WITHOUT: Duration = Duration::from_secs(2);

#[test]
fn replicas_grow_shrink_and_are_rebuilt_under_load() {
    let _room = alone();
    let mut servers = Servers::new(5, &SETTINGS);
    servers.start_all();
    servers.ready_within(READY_WITHIN);
    let Some(load) = Load::start(&servers.bootstrap(), RECORDS_A_SECOND) else { return };
    let topic = load.topic.clone();
    fill(&servers, &topic);
    reassign(&servers, &topic, "1,2,3,4,5");
    reassign(&servers, &topic, "3,4,5");
    for id in [1, 2] {
        within(WIPED_WITHIN, || has_none(&mut servers, id, &topic));
    }

    let lost = servers.node(5);
    lost.kill();
    std::fs::remove_dir_all(&lost.data).expect("the folder goes");
    std::fs::create_dir(&lost.data).expect("an empty folder");
    let started = Instant::now();
    servers.start(5);
    within(REBUILT_WITHIN, || rebuilt(&mut servers, 5, &topic));
    // Members are told by node: until the change is finished, node 5 votes by the replica that it has lost.
    reassign(&servers, &topic, "3,4,5");
    println!("node 5 has all its replicas again after {} ms", started.elapsed().as_millis());
    servers.node(3).kill();
    sleep(WITHOUT);
    load.finish();
}

/// Writes so much that new replicas have to catch up.
fn fill(servers: &Servers, topic: &str) {
    let mut lines = String::new();
    (0..LINES).for_each(|number| writeln!(lines, "{number:0LINE_BYTES$}").expect("a string takes it"));
    let mut command = Command::new(binary());
    let written = feed(command.args(["topic", "produce", topic, "-", "-b", &servers.bootstrap()]), &lines);
    assert!(written.status.success(), "{written:?}");
}

/// Moves all partitions as Kafka's tools do, and waits until they are where they shall be.
fn reassign(servers: &Servers, topic: &str, nodes: &str) {
    let mut command = Command::new(repository().join("tests/clients/run"));
    let output = command.args(["--reassign", topic, nodes]).env("FLOTILLA_BOOTSTRAP", servers.bootstrap()).output();
    let output = output.expect("tests/clients/run starts");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(output.status.success() && said.starts_with("ok "), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// What a node says of its replicas of a topic.
fn replicas(servers: &mut Servers, id: u32, topic: &str) -> Result<Vec<Value>, String> {
    let Some((200, text)) = http::get(servers.node(id).admin(), "/v1/rafts") else {
        return Err(format!("node {id} does not answer"));
    };
    let mut groups: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    groups.retain(|group| group["name"].as_str().is_some_and(|name| name.starts_with(topic)));
    Ok(groups)
}

fn has_none(servers: &mut Servers, id: u32, topic: &str) -> Result<(), String> {
    let replicas = replicas(servers, id, topic)?;
    if replicas.is_empty() { Ok(()) } else { Err(format!("node {id} has {replicas:?}")) }
}

/// Whether a node is ready and votes in all partitions of the topic, or why not.
fn rebuilt(servers: &mut Servers, id: u32, topic: &str) -> Result<(), String> {
    if let Some(why) = servers.unready() {
        return Err(why);
    }
    let replicas = replicas(servers, id, topic)?;
    let votes = |group: &&Value| group["voters"].as_array().is_some_and(|voters| voters.contains(&id.into()));
    let voting = replicas.iter().filter(votes).count();
    if replicas.len() == 6 && voting == 6 { Ok(()) } else { Err(format!("it votes in {voting}: {replicas:?}")) }
}
