//! A simulated disk: ordered maps, a journal of what is not synced, and faults on demand.
//! Owns: `SimDisk`, the device, which outlives the engines that open it; a crash keeps the synced state and a chosen
//! prefix of the journal in whole batches: a torn batch is a dropped one, what was synced before it stays, as with the
//! checksummed records of a write-ahead log. A damaged row is an error to read, as a block is whose checksum is wrong.
//! One engine at a time is attached. Never uses threads or real time: its committer is a task, its fsync virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::GroupId;

use super::{BoxFuture, DiskUsage, Engine, Op, Rows, ScanLimit, Table};
use crate::{Committer, Error, RowKind, keys};

/// Bytes a simulated device has unless told otherwise.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A device. Clones are the same device.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct Tables {
    log: BTreeMap<Bytes, Bytes>,
    meta: BTreeMap<Bytes, Bytes>,
    /// Batches that ever became durable; kept in `durable` only.
    batches: u64,
}

struct State {
    /// What the engine sees.
    live: Tables,
    /// What survives any crash.
    durable: Tables,
    /// Batches in `live` and not in `durable`, in write order.
    journal: Vec<Vec<Op>>,
    /// Bytes of `live`.
    used: u64,
    capacity: u64,
    fsync: (Duration, Duration),
    random: u64,
    faults: Faults,
    /// Put aside by `backup`.
    backup: Option<Tables>,
    /// Counts opens and crashes: an engine of an earlier one is dead.
    generation: u64,
}

/// What is wrong, or will be.
#[derive(Default)]
struct Faults {
    fail_write: bool,
    fail_sync: bool,
    /// A sync of this engine failed: the system has forgotten that those pages are not on the device, and every later
    /// sync succeeds and makes nothing durable ("fsyncgate").
    forgot: bool,
    /// No sync takes less.
    sync_min: Duration,
    /// Log rows that cannot be read: their bytes are not what was written.
    rotten: BTreeSet<Bytes>,
    /// The end of what was synced is missing.
    cut_off: bool,
}

