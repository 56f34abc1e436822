//! Clusters formed from configuration files: three `server` processes in three network namespaces, and a fourth that joins.
//! Needs root and `ip`; says so and passes where the kernel or the user cannot make a namespace.

mod compaction;
mod many;
mod moving;
mod namespaces;
mod operating;
mod reconnects;
mod retention;
mod rolling;

use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use harness::binary;
use namespaces::{Network, Server};

const READY_WITHIN: Duration = Duration::from_secs(40);

/// Real time matters to some of these tests, and others keep the machine busy.
static ROOM: RwLock<()> = RwLock::new(());

/// For a test in which clients or operators wait for something: no other runs meanwhile.
fn alone() -> RwLockWriteGuard<'static, ()> {
    ROOM.write().unwrap_or_else(PoisonError::into_inner)
}

/// For the others, beside each other.
fn together() -> RwLockReadGuard<'static, ()> {
    ROOM.read().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again until it goes well; fails with the last reason why not.
fn within<T>(limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(started.elapsed() < limit, "not within {limit:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn three_servers_in_three_namespaces_form_a_cluster_and_a_fourth_joins() {
    let _room = together();
    let Some(network) = Network::of(4) else {
        println!("skipped: network namespaces need root and ip(8)");
        return;
    };
    let mut servers: Vec<Server> = (1..=3).map(|node| network.serve(node)).collect();
    wait_for_nodes(&network, 3);
    servers.push(network.serve(4));
    wait_for_nodes(&network, 4);

    let create = ["topic", "create", "ships", "--partitions", "6", "--replication", "3"];
    let (status, text) = client(&network, 4, &create);
    assert_eq!(status, Some(0), "{text}");
    let produced = "one\ntwo\nthree\n";
    network.pipe(2, &["topic", "produce", "ships", "-"], produced);
    let (status, text) = client(&network, 3, &["topic", "consume", "ships", "--start", "earliest", "-n", "3"]);
    assert_eq!(status, Some(0), "{text}");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "three", "two"]);
}

/// Runs the CLI in the namespace of `node`, against that node.
fn client(network: &Network, node: u32, arguments: &[&str]) -> (Option<i32>, String) {
    let output = network.command(node, &binary()).args(arguments).envs(network.addresses(node)).output();
    let output = output.expect("the CLI runs");
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn wait_for_nodes(network: &Network, count: usize) {
    let deadline = Instant::now() + READY_WITHIN;
    let mut seen = String::new();
    while Instant::now() < deadline {
        let (status, text) = client(network, 1, &["node", "ls", "-o", "json"]);
        let nodes = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|v| v.as_array().map(Vec::len));
        if status == Some(0) && nodes == Some(count) {
            return;
        }
        seen = text;
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("not {count} nodes within {READY_WITHIN:?}; the last answer was: {seen}");
}

/// Whether this machine lets us make namespaces at all.
fn can_make_namespaces() -> bool {
    let name = format!("flotilla-probe-{}", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output().is_ok_and(|output| output.status.success());
    if made {
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
    }
    made
}
