//! Seeded random runs: the store against a model of one log with crashes, the simulated disk against a model of what
//! must survive, and both engines against each other. FLOTILLA_LONG=1 runs more seeds.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::engine::sim::SimDisk;
use storage::{Engine, LogEntry, Op, Options, Reader, ScanLimit, Table, Writer};
use support::{GROUP, entry};

const ALL: ScanLimit = ScanLimit { bytes: usize::MAX, rows: usize::MAX };

fn seeds(short: u64, long: u64) -> std::ops::Range<u64> {
    0..if std::env::var_os("FLOTILLA_LONG").is_some() { long } else { short }
}

/// What a log must hold: (index, term), dense.
type Log = Vec<(u64, u64)>;

/// One process on a disk, and the states its submissions lead through.
struct Run {
    random: StdRng,
    disk: SimDisk,
    writer: Writer,
    reader: Reader,
    /// The log after each submission, from the state at the start.
    states: Vec<Log>,
    /// The newest state that a synced submission has confirmed.
    confirmed: Arc<AtomicUsize>,
    term: u64,
}

impl Run {
    fn start(seed: u64, random: StdRng, disk: SimDisk, log: Log, term: u64) -> Self {
        let tail_bytes = (seed % 3 * 3_000) as usize;
        let options = Options { tail_bytes, batch_bytes: 2_000, ..Options::default() };
        let (writer, reader) = storage::open(disk.open(), options).expect("open");
        Run { random, disk, writer, reader, states: vec![log], confirmed: Arc::default(), term }
    }

    fn log(&self) -> &Log {
        self.states.last().expect("a state")
    }

    /// Submits one random change without waiting for it.
    fn submit(&mut self) {
        let mut log = self.log().clone();
        let number = self.states.len();
        let confirmed = self.confirmed.clone();
        let synced: storage::Done = Box::new(move |result| {
            if result.is_ok() {
                assert!(confirmed.swap(number, Ordering::Relaxed) < number, "completed out of order");
            }
        });
        match self.random.random_range(0..10) {
            0 | 1 if !log.is_empty() => {
                let keep = self.random.random_range(0..=log.len());
                log.truncate(keep);
                let first = self.log()[0].0;
                let last = log.last().map(|last| last.0).or(first.checked_sub(1));
                self.term += 1;
                self.writer.truncate_after(GROUP, last, synced);
            }
            2 if !log.is_empty() => {
                let upto = log[self.random.random_range(0..log.len())].0;
                log.retain(|(index, _)| *index > upto);
                self.writer.purge(GROUP, upto, Vec::new(), Box::new(|_| {}));
            }
            3 if self.random.random_bool(0.1) => {
                log.clear();
                self.writer.destroy(GROUP, synced);
            }
            _ => {
                let start = match log.last() {
                    Some(last) => last.0 + 1,
                    None => self.random.random_range(0..1_000),
                };
                let count = self.random.random_range(1..6);
                let bytes = self.random.random_range(10..900);
                let added: Vec<LogEntry> = (start..start + count).map(|index| entry(index, self.term, bytes)).collect();
                log.extend(added.iter().map(|entry| (entry.index, entry.term)));
                self.writer.append(GROUP, added, synced);
            }
        }
        self.states.push(log);
    }

    /// Reads a random range and the bounds, which must be those of all that was submitted.
    async fn check(&mut self) {
        let log = self.log().clone();
        let (first, last) = (log.first().map(|first| first.0), log.last().copied());
        assert_eq!(self.reader.first(GROUP), first);
        assert_eq!(self.reader.last(GROUP).expect("last"), last);
        let from = self.random.random_range(0..1_100);
        let to = from + self.random.random_range(1..40);
        let expected: Log = log.into_iter().filter(|(index, _)| (from..to).contains(index)).collect();
        let found = self.reader.entries(GROUP, from, to, usize::MAX).await.expect("entries");
        let found_ids: Log = found.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(found_ids, expected, "{from}..{to}");
        for entry in found {
            assert_eq!(entry, support::entry(entry.index, entry.term, entry.payload.body[0].len()));
        }
    }

