//! RocksDB against sudden death. A child process writes and reports what is confirmed, the parent kills it with SIGKILL
//! in the middle, reopens and compares; and images of the folder are cut inside the write-ahead log, over the old
//! contents of a recycled file, as a power failure leaves them. FLOTILLA_LONG=1 does more rounds.
#![cfg(feature = "rocks")]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use model::GroupId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::engine::rocks::RocksEngine;
use storage::{Options, Writer};
use support::{entry, rocks::RocksDisk};

const FOLDER: &str = "FLOTILLA_KILL_FOLDER";
const SEED: &str = "FLOTILLA_KILL_SEED";
const GROUPS: [GroupId; 3] = [GroupId(1024), GroupId(1025), GroupId(1026)];

fn rounds(short: u64, long: u64) -> u64 {
    if std::env::var_os("FLOTILLA_LONG").is_some() { long } else { short }
}

type Log = Vec<(u64, u64)>;

/// The endless line of changes of one group that a seed and a start define; parent and child both walk it.
struct Script {
    random: StdRng,
    log: Log,
    term: u64,
}

enum Step {
    Append(Vec<storage::LogEntry>),
    TruncateAfter(u64),
}

impl Script {
    fn new(seed: u64, group: GroupId, log: Log) -> Self {
        let random = StdRng::seed_from_u64(seed ^ u64::from(group.0) << 32);
        let term = log.last().map_or(1, |last| last.1 + 1);
        Script { random, log, term }
    }

    fn next(&mut self) -> Step {
        if self.log.len() > 3 && self.random.random_range(0..20) == 0 {
            let keep = self.log.len() - self.random.random_range(1..4);
            self.log.truncate(keep);
            self.term += 1;
            return Step::TruncateAfter(self.log[keep - 1].0);
        }
        let start = self.log.last().map_or(1, |last| last.0 + 1);
        let count = self.random.random_range(1..4);
        let bytes = self.random.random_range(100..20_000);
        let entries: Vec<_> = (start..start + count).map(|index| entry(index, self.term, bytes)).collect();
        self.log.extend(entries.iter().map(|entry| (entry.index, entry.term)));
        Step::Append(entries)
    }

    fn submit(&mut self, writer: &Writer, group: GroupId, done: storage::Done) {
        match self.next() {
            Step::Append(entries) => {
                writer.append(group, entries, done);
            }
            Step::TruncateAfter(index) => writer.truncate_after(group, Some(index), done),
        }
    }
}

async fn read(engine: std::sync::Arc<RocksEngine>, group: GroupId) -> Log {
    let (_writer, reader) = storage::open(engine, Options { tail_bytes: 0, ..Options::default() }).expect("open");
    support::ids(&reader, group).await
}

/// Not a test by itself: what the parent runs as a child. Writes until it is killed.
#[tokio::test]
#[ignore = "run as a child by the test below"]
async fn child() {
    let (Some(folder), Ok(seed)) = (std::env::var_os(FOLDER), std::env::var(SEED)) else { return };
    let seed: u64 = seed.parse().expect("seed");
    let engine = support::rocks::open(Path::new(&folder));
    let (writer, reader) = storage::open(engine, Options::default()).expect("open");
    let mut scripts = Vec::new();
    for group in GROUPS {
        scripts.push(Script::new(seed, group, support::ids(&reader, group).await));
    }
    for number in 1u64.. {
        for (script, group) in scripts.iter_mut().zip(GROUPS) {
            let report = move |result: Result<(), storage::Closed>| {
                result.expect("the store works");
                // One write call, so that a line is whole or missing.
                std::io::stdout().lock().write_all(format!("confirmed {group} {number}\n").as_bytes()).expect("pipe");
            };
            script.submit(&writer, group, Box::new(report));
        }
        writer.below(500_000).await;
    }
}

/// Runs the child for a while after its first confirmed change, kills it, returns the number of confirmed changes of each group. Of every
/// fourth seed the time begins with the process, so that some die while they open the store.
#[allow(clippy::disallowed_methods, reason = "kills a real process at a real moment")]
fn run_and_kill(folder: &Path, seed: u64, after: Duration) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("child");
    let output = BufReader::new(child.stdout.take().expect("pipe"));
    let (begun, begins) = sync_channel(1);
    let reports = std::thread::spawn(move || {
        let mut confirmed = vec![0; GROUPS.len()];
        for line in output.lines().map_while(Result::ok) {
            let mut words = line.split_whitespace();
            let (Some("confirmed"), Some(group), Some(number)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let place = GROUPS.iter().position(|known| known.to_string() == group).expect("a group of ours");
            confirmed[place] = number.parse().expect("a number");
            // One is enough, and nobody takes the next.
            let _sent_or_full = begun.try_send(());
        }
        confirmed
    });
    // A child that ends by itself says so on stderr, and has confirmed nothing.
    let is_late = seed % 4 != 3 && begins.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout);
    std::thread::sleep(after);
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(!is_late, "nothing is confirmed within a minute");
    reports.join().expect("reports")
}