impl SimDisk {
    /// An empty device; `seed` decides its fsync times. They take no time until `set_fsync`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            live: Tables::default(),
            durable: Tables::default(),
            journal: Vec::new(),
            used: 0,
            capacity: CAPACITY_BYTES,
            fsync: (Duration::ZERO, Duration::ZERO),
            random: seed,
            faults: Faults::default(),
            backup: None,
            generation: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Attaches a new engine; one attached before is cut off, as after a crash of its process alone (what it wrote
    /// stays, synced or not).
    pub fn open(&self) -> Arc<SimEngine> {
        let mut state = self.lock();
        state.generation += 1;
        state.faults.forgot = false;
        Arc::new(SimEngine { disk: self.clone(), generation: state.generation })
    }

    /// Power failure: the first `keep` unsynced batches survive, the rest is gone, the attached engine is cut off.
    /// Clears planned errors. Returns how many batches were lost.
    pub fn crash(&self, keep: usize) -> usize {
        let mut state = self.lock();
        state.generation += 1;
        (state.faults.fail_write, state.faults.fail_sync, state.faults.forgot) = (false, false, false);
        let lost = state.journal.len().saturating_sub(keep);
        state.journal.truncate(keep);
        state.settle();
        state.live = state.durable.copy();
        state.used = state.live.bytes();
        lost
    }

    /// How many batches a crash could lose now.
    pub fn unsynced(&self) -> usize {
        self.lock().journal.len()
    }

    /// Each fsync takes a time between the two, chosen by the seed.
    pub fn set_fsync(&self, min: Duration, max: Duration) {
        self.lock().fsync = (min, max.max(min));
    }

    /// The device holds this many bytes: a write beyond fails with `Full`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// The next write fails and leaves nothing.
    pub fn fail_next_write(&self) {
        self.lock().faults.fail_write = true;
    }

    /// The next sync fails; what it should have synced stays at risk.
    pub fn fail_next_sync(&self) {
        self.lock().faults.fail_sync = true;
    }

    /// No sync takes less than this; zero ends it.
    pub fn set_sync_min(&self, least: Duration) {
        self.lock().faults.sync_min = least;
    }

    /// From now on so many bytes fit beside those that are there.
    pub fn set_free(&self, bytes: u64) {
        let mut state = self.lock();
        state.capacity = state.used.saturating_add(bytes);
    }

    /// Space without end again.
    pub fn free(&self) {
        self.lock().capacity = CAPACITY_BYTES;
    }

    /// Damages one durable log row: reading it is an error from now on. Says which; none if there is no row.
    pub fn rot(&self) -> Option<(GroupId, u64)> {
        let mut state = self.lock();
        let count = u64::try_from(state.durable.log.len()).ok().filter(|count| *count > 0)?;
        let nth = usize::try_from(state.next_random() % count).ok()?;
        let key = state.durable.log.keys().nth(nth)?.clone();
        let (group, index, _) = keys::parse_log(&key).ok()?;
        state.faults.rotten.insert(key);
        Some((group, index))
    }

    /// Cuts off up to `entries` entries at the end of every log, synced or not. Returns how many are gone.
    pub fn cut_off(&self, entries: usize) -> usize {
        let mut state = self.lock();
        let mut last = BTreeMap::<GroupId, Vec<Bytes>>::new();
        for key in state.durable.log.keys().rev() {
            let Ok((group, _, _)) = keys::parse_log(key) else { continue };
            let keys = last.entry(group).or_default();
            if keys.len() < entries {
                keys.push(key.clone());
            }
        }
        let gone: Vec<Bytes> = last.into_values().flatten().collect();
        let mut kept = state.durable.copy();
        gone.iter().for_each(|key| drop(kept.log.remove(key)));
        state.replace(kept);
        state.faults.cut_off = !gone.is_empty();
        gone.len()
    }

    /// Whether the end of what was synced is missing. RocksDB's engine knows by the number it keeps beside the log.
    pub fn is_cut_off(&self) -> bool {
        self.lock().faults.cut_off
    }

    /// An empty device in its place.
    pub fn wipe(&self) {
        self.lock().replace(Tables::default());
    }

    /// Puts a copy of what is durable aside.
    pub fn backup(&self) {
        let mut state = self.lock();
        state.backup = Some(state.durable.copy());
    }

    /// The copy comes back in place of all that is there. False if there is none.
    pub fn restore(&self) -> bool {
        let mut state = self.lock();
        let Some(copy) = state.backup.as_ref().map(Tables::copy) else { return false };
        state.replace(copy);
        true
    }

    /// Flips one bit of a stored log entry, in what is seen and in what is durable. False when there is no such entry.
    pub fn corrupt(&self, group: GroupId, index: u64, byte: usize) -> bool {
        let mut state = self.lock();
        let (from, to) = (keys::log_from(group, index), keys::log_from(group, index + 1));
        let State { live, durable, .. } = &mut *state;
        let mut found = false;
        for (_, value) in live.log.range_mut(from.clone()..to.clone()).chain(durable.log.range_mut(from..to)) {
            let mut bytes = BytesMut::from(&value[..]);
            let at = byte % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
                found = true;
            }
            *value = bytes.freeze();
        }
        found
    }

    /// Term and stored bytes of a log entry if a crash now could not lose it.
    pub fn durable(&self, group: GroupId, index: u64) -> Option<(u64, Bytes)> {
        self.lock().durable.entry(group, index)
    }

    /// Term and stored bytes of a log entry as it was last written, synced or not.
    pub fn written(&self, group: GroupId, index: u64) -> Option<(u64, Bytes)> {
        self.lock().live.entry(group, index)
    }

