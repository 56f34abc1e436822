//! What a disk must do for us: ordered tables, atomic batches, a sync. Two implementations pass one conformance suite.
//! Owns nothing; invariants are stated at each method and checked by `tests/conformance.rs`.
//! Never decides meaning, order or durability policy: that is the committer's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Committer, Error};

#[cfg(feature = "rocks")]
pub mod rocks;
pub mod sim;

/// A boxed future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The two tables (column families) of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Log entries: large values, written in index order per group, read in ranges, deleted in ranges.
    Log,
    /// Everything else: small rows, often overwritten.
    Meta,
}

/// One change of a table.
#[derive(Clone, Debug)]
pub enum Op {
    /// Sets `key` to the concatenation of `parts`.
    Put {
        /// Which table.
        table: Table,
        /// The key.
        key: Bytes,
        /// The value in slices, so that a header needs no copy of its payload.
        parts: Vec<Bytes>,
    },
    /// Removes `key`, present or not.
    Delete {
        /// Which table.
        table: Table,
        /// The key.
        key: Bytes,
    },
    /// Removes every key in `from..to`.
    DeleteRange {
        /// Which table.
        table: Table,
        /// First key removed.
        from: Bytes,
        /// First key kept.
        to: Bytes,
    },
}

/// A scan ends once it holds this much, but never before one row.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Bytes of keys and values.
    pub bytes: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Space on the device that holds the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes this store occupies.
    pub used: u64,
    /// Bytes a writer may still take on the device.
    pub free: u64,
}

/// Keys and values in key order (or reverse).
pub type Rows = Vec<(Bytes, Bytes)>;

/// One disk. Object safe; every method may be called from any thread.
pub trait Engine: Send + Sync + 'static {
    /// Applies `ops` in order, all or none, and makes them visible. With `sync` they and everything written before
    /// survive a power failure once this returns; without, a later crash keeps a prefix of the write order.
    ///
    /// # Errors
    /// `Io` or `Full`; afterwards the caller must not trust the store to hold or to lack these ops.
    fn write(&self, ops: &[Op], sync: bool) -> Result<(), Error>;

    /// Makes everything written so far survive a power failure.
    ///
    /// # Errors
    /// `Io`; never retried (a failed fsync may have dropped the pages).
    fn sync(&self) -> Result<(), Error>;

    /// How far what is durable reaches, as a number: it grows with every sync and never falls, over restarts too. A store that
    /// has a lower one than it once told lacks what was synced: it is an old copy of itself.
    fn synced(&self) -> u64;

    /// The value of one key. May block on the device.
    ///
    /// # Errors
    /// `Io` or `Corrupt`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// The rows in `from..to`, one consistent view, descending when `reverse`. May block on the device.
    ///
    /// # Errors
    /// `Io` or `Corrupt`.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: ScanLimit, reverse: bool) -> Result<Rows, Error>;

    /// Runs a job that may block: a small pool in the product, inline in the simulation. Ends when the job has run;
    /// a job of a closing engine may be dropped unrun.
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<()>;

    /// Takes over the committer and drives it until it ends: a thread in the product, a task in the simulation.
    fn drive(self: Arc<Self>, committer: Committer);

    /// A hint that `from..to` was deleted and its space should be given back, some time.
    fn reclaim(&self, table: Table, from: Bytes, to: Bytes);

    /// Space taken and left.
    ///
    /// # Errors
    /// `Io`.
    fn disk_usage(&self) -> Result<DiskUsage, Error>;
}

impl ScanLimit {
    /// Takes rows until the limit, one at least.
    fn take(self, rows: impl Iterator<Item = (Bytes, Bytes)>) -> Rows {
        let mut taken = Rows::new();
        let mut bytes = 0;
        for (key, value) in rows {
            bytes += key.len() + value.len();
            if !taken.is_empty() && (bytes > self.bytes || taken.len() >= self.rows) {
                break;
            }
            taken.push((key, value));
        }
        taken
    }
}
