//! A day of an operator, by the command line and under real producers: a node is emptied and filled again, the node that leads the
//! controller dies meanwhile, another is drained. Nothing is lost and no client gives up.

use std::process::{Command, Output};
use std::time::Duration;

use harness::load::{Load, field};
use harness::{Servers, binary, http};
use serde_json::Value;

use crate::{alone, within};

/// Replicas are copied slowly enough for the controller to die in the middle.
const SETTINGS: [&str; 1] = ["raft.catch_up_bytes_per_second=4MiB"];
/// Of each of the eight producers.
const RECORDS_A_SECOND: u32 = 100;
const READY_WITHIN: Duration = Duration::from_secs(40);
/// A replica that lags for a moment under load is a reason against what takes one from its partition.
const DONE_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn nodes_are_emptied_filled_and_drained_under_load() {
    let _room = alone();
    let mut servers = Servers::new(4, &SETTINGS);
    servers.start_all();
    servers.ready_within(READY_WITHIN);
    let Some(load) = Load::start(&servers.bootstrap(), RECORDS_A_SECOND) else { return };

    let dry = said(&servers, 1, &["node", "decommission", "4", "--dry-run", "-o", "json"]);
    let dry: Value = serde_json::from_str(&dry).expect("JSON");
    assert!(dry["operation"].is_null() && dry["moves"].as_array().is_some_and(|moves| !moves.is_empty()), "{dry}");
    within(DONE_WITHIN, || told(&servers, 1, &["node", "decommission", "4", "--watch"]));
    assert_eq!(replicas(&servers, 4), 0, "node 4 is empty");
    said(&servers, 2, &["node", "recommission", "4"]);

    let begun: Value = serde_json::from_str(&said(&servers, 2, &["rebalance", "apply", "-o", "json"])).expect("JSON");
    let id = begun["operation"].as_u64().expect("there is something to do").to_string();
    let cluster: Value = serde_json::from_str(&said(&servers, 2, &["cluster", "info", "-o", "json"])).expect("JSON");
    let controller = cluster["controller"].as_u64().expect("somebody leads the controller") as u32;
    servers.node(controller).kill();
    let other = servers.ids().into_iter().find(|id| *id != controller).expect("another node");
    servers.start(controller);
    said(&servers, other, &["operation", "watch", &id]);
    servers.ready_within(READY_WITHIN);
    let counts: Vec<usize> = (1..=4).map(|id| replicas(&servers, id)).collect();
    assert!(counts.iter().max() <= counts.iter().min().map(|least| least + 2).as_ref(), "{counts:?}");

    within(DONE_WITHIN, || told(&servers, 3, &["node", "drain", "2", "--watch"]));
    within(DONE_WITHIN, || is_drained(&servers, 2));
    let safe = within(DONE_WITHIN, || told(&servers, 3, &["cluster", "can-stop", "2"]));
    assert_eq!(safe, "safe: node 2 can stop\n");
    said(&servers, 3, &["node", "undrain", "2"]);
    let last = load.finish();
    assert_eq!(field(&last, "unacked="), "0", "a client gave up: {last}");
}

/// Whether a node leads nothing and is to be given nothing, or how it stands.
fn is_drained(servers: &Servers, id: u32) -> Result<(), String> {
    let nodes: Value = serde_json::from_str(&told(servers, 3, &["node", "ls", "-o", "json"])?).expect("JSON");
    let drained = nodes.as_array().into_iter().flatten().find(|node| node["id"] == id).expect("the node");
    if drained["leads"] == 0 && drained["duty"] == "drained" { Ok(()) } else { Err(drained.to_string()) }
}

/// Runs the CLI against a node, and gives what it says; it must succeed.
fn said(servers: &Servers, node: u32, arguments: &[&str]) -> String {
    told(servers, node, arguments).unwrap_or_else(|failed| panic!("{failed}"))
}

/// The same, for a command that may be refused for a while.
fn told(servers: &Servers, node: u32, arguments: &[&str]) -> Result<String, String> {
    let admin = servers.nodes.iter().find(|server| server.id == node).expect("a node").admin().to_string();
    let output = Command::new(binary()).args(arguments).args(["--admin", &admin]).output().expect("the CLI runs");
    let Output { status, stdout, stderr } = output;
    let (told, failed) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    print!("{}: {told}", arguments.join(" "));
    if status.success() { Ok(told.into_owned()) } else { Err(format!("{}: {told}{failed}", arguments.join(" "))) }
}

/// How many partitions a node has a replica of.
fn replicas(servers: &Servers, node: u32) -> usize {
    let server = servers.nodes.iter().find(|server| server.id == node).expect("a node");
    let (_, text) = http::ask(server.admin(), "/v1/partitions");
    serde_json::from_str::<Vec<Value>>(&text).expect("JSON").len()
}
