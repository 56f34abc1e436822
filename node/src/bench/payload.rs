//! The batches that a load sends: one ready-made, or one for each request with its intended send time in every record.
//! Invariant: all batches of a payload have the same length.

use bytes::Bytes;
use tokio::time::Instant;
use wire::compression::Compression;
use wire::kafka::BatchError;
use wire::kafka::batch::BatchBuilder;

use crate::cli::client::Error;
use crate::seams::{Clock, SystemClock};

/// A stamp at the front of a value: microseconds since a zero that sender and receiver share.
pub const STAMP_BYTES: usize = 8;

/// What is sent.
pub enum Payload {
    /// The same bytes each time; they do not compress.
    Fixed(Bytes),
    /// Values that begin with a stamp.
    Stamped {
        /// Since when stamps count.
        zero: Instant,
        /// Wall clock of the records, in ms.
        wall_ms: i64,
        /// Records of a batch, and bytes of each value.
        form: (usize, usize),
    },
}

impl Payload {
    /// Random bytes in `records` values of `bytes` each.
    pub fn fixed(records: usize, bytes: usize) -> Result<Self, BatchError> {
        let now = SystemClock::new().wall_ms();
        let mut batch = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            let value: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
            batch.push(now, None, Some(&value));
        }
        Ok(Self::Fixed(batch.build()?))
    }

    /// Stamped values of the same form, or a little longer if they are too short for a stamp.
    pub fn stamped(zero: Instant, records: usize, bytes: usize) -> Self {
        Self::Stamped { zero, wall_ms: SystemClock::new().wall_ms(), form: (records, bytes.max(STAMP_BYTES)) }
    }

    /// The batch of a request that should be sent at `intended`.
    pub fn batch(&self, intended: Instant) -> Result<Bytes, Error> {
        let (zero, wall_ms, (records, bytes)) = match self {
            Self::Fixed(batch) => return Ok(batch.clone()),
            Self::Stamped { zero, wall_ms, form } => (zero, *wall_ms, *form),
        };
        let us = intended.saturating_duration_since(*zero).as_micros();
        let mut value = vec![0; bytes];
        value[..STAMP_BYTES].copy_from_slice(&u64::try_from(us).unwrap_or(u64::MAX).to_le_bytes());
        let mut batch = BatchBuilder::new(Compression::None);
        (0..records).for_each(|_| batch.push(wall_ms, None, Some(&value)));
        Ok(batch.build()?)
    }
}

/// The stamp of a value, if it has one.
pub fn stamp(value: Option<&[u8]>) -> Option<u64> {
    Some(u64::from_le_bytes(*value?.first_chunk::<STAMP_BYTES>()?))
}
