//! Reads of logs and rows: the tail cache first, else the engine on its blocking pool.
//! Invariants: a range of entries is one line of the log as it was at one moment: dense, one term per index; and what
//! comes from the engine has a sound header. The checksums of batches are the caller's.
//! Never writes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use model::command::Payload;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::{DiskUsage, Engine, ScanLimit, Table};
use crate::tail::Tails;
use crate::writer::LogEntry;
use crate::{Error, RowKind, keys};

/// A read that raced this many cuts of its log in a row gives up: something is wrong with whoever cuts.
const ATTEMPTS: usize = 100;
/// While the store commits, a read that steps aside takes this much at once, and pauses after as much: what a kernel reads ahead by
/// default, a fraction of a millisecond of a device.
const ASIDE_BYTES: usize = 128 << 10;
/// A pause has one step at least, since what the kernel has read ahead seems to take no time ...
const ASIDE_PAUSE_STEP: Duration = Duration::from_millis(1);
/// ... and ends some time.
const ASIDE_PAUSE_MAX: Duration = Duration::from_millis(10);
/// Rows of one step of a scan of a table.
const STEP: ScanLimit = ScanLimit { bytes: 1 << 20, rows: 10_000 };

/// Reads a store. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    engine: Arc<dyn Engine>,
    tails: Arc<Tails>,
    /// A pause is so many times as long as the read before it: a slow device is left alone for longer.
    aside_pauses: u32,
}

impl Reader {
    pub(crate) fn new(engine: Arc<dyn Engine>, tails: Arc<Tails>, aside_pauses: u32) -> Self {
        Reader { engine, tails, aside_pauses }
    }

    /// The entries in `from..to`, as far as the log has them, until `max_bytes` of payload; one at least if there is one.
    ///
    /// # Errors
    /// `Broken` or `Corrupt`: this replica must not serve. `Io`, or `Closed` while the engine shuts down.
    pub async fn entries(&self, group: GroupId, from: u64, to: u64, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        self.read(group, from..to, max_bytes, false).await
    }

    /// As `entries`, for who can wait: while the store commits, what the cache does not hold is read in small steps with
    /// pauses, since commits wait for the device behind every read.
    ///
    /// # Errors
    /// As `entries`.
    pub async fn entries_aside(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        self.read(group, from..to, max_bytes, true).await
    }

    async fn read(
        &self,
        group: GroupId,
        wanted: Range<u64>,
        max_bytes: usize,
        aside: bool,
    ) -> Result<Vec<LogEntry>, Error> {
        for _ in 0..ATTEMPTS {
            let found = self.tails.find(group, wanted.start, wanted.end, max_bytes);
            if found.cold.is_empty() {
                self.tails.stats.read(found.entries.len(), 0);
                return Ok(found.entries);
            }
            let aside = aside && found.busy && self.aside_pauses > 0;
            let bytes = if aside { max_bytes.min(ASIDE_BYTES) } else { max_bytes };
            let (range, since) = (found.cold.clone(), Instant::now());
            let cold = self.blocking(move |engine| read_log(engine, group, range, bytes)).await?;
            if self.tails.edited(group) == found.edited {
                let cold = cold?;
                if aside {
                    self.pause(bytes_of(&cold), since.elapsed()).await;
                }
                return self.join(group, found.cold, cold, found.entries, max_bytes);
            }
        }
        Err(Error::Broken { group, index: wanted.start, what: format!("cut {ATTEMPTS} times during one read") })
    }

    /// Pauses if `bytes`, which it `took` so long to read, complete the next `ASIDE_BYTES`. No longer than the store takes to commit
    /// as much: a reader that does not keep up with who writes would never be done.
    async fn pause(&self, bytes: usize, took: Duration) {
        let stats = &self.tails.stats;
        if !stats.read_aside(bytes, ASIDE_BYTES) {
            return;
        }
        let (mut now, committed) = (Instant::now(), stats.batch_bytes.sum());
        let end = now + took.saturating_mul(self.aside_pauses).min(ASIDE_PAUSE_MAX);
        loop {
            now += ASIDE_PAUSE_STEP;
            tokio::time::sleep_until(now).await;
            if now >= end || stats.batch_bytes.sum() - committed >= bytes as u64 {
                return;
            }
        }
    }

    fn join(
        &self,
        group: GroupId,
        range: Range<u64>,
        mut cold: Vec<LogEntry>,
        tail: Vec<LogEntry>,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        let bytes = bytes_of(&cold);
        let next = cold.last().map_or(range.start, |entry| entry.index + 1);
        if cold.is_empty() {
            return Err(Error::Broken { group, index: next, what: "a missing entry".into() });
        }
        let cold_count = cold.len();
        if next == range.end {
            let mut left = max_bytes.saturating_sub(bytes);
            cold.extend(tail.into_iter().map_while(|entry| {
                left = left.checked_sub(entry.payload.len())?;
                Some(entry)
            }));
        }
        self.tails.stats.read(cold.len() - cold_count, cold_count);
        Ok(cold)
    }

