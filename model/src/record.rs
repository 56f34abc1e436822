//! What the machines must know of a Kafka record batch (magic 2), read at fixed offsets of its 61-byte header.
//! Owns no bytes and checks no CRC: admission did that before the batch was proposed.
//! Must never decode records.

use bytes::Bytes;

use crate::planted::{self, Bug};

/// Bytes of a record-batch header, magic 2 (KIP-98).
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of the header in front of the part that the batch length counts.
const LENGTH_PREFIX_BYTES: usize = 12;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;

/// The fields of one record batch that decide offsets, sequences and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Bytes of the whole batch, header included.
    pub len: usize,
    /// CRC-32C from `attributes` to the end, as the batch claims it.
    pub crc: u32,
    /// Compression codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Timestamp of the first record, ms since 1970.
    pub base_timestamp: i64,
    /// Largest timestamp of the batch, ms since 1970.
    pub max_timestamp: i64,
    /// -1 when the batch is not idempotent.
    pub producer_id: i64,
    /// -1 when the batch is not idempotent.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 when the batch is not idempotent.
    pub base_sequence: i32,
    /// Records in the batch, which is also how many offsets it takes until compaction thins it out.
    pub record_count: i32,
    /// Offset of the last record, or of the last there was, less the base offset.
    pub last_offset_delta: i32,
}

/// Why bytes are not a record batch this cluster can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    /// Fewer bytes than a header.
    #[error("batch of {0} bytes is shorter than its header")]
    Short(usize),
    /// Magic 0 and 1 ended with Kafka 4 (KIP-724).
    #[error("batch has magic {0}, only 2 is known")]
    Magic(i8),
    /// The batch says another length than it has.
    #[error("batch claims {claimed} bytes after its length field and has {has}")]
    Length {
        /// What the header says.
        claimed: i32,
        /// What there is.
        has: usize,
    },
    /// The record count is not positive, or is not the last offset delta plus one.
    #[error("batch claims {count} records and a last offset delta of {last_offset_delta}")]
    Count {
        /// What the header says.
        count: i32,
        /// What the header says.
        last_offset_delta: i32,
    },
}

fn array<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

impl BatchFacts {
    /// Reads the header of `batch`, which must be exactly one batch, as producers send it.
    pub fn read(batch: &[u8]) -> Result<Self, BadBatch> {
        let facts = Self::read_thinned(batch)?;
        let BatchFacts { record_count: count, last_offset_delta, .. } = facts;
        if last_offset_delta != count - 1 {
            return Err(BadBatch::Count { count, last_offset_delta });
        }
        Ok(facts)
    }

    /// The same of a batch that may lack records that it was written with.
    pub fn read_thinned(batch: &[u8]) -> Result<Self, BadBatch> {
        let header = batch.first_chunk::<BATCH_HEADER_BYTES>().ok_or(BadBatch::Short(batch.len()))?;
        let magic = i8::from_be_bytes(array(header, 16));
        if magic != 2 {
            return Err(BadBatch::Magic(magic));
        }
        let claimed = i32::from_be_bytes(array(header, 8));
        let has = batch.len() - LENGTH_PREFIX_BYTES;
        if usize::try_from(claimed) != Ok(has) {
            return Err(BadBatch::Length { claimed, has });
        }
        let count = i32::from_be_bytes(array(header, 57));
        let last_offset_delta = i32::from_be_bytes(array(header, 23));
        if count < 1 || last_offset_delta < count - 1 {
            return Err(BadBatch::Count { count, last_offset_delta });
        }
        Ok(BatchFacts {
            len: batch.len(),
            crc: u32::from_be_bytes(array(header, 17)),
            attributes: i16::from_be_bytes(array(header, 21)),
            base_timestamp: i64::from_be_bytes(array(header, 27)),
            max_timestamp: i64::from_be_bytes(array(header, 35)),
            producer_id: i64::from_be_bytes(array(header, 43)),
            producer_epoch: i16::from_be_bytes(array(header, 51)),
            base_sequence: i32::from_be_bytes(array(header, 53)),
            record_count: count,
            last_offset_delta,
        })
    }

