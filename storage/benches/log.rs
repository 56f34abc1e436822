//! Committed bytes per second of the committer on RocksDB, beside plain files with append + fdatasync in the same run.
//! `cargo bench -p storage --features rocks -- [key=value ..]`; keys: seconds entry batch inflight pace groups rounds folder, and every
//! RocksDB option under its name (memtable memtables recycle wal direct rate blob). Two settings can be compared in
//! turns: values separated by `/` (direct=true/false).
#![allow(clippy::disallowed_methods, reason = "measures real time on real threads")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::GroupId;
use model::command::Payload;
use storage::engine::rocks::{RocksEngine, RocksOptions};
use storage::{LogEntry, Options, Reader, Writer};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word.contains('=')).collect();
    let variants = words.iter().map(|word| values(word).len()).max().unwrap_or(1);
    let rounds = Settings::parse(&words, 0).rounds;
    for round in 0..rounds {
        for variant in 0..variants {
            let settings = Settings::parse(&words, variant);
            let folder = tempfile::tempdir_in(&settings.folder).expect("folder");
            let files = plain_files(folder.path(), &settings);
            let store = committer(folder.path(), &settings);
            println!(
                "round {round} {:<24} {} | plain files {files:.0} MB/s | ratio {:.2}",
                settings.differing,
                store,
                store.mb_per_second / files
            );
        }
    }
}

struct Settings {
    seconds: f64,
    entry_bytes: usize,
    entries_per_append: usize,
    in_flight_bytes: usize,
    /// Offered load, bytes per second; infinite: as much as is in flight.
    pace: f64,
    groups: u32,
    rounds: usize,
    folder: String,
    rocks: RocksOptions,
    differing: String,
}

impl Settings {
    fn parse(words: &[String], variant: usize) -> Self {
        let mut settings = Settings {
            seconds: 4.0,
            entry_bytes: 16 << 10,
            entries_per_append: 1,
            in_flight_bytes: 4 << 20,
            pace: f64::INFINITY,
            groups: 8,
            rounds: 1,
            folder: std::env::temp_dir().to_string_lossy().into_owned(),
            rocks: RocksOptions::default(),
            differing: String::new(),
        };
        for word in words {
            let (key, values) = (word.split('=').next().expect("key"), values(word));
            let value = values[variant.min(values.len() - 1)];
            if values.len() > 1 {
                settings.differing += &format!("{key}={value} ");
            }
            settings.set(key, value);
        }
        settings
    }

    fn set(&mut self, key: &str, value: &str) {
        let rocks = &mut self.rocks;
        match key {
            "seconds" => self.seconds = number(value),
            "entry" => self.entry_bytes = number(value),
            "batch" => self.entries_per_append = number(value),
            "inflight" => self.in_flight_bytes = number(value),
            "pace" => self.pace = number::<f64>(value) * 1e6,
            "groups" => self.groups = number(value),
            "rounds" => self.rounds = number(value),
            "folder" => self.folder = value.into(),
            "memtable" => rocks.memtable_bytes = number::<usize>(value) << 20,
            "memtables" => rocks.memtables = number(value),
            "recycle" => rocks.recycled_wal_files = number(value),
            "wal" => rocks.wal_bytes_max = number::<u64>(value) << 20,
            "direct" => rocks.direct_io = number(value),
            "rate" => rocks.flush_bytes_per_second = number::<i64>(value) << 20,
            "readahead" => rocks.read_ahead_bytes = number::<usize>(value) << 10,
            "blob" => rocks.blob_bytes_min = number(value),
            other => panic!("unknown setting {other}"),
        }
    }
}

/// The values of `key=value/value`, one for each variant; a folder is one value.
fn values(word: &str) -> Vec<&str> {
    let (key, values) = word.split_once('=').expect("key=value");
    if key == "folder" { vec![values] } else { values.split('/').collect() }
}

fn number<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("cannot read {text}"))
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Bytes {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Three threads, each appending 1 MiB and fdatasync to its own file: what a log of plain files gets.
fn plain_files(folder: &Path, settings: &Settings) -> f64 {
    let block = noise(1 << 20);
    let time = Duration::from_secs_f64(settings.seconds / 2.0);
    let started = Instant::now();
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let (block, path) = (block.clone(), folder.join(format!("plain-{number}")));
            std::thread::spawn(move || {
                let mut file = File::create(&path).expect("file");
                let mut bytes = 0;
                while started.elapsed() < time {
                    file.write_all(&block).expect("write");
                    file.sync_data().expect("sync");
                    bytes += block.len();
                }
                std::fs::remove_file(path).expect("remove");
                bytes
            })
        })
        .collect();
    let bytes: usize = writers.into_iter().map(|writer| writer.join().expect("writer")).sum();
    bytes as f64 / time.as_secs_f64() / 1e6
}