    /// Index and term of the last entry, `None` for an empty log. Reads the engine only after a deep truncation.
    ///
    /// # Errors
    /// As `entries`.
    pub fn last(&self, group: GroupId) -> Result<Option<(u64, u64)>, Error> {
        for _ in 0..ATTEMPTS {
            let Some(last) = self.tails.last(group) else { return Ok(None) };
            if let Some(term) = last.term {
                return Ok(Some((last.index, term)));
            }
            let entries = read_log(self.engine.as_ref(), group, last.index..last.index + 1, 0);
            if self.tails.edited(group) == last.edited {
                return match entries?.pop() {
                    Some(entry) => Ok(Some((entry.index, entry.term))),
                    None => Err(Error::Broken { group, index: last.index, what: "a missing entry".into() }),
                };
            }
        }
        Err(Error::Broken { group, index: 0, what: format!("cut {ATTEMPTS} times during one read") })
    }

    /// Index of the first entry, `None` for an empty log.
    pub fn first(&self, group: GroupId) -> Option<u64> {
        self.tails.first(group)
    }

    /// All rows of a kind, (suffix, value) in suffix order. Blocks on the device: for starts and small tables.
    ///
    /// # Errors
    /// What the engine says.
    pub fn rows(&self, group: GroupId, kind: RowKind) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let found = scan_all(self.engine.as_ref(), keys::meta(kind, group, &[]), keys::meta_end(kind, group))?;
        found.into_iter().map(|(key, value)| Ok((keys::parse_meta(&key)?.1, value))).collect()
    }

    /// The row of a kind that has one row per group. Blocks on the device.
    ///
    /// # Errors
    /// What the engine says.
    pub fn row(&self, group: GroupId, kind: RowKind) -> Result<Option<Bytes>, Error> {
        self.engine.get(Table::Meta, &keys::meta(kind, group, &[]))
    }

    /// The rows of a kind that has one row per group, of all groups. Blocks on the device.
    ///
    /// # Errors
    /// What the engine says.
    pub fn every_row(&self, kind: RowKind) -> Result<Vec<(GroupId, Bytes)>, Error> {
        let found = scan_all(self.engine.as_ref(), keys::meta(kind, GroupId(0), &[]), keys::kind_end(kind))?;
        found.into_iter().map(|(key, value)| Ok((keys::parse_meta(&key)?.0, value))).collect()
    }

    /// One row by its suffix. Blocks on the device.
    ///
    /// # Errors
    /// What the engine says.
    pub fn row_at(&self, group: GroupId, kind: RowKind, suffix: &[u8]) -> Result<Option<Bytes>, Error> {
        self.engine.get(Table::Meta, &keys::meta(kind, group, suffix))
    }

    /// Bytes of a group's log; after a restart off by at most 2 MiB.
    pub fn group_bytes(&self, group: GroupId) -> u64 {
        self.tails.bytes(group)
    }

    /// Bytes of a group's entries from the first up to and including `index`, as exact as `group_bytes`.
    pub fn group_bytes_upto(&self, group: GroupId, index: u64) -> u64 {
        self.tails.bytes_upto(group, index)
    }

    /// Every group that has a log, a vote, a purge mark or a local row, ascending. Blocks on the device.
    ///
    /// # Errors
    /// What the engine says.
    pub fn groups(&self) -> Result<Vec<GroupId>, Error> {
        let mut groups = self.tails.groups();
        for kind in [RowKind::Vote, RowKind::Purged, RowKind::Local] {
            for (key, _) in scan_all(self.engine.as_ref(), keys::meta(kind, GroupId(0), &[]), keys::kind_end(kind))? {
                groups.push(keys::parse_meta(&key)?.0);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    /// Bytes in the tail cache.
    pub fn cached_bytes(&self) -> usize {
        self.tails.cached_bytes()
    }

    /// Space taken and left on the device.
    ///
    /// # Errors
    /// `Io`.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.engine.disk_usage()
    }

    /// Runs a read on the engine's blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (send, receive) = oneshot::channel();
        let engine = self.engine.clone();
        // The receiver is gone only when the read was given up.
        self.engine.run(Box::new(move || drop(send.send(job(engine.as_ref()))))).await;
        receive.await.map_err(|_| Error::Closed(crate::Closed::new("the engine shuts down")))
    }
}

fn bytes_of(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

/// Reads entries of `range` from the engine and checks that they are one dense line from its start.
fn read_log(engine: &dyn Engine, group: GroupId, range: Range<u64>, bytes: usize) -> Result<Vec<LogEntry>, Error> {
    let (from, to) = (keys::log_from(group, range.start), keys::log_from(group, range.end));
    let rows = engine.scan(Table::Log, &from, &to, ScanLimit { bytes, rows: usize::MAX }, false)?;
    let mut entries = Vec::with_capacity(rows.len());
    for (expected, (key, value)) in (range.start..).zip(rows) {
        let (_, index, term) = keys::parse_log(&key)?;
        if index != expected {
            let what = if index < expected { "a second entry with another term" } else { "a missing entry" };
            return Err(Error::Broken { group, index: expected.min(index), what: what.into() });
        }
        let payload = Payload::from_bytes(value)
            .map_err(|error| Error::Corrupt(format!("entry {index} of group {group}: {error}")))?;
        entries.push(LogEntry { index, term, payload });
    }
    Ok(entries)
}

/// Every row in `from..to`, read in steps.
fn scan_all(engine: &dyn Engine, mut from: Bytes, to: Bytes) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut all = Vec::new();
    loop {
        let step = engine.scan(Table::Meta, &from, &to, STEP, false)?;
        match step.last() {
            None => return Ok(all),
            Some((key, _)) => from = [key, &[0][..]].concat().into(),
        }
        all.extend(step);
    }
}