    /// The last durable entry of a log: index and term.
    pub fn durable_last(&self, group: GroupId) -> Option<(u64, u64)> {
        let state = self.lock();
        let (key, _) = state.durable.log.range(keys::log_from(group, 0)..keys::log_end(group)).next_back()?;
        keys::parse_log(key).ok().map(|(_, index, term)| (index, term))
    }

    /// A row that a crash now could not lose.
    pub fn durable_row(&self, group: GroupId, kind: RowKind) -> Option<Bytes> {
        self.lock().durable.meta.get(&keys::meta(kind, group, &[])).cloned()
    }

    /// A row as it was last written, synced or not.
    pub fn written_row(&self, group: GroupId, kind: RowKind) -> Option<Bytes> {
        self.lock().live.meta.get(&keys::meta(kind, group, &[])).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Everything in the journal becomes durable.
    fn settle(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        self.durable.batches += journal.len() as u64;
        for op in journal.into_iter().flatten() {
            self.durable.apply(&op);
        }
    }

    /// None of these rows is damaged.
    fn sound(&self, table: Table, keys: &[&[u8]]) -> Result<(), Error> {
        let rotten = &self.faults.rotten;
        match table == Table::Log && !rotten.is_empty() && keys.iter().any(|key| rotten.contains(*key)) {
            true => Err(Error::Corrupt("a log row's checksum is wrong".into())),
            false => Ok(()),
        }
    }

    /// A row that is written again or deleted is no longer the damaged one.
    fn mend(&mut self, op: &Op) {
        match op {
            Op::Put { table: Table::Log, key, .. } | Op::Delete { table: Table::Log, key } => {
                self.faults.rotten.remove(key);
            }
            Op::DeleteRange { table: Table::Log, from, to } => {
                self.faults.rotten.retain(|key| key < from || key >= to);
            }
            _ => {}
        }
    }

    /// The device holds `tables`, all of it durable; whoever was attached is cut off.
    fn replace(&mut self, tables: Tables) {
        self.generation += 1;
        self.journal.clear();
        self.faults = Faults { sync_min: self.faults.sync_min, ..Faults::default() };
        (self.live, self.durable) = (tables.copy(), tables);
        self.used = self.live.bytes();
    }

    /// The next number of splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fsync_time(&mut self) -> Duration {
        let (min, max) = self.fsync;
        let spread = u64::try_from((max - min).as_micros()).unwrap_or(u64::MAX);
        let usual = match spread {
            0 => min,
            spread => min + Duration::from_micros(self.next_random() % (spread + 1)),
        };
        usual.max(self.faults.sync_min)
    }
}

impl Tables {
    fn table(&self, table: Table) -> &BTreeMap<Bytes, Bytes> {
        match table {
            Table::Log => &self.log,
            Table::Meta => &self.meta,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut BTreeMap<Bytes, Bytes> {
        match table {
            Table::Log => &mut self.log,
            Table::Meta => &mut self.meta,
        }
    }

    /// Applies one operation and returns (bytes added, bytes removed).
    fn apply(&mut self, op: &Op) -> (u64, u64) {
        match op {
            Op::Put { table, key, parts } => {
                let value = concat(parts);
                let added = row_bytes(key, &value);
                let old = self.table_mut(*table).insert(key.clone(), value);
                (added, old.map_or(0, |old| row_bytes(key, &old)))
            }
            Op::Delete { table, key } => {
                let old = self.table_mut(*table).remove(key);
                (0, old.map_or(0, |old| row_bytes(key, &old)))
            }
            Op::DeleteRange { from, to, .. } if from >= to => (0, 0),
            Op::DeleteRange { table, from, to } => {
                let rows = self.table_mut(*table);
                let mut removed = rows.split_off(from);
                rows.append(&mut removed.split_off(to));
                (0, removed.iter().map(|(key, value)| row_bytes(key, value)).sum())
            }
        }
    }

    fn entry(&self, group: GroupId, index: u64) -> Option<(u64, Bytes)> {
        let range = keys::log_from(group, index)..keys::log_from(group, index.checked_add(1)?);
        let (key, value) = self.log.range(range).next()?;
        Some((keys::parse_log(key).ok()?.2, value.clone()))
    }

    fn copy(&self) -> Self {
        Tables { log: self.log.clone(), meta: self.meta.clone(), batches: self.batches }
    }

    fn bytes(&self) -> u64 {
        self.log.iter().chain(&self.meta).map(|(key, value)| row_bytes(key, value)).sum()
    }
}

fn row_bytes(key: &Bytes, value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64
}

/// One slice per value, so that the live and the durable table share it.
fn join_parts(op: Op) -> Op {
    match op {
        Op::Put { table, key, parts } => Op::Put { table, key, parts: vec![concat(&parts)] },
        other => other,
    }
}

fn concat(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        parts => parts.concat().into(),
    }
}

/// An engine on a `SimDisk`.
pub struct SimEngine {
    disk: SimDisk,
    generation: u64,
}

impl SimEngine {
    /// The device, if this engine is still attached to it.
    fn attached(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.disk.lock();
        match state.generation == self.generation {
            true => Ok(state),
            false => Err(Error::Io("the process that opened this disk is gone".into())),
        }
    }

