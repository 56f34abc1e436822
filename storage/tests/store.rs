//! Writer, committer, tail cache and reader together, on the simulated disk.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use storage::engine::sim::{SimDisk, SimEngine};
use storage::engine::{BoxFuture, DiskUsage, Rows};
use storage::{Committer, Engine, Error, Op, Options, Reader, Row, RowKind, ScanLimit, Table, Writer};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use support::{GROUP, append, done, entries, entry, ids, purge, truncate};

fn start(disk: &SimDisk, tail_bytes: usize) -> (Writer, Reader) {
    storage::open(disk.open(), Options { tail_bytes, ..Options::default() }).expect("open")
}

fn row(kind: RowKind, suffix: &'static str, value: Option<&'static str>) -> Row {
    Row { group: GROUP, kind, suffix: Bytes::from_static(suffix.as_bytes()), value: value.map(Bytes::from) }
}

async fn put(writer: &Writer, rows: Vec<Row>) {
    let (done, wait) = done();
    writer.put(rows, done);
    wait.await.expect("put");
}

#[tokio::test(start_paused = true)]
async fn entries_are_readable_at_once_and_durable_at_done() {
    let disk = SimDisk::new(1);
    disk.set_fsync(Duration::from_millis(5), Duration::from_millis(5));
    let (writer, reader) = start(&disk, 1 << 20);
    let (done, wait) = done();
    writer.append(GROUP, entries(1..=3, 1, 50), done);
    assert_eq!(ids(&reader, GROUP).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(disk.durable_last(GROUP), None);
    assert!(writer.queued_bytes() > 150);
    wait.await.expect("appended");
    assert_eq!(disk.durable_last(GROUP), Some((3, 1)));
    assert_eq!(writer.queued_bytes(), 0);
    let again = start(&disk, 0).1;
    assert_eq!(ids(&again, GROUP).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!((again.first(GROUP), again.last(GROUP).unwrap()), (Some(1), Some((3, 1))));
}

/// As found by simulated seeds 47 and 67: a process killed before its fsync leaves entries that its successor can read.
#[tokio::test(start_paused = true)]
async fn what_a_killed_process_left_is_durable_once_it_is_found() {
    let disk = SimDisk::new(1);
    disk.set_fsync(Duration::from_secs(1), Duration::from_secs(1));
    let (killed, _) = start(&disk, 1 << 20);
    killed.append(GROUP, entries(1..=3, 1, 50), done().0);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (_writer, reader) = start(&disk, 1 << 20);
    assert_eq!(ids(&reader, GROUP).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(disk.durable_last(GROUP), Some((3, 1)));
}

#[tokio::test(start_paused = true)]
async fn reads_above_a_queued_truncation_never_reach_the_engine() {
    for tail_bytes in [0, 1 << 20] {
        let disk = SimDisk::new(1);
        let (writer, reader) = start(&disk, tail_bytes);
        append(&writer, GROUP, entries(1..=9, 1, 50)).await.unwrap();
        disk.set_fsync(Duration::from_secs(1), Duration::from_secs(1));
        let (truncated, wait) = done();
        writer.truncate_after(GROUP, Some(4), truncated);
        assert_eq!(reader.last(GROUP).unwrap(), Some((4, 1)));
        assert_eq!(ids(&reader, GROUP).await.last(), Some(&(4, 1)));
        let (appended, wait_append) = done();
        writer.append(GROUP, entries(5..=6, 2, 50), appended);
        let expected = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)];
        assert_eq!(ids(&reader, GROUP).await, expected);
        wait.await.unwrap();
        wait_append.await.unwrap();
        assert_eq!(ids(&reader, GROUP).await, expected);
        assert_eq!(ids(&start(&disk, 0).1, GROUP).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_keeps_truncation_and_append_in_order() {
    // Truncate to 2, then append 3..=4 of term 2, both without a sync that succeeds. A power failure may undo the truncation until
    // a second process found it, and the append alone afterwards.
    let expected = [vec![(1, 1), (2, 1), (3, 1), (4, 1)], vec![(1, 1), (2, 1)], vec![(1, 1), (2, 1), (3, 2), (4, 2)]];
    for (case, expected) in expected.iter().enumerate() {
        let disk = SimDisk::new(1);
        let options = Options { batch_bytes: 1, ..Options::default() };
        let (writer, _reader) = storage::open(disk.open(), options).unwrap();
        append(&writer, GROUP, entries(1..=4, 1, 50)).await.unwrap();
        disk.fail_next_sync();
        assert!(truncate(&writer, GROUP, Some(2)).await.is_err());
        drop(writer);
        if case == 0 {
            assert_eq!(disk.crash(0), 1);
        } else {
            let (writer, reader) = start(&disk, 0);
            assert_eq!(ids(&reader, GROUP).await, expected_after_truncation());
            disk.fail_next_sync();
            assert!(append(&writer, GROUP, entries(3..=4, 2, 50)).await.is_err());
            assert_eq!(disk.unsynced(), 1);
            disk.crash(case - 1);
        }
        assert_eq!(ids(&start(&disk, 0).1, GROUP).await, *expected);
    }
}

fn expected_after_truncation() -> Vec<(u64, u64)> {
    vec![(1, 1), (2, 1)]
}

#[tokio::test(start_paused = true)]
async fn an_error_closes_for_good_and_says_why() {
    for sync in [false, true] {
        let disk = SimDisk::new(1);
        let (writer, _reader) = start(&disk, 0);
        append(&writer, GROUP, entries(1..=2, 1, 50)).await.unwrap();
        if sync {
            disk.fail_next_sync()
        } else {
            disk.fail_next_write()
        }
        let (first, wait_first) = done();
        let (second, wait_second) = done();
        writer.append(GROUP, entries(3..=3, 1, 50), first);
        writer.append(GROUP, entries(4..=4, 1, 50), second);
        let why = wait_first.await.unwrap_err().why;
        assert!(why.contains("injected"), "{why}");
        assert_eq!(wait_second.await.unwrap_err().why, why);
        assert_eq!(append(&writer, GROUP, entries(5..=5, 1, 50)).await.unwrap_err().why, why);
        assert!(!writer.append(GROUP, entries(5..=5, 1, 50), done().0), "nothing is readable that was not taken");
        assert_eq!(writer.closed().borrow().as_ref().map(|closed| closed.why.clone()), Some(why));
        assert_eq!(writer.queued_bytes(), 0);
        writer.below(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_an_error_too() {
    let disk = SimDisk::new(1);
    disk.set_capacity(1000);
    let (writer, reader) = start(&disk, 0);
    append(&writer, GROUP, entries(1..=2, 1, 300)).await.unwrap();
    assert!(reader.disk_usage().unwrap().free < 400);
    let closed = append(&writer, GROUP, entries(3..=4, 1, 300)).await.unwrap_err();
    assert!(closed.why.contains("no space left"), "{closed}");
}

#[tokio::test(start_paused = true)]
async fn completion_is_in_order_and_one_sync_serves_many() {
    let disk = SimDisk::new(1);
    let (writer, _reader) = start(&disk, 1 << 20);
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..100u64 {
        let order = order.clone();
        let group = GroupId(2000 + (number % 7) as u32);
        let place = number / 7 + 1;
        let called = Box::new(move |_| order.lock().unwrap().push(number));
        writer.append(group, vec![entry(place, 1, 20)], called);
    }
    let (last, wait) = done();
    writer.put(vec![row(RowKind::Vote, "", Some("x"))], last);
    wait.await.unwrap();
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(writer.stats().sync_us.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn below_waits_for_the_queue_to_drain() {
    let disk = SimDisk::new(1);
    disk.set_fsync(Duration::from_millis(10), Duration::from_millis(10));
    let (writer, _reader) = start(&disk, 0);
    let (appended, _wait) = done();
    writer.append(GROUP, entries(1..=10, 1, 1000), appended);
    let started = tokio::time::Instant::now();
    writer.below(20_000).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    writer.below(5_000).await;
    assert_eq!(started.elapsed(), Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn an_append_that_does_not_fit_is_refused_alone() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 0);
    append(&writer, GROUP, entries(5..=6, 1, 20)).await.unwrap();
    for bad in [vec![entry(8, 1, 20)], vec![entry(6, 1, 20)], vec![entry(7, 1, 20), entry(9, 1, 20)]] {
        let refused = append(&writer, GROUP, bad).await.unwrap_err();
        assert!(refused.why.contains("where 7 follows") || refused.why.contains("where 8 follows"), "{refused}");
    }
    append(&writer, GROUP, entries(7..=7, 1, 20)).await.unwrap();
    assert_eq!(ids(&reader, GROUP).await, [(5, 1), (6, 1), (7, 1)]);
}

#[tokio::test(start_paused = true)]
async fn purge_and_destroy_remove_exactly_their_part() {
    let other = GroupId(GROUP.0 + 1);
    for tail_bytes in [0, 1 << 20] {
        let disk = SimDisk::new(1);
        let (writer, reader) = start(&disk, tail_bytes);
        append(&writer, GROUP, entries(1..=9, 1, 50)).await.unwrap();
        append(&writer, other, entries(1..=2, 1, 50)).await.unwrap();
        put(&writer, vec![row(RowKind::Vote, "", Some("v")), row(RowKind::Dead, "a", Some("d"))]).await;
        purge(&writer, GROUP, 6).await.unwrap();
        assert_eq!(ids(&reader, GROUP).await, [(7, 1), (8, 1), (9, 1)]);
        assert_eq!(reader.first(GROUP), Some(7));
        purge(&writer, GROUP, 20).await.unwrap();
        assert_eq!((reader.first(GROUP), reader.last(GROUP).unwrap()), (None, None));
        append(&writer, GROUP, entries(21..=22, 2, 50)).await.unwrap();
        assert_eq!(ids(&reader, GROUP).await, [(21, 2), (22, 2)]);
        assert_eq!(reader.groups().unwrap(), [GROUP, other]);
        let (destroyed, wait) = done();
        writer.destroy(GROUP, destroyed);
        wait.await.unwrap();
        assert_eq!(reader.groups().unwrap(), [other]);
        assert_eq!(reader.rows(GROUP, RowKind::Dead).unwrap(), []);
        assert_eq!(ids(&reader, other).await, [(1, 1), (2, 1)]);
        assert_eq!(start(&disk, 0).1.groups().unwrap(), [other]);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_come_back_by_kind_and_group() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 0);
    let rows = ["b", "a", "c"].map(|suffix| row(RowKind::Producer, suffix, Some("p")));
    put(&writer, [&rows[..], &[row(RowKind::State, "", Some("s"))]].concat()).await;
    put(&writer, vec![row(RowKind::Producer, "b", None)]).await;
    let suffixes: Vec<Bytes> =
        reader.rows(GROUP, RowKind::Producer).unwrap().into_iter().map(|(suffix, _)| suffix).collect();
    assert_eq!(suffixes, ["a", "c"]);
    assert_eq!(reader.row(GROUP, RowKind::State).unwrap(), Some(Bytes::from("s")));
    assert_eq!(reader.row_at(GROUP, RowKind::Producer, b"c").unwrap(), Some(Bytes::from("p")));
    assert_eq!(reader.row(GroupId(1025), RowKind::State).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn rows_that_need_no_sync_survive_only_with_what_came_before() {
    let disk = SimDisk::new(1);
    let (writer, _reader) = start(&disk, 0);
    put(&writer, vec![row(RowKind::Applied, "", Some("1"))]).await;
    assert_eq!((disk.unsynced(), writer.stats().sync_us.count()), (1, 0));
    append(&writer, GROUP, entries(1..=1, 1, 50)).await.unwrap();
    assert_eq!(disk.unsynced(), 0);
    put(&writer, vec![row(RowKind::Applied, "", Some("2"))]).await;
    disk.crash(0);
    let (_writer, reader) = start(&disk, 0);
    assert_eq!(reader.row(GROUP, RowKind::Applied).unwrap(), Some(Bytes::from("1")));
}

#[tokio::test(start_paused = true)]
async fn rows_that_nobody_waits_for_go_with_the_next_change_or_at_the_end() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 0);
    let applied = |value| vec![row(RowKind::Applied, "", Some(value))];
    let read = || reader.row(GROUP, RowKind::Applied).unwrap();
    let settle = || tokio::time::sleep(Duration::from_secs(1));
    writer.put_along(applied("1"));
    settle().await;
    assert_eq!(read(), None);
    append(&writer, GroupId(GROUP.0 + 1), entries(1..=1, 1, 50)).await.unwrap();
    assert_eq!((read(), disk.unsynced()), (Some(Bytes::from("1")), 0));
    writer.put_along([applied("2"), vec![row(RowKind::Vote, "", Some("v"))]].concat());
    settle().await;
    assert_eq!((read(), disk.unsynced()), (Some(Bytes::from("2")), 0), "one of them needs a sync");
    (0..1_024).for_each(|_| writer.put_along(applied("3")));
    settle().await;
    assert_eq!(read(), Some(Bytes::from("3")), "they are many");
    let large = Row { value: Some(Bytes::from(vec![b'x'; 256 << 10])), ..applied("x").remove(0) };
    writer.put_along(vec![large]);
    writer.below(1).await;
    assert_eq!(read().map(|value| value.len()), Some(256 << 10), "it is large: who waits for room gets some");
    writer.put_along(applied("4"));
    settle().await;
    assert_ne!(read(), Some(Bytes::from("4")));
    drop(writer);
    settle().await;
    assert_eq!(read(), Some(Bytes::from("4")));
}

#[tokio::test(start_paused = true)]
async fn byte_limits_cut_reads_across_engine_and_tail() {
    let disk = SimDisk::new(1);
    // Room for about five cached entries of 1 KiB beside their overhead.
    let (writer, reader) = start(&disk, 6_500);
    for index in 1..=20 {
        append(&writer, GROUP, entries(index..=index, 1, 1000)).await.unwrap();
    }
    assert!(reader.cached_bytes() <= 6_500);
    for (from, to, bytes, count) in
        [(1, 21, 0, 1), (1, 21, 3_500, 3), (14, 21, 5_500, 5), (14, 18, usize::MAX, 4), (18, 99, usize::MAX, 3)]
    {
        let found = reader.entries(GROUP, from, to, bytes).await.unwrap();
        assert_eq!(found.len(), count, "{from}..{to} {bytes}");
        assert_eq!(found[0].index, from);
    }
    assert_eq!(reader.entries(GROUP, 21, 30, 1000).await.unwrap(), []);
    assert_eq!(ids(&reader, GROUP).await.len(), 20);
    let stats = writer.stats();
    assert!(stats.cold_entries.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

/// Entries read from the engine so far.
fn cold(writer: &Writer) -> u64 {
    writer.stats().cold_entries.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn the_budget_evicts_what_is_oldest_on_the_node() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 25_000);
    let groups = [GroupId(2000), GroupId(2001), GroupId(2002)];
    for group in groups {
        append(&writer, group, entries(1..=8, 1, 1000)).await.unwrap();
        // Reading keeps nothing in the cache.
        reader.entries(groups[0], 8, 9, 1000).await.unwrap();
    }
    ids(&reader, groups[1]).await;
    ids(&reader, groups[2]).await;
    assert_eq!(cold(&writer), 0);
    ids(&reader, groups[0]).await;
    assert!(cold(&writer) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_at_the_end_of_a_quiet_log_never_reads_the_engine_beside_busy_ones() {
    let disk = SimDisk::new(1);
    // Twenty turns of the busy logs fit: what is younger must be cached, whose ever it is.
    let (writer, reader) = start(&disk, 50_000);
    let (quiet, busy) = (GROUP, [GroupId(2000), GroupId(2001)]);
    for turn in 1..=200u64 {
        if turn % 10 == 0 {
            let index = turn / 10;
            append(&writer, quiet, entries(index..=index, 1, 100)).await.unwrap();
        }
        for group in busy {
            append(&writer, group, entries(turn..=turn, 1, 1000)).await.unwrap();
        }
        assert!(reader.cached_bytes() <= 50_000);
        if turn % 10 == 5 && turn > 10 {
            let found = reader.entries(quiet, turn / 10, turn / 10 + 1, 1000).await.unwrap();
            assert_eq!(found.len(), 1);
        }
    }
    assert_eq!(cold(&writer), 0);
    let first = reader.entries(quiet, 1, 2, 1000).await.unwrap();
    assert_eq!((first.len(), cold(&writer)), (1, 1), "what is old is not kept for being in a quiet log");
}

#[tokio::test(start_paused = true)]
async fn old_reads_step_aside_while_the_store_commits() {
    let (writer, reader) = start(&SimDisk::new(1), 0);
    append(&writer, GROUP, entries(1..=100, 1, 10_000)).await.unwrap();
    let since = Instant::now();
    let (mut next, mut steps) = (1, 0);
    while next <= 100 {
        let step = reader.entries_aside(GROUP, next, 101, usize::MAX).await.unwrap();
        assert_eq!(step[0].index, next);
        assert!(step.len() <= 13, "{} entries at once", step.len());
        (next, steps) = (next + step.len() as u64, steps + 1);
    }
    assert_eq!((steps, since.elapsed()), (8, Duration::from_millis(7)), "one pause for each 128 KiB");
    // Who reads here and there pauses no more often.
    for index in 1..=13 {
        reader.entries_aside(GROUP, index, index + 1, usize::MAX).await.unwrap();
    }
    assert_eq!(since.elapsed(), Duration::from_millis(8));
    assert_eq!(reader.entries(GROUP, 1, 101, usize::MAX).await.unwrap().len(), 100, "who does not step aside");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = Instant::now();
    assert_eq!(reader.entries_aside(GROUP, 1, 101, usize::MAX).await.unwrap().len(), 100);
    assert_eq!(idle.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn old_reads_leave_a_slow_device_alone_for_longer_and_keep_up_with_commits() {
    let gate = Arc::new(Semaphore::new(0));
    let engine = Arc::new(Gated { inner: SimDisk::new(1).open(), gate: gate.clone() });
    let (writer, reader) =
        storage::open(engine, Options { tail_bytes: 50_000, aside_pauses: 4, ..Options::default() }).unwrap();
    append(&writer, GROUP, entries(1..=40, 1, 10_000)).await.unwrap();
    let old = reader.clone();
    let read = tokio::spawn(async move { old.entries_aside(GROUP, 1, 41, 131_000).await });
    let second = reader.clone();
    let again = tokio::spawn(async move { second.entries_aside(GROUP, 14, 41, 131_000).await });
    tokio::time::sleep(Duration::from_millis(2)).await;
    let since = Instant::now();
    assert_eq!(reader.entries_aside(GROUP, 38, 41, usize::MAX).await.unwrap().len(), 3);
    assert_eq!(since.elapsed(), Duration::ZERO);
    gate.add_permits(2);
    assert_eq!((read.await.unwrap().unwrap().len(), again.await.unwrap().unwrap().len()), (13, 13));
    assert_eq!(since.elapsed(), Duration::from_millis(8), "four times the 2 ms that it took");

    let busy = tokio::spawn(async move { reader.entries_aside(GROUP, 1, 41, 131_000).await });
    tokio::time::sleep(Duration::from_millis(2)).await;
    let since = Instant::now();
    gate.add_permits(1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    append(&writer, GROUP, entries(41..=54, 1, 10_000)).await.unwrap();
    assert_eq!(busy.await.unwrap().unwrap().len(), 13);
    assert!(since.elapsed() <= Duration::from_millis(3), "as much was committed as was read");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_not_counted_and_what_follows_is_found() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 20_000);
    let other = GroupId(2000);
    append(&writer, GROUP, entries(1..=8, 1, 1000)).await.unwrap();
    append(&writer, other, entries(1..=1, 1, 1000)).await.unwrap();
    let before = reader.cached_bytes();
    purge(&writer, GROUP, 4).await.unwrap();
    truncate(&writer, GROUP, Some(6)).await.unwrap();
    assert!(reader.cached_bytes() < before / 2);
    truncate(&writer, GROUP, None).await.unwrap();
    append(&writer, GROUP, entries(1..=4, 2, 1000)).await.unwrap();
    for index in 2..=14 {
        append(&writer, other, entries(index..=index, 1, 1000)).await.unwrap();
        assert!(reader.cached_bytes() <= 20_000);
    }
    assert_eq!(ids(&reader, GROUP).await, [(1, 2), (2, 2), (3, 2), (4, 2)]);
    purge(&writer, GROUP, 4).await.unwrap();
    purge(&writer, other, 14).await.unwrap();
    assert_eq!(reader.cached_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_doubled_entry_is_an_error() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 0);
    append(&writer, GROUP, entries(1..=3, 1, 50)).await.unwrap();
    assert!(disk.corrupt(GROUP, 2, 0));
    assert!(matches!(reader.entries(GROUP, 1, 4, usize::MAX).await, Err(Error::Corrupt(_))));
    assert_eq!(reader.entries(GROUP, 3, 4, usize::MAX).await.unwrap().len(), 1);
    // What a truncation bug would leave: index 3 of two terms; and a hole at 5.
    let engine = disk.open();
    let double = |index, term| Op::Put {
        table: Table::Log,
        key: storage::keys::log(GROUP, index, term),
        parts: vec![entry(index, term, 50).payload.head, entry(index, term, 50).payload.body[0].clone()],
    };
    engine.write(&[double(3, 2), double(4, 2), double(6, 2)], true).unwrap();
    let (_writer, reader) = start(&disk, 0);
    let broken = reader.entries(GROUP, 3, 7, usize::MAX).await.unwrap_err();
    assert!(matches!(broken, Error::Broken { index: 3, .. }), "{broken}");
    let hole = reader.entries(GROUP, 4, 7, usize::MAX).await.unwrap_err();
    assert!(matches!(hole, Error::Broken { index: 5, .. }), "{hole}");
}

#[tokio::test(start_paused = true)]
async fn sizes_survive_a_restart_within_two_marks() {
    let disk = SimDisk::new(1);
    let (writer, reader) = start(&disk, 0);
    for index in 1..=600u64 {
        append(&writer, GROUP, entries(index..=index, 1, 10_000)).await.unwrap();
    }
    let exact = reader.group_bytes(GROUP);
    assert!((6_000_000..6_100_000).contains(&exact));
    purge(&writer, GROUP, 300).await.unwrap();
    let half = reader.group_bytes(GROUP);
    assert!(half.abs_diff(exact / 2) < 20_000);
    let again = start(&disk, 0).1;
    assert!(again.group_bytes(GROUP).abs_diff(half) < 2 << 20);
    assert!(again.group_bytes_upto(GROUP, 450).abs_diff(half / 2) < 2 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_write_error_of_a_crashed_process_cannot_touch_the_disk() {
    let disk = SimDisk::new(1);
    let (writer, _reader) = start(&disk, 0);
    append(&writer, GROUP, entries(1..=1, 1, 50)).await.unwrap();
    disk.crash(0);
    let closed = append(&writer, GROUP, entries(2..=2, 1, 50)).await.unwrap_err();
    assert!(closed.why.contains("gone"), "{closed}");
    assert_eq!(disk.durable_last(GROUP), Some((1, 1)));
}

/// A simulated engine whose blocking reads wait for a permit.
struct Gated {
    inner: Arc<SimEngine>,
    gate: Arc<Semaphore>,
}

impl Engine for Gated {
    fn write(&self, ops: &[Op], sync: bool) -> Result<(), Error> {
        self.inner.write(ops, sync)
    }
    fn sync(&self) -> Result<(), Error> {
        self.inner.sync()
    }
    fn synced(&self) -> u64 {
        self.inner.synced()
    }
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.inner.get(table, key)
    }
    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: ScanLimit, reverse: bool) -> Result<Rows, Error> {
        self.inner.scan(table, from, to, limit, reverse)
    }
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<()> {
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.acquire().await.expect("gate").forget();
            job();
        })
    }
    fn drive(self: Arc<Self>, committer: Committer) {
        self.inner.clone().drive(committer);
    }
    fn reclaim(&self, _table: Table, _from: Bytes, _to: Bytes) {}
    fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.inner.disk_usage()
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_cut_during_a_read_is_read_again() {
    let gate = Arc::new(Semaphore::new(0));
    let engine = Arc::new(Gated { inner: SimDisk::new(1).open(), gate: gate.clone() });
    // Room for about four cached entries: 1..=5 are read from the engine.
    let (writer, reader) = storage::open(engine, Options { tail_bytes: 5_000, ..Options::default() }).unwrap();
    append(&writer, GROUP, entries(1..=9, 1, 1_000)).await.unwrap();
    let racing = reader.clone();
    let read = tokio::spawn(async move { racing.entries(GROUP, 1, 10, usize::MAX).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    truncate(&writer, GROUP, Some(3)).await.unwrap();
    append(&writer, GROUP, entries(4..=12, 2, 1_000)).await.unwrap();
    gate.add_permits(2);
    let found = read.await.unwrap().unwrap();
    let found: Vec<(u64, u64)> = found.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!(found, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (9, 2)]);
    assert_eq!(gate.available_permits(), 0, "it was read twice");
}
