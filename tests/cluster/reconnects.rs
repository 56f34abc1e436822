//! A crowd of clients that all come back at once, as after a failure of their network: each connects, asks one question, and
//! gets its answer; the cluster stays whole meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use harness::{Cluster, Options, feed, http};

use crate::{alone, within};

const CLIENTS: usize = 1_000;
const THREADS: usize = 50;
/// Each client comes back so often, once a second.
const WAVES: u32 = 3;
const WAVE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
const READY_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_thousand_clients_come_back_within_a_second() {
    let _room = alone();
    let cluster = Cluster::start(Options::default());
    let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.kafka.parse().expect("an address")).collect();
    let admins = cluster.nodes.iter().map(|node| node.admin.trim_start_matches("http://"));
    let admins: Vec<SocketAddr> = admins.map(|admin| admin.parse().expect("an address")).collect();
    let mut crowd: Vec<Vec<TcpStream>> = Vec::new();
    for wave in 1..=WAVES {
        let started = Instant::now();
        // The clients of the last wave are gone all at once, and there again.
        crowd.clear();
        crowd = scope(|threads| {
            let part =
                || threads.spawn(|| (0..CLIENTS / THREADS).map(|number| client(addresses[number % 3])).collect());
            let parts: Vec<_> = (0..THREADS).map(|_| part()).collect();
            parts.into_iter().map(|part| part.join().expect("each client is answered")).collect()
        });
        let took = started.elapsed();
        println!("wave {wave}: {CLIENTS} clients back after {} ms", took.as_millis());
        assert!(took < PATIENCE, "a client waited for {took:?}");
        for admin in &admins {
            within(READY_WITHIN, || match http::get(*admin, "/readyz") {
                Some((200, _)) => Ok(()),
                other => Err(format!("{admin} while the clients come back: {other:?}")),
            });
        }
        sleep(WAVE.saturating_sub(started.elapsed()));
    }
    let mut command = std::process::Command::new(harness::binary());
    let written = feed(command.args(["topic", "produce", "after", "-b", &cluster.bootstrap()]), "one\n");
    assert!(written.status.success(), "{written:?}");
    cluster.stop();
}

/// Connects and asks which versions the node speaks (ApiVersions 0, correlation id 7, no client id).
fn client(address: SocketAddr) -> TcpStream {
    const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.write_all(&QUESTION).expect("the node reads");
    let mut head = [0; 10];
    stream.read_exact(&mut head).expect("the node answers");
    assert_eq!(head[4..], [0, 0, 0, 7, 0, 0], "correlation id and no error");
    stream
}