struct Measured {
    mb_per_second: f64,
    cpu_seconds_per_gb: f64,
    latency_us: Vec<u64>,
    syncs_per_second: f64,
    rss_mb: u64,
    cold_read_mb_per_second: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| self.latency_us[((self.latency_us.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        write!(
            f,
            "{:.0} MB/s, p50 {:.1} p99 {:.1} p99.9 {:.1} ms, {:.2} CPU-s/GB, {:.0} syncs/s, rss {} MB, cold read {:.0} MB/s",
            self.mb_per_second,
            at(0.5),
            at(0.99),
            at(0.999),
            self.cpu_seconds_per_gb,
            self.syncs_per_second,
            self.rss_mb,
            self.cold_read_mb_per_second
        )
    }
}

/// User and system time of this process, seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let after_name = stat.rsplit(')').next().expect("fields");
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(number::<u64>).sum();
    ticks as f64 / 100.0
}

fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    number::<u64>(line.split_whitespace().nth(1).expect("kB")) / 1024
}

fn committer(folder: &Path, settings: &Settings) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let engine = RocksEngine::open(&folder.join("store"), settings.rocks.clone()).expect("open");
    let (writer, reader) =
        storage::open(engine.clone(), Options { tail_bytes: 8 << 20, ..Options::default() }).expect("open");
    let cpu = cpu_seconds();
    let (mut latency_us, bytes, took) = runtime.block_on(append_for(&writer, settings));
    let cpu = cpu_seconds() - cpu;
    latency_us.sort_unstable();
    engine.flush().expect("flush");
    Measured {
        mb_per_second: bytes as f64 / took.as_secs_f64() / 1e6,
        cpu_seconds_per_gb: cpu / bytes as f64 * 1e9,
        latency_us,
        syncs_per_second: writer.stats().sync_us.count() as f64 / took.as_secs_f64(),
        rss_mb: rss_mb(),
        cold_read_mb_per_second: runtime.block_on(cold_read(&reader, settings)),
    }
}

/// Reads one log after the other from its start, 1 MiB at a time, for at most two seconds.
async fn cold_read(reader: &Reader, settings: &Settings) -> f64 {
    let (started, mut bytes) = (Instant::now(), 0);
    for group in (0..settings.groups).map(|group| GroupId(1024 + group)) {
        let mut from = 0;
        while started.elapsed() < Duration::from_secs(2) {
            let entries = reader.entries(group, from, u64::MAX, 1 << 20).await.expect("entries");
            let Some(last) = entries.last() else { break };
            from = last.index + 1;
            bytes += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
        }
    }
    bytes as f64 / started.elapsed().as_secs_f64() / 1e6
}

/// Appends to all groups in turn, never more than the budget in flight; returns latencies, confirmed bytes, time.
async fn append_for(writer: &Writer, settings: &Settings) -> (Vec<u64>, u64, Duration) {
    let (latencies, mut received) = tokio::sync::mpsc::unbounded_channel();
    let confirmed = Arc::new(AtomicU64::new(0));
    let payload = Payload::append(0, vec![noise(settings.entry_bytes)]);
    let started = Instant::now();
    let time = Duration::from_secs_f64(settings.seconds);
    let (mut index, mut offered) = (0, 0);
    while started.elapsed() < time {
        for group in 0..settings.groups {
            let first = index * settings.entries_per_append as u64 + 1;
            let entries: Vec<LogEntry> = (first..first + settings.entries_per_append as u64)
                .map(|index| LogEntry { index, term: 1, payload: payload.clone() })
                .collect();
            let bytes = (settings.entry_bytes * settings.entries_per_append) as u64;
            let (sent, latencies, confirmed) = (Instant::now(), latencies.clone(), confirmed.clone());
            let done = move |result: Result<(), storage::Closed>| {
                result.expect("the store works");
                confirmed.fetch_add(bytes, Relaxed);
                latencies.send(sent.elapsed().as_micros() as u64).expect("receiver");
            };
            writer.append(GroupId(1024 + group), entries, Box::new(done));
            offered += bytes;
            writer.below(settings.in_flight_bytes).await;
            let due = Duration::from_secs_f64(offered as f64 / settings.pace);
            // The timer counts in milliseconds: small debts are left to grow.
            if due > started.elapsed() + Duration::from_millis(3) {
                tokio::time::sleep(due - started.elapsed()).await;
            }
        }
        index += 1;
    }
    writer.below(1).await;
    let took = started.elapsed();
    drop(latencies);
    let mut all = Vec::new();
    while let Some(latency) = received.recv().await {
        all.push(latency);
    }
    (all, confirmed.load(Relaxed), took)
}