#[tokio::test]
async fn nothing_confirmed_is_lost_by_a_killed_process() {
    let disk = RocksDisk::new();
    let mut logs = vec![Log::new(); GROUPS.len()];
    let mut total = 0;
    for seed in 0..rounds(4, 100) {
        let after = Duration::from_millis(StdRng::seed_from_u64(seed).random_range(150..900));
        let confirmed = run_and_kill(disk.folder.path(), seed, after);
        for (place, group) in GROUPS.into_iter().enumerate() {
            let found = read(disk.engine(), group).await;
            let mut script = Script::new(seed, group, std::mem::take(&mut logs[place]));
            for _ in 0..confirmed[place] {
                script.next();
            }
            // Submitted and not confirmed changes may be there too, in order.
            let mut later = 0;
            while script.log != found {
                script.next();
                later += 1;
                assert!(later < 1_000, "round {seed}: group {group} lacks confirmed changes");
            }
            logs[place] = found;
        }
        total += confirmed.iter().sum::<u64>();
    }
    assert!(total > 100, "only {total} changes were confirmed: this tested nothing");
}

fn copy_folder(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("folder") {
        let file = file.expect("file");
        // After a power failure the file SYNCED may be as old as you like.
        if file.file_name() != "LOCK" && file.file_name() != "SYNCED" {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("copy");
        }
    }
}

/// The newest write-ahead log of a folder.
fn newest_wal(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).expect("folder").map(|file| file.expect("file").path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("a write-ahead log")
}

/// Names and sizes of a folder's files.
fn listing(folder: &Path) -> BTreeMap<OsString, u64> {
    let files = std::fs::read_dir(folder).expect("folder").flatten();
    // A file may go while it is looked at.
    files.filter_map(|file| Some((file.file_name(), file.metadata().ok()?.len()))).collect()
}

/// Waits until RocksDB's own threads have had nothing to do in a folder for a second.
#[allow(clippy::disallowed_methods, reason = "waits for threads in real time")]
fn await_stillness(folder: &Path) {
    let started = Instant::now();
    let (mut seen, mut since) = (listing(folder), started);
    while since.elapsed() < Duration::from_secs(1) {
        assert!(started.elapsed() < Duration::from_secs(60), "the folder never stands still");
        std::thread::sleep(Duration::from_millis(50));
        let now = listing(folder);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

#[tokio::test]
async fn a_torn_tail_over_a_recycled_file_loses_only_what_was_not_synced() {
    let mut random = StdRng::seed_from_u64(rounds(1, 2));
    let disk = RocksDisk::new();
    let engine = disk.engine();
    let (writer, _reader) = storage::open(engine.clone(), Options::default()).expect("open");
    let group = GROUPS[0];
    // Enough for several memtables of 1 MiB, so that old write-ahead logs are overwritten.
    let mut next = 1;
    let mut wal = newest_wal(disk.folder.path());
    let (mut rotated, mut recycled) = (0, false);
    while rotated < 12 || !recycled {
        support::append(&writer, group, support::entries(next..=next + 9, 1, 10_000)).await.expect("append");
        next += 10;
        let newest = newest_wal(disk.folder.path());
        if newest != wal {
            rotated += 1;
            // A new one holds what was just appended; while flushes are late there is no old one to take.
            recycled = std::fs::metadata(&newest).expect("a length").len() > 500_000;
            wal = newest;
        }
        assert!(rotated < 100, "no log file is ever recycled");
    }
    // The memtable that was just left is flushed meanwhile.
    await_stillness(disk.folder.path());
    // Small batches, each with the image of the log file after it.
    let mut images = vec![std::fs::read(&wal).expect("image")];
    for index in next..next + 8 {
        let bytes = random.random_range(20..2_000);
        support::append(&writer, group, vec![entry(index, 1, bytes)]).await.expect("append");
        images.push(std::fs::read(&wal).expect("image"));
    }
    assert_eq!(newest_wal(disk.folder.path()), wal, "the log file changed in between: choose other sizes");
    let before = images[0].len();
    assert!(images.iter().all(|image| image.len() == before), "the file grows: it was not recycled");
    // Where each batch ends in the file: the last byte that differs from the image before it.
    let ends: Vec<usize> = images
        .windows(2)
        .map(|pair| pair[0].iter().zip(&pair[1]).rposition(|(old, new)| old != new).expect("a batch was written") + 1)
        .collect();
    assert!(ends.is_sorted());
    let (old, new) = (&images[0], &images[images.len() - 1]);
    let start = old.iter().zip(new).position(|(old, new)| old != new).expect("a batch was written");
    for round in 0..rounds(14, 600) {
        let cut = random.random_range(start..=ends[ends.len() - 1]);
        let copy = RocksDisk::new();
        copy_folder(disk.folder.path(), copy.folder.path());
        let torn = if round % 2 == 0 { old[cut..].to_vec() } else { vec![0; old.len() - cut] };
        std::fs::write(newest_wal(copy.folder.path()), [&new[..cut], &torn].concat()).expect("torn image");
        let found = read(copy.engine(), group).await;
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        let last = found.last().expect("entries").0;
        assert_eq!(found.len() as u64, last, "dense");
        // A batch whose last bytes equal what lay there before may be whole although the cut is before its end.
        assert!(last >= next - 1 + whole && last < next + 8, "cut at {cut}: {last}, {whole} batches are whole");
        assert!(last <= next + whole, "cut at {cut}: {last} came back, {whole} batches are whole");
    }
    drop(engine);
}