    /// Power failure; the survivor is one of the states since the last confirmed one.
    async fn crash(mut self, seed: u64) -> Self {
        let keep = self.random.random_range(0..=self.disk.unsynced());
        self.disk.crash(keep);
        let confirmed = self.confirmed.load(Ordering::Relaxed);
        let (states, term) = (self.states, self.term);
        drop((self.writer, self.reader));
        let run = Run::start(seed, self.random, self.disk, Vec::new(), term + 1);
        let found = run.reader.entries(GROUP, 0, u64::MAX, usize::MAX).await.expect("entries after the crash");
        let found: Log = found.iter().map(|entry| (entry.index, entry.term)).collect();
        assert!(states[confirmed..].contains(&found), "{found:?} is no state since {confirmed} of {states:?}");
        Run { states: vec![found], ..run }
    }
}

async fn log_against_model(seed: u64) {
    let disk = SimDisk::new(seed);
    disk.set_fsync(Duration::from_micros(50), Duration::from_millis(4));
    let mut run = Run::start(seed, StdRng::seed_from_u64(seed), disk, Vec::new(), 1);
    for _ in 0..400 {
        run.submit();
        if run.random.random_bool(0.3) {
            let pause = Duration::from_micros(run.random.random_range(0..3_000));
            tokio::time::sleep(pause).await;
        }
        run.check().await;
        if run.random.random_bool(0.02) {
            run = run.crash(seed).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_is_a_log_through_crashes() {
    for seed in seeds(60, 3_000) {
        log_against_model(seed).await;
    }
}

/// A read that races changes sees one of the states it raced, never a mixture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_reads_see_one_moment() {
    for seed in seeds(10, 200) {
        let disk = SimDisk::new(seed);
        let mut run = Run::start(0, StdRng::seed_from_u64(seed), disk, Vec::new(), 1);
        // Every state ever submitted, in order.
        let states: Arc<Mutex<Vec<Log>>> = Arc::new(Mutex::new(vec![Vec::new()]));
        let (reader, seen) = (run.reader.clone(), states.clone());
        let reads = tokio::spawn(async move {
            for _ in 0..200 {
                let before = seen.lock().unwrap().len() - 1;
                let found = reader.entries(GROUP, 0, u64::MAX, usize::MAX).await.expect("entries");
                let found: Log = found.iter().map(|entry| (entry.index, entry.term)).collect();
                let seen = seen.lock().unwrap();
                assert!(seen[before..].contains(&found), "{found:?} is none of {:?}", &seen[before..]);
            }
        });
        while !reads.is_finished() {
            submit_and_note(&mut run, &states);
            if run.random.random_bool(0.2) {
                tokio::task::yield_now().await;
            }
        }
        reads.await.expect("reads");
    }
}

/// Under one lock, so that a state is noted before a reader can look for it.
fn submit_and_note(run: &mut Run, states: &Mutex<Vec<Log>>) {
    let mut states = states.lock().expect("a reader failed");
    run.submit();
    states.push(run.log().clone());
    if run.log().len() > 300 {
        run.writer.truncate_after(GROUP, None, Box::new(|_| {}));
        run.states.push(Vec::new());
        states.push(Vec::new());
    }
}

type Model = BTreeMap<(Table, Bytes), Bytes>;

fn random_ops(random: &mut StdRng) -> Vec<Op> {
    let table = |random: &mut StdRng| if random.random_bool(0.5) { Table::Log } else { Table::Meta };
    let key = |random: &mut StdRng| Bytes::from(format!("{:03}", random.random_range(0..300)));
    let count = random.random_range(1..12);
    let op = |random: &mut StdRng| match random.random_range(0..12) {
        0 => {
            let (from, to) = (key(random), key(random));
            Op::DeleteRange { table: table(random), from, to }
        }
        1 | 2 => Op::Delete { table: table(random), key: key(random) },
        _ => {
            let bytes = if random.random_bool(0.1) { 20_000 } else { 700 };
            let parts = (0..random.random_range(0..4))
                .map(|_| Bytes::from(vec![random.random::<u8>(); random.random_range(0..bytes)]))
                .collect();
            Op::Put { table: table(random), key: key(random), parts }
        }
    };
    (0..count).map(|_| op(random)).collect()
}

fn apply(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put { table, key, parts } => {
                model.insert((*table, key.clone()), parts.concat().into());
            }
            Op::Delete { table, key } => {
                model.remove(&(*table, key.clone()));
            }
            Op::DeleteRange { table, from, to } => {
                model.retain(|(of, key), _| of != table || key < from || key >= to);
            }
        }
    }
}

