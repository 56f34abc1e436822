//! What the tests of this crate share: entries of known content, and awaiting a `Done`.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use model::command::Payload;
use storage::engine::sim::SimDisk;
use storage::{Closed, Done, Engine, LogEntry, Reader, Writer};
use tokio::sync::oneshot;

pub const GROUP: GroupId = GroupId(1024);

/// An entry whose payload tells its index and term.
pub fn entry(index: u64, term: u64, bytes: usize) -> LogEntry {
    let text = format!("{index}.{term}.");
    let batch: Vec<u8> = text.bytes().cycle().take(bytes.max(text.len())).collect();
    LogEntry { index, term, payload: Payload::append(index as i64, vec![Bytes::from(batch)]) }
}

pub fn entries(range: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<LogEntry> {
    range.map(|index| entry(index, term, bytes)).collect()
}

/// Makes a `Done` and what waits for it.
pub fn done() -> (Done, impl Future<Output = Result<(), Closed>>) {
    let (send, receive) = oneshot::channel();
    let wait = async { tokio::time::timeout(Duration::from_secs(30), receive).await.expect("done").expect("called") };
    (Box::new(move |result| drop(send.send(result))), wait)
}

pub async fn append(writer: &Writer, group: GroupId, entries: Vec<LogEntry>) -> Result<(), Closed> {
    let (done, wait) = done();
    let taken = writer.append(group, entries, done);
    let durable = wait.await;
    assert!(taken || durable.is_err(), "what is refused is never durable");
    durable
}

pub async fn truncate(writer: &Writer, group: GroupId, index: Option<u64>) -> Result<(), Closed> {
    let (done, wait) = done();
    writer.truncate_after(group, index, done);
    wait.await
}

pub async fn purge(writer: &Writer, group: GroupId, upto: u64) -> Result<(), Closed> {
    let (done, wait) = done();
    writer.purge(group, upto, Vec::new(), done);
    wait.await
}

/// (index, term) of everything a reader sees of a log.
pub async fn ids(reader: &Reader, group: GroupId) -> Vec<(u64, u64)> {
    let entries = reader.entries(group, 0, u64::MAX, usize::MAX).await.expect("entries");
    for found in &entries {
        let bytes = found.payload.body[0].len();
        assert_eq!(*found, entry(found.index, found.term, bytes), "content");
    }
    entries.iter().map(|entry| (entry.index, entry.term)).collect()
}

/// A disk that an engine can be opened on again and again.
pub trait Disk {
    /// Opens it; every engine of an earlier open must be dropped.
    fn open(&self) -> Arc<dyn Engine>;
}

impl Disk for SimDisk {
    fn open(&self) -> Arc<dyn Engine> {
        SimDisk::open(self)
    }
}

#[cfg(feature = "rocks")]
pub mod rocks {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use storage::engine::rocks::{RocksEngine, RocksOptions, wait_closed};
    use storage::{Engine, Error};
    use tempfile::TempDir;

    /// A disk may stall for long before the last thread has let go.
    pub const CLOSED_WITHIN: Duration = Duration::from_secs(60);

    /// RocksDB in a temporary folder, with memtables so small that tests reach the files.
    pub struct RocksDisk {
        pub folder: TempDir,
    }

    impl RocksDisk {
        pub fn new() -> Self {
            RocksDisk { folder: tempfile::tempdir().expect("temporary folder") }
        }

        /// Waits until RocksDB has closed what the test opened.
        fn closed(&self) -> bool {
            wait_closed(self.folder.path(), CLOSED_WITHIN)
        }

        pub fn options() -> RocksOptions {
            RocksOptions {
                memtable_bytes: 1 << 20,
                wal_bytes_max: 4 << 20,
                reclaim_delay: Duration::from_millis(50),
                ..Default::default()
            }
        }

        /// Opens once the threads of an earlier engine have let go of it.
        pub fn engine(&self) -> Arc<RocksEngine> {
            open(self.folder.path())
        }
    }

    impl Drop for RocksDisk {
        fn drop(&mut self) {
            assert!(std::thread::panicking() || self.closed(), "a test left its store open");
        }
    }

    pub fn open(path: &std::path::Path) -> Arc<RocksEngine> {
        try_open(path).expect("open")
    }

    /// Waits for the folder's lock: threads of an earlier engine may have it, and so has a child process (another test's
    /// `mount`) between its fork and its exec.
    #[allow(clippy::disallowed_methods, reason = "waits for threads in real time")]
    pub fn try_open(path: &std::path::Path) -> Result<Arc<RocksEngine>, Error> {
        let started = Instant::now();
        loop {
            match RocksEngine::open(path, RocksDisk::options()) {
                Err(Error::Locked(_)) if started.elapsed() < Duration::from_secs(20) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    impl super::Disk for RocksDisk {
        fn open(&self) -> Arc<dyn Engine> {
            self.engine()
        }
    }
}
