//! Record batches of magic 2: a view of the 61-byte header over bytes that stay untouched, and what may be patched.
//! Invariant: the CRC covers bytes 21 onward; base offset and leader epoch lie before it and may change freely.
//! Never: decodes records unless asked to (`records`), copies a batch it only reads.

mod builder;
mod header;
mod records;
mod thin;

use bytes::{Bytes, BytesMut};

use super::ErrorCode;
use crate::compression::{Compression, CompressionError};

pub use builder::BatchBuilder;
pub use header::{BatchHeader, HEADER_BYTES, NO_PRODUCER};
pub use records::{Header, Headers, Record, Records};

/// Bytes in front of what the length field counts: base offset and length.
const LENGTH_PREFIX_BYTES: usize = 12;
/// First byte under the CRC.
const CRC_START: usize = 21;

/// Why bytes are not an acceptable batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The length field does not fit the bytes, or there are not enough for a header.
    #[error("batch length {declared} does not fit the {available} bytes present")]
    Length {
        /// What the length field says.
        declared: i64,
        /// What is there.
        available: usize,
    },
    /// A batch of the formats before Kafka 0.11. Kafka 4 answers INVALID_RECORD.
    #[error("magic {magic} is not accepted any more")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// No batch format.
    #[error("unknown magic {magic}")]
    UnknownMagic {
        /// Neither 0, 1 nor 2.
        magic: i8,
    },
    /// The checksum does not match.
    #[error("crc is {computed:#010x}, the header says {declared:#010x}")]
    Crc {
        /// From the header.
        declared: u32,
        /// From the bytes.
        computed: u32,
    },
    /// The record count is not positive or does not match the last offset delta.
    #[error("{records} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// From the header.
        records: i32,
        /// From the header.
        last_offset_delta: i32,
    },
    /// The compression bits name none.
    #[error("unknown compression {bits}")]
    UnknownCompression {
        /// The three bits.
        bits: i16,
    },
    /// A producer id without epoch or sequence.
    #[error("producer {producer_id} with epoch {epoch} and sequence {sequence}")]
    Producer {
        /// From the header.
        producer_id: i64,
        /// From the header.
        epoch: i16,
        /// From the header.
        sequence: i32,
    },
    /// A record inside is not well-formed.
    #[error("record {index}: {problem}")]
    Record {
        /// Which one, from 0.
        index: i32,
        /// What is wrong.
        problem: &'static str,
    },
    /// The body cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Larger than the topic allows.
    #[error("batch of {bytes} bytes exceeds {max}")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// `max.message.bytes`.
        max: usize,
    },
}

impl BatchError {
    /// What a Kafka broker answers.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Length { .. } | Self::UnknownMagic { .. } | Self::Crc { .. } => ErrorCode::CorruptMessage,
            Self::OldMagic { .. } | Self::Count { .. } | Self::Producer { .. } | Self::Record { .. } => {
                ErrorCode::InvalidRecord
            }
            Self::UnknownCompression { .. } => ErrorCode::UnsupportedCompressionType,
            Self::Compression(CompressionError::Corrupt { .. }) => ErrorCode::CorruptMessage,
            Self::Compression(CompressionError::TooLarge { .. }) | Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
        }
    }
}

type Result<T> = std::result::Result<T, BatchError>;

/// One record batch: its bytes, and its header read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

/// Splits the records field of a Produce request into batches ready to append: structure, CRC (checked here, once),
/// record count and producer fields are valid. Batches are slices of `records`. A field without a batch gives none.
///
/// Not checked, since the answer depends on topic and state: size ([`Batch::check_size`]), the control and
/// transactional bits, zstd before Produce 7, more than one batch in a field (Kafka: INVALID_RECORD).
///
/// # Errors
/// [`BatchError`]; nothing of the field is to be appended then.
pub fn split_batches(records: Bytes) -> Result<Vec<Batch>> {
    let mut batches = Vec::with_capacity(1);
    let mut rest = records;
    while !rest.is_empty() {
        let batch = Batch::take(&mut rest)?;
        batch.header.check()?;
        batch.check_crc()?;
        batches.push(batch);
    }
    Ok(batches)
}

