//! Says who has a port that the cluster needs. Reads /proc; where there is none, the owner stays unnamed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use super::Options;

/// Every port is free, or the text to show.
pub fn check(options: &Options) -> Result<(), String> {
    let uses = [
        ("--kafka-port", options.kafka_port),
        ("--amqp-port", options.amqp_port),
        ("--admin-port", options.admin_port),
        ("--peer-port", options.peer_port),
    ];
    let (mut text, mut taken) = (String::new(), BTreeMap::new());
    for (flag, first) in uses {
        for index in 0..options.nodes {
            let Some(port) = first.checked_add(index) else {
                return Err(format!("{flag} {first} leaves no room for {} nodes", options.nodes));
            };
            let node = index + 1;
            if let Some(other) = taken.insert(port, flag) {
                let _ = write!(text, "\n  port {port} of node {node} ({flag}) is one of {other} too");
            }
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    let owner = owner(port)
                        .map_or_else(|| "another process".to_owned(), |(pid, name)| format!("{name} (pid {pid})"));
                    let _ = write!(text, "\n  port {port} of node {node} ({flag}) is taken by {owner}");
                }
                Err(error) => {
                    let _ = write!(text, "\n  port {port} of node {node} ({flag}): {error}");
                }
            }
        }
    }
    if text.is_empty() { Ok(()) } else { Err(format!("ports are busy; stop their owners or choose others:{text}")) }
}

/// Process id and name of whoever listens on a TCP port of this machine.
pub fn owner(port: u16) -> Option<(u32, String)> {
    let inode = listening_inode(port)?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds =
            files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.to_str() == Some(&wanted)));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// Lines of /proc/net/tcp: sl, local address, remote address, state (0A = listening), ..., inode is the tenth field.
fn listening_inode(port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == "0A";
            listens.then(|| fields.get(9)?.parse().ok()).flatten()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("bound").port();
        let (pid, name) = owner(port).expect("found in /proc");
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        drop(listener);
        assert_eq!(owner(port), None);
    }
}
