//! A full disk. Below the least free space a node refuses appends, in words, and does everything else; with nothing left it
//! ends rather than answer for what it cannot keep. Freed space brings both back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::http;
use serde_json::Value;

use crate::chaos::{SMALL, World};
use crate::power;

/// Half of the least that the nodes are told to keep free.
const LOW_KIB: u64 = 32 << 10;
const SPILL_LINES: usize = 8_000;
const SPILL_LINE: &str =
    "one hundred bytes that nobody reads, only to take the space that a node kept for itself, again & again";
/// A node looks at its disk each second.
const NOTICED: Duration = Duration::from_millis(1_500);
const ENDED_WITHIN: Duration = Duration::from_secs(10);
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);

/// Fills the small disk, checks, frees it.
pub fn strike(world: &mut World) -> String {
    if world.small.is_none() {
        return "disk full: skipped".to_owned();
    }
    if world.dice.below(2) == 0 { nearly(world) } else { completely(world) }
}

fn fill(world: &World, left: u64) {
    world.small.as_ref().expect("a small disk").fill(left);
}

fn free(world: &World) {
    world.small.as_ref().expect("a small disk").free();
}

/// Appends refused; reads, leadership and heartbeats as ever.
fn nearly(world: &mut World) -> String {
    let topic = format!("full-{}", world.dice.below(u64::MAX));
    world.ok(&["topic", "create", &topic, "--partitions", "3", "--replication", "3"], "");
    let partition = led_by_small(world, &topic);
    world.ok(&["topic", "produce", &topic, "-p", &partition, "-"], "before\n");
    fill(world, LOW_KIB);
    sleep(NOTICED);
    let refused = world.cli(&["topic", "produce", &topic, "-p", &partition, "--timeout", "1s", "-"], "refused\n");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("the disk of the leader is full"), "{refused:?}");
    let read = world.ok(&["topic", "consume", &topic, "-p", &partition, "--exit"], "");
    assert_eq!(read, "before\n", "what was written before is read, what was refused is not");
    assert!(beats(world), "a node with a full disk stopped beating");
    assert_eq!(led_by_small(world, &topic), partition, "a full disk is no reason to lose a leadership");
    free(world);
    world.ok(&["topic", "produce", &topic, "-p", &partition, "--timeout", "5s", "-"], "after\n");
    world.ok(&["topic", "rm", &topic], "");
    format!("disk of node {SMALL} nearly full: appends refused, reads served")
}

/// Not a byte left: the node ends by itself, the others take over.
fn completely(world: &mut World) -> String {
    let (from, spill) = (world.servers.node(SMALL).log_bytes(), (SPILL_LINE.to_owned() + "\n").repeat(SPILL_LINES));
    let topic = format!("spill-{}", world.dice.below(u64::MAX));
    world.ok(&["topic", "create", &topic, "--partitions", "3", "--replication", "3"], "");
    fill(world, 0);
    let started = Instant::now();
    while world.servers.node(SMALL).ended().is_none() {
        assert!(started.elapsed() < ENDED_WITHIN, "node {SMALL} goes on without a byte left");
        // What it has to itself, recycled logs for one, is soon used up. What it leads is refused; what it follows is not.
        for partition in ["0", "1", "2"] {
            drop(world.cli(&["topic", "produce", &topic, "-p", partition, "--timeout", "200ms", "-"], &spill));
        }
    }
    let (ended, said) = (Instant::now(), world.servers.node(SMALL).said(from).to_lowercase());
    assert!(said.contains("no space left"), "it did not say why: {said}");
    while !world.probe().status.success() {
        assert!(ended.elapsed() < TAKEN_OVER_WITHIN, "the two others do not take over");
    }
    let took = ended.elapsed();
    world.ok(&["topic", "rm", &topic], "");
    free(world);
    world.servers.node(SMALL).kill();
    power::lost(world.servers.node(SMALL), false);
    world.servers.start(SMALL);
    format!("disk of node {SMALL} full: it ended, the others had taken over {} ms later", took.as_millis())
}

/// The partition of a fresh topic that the node on the small disk leads.
fn led_by_small(world: &World, topic: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let topics = ask(world, "/v1/topics");
        let found = topics.as_array().and_then(|topics| topics.iter().find(|found| found["name"] == topic));
        let partitions = found.and_then(|found| found["partitions"].as_array()).cloned().unwrap_or_default();
        if let Some(led) = partitions.iter().find(|partition| partition["leader"] == SMALL) {
            return led["partition"].to_string();
        }
        assert!(Instant::now() < deadline, "node {SMALL} leads no partition of {topic}: {partitions:?}");
        sleep(Duration::from_millis(50));
    }
}

/// Whether another node hears it.
fn beats(world: &World) -> bool {
    let nodes = ask(world, "/v1/nodes");
    let small = nodes.as_array().and_then(|nodes| nodes.iter().find(|node| node["id"] == SMALL));
    small.is_some_and(|node| node["alive"] == true)
}

fn ask(world: &World, path: &str) -> Value {
    let (_, text) = http::get(world.servers.nodes[0].admin(), path).expect("node 1 answers");
    serde_json::from_str(&text).expect("JSON")
}
