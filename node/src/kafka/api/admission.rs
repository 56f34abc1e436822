//! What a record batch must be before it may enter a log. The checks that need no state; sequences are the machine's.
//! Never: decodes records, but for a compacted topic, whose records must have keys.
use bytes::Bytes;
use wire::compression::Compression;
use wire::kafka::batch::{self, Batch};
use wire::kafka::{BatchError, ErrorCode};

use super::rules::Rules;
use crate::kafka::errors::Refusal;

const HEADER_BYTES: i64 = batch::HEADER_BYTES as i64;
/// From this Produce version on a client may use zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The one batch of a partition's records, checked: structure, CRC, counts, compression, size, attributes, times.
pub(super) fn admit(records: Option<Bytes>, version: i16, rules: Rules, now_ms: i64) -> Result<Bytes, Refusal> {
    let batches = batch::split_batches(records.unwrap_or_default()).map_err(|error| refusal(&error))?;
    let [batch] = batches.as_slice() else {
        let words =
            format!("a produce request must have exactly one record batch per partition, not {}", batches.len());
        return Err(Refusal::new(ErrorCode::InvalidRecord, words));
    };
    batch.check_size(rules.bytes_max).map_err(|error| refusal(&error))?;
    check_attributes(batch, version)?;
    check_count(batch)?;
    check_times(batch, rules, now_ms)?;
    if rules.keyed {
        check_keys(batch)?;
    }
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

/// By the header alone: the first and the largest timestamp of the batch.
fn check_times(batch: &Batch, rules: Rules, now_ms: i64) -> Result<(), Refusal> {
    let (first, newest) = (batch.header().base_timestamp, batch.header().max_timestamp);
    if rules.allow_times(first.min(newest), newest, now_ms) {
        return Ok(());
    }
    let words =
        format!("a timestamp from {first} to {newest} is too far from the broker's clock, which is at {now_ms}");
    Err(Refusal::new(ErrorCode::InvalidTimestamp, words))
}

/// Decompressed bytes of one batch that is looked into for keys.
const RECORDS_BYTES_MAX: usize = 64 << 20;

/// As Kafka: the records of a batch without a key are named, and none of it is appended.
fn check_keys(batch: &Batch) -> Result<(), Refusal> {
    const WORDS: &str = "Compacted topic cannot accept message without key.";
    let mut keyless = Vec::new();
    let records = batch.records(RECORDS_BYTES_MAX).map_err(|error| refusal(&error))?;
    for (place, record) in (0..).zip(records) {
        if record.map_err(|error| refusal(&error))?.key.is_none() {
            keyless.push(place);
        }
    }
    match keyless.is_empty() {
        true => Ok(()),
        false => Err(Refusal { records: keyless, ..Refusal::new(ErrorCode::InvalidRecord, WORDS) }),
    }
}

/// A record that says nothing takes so many bytes: its length, attributes, two deltas, and three lengths of nothing.
const RECORD_BYTES_MIN: usize = 7;

/// A count that the bytes cannot hold would use up offsets. A compressed batch is not opened to see.
fn check_count(batch: &Batch) -> Result<(), Refusal> {
    let header = batch.header();
    let most = batch.body().len() / RECORD_BYTES_MIN;
    if header.compression() == Ok(Compression::None) && usize::try_from(header.record_count).unwrap_or(0) > most {
        let words = format!("{} records do not fit in {} bytes", header.record_count, batch.bytes().len());
        return Err(Refusal::new(ErrorCode::InvalidRecord, words));
    }
    Ok(())
}

fn refusal(error: &BatchError) -> Refusal {
    let code = match error {
        // To Kafka a batch that is cut off is no batch at all; only a length that none could have is corrupt.
        BatchError::Length { declared, available } if cut_off(*declared, *available) => ErrorCode::InvalidRecord,
        other => other.error_code(),
    };
    Refusal::new(code, error.to_string())
}

fn cut_off(declared: i64, available: usize) -> bool {
    const LENGTH_PREFIX_BYTES: i64 = 12;
    let available = i64::try_from(available).unwrap_or(i64::MAX);
    available < HEADER_BYTES || declared.saturating_add(LENGTH_PREFIX_BYTES) > available
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use wire::kafka::batch::BatchBuilder;

    const RULES: Rules = Rules { bytes_max: 1 << 20, clock_ms: Some((i64::MAX, 1000)), keyed: false };
    /// Where the attributes begin, which is also where the CRC does.
    const ATTRIBUTES: usize = 21;

    fn batch(compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new(compression);
        builder.push(1, Some(b"k"), Some(b"v"));
        builder.build().unwrap()
    }

    /// Sets attribute bits and mends the CRC, as a wrong client would.
    fn with_attributes(bits: u8) -> Bytes {
        let mut bytes = BytesMut::from(&batch(Compression::None)[..]);
        bytes[ATTRIBUTES + 1] |= bits;
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    fn code(records: Option<Bytes>, version: i16) -> ErrorCode {
        admit(records, version, RULES, 0).map_or_else(|refusal| refusal.code, |_| ErrorCode::None)
    }

    #[test]
    fn a_good_batch_passes_untouched() {
        let batch = batch(Compression::None);
        let admitted = admit(Some(batch.clone()), 9, RULES, 0).unwrap();
        assert_eq!(admitted, batch);
        assert_eq!(admitted.as_ptr(), batch.as_ptr(), "no copy");
    }

    #[test]
    fn exactly_one_batch_is_wanted() {
        let one = batch(Compression::None);
        let two = Bytes::from([&one[..], &one[..]].concat());
        assert_eq!(code(None, 9), ErrorCode::InvalidRecord);
        assert_eq!(code(Some(Bytes::new()), 9), ErrorCode::InvalidRecord);
        assert_eq!(code(Some(two), 9), ErrorCode::InvalidRecord);
    }

    #[test]
    fn zstd_needs_a_client_that_knows_it() {
        assert_eq!(code(Some(batch(Compression::Zstd)), 6), ErrorCode::UnsupportedCompressionType);
        assert_eq!(code(Some(batch(Compression::Zstd)), 7), ErrorCode::None);
        assert_eq!(code(Some(batch(Compression::Gzip)), 3), ErrorCode::None);
    }

    #[test]
    fn what_only_brokers_or_transactions_write_is_refused() {
        assert_eq!(code(Some(with_attributes(1 << 4)), 9), ErrorCode::InvalidTxnState);
        assert_eq!(code(Some(with_attributes(1 << 5)), 9), ErrorCode::InvalidRecord);
    }

    #[test]
    fn damage_and_size_have_kafkas_codes() {
        let good = batch(Compression::None);
        let damaged = |at: usize| {
            let mut bytes = BytesMut::from(&good[..]);
            bytes[at] ^= 0x40;
            Some(bytes.freeze())
        };
        assert_eq!(code(damaged(good.len() - 1), 9), ErrorCode::CorruptMessage);
        assert_eq!(code(damaged(16), 9), ErrorCode::CorruptMessage, "unknown magic");
        assert_eq!(code(damaged(11), 9), ErrorCode::InvalidRecord, "longer than what is there");
        for cut in [1, 16, 30, good.len() - 1] {
            assert_eq!(code(Some(good.slice(..cut)), 9), ErrorCode::InvalidRecord, "cut at {cut}");
        }
        let mut short = BytesMut::from(&good[..]);
        short[8..12].copy_from_slice(&20i32.to_be_bytes());
        assert_eq!(code(Some(short.freeze()), 9), ErrorCode::CorruptMessage, "shorter than a header");
        let limited = |bytes_max| admit(Some(good.clone()), 9, Rules { bytes_max, ..RULES }, 0);
        assert_eq!(limited(good.len() - 1).unwrap_err().code, ErrorCode::MessageTooLarge);
        assert!(limited(good.len()).is_ok());
    }

    #[test]
    fn a_compacted_topic_wants_a_key_of_every_record() {
        for compression in Compression::ALL {
            let mut builder = BatchBuilder::new(compression);
            for key in [Some(&b"k"[..]), None, Some(b""), None] {
                builder.push(1, key, None);
            }
            let batch = Some(builder.build().unwrap());
            assert!(admit(batch.clone(), 9, RULES, 0).is_ok());
            let refusal = admit(batch, 9, Rules { keyed: true, ..RULES }, 0).unwrap_err();
            assert_eq!((refusal.code, refusal.records), (ErrorCode::InvalidRecord, vec![1, 3]));
        }
        assert!(admit(Some(batch(Compression::Lz4)), 9, Rules { keyed: true, ..RULES }, 0).is_ok());
    }

    #[test]
    fn times_far_from_the_clock_are_refused() {
        let at = |now_ms| admit(Some(batch(Compression::Gzip)), 9, RULES, now_ms).map_err(|refusal| refusal.code);
        assert!(at(-999).is_ok());
        assert_eq!(at(-1000).unwrap_err(), ErrorCode::InvalidTimestamp);
    }
}
