//! Ports for a cluster of a test: a run of consecutive ones that nobody listens on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux hands out to outgoing connections, so that no client takes one of ours.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_000;

/// The first of `count` consecutive free ports. Test processes start at different places, so they seldom meet.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = (std::process::id() % 500) as u16 * 20;
    for _ in 0..1_000 {
        let base = FIRST + (spread + NEXT.fetch_add(count, Ordering::Relaxed)) % (LAST - FIRST - count);
        if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no {count} consecutive free ports between {FIRST} and {LAST}");
}