    async fn commit(&self, ops: &[Op], sync: bool) -> Result<(), Error> {
        self.write(ops, false)?;
        if !sync {
            return Ok(());
        }
        let time = self.attached()?.fsync_time();
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.sync()
    }
}

impl Engine for SimEngine {
    fn write(&self, ops: &[Op], sync: bool) -> Result<(), Error> {
        let mut state = self.attached()?;
        if std::mem::take(&mut state.faults.fail_write) {
            return Err(Error::Io("injected write error".into()));
        }
        let puts = ops.iter().map(|op| match op {
            Op::Put { key, parts, .. } => (key.len() + parts.iter().map(Bytes::len).sum::<usize>()) as u64,
            _ => 0,
        });
        let needed = state.used + puts.sum::<u64>();
        if needed > state.capacity {
            return Err(Error::Full(format!("{needed} bytes needed, the device has {}", state.capacity)));
        }
        let ops: Vec<Op> = ops.iter().cloned().map(join_parts).collect();
        for op in &ops {
            state.mend(op);
            let (added, removed) = state.live.apply(op);
            state.used = state.used + added - removed;
        }
        state.journal.push(ops);
        drop(state);
        if sync { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), Error> {
        let mut state = self.attached()?;
        if std::mem::take(&mut state.faults.fail_sync) {
            state.faults.forgot = true;
            return Err(Error::Io("injected sync error".into()));
        }
        if !state.faults.forgot {
            state.settle();
        }
        Ok(())
    }

    fn synced(&self) -> u64 {
        self.disk.lock().durable.batches
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.attached()?;
        state.sound(table, &[key])?;
        Ok(state.live.table(table).get(key).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: ScanLimit, reverse: bool) -> Result<Rows, Error> {
        if from >= to {
            return Ok(Rows::new());
        }
        let state = self.attached()?;
        let range =
            state.live.table(table).range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        let rows: &mut dyn Iterator<Item = (&Bytes, &Bytes)> = if reverse { &mut range.rev() } else { &mut { range } };
        let rows = limit.take(rows.map(|(key, value)| (key.clone(), value.clone())));
        state.sound(table, &rows.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>())?;
        Ok(rows)
    }

    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<()> {
        Box::pin(async move { job() })
    }

    fn drive(self: Arc<Self>, mut committer: Committer) {
        tokio::spawn(async move {
            while let Some(batch) = committer.next_batch().await {
                let started = tokio::time::Instant::now();
                let result = self.commit(&batch.ops, batch.sync).await;
                committer.finish(batch, result, started.elapsed());
            }
        });
    }

    fn reclaim(&self, _table: Table, _from: Bytes, _to: Bytes) {}

    fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let state = self.attached()?;
        Ok(DiskUsage { used: state.used, free: state.capacity.saturating_sub(state.used) })
    }
}
