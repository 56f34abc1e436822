//! What a record batch must be before it may enter a log. The checks that need no state; sequences are the machine's.
//! Never: decodes records.
use bytes::Bytes;
use wire::compression::Compression;
use wire::kafka::batch::{self, Batch};
use wire::kafka::{BatchError, ErrorCode};

use crate::kafka::errors::Refusal;

/// From this Produce version on a client may use zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The one batch of a partition's records, checked: structure, CRC, counts, compression, size, attributes.
pub(super) fn admit(records: Option<Bytes>, version: i16, max_bytes: usize) -> Result<Bytes, Refusal> {
    let batches = batch::split_batches(records.unwrap_or_default()).map_err(|error| refusal(&error))?;
    let [batch] = batches.as_slice() else {
        let words =
            format!("a produce request must have exactly one record batch per partition, not {}", batches.len());
        return Err(Refusal::new(ErrorCode::InvalidRecord, words));
    };
    batch.check_size(max_bytes).map_err(|error| refusal(&error))?;
    check_attributes(batch, version)?;
    Ok(batch.bytes().clone())
}

fn check_attributes(batch: &Batch, version: i16) -> Result<(), Refusal> {
    let header = batch.header();
    if header.is_control() {
        return Err(Refusal::new(ErrorCode::InvalidRecord, "clients may not write control records"));
    }
    if header.is_transactional() {
        return Err(Refusal::new(ErrorCode::InvalidTxnState, "transactions are not supported yet"));
    }
    if version < ZSTD_FROM && header.compression() == Ok(Compression::Zstd) {
        let words = "zstd needs produce version 7 or later";
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, words));
    }
    Ok(())
}

fn refusal(error: &BatchError) -> Refusal {
    Refusal::new(error.error_code(), error.to_string())
}
