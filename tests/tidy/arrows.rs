//! Who may know whom: the arrows between crates, between the rooms of `node`, and the sole owners of the big dependencies.

use std::process::Command;

use crate::tree::Tree;

/// crate -> the crates of ours that it may name (DESIGN.md section 2).
const CRATES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &[]),
    ("storage", &["model"]),
    ("raft", &["model", "storage"]),
    ("node", &["model", "wire", "storage", "raft"]),
    ("sim", &["model", "wire", "storage", "raft", "node"]),
    ("tests", &[]),
];

/// room of `node` -> the rooms that it may name. `seams config metrics router telemetry` <- `actors` <- `broker` <- protocols <- `lib` <- `cli`.
const ROOMS: &[(&str, &[&str])] = &[
    ("seams", &["config"]),
    ("config", &[]),
    ("metrics", &[]),
    ("telemetry", &["config"]),
    ("router", &["seams", "config", "metrics"]),
    ("peer", &["seams", "config", "metrics", "router"]),
    ("actors", &["seams", "config", "metrics", "router", "peer"]),
    ("broker", &["seams", "config", "metrics", "router", "peer", "actors"]),
    ("listening", &["seams", "metrics", "broker"]),
    ("kafka", &["seams", "config", "metrics", "broker", "listening"]),
    ("amqp", &["seams", "config", "metrics", "broker", "listening"]),
    ("admin", &["seams", "config", "metrics", "broker"]),
    ("bench", &["seams", "config", "cli"]),
    // `broker` for the types of its reports: a program that reads `/v1` needs no twins of what wrote it.
    ("cli", &["seams", "config", "telemetry", "bench", "broker"]),
];

/// A dependency, the folder that owns it, and why nobody else may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("openraft", &["raft/"]),
    ("rocksdb", &["storage/"]),
    ("bincode", &["storage/"]),
    ("ractor", &["node/src/actors", "node/src/lib.rs"]),
    ("turmoil", &["sim/"]),
    ("kacrab_protocol", &["wire/"]),
];

pub fn crates(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, allowed) in CRATES {
        let manifest = tree.text(&format!("{name}/Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for (other, _) in CRATES.iter().filter(|(other, _)| !allowed.contains(other)) {
            let named = dependencies
                .lines()
                .any(|line| line.split(['.', '=', ' ']).next().is_some_and(|dependency| dependency == *other));
            if named {
                violations.push(format!("{name}/Cargo.toml: {name} must not depend on {other}"));
            }
        }
    }
    violations
}

pub fn rooms(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree.sources.iter().filter(|source| source.path.starts_with("node/src/")) {
        let inside = source.path.trim_start_matches("node/src/");
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else { continue };
        if source.is_test() {
            continue;
        }
        for (other, _) in ROOMS.iter().filter(|(other, _)| *other != room && !allowed.contains(other)) {
            for (number, line) in source.text.lines().enumerate() {
                let path = format!("crate::{other}");
                if line.contains(&format!("{path}::")) || line.contains(&format!("{path};")) {
                    violations.push(format!("{}:{}: {room} must not import {other}", source.path, number + 1));
                }
            }
        }
    }
    violations
}

pub fn owners(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with("tests/")) {
        for (dependency, homes) in OWNERS {
            let at_home = homes.iter().any(|home| source.path.starts_with(home));
            let named = source.text.contains(&format!("{dependency}::"));
            if named && !at_home {
                violations.push(format!("{}: {dependency} belongs to {}", source.path, homes.join(", ")));
            }
        }
    }
    violations
}

pub fn linked(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (package, banned) in [("sim", "librocksdb-sys"), ("node", "turmoil"), ("node", "amq-protocol")] {
        let listed = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "-p", package])
            .current_dir(&tree.root)
            .output()
            .expect("cargo tree runs");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with(banned)) {
            violations.push(format!("{package} must not link {banned}"));
        }
    }
    violations
}

pub fn explained(tree: &Tree) -> Vec<String> {
    let manifest = tree.text("Cargo.toml");
    let explained = tree.text("docs/dependencies.md");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split([' ', '=', '.']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .filter(|name| !CRATES.iter().any(|(ours, _)| ours == name))
        .filter(|name| !explained.contains(&format!("`{name}`")))
        .map(|name| format!("docs/dependencies.md: no line on `{name}`"))
        .collect()
}
