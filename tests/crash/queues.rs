//! kill -9 of the node that leads a queue while ten consumers of the real Go client hold a thousand of its messages, and publishers go on with
//! confirms. The program knows the story of each message and judges it at the end (`tests/clients/go/queuekill.go`).

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::load::field;
use harness::program::Program;
use harness::{Cluster, Options, count, http, repository, silence_ms_max};
use serde_json::Value;

use crate::turn;

const IN_FLIGHT_MIN: u64 = 980;
/// A node stays down for so long.
const DOWN: Duration = Duration::from_secs(3);
/// The cluster is whole for so long before the round is over.
const WHOLE: Duration = Duration::from_secs(1);

#[test]
fn a_queue_survives_its_leaders() {
    let _turn = turn();
    let mut cluster = Cluster::start(Options::default());
    let mut command = Command::new(repository().join("tests/clients/run"));
    let mut clients = Program::start(command.arg("--queue-kill").env("FLOTILLA_AMQP", cluster.amqp()));
    let first = clients.line().expect("the program names its queue");
    let Some(queue) = first.strip_prefix("queue ") else {
        assert!(first.starts_with("skip "), "{first}");
        return;
    };
    let mut silences = Vec::new();
    for _ in 0..count(3, 30) {
        let leader = leader(&cluster, queue);
        let full = clients.ask("fill");
        cluster.kill(leader);
        assert!(number(&full, "in_flight=") >= IN_FLIGHT_MIN, "{full}");
        sleep(DOWN);
        cluster.restart(leader);
        sleep(WHOLE);
        let round = clients.ask("round");
        assert!(number(&round, "confirmed=") > 0, "the publishers did not go on: {round}");
        silences.push(number(&round, "silence_ms="));
    }
    clients.finish();
    silences.sort_unstable();
    println!("silences in ms, by length: {silences:?}");
    // From the kill to the next delivery, and between any two after it.
    assert!(silences.iter().all(|silence| *silence <= silence_ms_max()), "{silences:?}");
    cluster.stop();
}

fn number(line: &str, name: &str) -> u64 {
    field(line, name).parse().expect("a number")
}

/// The node that leads the queue's topic.
fn leader(cluster: &Cluster, queue: &str) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let leaders = cluster.nodes.iter().filter_map(|node| leader_as_told(&node.admin, queue));
        let leaders: Vec<u32> = leaders.collect();
        if leaders.len() == cluster.nodes.len() && leaders.windows(2).all(|pair| pair[0] == pair[1]) {
            return leaders[0];
        }
        assert!(Instant::now() < deadline, "the nodes do not agree on who leads {queue}: {leaders:?}");
        sleep(Duration::from_millis(50));
    }
}

fn leader_as_told(admin: &str, queue: &str) -> Option<u32> {
    let admin: SocketAddr = admin.strip_prefix("http://")?.parse().ok()?;
    let topics: Value = serde_json::from_str(&http::get(admin, "/v1/topics")?.1).ok()?;
    let topic = topics.as_array()?.iter().find(|topic| topic["name"] == queue)?;
    u32::try_from(topic["partitions"][0]["leader"].as_u64()?).ok()
}