/// Batches of a Fetch response, in order. Ends at a batch that is cut off (Kafka truncates the last one), yields an
/// error for anything else that is wrong, CRC included; counts are not checked, since compaction thins batches out.
pub fn read_batches(records: Bytes) -> impl Iterator<Item = Result<Batch>> {
    let mut rest = records;
    std::iter::from_fn(move || {
        if !BatchHeader::is_whole(&rest) {
            return None;
        }
        let batch = Batch::take(&mut rest).and_then(|batch| batch.check_crc().map(|()| batch));
        if batch.is_err() {
            rest.clear();
        }
        Some(batch)
    })
}

impl Batch {
    /// Takes one batch off the front of `rest`: structure only, for bytes whose CRC was checked before.
    ///
    /// # Errors
    /// [`BatchError::Length`], [`BatchError::OldMagic`], [`BatchError::UnknownMagic`]; `rest` is untouched then.
    pub fn take(rest: &mut Bytes) -> Result<Self> {
        let header = BatchHeader::parse(rest)?;
        Ok(Self { header, bytes: rest.split_to(header.total_bytes()) })
    }

    /// The header as it is in the bytes.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What follows the header: records, perhaps compressed. No copy.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// Compares the CRC with the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self) -> Result<()> {
        let computed = crc32c::crc32c(&self.bytes[CRC_START..]);
        let declared = self.header.crc;
        if computed == declared { Ok(()) } else { Err(BatchError::Crc { declared, computed }) }
    }

    /// Compares the size with `max.message.bytes`.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`].
    pub fn check_size(&self, max: usize) -> Result<()> {
        let bytes = self.bytes.len();
        if bytes <= max { Ok(()) } else { Err(BatchError::TooLarge { bytes, max }) }
    }

    /// The header to serve in place of the stored one: offset and epoch as the log assigned them. The CRC still holds.
    #[must_use]
    pub fn patch_header(&self, base_offset: i64, leader_epoch: i32) -> [u8; HEADER_BYTES] {
        BatchHeader { base_offset, leader_epoch, ..self.header }.to_bytes()
    }

    /// The header for `message.timestamp.type=LogAppendTime`, with the CRC it then needs; [`Batch::body`] follows it.
    #[must_use]
    pub fn log_append_time_header(&self, timestamp_ms: i64) -> BatchHeader {
        let attributes = self.header.attributes | header::LOG_APPEND_TIME;
        let mut stamped = BatchHeader { attributes, max_timestamp: timestamp_ms, ..self.header };
        let head = crc32c::crc32c(&stamped.to_bytes()[CRC_START..]);
        stamped.crc = crc32c::crc32c_append(head, &self.bytes[HEADER_BYTES..]);
        stamped
    }

    /// The batch stamped with LogAppendTime, copied into fresh bytes.
    #[must_use]
    pub fn with_log_append_time(&self, timestamp_ms: i64) -> Self {
        let header = self.log_append_time_header(timestamp_ms);
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&self.bytes[HEADER_BYTES..]);
        Self { header, bytes: bytes.freeze() }
    }

    /// The records inside, decompressed into at most `max_bytes`. Slices of the batch if it is not compressed.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`], [`BatchError::Compression`]; the iterator yields [`BatchError::Record`].
    pub fn records(&self, max_bytes: usize) -> Result<Records> {
        let body = match self.header.compression()? {
            Compression::None => self.body(),
            codec => codec.decompress(&self.bytes[HEADER_BYTES..], max_bytes)?.into(),
        };
        Ok(Records::new(&self.header, body))
    }
}

#[cfg(test)]
mod tests;
