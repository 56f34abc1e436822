//! RocksDB as the engine. Owns the crate's only threads: the committer's, a few for blocking reads, one that gives space
//! back, one that watches over writes. Every tuned option is in `options`, with its reason.
//! Invariants: one process has the folder open (`synced` is its lock); iterators live for one call, since they pin files.
//! Never used in the simulation.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Builder, JoinHandle, Thread};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::properties::BACKGROUND_ERRORS;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, ErrorKind, ReadOptions, WriteBatch, WriteOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{BoxFuture, DiskUsage, Engine, Op, Rows, ScanLimit, Table};
use crate::{Committer, Error};

mod device;
mod options;
mod reclaim;
mod synced;
mod watch;

pub use options::RocksOptions;

/// A scan that may return more than this reads ahead, bytes.
const READ_AHEAD_FROM: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// A store in a folder.
pub struct RocksEngine {
    db: Arc<DB>,
    path: PathBuf,
    options: RocksOptions,
    watch: watch::Watch,
    /// After `db`, and after the threads that hold it: the folder is free only when RocksDB has closed it.
    synced: synced::Synced,
    /// `None` only while dropping, so that the threads end.
    jobs: Option<Sender<Job>>,
    reclaims: Option<Sender<reclaim::Range>>,
    reclaimer: Option<JoinHandle<()>>,
}

impl RocksEngine {
    /// Opens the store in `path`, made if missing. Replays what the last process left in the write-ahead log: up to the
    /// first record that is not whole.
    ///
    /// # Errors
    /// `Locked` when another process has it open; `Corrupt`, also when that record was confirmed once; `Io`, `Full`.
    pub fn open(path: &Path, options: RocksOptions) -> Result<Arc<Self>, Error> {
        std::fs::create_dir_all(path).map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        let synced = synced::Synced::open(path)?;
        let direct_io = options.direct_io && device::takes_direct_io(path);
        device::warn_of_read_ahead(path);
        let families = [
            ColumnFamilyDescriptor::new("default", options.unused_family()),
            ColumnFamilyDescriptor::new(family(Table::Log), options.log_family()),
            ColumnFamilyDescriptor::new(family(Table::Meta), options.meta_family()),
        ];
        let db = DB::open_cf_descriptors(&options.database(direct_io), path, families).map_err(error)?;
        let db = Arc::new(db);
        synced.check(db.latest_sequence_number())?;
        let jobs = start_readers(options.read_threads)?;
        let (reclaims, ranges) = channel();
        let reclaimer = reclaim::start(db.clone(), ranges, options.reclaim_delay)?;
        let (watched, ended) = (db.clone(), db.clone());
        let has_failed = move || matches!(watched.property_int_value(BACKGROUND_ERRORS), Ok(Some(1..)));
        let watch = watch::Watch::start(has_failed, move || ended.cancel_all_background_work(false))?;
        Ok(Arc::new(RocksEngine {
            db,
            path: path.to_owned(),
            options,
            synced,
            jobs: Some(jobs),
            reclaims: Some(reclaims),
            reclaimer: Some(reclaimer),
            watch,
        }))
    }

