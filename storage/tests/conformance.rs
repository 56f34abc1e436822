//! What every engine must do, as one suite that the simulated and the real one pass.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::engine::sim::SimDisk;
use storage::{Engine, Op, Options, RowKind, ScanLimit, Table};
use support::{Disk, GROUP, append, done, entries, ids, purge, truncate};

const ALL: ScanLimit = ScanLimit { bytes: usize::MAX, rows: usize::MAX };

fn suite(new: impl Fn() -> Box<dyn Disk>) {
    values_are_joined_parts(new().as_ref());
    operations_of_a_batch_apply_in_order(new().as_ref());
    tables_are_apart(new().as_ref());
    scans_keep_order_bounds_and_limits(new().as_ref());
    range_deletes_are_half_open(new().as_ref());
    everything_survives_a_clean_reopen(new().as_ref());
    usage_is_told(new().as_ref());
    what_is_synced_never_falls(new().as_ref());
}

fn put(table: Table, key: &str, parts: &[&[u8]]) -> Op {
    let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
    Op::Put { table, key: Bytes::copy_from_slice(key.as_bytes()), parts }
}

fn delete(table: Table, key: &'static str) -> Op {
    Op::Delete { table, key: Bytes::from_static(key.as_bytes()) }
}

fn delete_range(table: Table, from: &'static str, to: &'static str) -> Op {
    Op::DeleteRange { table, from: Bytes::from_static(from.as_bytes()), to: Bytes::from_static(to.as_bytes()) }
}

fn keys(engine: &dyn Engine, table: Table, from: &str, to: &str, limit: ScanLimit, reverse: bool) -> Vec<String> {
    let rows = engine.scan(table, from.as_bytes(), to.as_bytes(), limit, reverse).expect("scan");
    rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
}

fn values_are_joined_parts(disk: &dyn Disk) {
    let engine = disk.open();
    let large = vec![7u8; 100_000];
    let ops = [
        put(Table::Log, "empty", &[]),
        put(Table::Log, "one", &[b"1"]),
        put(Table::Log, "many", &[b"a", b"", b"bc", &large]),
    ];
    engine.write(&ops, true).unwrap();
    assert_eq!(engine.get(Table::Log, b"empty").unwrap(), Some(Bytes::new()));
    assert_eq!(engine.get(Table::Log, b"one").unwrap(), Some(Bytes::from("1")));
    assert_eq!(engine.get(Table::Log, b"many").unwrap(), Some([b"abc", &large[..]].concat().into()));
    assert_eq!(engine.get(Table::Log, b"none").unwrap(), None);
}

fn operations_of_a_batch_apply_in_order(disk: &dyn Disk) {
    let engine = disk.open();
    let ops = [
        put(Table::Log, "a", &[b"1"]),
        put(Table::Log, "a", &[b"2"]),
        put(Table::Log, "b", &[b"1"]),
        delete_range(Table::Log, "a", "z"),
        put(Table::Log, "b", &[b"3"]),
        put(Table::Log, "c", &[b"1"]),
        delete(Table::Log, "c"),
    ];
    engine.write(&ops, false).unwrap();
    assert_eq!(keys(engine.as_ref(), Table::Log, "", "z", ALL, false), ["b"]);
    assert_eq!(engine.get(Table::Log, b"b").unwrap(), Some(Bytes::from("3")));
}

fn tables_are_apart(disk: &dyn Disk) {
    let engine = disk.open();
    engine.write(&[put(Table::Log, "k", &[b"log"]), put(Table::Meta, "k", &[b"meta"])], false).unwrap();
    engine.write(&[delete_range(Table::Log, "a", "z")], false).unwrap();
    assert_eq!(engine.get(Table::Log, b"k").unwrap(), None);
    assert_eq!(engine.get(Table::Meta, b"k").unwrap(), Some(Bytes::from("meta")));
}

fn scans_keep_order_bounds_and_limits(disk: &dyn Disk) {
    let engine = disk.open();
    let ops: Vec<Op> = ["d", "b", "a", "c", "e"].map(|key| put(Table::Meta, key, &[b"123"])).into();
    engine.write(&ops, false).unwrap();
    let scan = |from, to, limit, reverse| keys(engine.as_ref(), Table::Meta, from, to, limit, reverse);
    let rows = |rows| ScanLimit { rows, ..ALL };
    let bytes = |bytes| ScanLimit { bytes, ..ALL };
    assert_eq!(scan("b", "e", ALL, false), ["b", "c", "d"]);
    assert_eq!(scan("b", "e", ALL, true), ["d", "c", "b"]);
    assert_eq!(scan("", "zz", rows(2), false), ["a", "b"]);
    assert_eq!(scan("", "zz", rows(2), true), ["e", "d"]);
    assert_eq!(scan("", "zz", rows(0), false), ["a"], "one at least");
    assert_eq!(scan("", "zz", bytes(0), true), ["e"], "one at least");
    assert_eq!(scan("", "zz", bytes(11), false), ["a", "b"], "4 bytes a row");
    assert_eq!(scan("", "zz", bytes(12), false), ["a", "b", "c"]);
    assert_eq!(scan("b", "b", ALL, false), Vec::<String>::new());
    assert_eq!(scan("e", "b", ALL, false), Vec::<String>::new(), "bounds the wrong way round");
}

