//! A full disk. Below the least free space a node refuses appends, in words, and does everything else; with nothing left it
//! ends rather than answer for what it cannot keep. Freed space brings both back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{count, healed_within, http};
use serde_json::Value;

use crate::chaos::{SMALL, World};
use crate::power;

/// Half of the least that the nodes are told to keep free.
const LOW_KIB: u64 = 32 << 10;
const SPILL_LINES: usize = 8_000;
const SPILL_LINE: &str =
    "one hundred bytes that nobody reads, only to take the space that a node kept for itself, again & again";
/// A node looks at its disk each second.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// Elections of a busy machine come to their end.
const STEADY_WITHIN: Duration = Duration::from_secs(10);

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
    let partition = until(healed_within(), "it leads a partition", || led_by_small(world, &topic).pop());
    world.ok(&["topic", "produce", &topic, "-p", &partition, "-"], "before\n");
    fill(world, LOW_KIB);
    let refused = refused(world, &topic, &partition);
    let read = world.ok(&["topic", "consume", &topic, "-p", &partition, "--exit"], "");
    assert!(read.starts_with("before\n"), "what was written before is read: {read}");
    assert!(!read.contains(&refused), "{refused} was refused: {read}");
    until(STEADY_WITHIN, "a node with a full disk beats", || beats(world).then_some(()));
    until(STEADY_WITHIN, "a full disk is no reason to lose a leadership", || {
        led_by_small(world, &topic).contains(&partition).then_some(())
    });
    free(world);
    let patience = format!("{}s", count(15, 5));
    world.ok(&["topic", "produce", &topic, "-p", &partition, "--timeout", &patience, "-"], "after\n");
    world.ok(&["topic", "rm", &topic], "");
    format!("disk of node {SMALL} nearly full: appends refused, reads served")
}

/// Produces until an append is refused because of the disk; gives what was refused.
fn refused(world: &World, topic: &str, partition: &str) -> String {
    let mut number = 0;
    until(REFUSED_WITHIN, "an append is refused because of the disk", || {
        number += 1;
        let line = format!("early {number}.\n");
        let output = world.cli(&["topic", "produce", topic, "-p", partition, "--timeout", "1s", "-"], &line);
        let is_refused = String::from_utf8_lossy(&output.stderr).contains("the disk of the leader is full");
        (is_refused && !output.status.success()).then_some(line)
    })
}

/// Not a byte left: the node ends by itself, the others take over.
fn completely(world: &mut World) -> String {
    let (from, spill) = (world.servers.node(SMALL).log_bytes(), (SPILL_LINE.to_owned() + "\n").repeat(SPILL_LINES));
    let topic = format!("spill-{}", world.dice.below(u64::MAX));
    world.ok(&["topic", "create", &topic, "--partitions", "3", "--replication", "3"], "");
    fill(world, 0);
    let started = Instant::now();
    while world.servers.node(SMALL).ended().is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(count(30, 10) as u64),
            "node {SMALL} goes on without a byte left"
        );
        // What it has to itself, recycled logs for one, is soon used up. What it leads is refused; what it follows is not.
        for partition in ["0", "1", "2"] {
            drop(world.cli(&["topic", "produce", &topic, "-p", partition, "--timeout", "200ms", "-"], &spill));
        }
    }
    let (ended, said) = (Instant::now(), world.servers.node(SMALL).said(from).to_lowercase());
    assert!(said.contains("no space left"), "it did not say why: {said}");
    while !world.probe().status.success() {
        assert!(ended.elapsed() < healed_within(), "the two others do not take over");
    }
    let took = ended.elapsed();
    world.ok(&["topic", "rm", &topic], "");
    free(world);
    world.servers.node(SMALL).kill();
    power::lost(world.servers.node(SMALL), false);
    world.servers.start(SMALL);
    format!("disk of node {SMALL} full: it ended, the others had taken over {} ms later", took.as_millis())
}

/// The partitions of a topic that the node on the small disk leads.
fn led_by_small(world: &World, topic: &str) -> Vec<String> {
    let topics = ask(world, "/v1/topics");
    let found = topics.as_array().and_then(|topics| topics.iter().find(|found| found["name"] == topic));
    let partitions = found.and_then(|found| found["partitions"].as_array()).into_iter().flatten();
    partitions
        .filter(|partition| partition["leader"] == SMALL)
        .map(|partition| partition["partition"].to_string())
        .collect()
}

/// Asks of the small disk's node again until there is an answer.
fn until<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "node {SMALL}: not within {limit:?}: {what}");
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
    let (_, text) = http::ask(world.servers.nodes[0].admin(), path);
    serde_json::from_str(&text).expect("JSON")
}