fn contents(engine: &dyn Engine) -> Model {
    let mut model = Model::new();
    for table in [Table::Log, Table::Meta] {
        let rows = engine.scan(table, b"", b"z", ALL, false).expect("scan");
        model.extend(rows.into_iter().map(|(key, value)| ((table, key), value)));
    }
    model
}

#[test]
fn a_crash_of_the_simulated_disk_keeps_a_prefix_of_the_writes() {
    for seed in seeds(40, 1_000) {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let mut engine = disk.open();
        // The state after each batch; `synced` is the number of batches that no crash may take.
        let (mut states, mut synced) = (vec![Model::new()], 0);
        for _ in 0..200 {
            let ops = random_ops(&mut random);
            let sync = random.random_bool(0.2);
            engine.write(&ops, sync).unwrap();
            let mut next = states.last().unwrap().clone();
            apply(&mut next, &ops);
            states.push(next);
            if sync {
                synced = states.len() - 1;
            }
            assert_eq!(contents(engine.as_ref()), *states.last().unwrap());
            if random.random_bool(0.1) {
                let unsynced = states.len() - 1 - synced;
                assert_eq!(disk.unsynced(), unsynced);
                let keep = random.random_range(0..=unsynced);
                assert_eq!(disk.crash(keep), unsynced - keep);
                assert!(engine.write(&[], false).is_err(), "the crashed process still writes");
                engine = disk.open();
                assert_eq!(contents(engine.as_ref()), states[synced + keep]);
                (states, synced) = (vec![states[synced + keep].clone()], 0);
            }
        }
    }
}

#[cfg(feature = "rocks")]
#[test]
fn both_engines_do_the_same() {
    use support::rocks::RocksDisk;
    for seed in seeds(4, 60) {
        let mut random = StdRng::seed_from_u64(seed);
        let (sim_disk, rocks_disk) = (SimDisk::new(seed), RocksDisk::new());
        let (mut sim, mut rocks) = (sim_disk.open(), rocks_disk.engine());
        for round in 0..400 {
            let ops = random_ops(&mut random);
            let sync = random.random_bool(0.05);
            sim.write(&ops, sync).unwrap();
            rocks.write(&ops, sync).unwrap();
            same_reads(&mut random, sim.as_ref(), rocks.as_ref());
            match random.random_range(0..60) {
                0 => {
                    drop(rocks);
                    (sim, rocks) = (sim_disk.open(), rocks_disk.engine());
                }
                1 => rocks.flush().unwrap(),
                2 => rocks.reclaim(Table::Log, Bytes::from("000"), Bytes::from("299")),
                _ => {}
            }
            if round % 20 == 0 {
                assert_eq!(contents(sim.as_ref()), contents(rocks.as_ref()), "seed {seed} round {round}");
            }
        }
    }
}

#[cfg(feature = "rocks")]
fn same_reads(random: &mut StdRng, one: &dyn Engine, other: &dyn Engine) {
    let key = |random: &mut StdRng| format!("{:03}", random.random_range(0..300));
    for _ in 0..4 {
        let table = if random.random_bool(0.5) { Table::Log } else { Table::Meta };
        let (from, to) = (key(random), key(random));
        let limit = ScanLimit { bytes: random.random_range(0..30_000), rows: random.random_range(0..50) };
        let reverse = random.random_bool(0.5);
        assert_eq!(one.get(table, from.as_bytes()).unwrap(), other.get(table, from.as_bytes()).unwrap());
        let scan = |engine: &dyn Engine| engine.scan(table, from.as_bytes(), to.as_bytes(), limit, reverse).unwrap();
        assert_eq!(scan(one), scan(other));
    }
}

#[test]
fn groups_do_not_touch_each_other() {
    // Every range that one group's keys span excludes its neighbours, also at the ends of the number space.
    for group in [0, 1, 1_023, 1_024, u32::MAX - 1] {
        let (this, next) = (GroupId(group), GroupId(group + 1));
        assert!(storage::keys::log_end(this) <= storage::keys::log_from(next, 0));
        assert!(storage::keys::log(this, u64::MAX, u64::MAX) < storage::keys::log_end(this));
    }
}