fn range_deletes_are_half_open(disk: &dyn Disk) {
    let engine = disk.open();
    let ops: Vec<Op> = ["a", "b", "c", "d"].map(|key| put(Table::Log, key, &[b"v"])).into();
    engine.write(&ops, false).unwrap();
    let ops = [
        delete_range(Table::Log, "b", "d"),
        delete_range(Table::Log, "a", "a"),
        delete_range(Table::Log, "d", "a"),
        delete(Table::Log, "none"),
    ];
    engine.write(&ops, false).unwrap();
    assert_eq!(keys(engine.as_ref(), Table::Log, "", "z", ALL, false), ["a", "d"]);
}

fn everything_survives_a_clean_reopen(disk: &dyn Disk) {
    let engine = disk.open();
    let large = vec![9u8; 4_000];
    for place in 0..600 {
        let key = format!("{place:04}");
        engine.write(&[put(Table::Log, &key, &[&large]), put(Table::Meta, &key, &[b"m"])], place % 100 == 0).unwrap();
    }
    engine.write(&[delete_range(Table::Log, "0100", "0500")], false).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let engine = disk.open();
    let log = engine.scan(Table::Log, b"", b"z", ALL, false).unwrap();
    assert_eq!(log.len(), 200);
    assert!(log.iter().all(|(_, value)| value == &large));
    assert_eq!(keys(engine.as_ref(), Table::Meta, "", "z", ALL, false).len(), 600);
    assert_eq!(keys(engine.as_ref(), Table::Log, "0099", "0501", ALL, false), ["0099", "0500"]);
}

fn usage_is_told(disk: &dyn Disk) {
    let engine = disk.open();
    engine.write(&[put(Table::Log, "k", &[&[1u8; 10_000]])], true).unwrap();
    let usage = engine.disk_usage().unwrap();
    assert!(usage.used >= 10_000 && usage.free > 0, "{usage:?}");
}

fn what_is_synced_never_falls(disk: &dyn Disk) {
    let mut told = 0;
    for round in 0..3 {
        let engine = disk.open();
        engine.sync().unwrap();
        assert!(engine.synced() >= told, "a reopen in round {round}");
        told = engine.synced();
        engine.write(&[put(Table::Log, "a", &[b"1"]), put(Table::Meta, "b", &[b"2"])], true).unwrap();
        assert!(engine.synced() > told, "a synced write");
        told = engine.synced();
        engine.write(&[put(Table::Log, "c", &[b"3"])], false).unwrap();
        assert_eq!(engine.synced(), told, "a write that is not synced");
        engine.sync().unwrap();
        assert!(engine.synced() > told, "a sync");
        told = engine.synced();
    }
}

/// The store on top of an engine, through a reopen that nothing announced.
async fn store(disk: Box<dyn Disk>) {
    let options = Options { tail_bytes: 50_000, ..Options::default() };
    let (writer, reader) = storage::open(disk.open(), options.clone()).unwrap();
    append(&writer, GROUP, entries(1..=400, 1, 5_000)).await.unwrap();
    truncate(&writer, GROUP, Some(300)).await.unwrap();
    append(&writer, GROUP, entries(301..=350, 2, 5_000)).await.unwrap();
    purge(&writer, GROUP, 100).await.unwrap();
    let expected: Vec<(u64, u64)> = (101..=350).map(|index| (index, 1 + u64::from(index > 300))).collect();
    assert_eq!(ids(&reader, GROUP).await, expected);
    assert!(reader.cached_bytes() <= 50_000);
    drop((writer, reader));
    let (writer, reader) = storage::open(disk.open(), options).unwrap();
    assert_eq!(ids(&reader, GROUP).await, expected);
    assert_eq!(reader.last(GROUP).unwrap(), Some((350, 2)));
    truncate(&writer, GROUP, Some(300)).await.unwrap();
    assert_eq!(reader.last(GROUP).unwrap(), Some((300, 1)), "the term comes from the engine");
    append(&writer, GROUP, entries(301..=301, 3, 10)).await.unwrap();
    assert_eq!(ids(&reader, GROUP).await.last(), Some(&(301, 3)));
}

