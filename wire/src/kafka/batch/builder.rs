//! Builds one batch from records: for our own clients, for publishes that come by another protocol, for tests.
//! Invariant: what it builds passes `split_batches`.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BatchError, BatchHeader, CRC_START, HEADER_BYTES, LENGTH_PREFIX_BYTES, NO_PRODUCER, Result};
use crate::compression::Compression;

/// Collects records; [`BatchBuilder::build`] makes the batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    producer: (i64, i16, i32),
    records: BytesMut,
    scratch: BytesMut,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            producer: (NO_PRODUCER, -1, -1),
            records: BytesMut::new(),
            scratch: BytesMut::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
        }
    }

    /// Makes it the batch of an idempotent producer; `base_sequence` is that of the first record.
    #[must_use]
    pub const fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Appends a record. Timestamps are milliseconds since 1970.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp_ms, key, value, &[]);
    }

    /// Appends a record with headers.
    pub fn push_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let body = &mut self.scratch;
        body.clear();
        body.put_u8(0);
        put_varlong(body, timestamp_ms.wrapping_sub(self.base_timestamp));
        put_varlong(body, self.count.into());
        put_nullable(body, key);
        put_nullable(body, value);
        put_varlong(body, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(body, Some(name));
            put_nullable(body, *value);
        }
        put_varlong(&mut self.records, self.scratch.len() as i64);
        self.records.put_slice(&self.scratch);
        self.count += 1;
    }

    /// Number of records so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the records so far, before compression.
    #[must_use]
    pub fn uncompressed_bytes(&self) -> usize {
        self.records.len()
    }

    /// The batch, with base offset 0 and no leader epoch, as producers send it.
    ///
    /// # Errors
    /// [`BatchError::Count`] without records; [`BatchError::TooLarge`] above 2 GiB; [`BatchError::Compression`].
    pub fn build(self) -> Result<Bytes> {
        if self.count == 0 {
            return Err(BatchError::Count { records: 0, last_offset_delta: -1 });
        }
        let body = match self.compression {
            Compression::None => self.records.freeze(),
            codec => codec.compress(&self.records)?.into(),
        };
        let bytes = HEADER_BYTES + body.len();
        let too_large = |_| BatchError::TooLarge { bytes, max: i32::MAX as usize };
        let mut header = BatchHeader {
            base_offset: 0,
            length: i32::try_from(bytes - LENGTH_PREFIX_BYTES).map_err(too_large)?,
            leader_epoch: -1,
            crc: 0,
            attributes: self.compression as i16,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            base_sequence: self.producer.2,
            record_count: self.count,
        };
        header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.to_bytes()[CRC_START..]), &body);
        let mut batch = BytesMut::with_capacity(bytes);
        batch.put_slice(&header.to_bytes());
        batch.put_slice(&body);
        Ok(batch.freeze())
    }
}

fn put_nullable(buf: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => put_varlong(buf, -1),
        Some(value) => {
            put_varlong(buf, value.len() as i64);
            buf.put_slice(value);
        }
    }
}

fn put_varlong(buf: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        buf.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    buf.put_u8(rest as u8);
}
