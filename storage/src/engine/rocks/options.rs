//! Every RocksDB option that differs from its default, each with its reason. Figures: docs/adr/002-rocksdb-options.md.
//! Memory of an idle store: a few MiB (memtables are touched as they fill); of a busy one: memtables x memtable_bytes.

use std::time::Duration;

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, LogLevel, Options};

/// Of 100 rows that are not there, one costs a block.
const BLOOM_BITS_PER_ROW: f64 = 10.0;

/// Values go to files of about this size. A file goes at once when all its values are dead, and a file system that tells its disk of
/// freed blocks (`discard`) holds every commit up meanwhile: 14 ms for 64 MiB.
const BLOB_FILE_BYTES: u64 = 16 << 20;

/// What may be tuned; the default is what was measured best on two cores and one disk.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// Size of one memtable of the log, bytes. A flush writes one of them, or several.
    pub memtable_bytes: usize,
    /// Log memtables before writers wait: the full ones flush while the next fills.
    pub memtables: i32,
    /// Write-ahead log files kept to be overwritten: appending to a file that has its blocks needs no inode update.
    pub recycled_wal_files: usize,
    /// Above this, the oldest write-ahead log is freed by flushing whatever still needs it, bytes.
    /// About all memtables of the log: so many files are freed at once, and recycled.
    pub wal_bytes_max: u64,
    /// Flush and compact with O_DIRECT, which keeps the page cache for reads; ignored where it does not work.
    pub direct_io: bool,
    /// Flushes and compactions write at most this much, bytes per second; 0: no limit. A limit below what is
    /// committed stalls commits.
    pub flush_bytes_per_second: i64,
    /// Values below stay in the table, others go to blob files, bytes.
    pub blob_bytes_min: u64,
    /// Cache of table blocks (keys and small rows), bytes.
    pub block_cache_bytes: usize,
    /// Read-ahead of long scans, bytes.
    pub read_ahead_bytes: usize,
    /// Threads for blocking reads.
    pub read_threads: usize,
    /// Deleted ranges are gathered for this long before their space is given back.
    pub reclaim_delay: Duration,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions {
            memtable_bytes: 32 << 20,
            memtables: 4,
            recycled_wal_files: 4,
            wal_bytes_max: 128 << 20,
            direct_io: true,
            flush_bytes_per_second: 256 << 20,
            blob_bytes_min: 512,
            block_cache_bytes: 8 << 20,
            read_ahead_bytes: 1 << 20,
            read_threads: 2,
            reclaim_delay: Duration::from_secs(30),
        }
    }
}

impl RocksOptions {
    /// What may wait in memory to be flushed.
    pub(super) fn unflushed_bytes_max(&self) -> u64 {
        self.memtable_bytes as u64 * u64::from(self.memtables.unsigned_abs())
    }

    /// Options of the database as a whole.
    pub(super) fn database(&self, direct_io: bool) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_use_direct_io_for_flush_and_compaction(direct_io);
        options.set_recycle_log_file_num(self.recycled_wal_files);
        options.set_max_total_wal_size(self.wal_bytes_max);
        // Log and rows flush together, into one new write-ahead log. By itself a flush of the rows, which wait for `wal_bytes_max`, soon
        // follows one of the log: the file between is short, and cutting the recycled one to its length held every commit up for 20 ms.
        options.set_atomic_flush(true);
        if self.flush_bytes_per_second > 0 {
            // Refill every 20 ms: short enough that a commit never waits behind a long burst.
            options.set_ratelimiter(self.flush_bytes_per_second, 20_000, 10);
        }
        // One flush and one compaction at a time: two cores serve three nodes.
        options.set_max_background_jobs(2);
        // All table readers of a large store would take memory; opened ones are cached by number.
        options.set_max_open_files(512);
        // Reads of blobs are mostly sequential: let the kernel read ahead.
        options.set_advise_random_on_open(false);
        // RocksDB's own log: little, and never statistics.
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    /// Log entries: written once, in key order per group, deleted in ranges. Values go to blob files, so a compaction
    /// moves only keys.
    pub(super) fn log_family(&self) -> Options {
        let mut options = self.table();
        options.set_write_buffer_size(self.memtable_bytes);
        options.set_max_write_buffer_number(self.memtables);
        options.set_arena_block_size(512 << 10);
        options.set_enable_blob_files(true);
        options.set_min_blob_size(self.blob_bytes_min);
        options.set_blob_file_size(BLOB_FILE_BYTES);
        options.set_blob_compression_type(DBCompressionType::None);
        // Tables hold only keys: few of them, merged seldom, and never a reason to slow a writer down.
        options.set_level_zero_file_num_compaction_trigger(8);
        options.set_level_zero_slowdown_writes_trigger(200);
        options.set_level_zero_stop_writes_trigger(400);
        options
    }

    /// Rows: small, often overwritten, so ordinary compaction.
    pub(super) fn meta_family(&self) -> Options {
        let mut options = self.table();
        let mut blocks = self.blocks();
        // Thousands of partitions ask at a start for rows that most of them do not have: hardly one of these reads a block.
        blocks.set_bloom_filter(BLOOM_BITS_PER_ROW, false);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size((self.memtable_bytes / 4).max(1 << 20));
        options.set_max_write_buffer_number(3);
        options.set_arena_block_size(128 << 10);
        options
    }

    /// RocksDB wants a family of this name; it stays empty.
    pub(super) fn unused_family(&self) -> Options {
        let mut options = self.table();
        options.set_write_buffer_size(64 << 10);
        options
    }

    fn blocks(&self) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(self.block_cache_bytes / 2));
        blocks
    }

    fn table(&self) -> Options {
        let mut options = Options::default();
        options.set_block_based_table_factory(&self.blocks());
        // Batches come compressed or do not compress.
        options.set_compression_type(DBCompressionType::None);
        options
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::GroupId;
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use crate::engine::rocks::{RocksEngine, RocksOptions, wait_closed};
    use crate::{Engine, Op, RowKind, Table, keys};

    #[test]
    fn a_row_that_is_not_there_does_not_cost_its_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(folder.path(), RocksOptions::default()).unwrap();
        let key = |group| keys::meta(RowKind::Snapshot, GroupId(group), &[]);
        let put =
            |group, bytes| Op::Put { table: Table::Meta, key: key(group), parts: vec![Bytes::from(vec![7; bytes])] };
        engine.write(&[put(0, 1), put(1_000, 1 << 20)], true).unwrap();
        engine.flush().unwrap();
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut perf = PerfContext::default();
        perf.reset();
        for group in 1..101 {
            assert_eq!(engine.get(Table::Meta, &key(group)).unwrap(), None);
        }
        let read = perf.metric(PerfMetric::BlockReadByte);
        assert!(read < 2 << 20, "{read} bytes were read for 100 rows that are not there");
        assert_eq!(engine.get(Table::Meta, &key(1_000)).unwrap().map(|row| row.len()), Some(1 << 20));
        assert!(perf.metric(PerfMetric::BlockReadByte) > read, "what is read is counted");
        set_perf_stats(PerfStatsLevel::Disable);
        drop(engine);
        assert!(wait_closed(folder.path(), std::time::Duration::from_secs(30)));
    }
}
