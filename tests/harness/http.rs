//! The few HTTP questions a test asks of a node, each with a bound in time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(1);
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Status and body of a GET; None when nobody answers in time. For those who poll.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The same from a node that must answer, however slow its machine is.
pub fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let started = Instant::now();
    loop {
        if let Some(answer) = get(address, path) {
            return answer;
        }
        assert!(started.elapsed() < ANSWERED_WITHIN, "{address}{path}: no answer within {ANSWERED_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