/// A purge takes the checkpoints before it along and writes its rows, in one change.
async fn purged_with_rows(disk: Box<dyn Disk>) {
    let (writer, reader) = storage::open(disk.open(), Options::default()).unwrap();
    append(&writer, GROUP, entries(1..=20, 1, 50)).await.unwrap();
    let row = |kind, suffix: &[u8]| storage::Row {
        group: GROUP,
        kind,
        suffix: Bytes::copy_from_slice(suffix),
        value: Some(Bytes::from_static(b"v")),
    };
    let head = |index: u64| row(RowKind::Checkpoint, &index.to_be_bytes());
    let chunk = |index: u64, number: u32| {
        row(RowKind::CheckpointChunk, &[&index.to_be_bytes()[..], &number.to_be_bytes()].concat())
    };
    let (stored, wait) = done();
    writer.put(vec![head(5), chunk(5, 0), chunk(5, 1), head(9), chunk(9, 0), head(15)], stored);
    wait.await.unwrap();
    let (purged, wait) = done();
    writer.purge(GROUP, 9, vec![row(RowKind::Purged, b""), chunk(9, 1)], purged);
    wait.await.unwrap();
    drop((writer, reader));
    let (_writer, reader) = storage::open(disk.open(), Options::default()).unwrap();
    assert_eq!(reader.first(GROUP), Some(10));
    let suffixes = |kind| -> Vec<Bytes> { reader.rows(GROUP, kind).unwrap().into_iter().map(|row| row.0).collect() };
    assert_eq!(suffixes(RowKind::Checkpoint), [head(9).suffix, head(15).suffix]);
    assert_eq!(suffixes(RowKind::CheckpointChunk), [chunk(9, 0).suffix, chunk(9, 1).suffix]);
    assert!(reader.row(GROUP, RowKind::Purged).unwrap().is_some());
}

/// Jobs run, and a reader that gave up does no harm.
async fn jobs(disk: Box<dyn Disk>) {
    let engine: Arc<dyn Engine> = disk.open();
    let (send, receive) = std::sync::mpsc::channel();
    drop(engine.run(Box::new(|| {})));
    engine.run(Box::new(move || send.send(7).unwrap())).await;
    assert_eq!(receive.recv_timeout(Duration::from_secs(5)), Ok(7));
}

#[test]
fn simulated_engine() {
    suite(|| Box::new(SimDisk::new(1)));
}

#[tokio::test]
async fn store_on_the_simulated_engine() {
    store(Box::new(SimDisk::new(1))).await;
    purged_with_rows(Box::new(SimDisk::new(1))).await;
    jobs(Box::new(SimDisk::new(1))).await;
}

#[cfg(feature = "rocks")]
mod rocks {
    use super::*;
    use crate::support::rocks::RocksDisk;
    use storage::Error;
    use storage::engine::rocks::RocksEngine;

    #[test]
    fn rocks_engine() {
        suite(|| Box::new(RocksDisk::new()));
    }

    #[tokio::test]
    async fn store_on_the_rocks_engine() {
        store(Box::new(RocksDisk::new())).await;
        purged_with_rows(Box::new(RocksDisk::new())).await;
        jobs(Box::new(RocksDisk::new())).await;
    }

    #[test]
    fn a_folder_is_open_once() {
        let disk = RocksDisk::new();
        let _engine = disk.engine();
        let again = RocksEngine::open(disk.folder.path(), RocksDisk::options());
        assert!(matches!(again, Err(Error::Locked(_))), "{:?}", again.err());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let opened = RocksEngine::open(std::path::Path::new("/proc/no/such"), RocksDisk::options());
        assert!(matches!(opened, Err(Error::Io(_))));
    }

    /// Deleted ranges give their files back: 40 MB written, all but the end deleted.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "waits for a thread in real time")]
    fn space_of_deleted_ranges_is_given_back() {
        let disk = RocksDisk::new();
        let engine = disk.engine();
        let value = vec![3u8; 20_000];
        for place in 0..2_000 {
            engine.write(&[put(Table::Log, &format!("{place:04}"), &[&value])], false).unwrap();
        }
        engine.flush().unwrap();
        let full = engine.disk_usage().unwrap().used;
        assert!(full > 40_000_000, "{full}");
        engine.write(&[delete_range(Table::Log, "0000", "1900")], true).unwrap();
        engine.reclaim(Table::Log, Bytes::from("0000"), Bytes::from("1900"));
        let started = std::time::Instant::now();
        while engine.disk_usage().unwrap().used > full / 2 {
            assert!(started.elapsed() < Duration::from_secs(60), "still {}", engine.disk_usage().unwrap().used);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(keys(engine.as_ref(), Table::Log, "", "z", ALL, false).len(), 100);
    }
}