    /// Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> u8 {
        (self.attributes & COMPRESSION_MASK) as u8
    }

    /// Whether the log's time of append is the time of every record.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a transaction marker.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0 && !planted::is(Bug::SkippedDedup)
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = self.base_sequence as i64 + (self.record_count as i64 - 1);
        (last & i32::MAX as i64) as i32
    }
}

/// One batch of the log as a reader gets it: the producer's bytes and the two header fields that the log assigns.
/// `base_offset` goes to byte 0 and `leader_epoch` to byte 12 of the header; both lie outside the CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveBatch {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset after the last record.
    pub next_offset: i64,
    /// Raft term of the entry, which is Kafka's partition leader epoch.
    pub leader_epoch: i32,
    /// The batch as the producer sent it, or what compaction left of it.
    pub bytes: Bytes,
    /// When its tombstones may go, ms since 1970; [`NO_HORIZON`] if that is not said yet.
    pub horizon_ms: i64,
}

/// No tombstone of a batch may go yet: it has none, or its time has not begun.
pub const NO_HORIZON: i64 = -1;

/// Builds batches for tests of this and other crates: a header with the given facts and `body_bytes` opaque bytes.
/// The CRC is right, so admission accepts the batch; the records are not meant to be decoded.
pub fn sample_batch(facts: &BatchFacts, body_bytes: usize) -> Bytes {
    let mut batch = vec![0u8; BATCH_HEADER_BYTES + body_bytes];
    let length = (BATCH_HEADER_BYTES - LENGTH_PREFIX_BYTES + body_bytes) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&facts.attributes.to_be_bytes());
    batch[23..27].copy_from_slice(&facts.last_offset_delta.to_be_bytes());
    batch[27..35].copy_from_slice(&facts.base_timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&facts.max_timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&facts.producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&facts.producer_epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&facts.base_sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&facts.record_count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

/// The same of a batch that was moved: its place in the log, base offset and leader epoch, is in its header.
pub fn thinned_batch(facts: &BatchFacts, (base_offset, leader_epoch): (i64, i32), body_bytes: usize) -> Bytes {
    let mut batch = sample_batch(facts, body_bytes).to_vec();
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    Bytes::from(batch)
}

/// Facts of a batch of `record_count` records without a producer, a start for [`sample_batch`].
pub fn sample_facts(record_count: i32, timestamp: i64) -> BatchFacts {
    BatchFacts {
        len: 0,
        crc: 0,
        attributes: 0,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count,
        last_offset_delta: record_count.wrapping_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written() {
        let facts = BatchFacts { producer_id: 9, producer_epoch: 1, base_sequence: 5, ..sample_facts(3, 77) };
        let batch = sample_batch(&facts, 10);
        let read = BatchFacts::read(&batch).unwrap();
        assert_eq!(read, BatchFacts { len: 71, crc: read.crc, ..facts });
        assert_eq!(read.last_sequence(), 7);
    }

    #[test]
    fn sequences_wrap_at_the_largest_i32() {
        let facts = |base_sequence| BatchFacts { producer_id: 1, base_sequence, ..sample_facts(3, 0) };
        assert_eq!(facts(i32::MAX - 2).last_sequence(), i32::MAX);
        assert_eq!(facts(i32::MAX - 1).last_sequence(), 0);
        assert_eq!(facts(i32::MAX).last_sequence(), 1);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = sample_batch(&sample_facts(2, 0), 4).to_vec();
        assert_eq!(BatchFacts::read(&good[..60]), Err(BadBatch::Short(60)));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            BatchFacts::read(&bytes)
        };
        assert_eq!(with(16, 1), Err(BadBatch::Magic(1)));
        assert!(matches!(with(11, 0), Err(BadBatch::Length { .. })));
        assert!(matches!(with(8, 0xff), Err(BadBatch::Length { .. })));
        assert!(matches!(with(60, 3), Err(BadBatch::Count { .. })));
        assert!(matches!(with(57, 0x80), Err(BadBatch::Count { .. })));
        assert!(BatchFacts::read(&[]).is_err());
    }
}
