//! A rolling restart under real producers: each of three nodes is told to stop once the others can do without it, hands its
//! leaderships over, and comes back. No client sees an error that it does not handle itself, and nothing is lost.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::load::{Load, field};
use harness::{Servers, count, http, silence_ms_max};
use serde_json::Value;

use crate::alone;

/// Of each of the eight producers.
const RECORDS_A_SECOND: u32 = 100;
const READY_WITHIN: Duration = Duration::from_secs(40);
const SAFE_WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

#[test]
fn three_nodes_are_restarted_in_turn_and_clients_see_no_error() {
    let _room = alone();
    let mut servers = Servers::new(3, &[]);
    servers.start_all();
    servers.ready_within(READY_WITHIN);
    let Some(load) = Load::start(&servers.bootstrap(), RECORDS_A_SECOND) else { return };
    for id in (0..count(1, 20)).flat_map(|_| 1..=3) {
        await_safe(&servers, id);
        let started = Instant::now();
        servers.node(id).terminate();
        let stopped = started.elapsed();
        servers.start(id);
        servers.ready_within(READY_WITHIN);
        println!(
            "node {id}: stopped after {} ms, back after {} ms",
            stopped.as_millis(),
            started.elapsed().as_millis()
        );
    }
    let last = load.finish();
    assert_eq!(field(&last, "unacked="), "0", "a client gave up: {last}");
    let pause: u64 = field(&last, "gap_ms=").parse().expect("a number");
    assert!(pause < silence_ms_max(), "a partition was silent for {pause} ms: {last}");
}

/// Waits until every partition keeps its majority without the node.
fn await_safe(servers: &Servers, id: u32) {
    let deadline = Instant::now() + SAFE_WITHIN;
    loop {
        let told = http::get(servers.nodes[0].admin(), &format!("/v1/nodes/{id}/can-stop"));
        let told: Option<Value> = told.and_then(|(_, text)| serde_json::from_str(&text).ok());
        if told.as_ref().is_some_and(|told| told["safe"] == true) {
            return;
        }
        assert!(Instant::now() < deadline, "node {id} cannot stop: {told:?}");
        sleep(LOOK);
    }
}
