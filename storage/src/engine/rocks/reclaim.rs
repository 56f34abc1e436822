//! Gives the space of deleted ranges back: compacts the keys of the range, which frees every blob file that only held
//! dead values; when many logs with other retentions keep too much garbage alive, rewrites the oldest blob files.
//! Invariant: runs on its own thread, one range at a time, and ends when the engine is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{ColumnFamily, CompactOptions, DB};
use tokio::time::Instant;

use super::family;
use crate::{Error, Table};

/// Blob files are rewritten when at least half of their bytes, and this many, are garbage.
const GARBAGE_BYTES_MIN: u64 = 256 << 20;
/// Share of the blob files, oldest first, that such a pass rewrites.
const REWRITTEN_SHARE: &str = "0.5";

/// A deleted range.
pub(super) struct Range {
    pub(super) table: Table,
    pub(super) from: Bytes,
    pub(super) to: Bytes,
}

pub(super) fn start(db: Arc<DB>, ranges: Receiver<Range>, delay: Duration) -> Result<JoinHandle<()>, Error> {
    Builder::new()
        .name("storage-reclaim".into())
        .spawn(move || {
            while let Some(found) = gather(&ranges, delay) {
                reclaim(&db, &found);
            }
        })
        .map_err(|error| Error::Io(format!("cannot start a thread: {error}")))
}

/// Deleted ranges by where they begin: a log is deleted from its start again and again.
type Gathered = BTreeMap<(Table, Bytes), Bytes>;

/// The ranges of one delay after the first; `None` when the engine is gone.
fn gather(ranges: &Receiver<Range>, delay: Duration) -> Option<Gathered> {
    let mut found = Gathered::new();
    let mut note = |Range { table, from, to }: Range| {
        let end = found.entry((table, from)).or_default();
        *end = to.max(std::mem::take(end));
    };
    note(ranges.recv().ok()?);
    let until = Instant::now() + delay;
    loop {
        match ranges.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(range) => note(range),
            Err(RecvTimeoutError::Timeout) => return Some(found),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Compacts each range by itself, so that only the tables that hold its keys are rewritten. A failure costs space only.
fn reclaim(db: &DB, ranges: &Gathered) {
    for ((table, from), to) in ranges {
        if let Some(family) = db.cf_handle(family(*table)) {
            compact(db, family, Some(from), Some(to));
        }
    }
    if let Some(log) = db.cf_handle(family(Table::Log))
        && mostly_garbage(db, log)
    {
        rewrite(db, log);
    }
}

fn compact(db: &DB, family: &ColumnFamily, from: Option<&Bytes>, to: Option<&Bytes>) {
    let mut options = CompactOptions::default();
    // Flushes and automatic compactions go on meanwhile.
    options.set_exclusive_manual_compaction(false);
    db.compact_range_cf_opt(family, from, to, &options);
}

fn mostly_garbage(db: &DB, family: &ColumnFamily) -> bool {
    let number = |name: &str| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
    let garbage = number("rocksdb.live-blob-file-garbage-size");
    garbage >= GARBAGE_BYTES_MIN && garbage >= number("rocksdb.live-blob-file-size") / 2
}

fn rewrite(db: &DB, family: &ColumnFamily) {
    let switch = |on: &str| {
        db.set_options_cf(
            family,
            &[("enable_blob_garbage_collection", on), ("blob_garbage_collection_age_cutoff", REWRITTEN_SHARE)],
        )
    };
    match switch("true") {
        Ok(()) => compact(db, family, None, None),
        Err(error) => tracing::warn!(%error, "cannot switch the rewriting of blob files on"),
    }
    if let Err(error) = switch("false") {
        tracing::warn!(%error, "cannot switch the rewriting of blob files off");
    }
}