    /// Writes the memtables to disk: for measurements and for tests of what is read from files.
    ///
    /// # Errors
    /// `Io`, `Full`.
    pub fn flush(&self) -> Result<(), Error> {
        for table in [Table::Log, Table::Meta] {
            self.db.flush_cf(self.family(table)?).map_err(error)?;
        }
        Ok(())
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, Error> {
        self.db.cf_handle(family(table)).ok_or_else(|| Error::Corrupt(format!("no column family {}", family(table))))
    }

    /// The error of a write that was ended because background work has failed.
    fn has_failed(&self, failure: &rocksdb::Error) -> Error {
        let text =
            format!("RocksDB could not write in the background ({}): {failure}", self.path.join("LOG").display());
        match self.disk_usage() {
            Ok(DiskUsage { free, .. }) if free < self.options.unflushed_bytes_max() => Error::Full(text),
            _ => Error::Io(text),
        }
    }

    fn read_options(&self, limit: ScanLimit) -> ReadOptions {
        let mut read = ReadOptions::default();
        if limit.bytes >= READ_AHEAD_FROM {
            read.set_readahead_size(self.options.read_ahead_bytes);
        }
        read
    }
}

/// Waits until no process has the store in `path` open any more, for `limit` at most; whether it is so. The committer's thread
/// closes it some time after the last `Writer` is gone. A process that ends before, or a folder that goes, cuts off RocksDB's own
/// threads, and the C++ library then aborts the process.
#[allow(clippy::disallowed_methods, reason = "waits for threads in real time")]
pub fn wait_closed(path: &Path, limit: Duration) -> bool {
    let started = std::time::Instant::now();
    while synced::is_open(path) {
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

impl Drop for RocksEngine {
    fn drop(&mut self) {
        self.jobs = None;
        self.reclaims = None;
        self.db.cancel_all_background_work(false);
        if let Some(reclaimer) = self.reclaimer.take()
            && reclaimer.join().is_err()
        {
            tracing::error!("the thread that gives space back has panicked");
        }
    }
}

impl Engine for RocksEngine {
    fn write(&self, ops: &[Op], sync: bool) -> Result<(), Error> {
        let (log, meta) = (self.family(Table::Log)?, self.family(Table::Meta)?);
        let family = |table: &Table| if *table == Table::Log { log } else { meta };
        let mut batch = WriteBatch::with_capacity_bytes(batch_bytes(ops));
        let mut joined = Vec::new();
        for op in ops {
            match op {
                Op::Put { table, key, parts } => match parts.as_slice() {
                    [one] => batch.put_cf(family(table), key, one),
                    parts => {
                        joined.clear();
                        parts.iter().for_each(|part| joined.extend_from_slice(part));
                        batch.put_cf(family(table), key, &joined);
                    }
                },
                Op::Delete { table, key } => batch.delete_cf(family(table), key),
                Op::DeleteRange { from, to, .. } if from >= to => {}
                Op::DeleteRange { table, from, to } => batch.delete_range_cf(family(table), from, to),
            }
        }
        let mut write = WriteOptions::default();
        write.set_sync(sync);
        // Each operation takes a sequence number; other writers may only add to them.
        let sequence = self.db.latest_sequence_number() + batch.len() as u64;
        let (written, was_ended) = self.watch.over(|| self.db.write_opt(batch, &write));
        written.map_err(|failure| if was_ended { self.has_failed(&failure) } else { error(failure) })?;
        if sync { self.synced.note(sequence) } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), Error> {
        let sequence = self.db.latest_sequence_number();
        self.db.flush_wal(true).map_err(error)?;
        self.synced.note(sequence)
    }

    fn synced(&self) -> u64 {
        self.synced.reached()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let found = self.db.get_pinned_cf(self.family(table)?, key).map_err(error)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: ScanLimit, reverse: bool) -> Result<Rows, Error> {
        if from >= to {
            return Ok(Rows::new());
        }
        let mut read = self.read_options(limit);
        read.set_iterate_lower_bound(from);
        read.set_iterate_upper_bound(to);
        let mut cursor = self.db.raw_iterator_cf_opt(self.family(table)?, read);
        if reverse {
            cursor.seek_to_last()
        } else {
            cursor.seek_to_first()
        }
        let mut fresh = true;
        let rows = limit.take(std::iter::from_fn(|| {
            match (std::mem::take(&mut fresh), reverse) {
                (true, _) => {}
                (false, true) => cursor.prev(),
                (false, false) => cursor.next(),
            }
            let (key, value) = cursor.item()?;
            Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
        }));
        cursor.status().map_err(error)?;
        Ok(rows)
    }

    fn run(&self, job: Job) -> BoxFuture<()> {
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move || {
            job();
            // Nobody waits any more when the read was given up.
            send.send(()).ok();
        });
        if let Some(jobs) = &self.jobs {
            // A send fails only when every reader thread has panicked; the job is dropped and its caller sees that.
            drop(jobs.send(job));
        }
        Box::pin(async move { drop(receive.await) })
    }

    fn drive(self: Arc<Self>, mut committer: Committer) {
        let started = Builder::new().name("storage-commit".into()).spawn(move || {
            while let Some(batch) = next_batch(&mut committer) {
                let began = Instant::now();
                let result = self.write(&batch.ops, batch.sync);
                committer.finish(batch, result, began.elapsed());
            }
            drop(self);
        });
        if let Err(error) = started {
            // The committer went with the closure: every write is refused from the start.
            tracing::error!(%error, "cannot start the committer's thread");
        }
    }

    fn reclaim(&self, table: Table, from: Bytes, to: Bytes) {
        if let Some(reclaims) = &self.reclaims {
            // A send fails only when that thread has panicked; space stays taken, nothing else.
            drop(reclaims.send(reclaim::Range { table, from, to }));
        }
    }

    fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", self.path.display()));
        let mut used = 0;
        for file in std::fs::read_dir(&self.path).map_err(failed)? {
            // A file may go between the listing and this.
            used += file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len());
        }
        let device = rustix::fs::statvfs(&self.path).map_err(|error| failed(error.into()))?;
        Ok(DiskUsage { used, free: device.f_bavail * device.f_frsize })
    }
}

fn family(table: Table) -> &'static str {
    match table {
        Table::Log => "log",
        Table::Meta => "meta",
    }
}

/// An upper bound of the encoded size, so that the batch grows never.
fn batch_bytes(ops: &[Op]) -> usize {
    const PER_OP: usize = 16;
    let bytes = |op: &Op| match op {
        Op::Put { key, parts, .. } => key.len() + parts.iter().map(Bytes::len).sum::<usize>(),
        Op::Delete { key, .. } => key.len(),
        Op::DeleteRange { from, to, .. } => from.len() + to.len(),
    };
    PER_OP + ops.iter().map(|op| PER_OP + bytes(op)).sum::<usize>()
}

fn error(error: rocksdb::Error) -> Error {
    let kind = error.kind();
    let text = error.into_string();
    match kind {
        ErrorKind::Corruption => Error::Corrupt(text),
        _ if text.contains("No space left on device") => Error::Full(text),
        ErrorKind::IOError if text.contains("/LOCK") => Error::Locked(text),
        _ => Error::Io(text),
    }
}

/// Waits, without a runtime, for the committer's next batch.
fn next_batch(committer: &mut Committer) -> Option<crate::committer::Batch> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match committer.poll_batch(&mut context) {
            Poll::Ready(batch) => return batch,
            Poll::Pending => thread::park(),
        }
    }
}

/// Starts threads that run jobs until the returned sender is dropped.
fn start_readers(count: usize) -> Result<Sender<Job>, Error> {
    let (jobs, queue) = channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..count.max(1) {
        let queue = queue.clone();
        Builder::new()
            .name(format!("storage-read-{number}"))
            .spawn(move || {
                while let Some(job) = next_job(&queue) {
                    job();
                }
            })
            .map_err(|error| Error::Io(format!("cannot start a thread: {error}")))?;
    }
    Ok(jobs)
}

fn next_job(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
