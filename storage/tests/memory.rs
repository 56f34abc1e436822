//! What an idle store on RocksDB takes of memory. Alone in its file, so that no other test's memory is counted.
#![cfg(feature = "rocks")]

mod support;

use model::GroupId;
use storage::Options;
use storage::engine::rocks::{RocksEngine, RocksOptions, wait_closed};

/// A node may take 80 MiB when idle; its store gets this much of them, KiB.
const IDLE_KIB_MAX: u64 = 30 << 10;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("KiB").parse().expect("number")
}

#[tokio::test]
async fn an_idle_store_is_small() {
    let folder = tempfile::tempdir().expect("folder");
    let before = resident_kib();
    let engine = RocksEngine::open(folder.path(), RocksOptions::default()).expect("open");
    let (writer, reader) = storage::open(engine, Options::default()).expect("open");
    for group in 1024..1124 {
        support::append(&writer, GroupId(group), support::entries(1..=3, 1, 1_000)).await.expect("append");
    }
    let taken = resident_kib().saturating_sub(before);
    assert!(taken < IDLE_KIB_MAX, "{taken} KiB");
    drop((writer, reader));
    assert!(wait_closed(folder.path(), support::rocks::CLOSED_WITHIN), "the store stays open");
    println!("an idle store with 100 groups takes {taken} KiB");
}
