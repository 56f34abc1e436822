//! Addresses for nodes of a test, shared by the test programs.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// An address below the range from which the system takes the ports of outgoing connections: a node that restarts
/// finds it free again.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id() * 64 + place) % 8_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
