//! The 61 bytes in front of every record batch, as numbers (Kafka's message format, magic 2).

use super::{BatchError, LENGTH_PREFIX_BYTES, Result};
use crate::compression::Compression;

/// Size of the header.
pub const HEADER_BYTES: usize = 61;
/// The producer id of a batch that is not idempotent.
pub const NO_PRODUCER: i64 = -1;

const MAGIC: i8 = 2;
const MAGIC_AT: usize = 16;
pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// All fields of the header but the magic, which is 2. Timestamps are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; whatever the producer wrote until the log assigns one.
    pub base_offset: i64,
    /// Bytes after this field: the size of the batch less 12.
    pub length: i32,
    /// Leader epoch of the append; -1 from a producer.
    pub leader_epoch: i32,
    /// CRC32C over everything from `attributes` on.
    pub crc: u32,
    /// Compression, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that records count from.
    pub base_timestamp: i64,
    /// Largest timestamp of a record, or the append time.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which must hold the whole batch.
    ///
    /// # Errors
    /// [`BatchError::Length`], [`BatchError::OldMagic`], [`BatchError::UnknownMagic`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let available = bytes.len();
        if available <= MAGIC_AT {
            return Err(BatchError::Length { declared: 0, available });
        }
        match bytes[MAGIC_AT] as i8 {
            MAGIC => {}
            magic @ (0 | 1) => return Err(BatchError::OldMagic { magic }),
            magic => return Err(BatchError::UnknownMagic { magic }),
        }
        let Some(head) = bytes.first_chunk() else { return Err(BatchError::Length { declared: 0, available }) };
        let header = Self::from_bytes(head);
        let declared = i64::from(header.length);
        let total = usize::try_from(declared).ok().map(|length| length + LENGTH_PREFIX_BYTES);
        match total {
            Some(total) if (HEADER_BYTES..=available).contains(&total) => Ok(header),
            _ => Err(BatchError::Length { declared, available }),
        }
    }

    /// Whether the batch at the front of `bytes` is there to its end (or is no batch at all).
    pub(super) fn is_whole(bytes: &[u8]) -> bool {
        let Some(head) = bytes.first_chunk::<LENGTH_PREFIX_BYTES>() else { return false };
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        usize::try_from(length).map_or(true, |length| length <= bytes.len() - LENGTH_PREFIX_BYTES)
    }

    fn from_bytes(head: &[u8; HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(at(head, 0)),
            length: i32::from_be_bytes(at(head, 8)),
            leader_epoch: i32::from_be_bytes(at(head, 12)),
            crc: u32::from_be_bytes(at(head, 17)),
            attributes: i16::from_be_bytes(at(head, 21)),
            last_offset_delta: i32::from_be_bytes(at(head, 23)),
            base_timestamp: i64::from_be_bytes(at(head, 27)),
            max_timestamp: i64::from_be_bytes(at(head, 35)),
            producer_id: i64::from_be_bytes(at(head, 43)),
            producer_epoch: i16::from_be_bytes(at(head, 51)),
            base_sequence: i32::from_be_bytes(at(head, 53)),
            record_count: i32::from_be_bytes(at(head, 57)),
        }
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        head[8..12].copy_from_slice(&self.length.to_be_bytes());
        head[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        head[MAGIC_AT] = MAGIC as u8;
        head[17..21].copy_from_slice(&self.crc.to_be_bytes());
        head[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        head[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        head[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        head[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        head[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        head[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        head[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        head[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        head
    }

    /// What a broker requires of every appended batch.
    pub(super) fn check(&self) -> Result<()> {
        self.compression()?;
        if self.record_count <= 0 || self.last_offset_delta != self.record_count - 1 {
            let (records, last_offset_delta) = (self.record_count, self.last_offset_delta);
            return Err(BatchError::Count { records, last_offset_delta });
        }
        if self.is_idempotent() && !self.is_control() && (self.producer_epoch < 0 || self.base_sequence < 0) {
            let (producer_id, epoch, sequence) = (self.producer_id, self.producer_epoch, self.base_sequence);
            return Err(BatchError::Producer { producer_id, epoch, sequence });
        }
        Ok(())
    }

    /// Size of the whole batch in bytes.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.length as usize + LENGTH_PREFIX_BYTES
    }

    /// How the body is compressed.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression> {
        let bits = self.attributes & 7;
        Compression::from_attributes(self.attributes).ok_or(BatchError::UnknownCompression { bits })
    }

    /// Whether the max timestamp is the broker's append time and holds for every record.
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker that only brokers write.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether producer id, epoch and sequence hold.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.producer_id > NO_PRODUCER
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Sequence number of the last record; it wraps from `i32::MAX` to 0.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

fn at<const N: usize>(head: &[u8; HEADER_BYTES], start: usize) -> [u8; N] {
    std::array::from_fn(|i| head[start + i])
}
