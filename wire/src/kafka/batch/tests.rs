//! Batches built, split, patched and broken.

use super::*;

fn sample(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression).producer(7, 1, 40);
    builder.push(1_000, Some(b"k"), Some(b"v"));
    builder.push_with_headers(990, None, Some(&[5; 300]), &[(b"h", Some(b"x")), (b"n", None)]);
    builder.push(1_010, Some(b""), None);
    builder.build().unwrap()
}

fn broken(at: usize, with: &[u8], fix_crc: bool) -> BatchError {
    let mut bytes = BytesMut::from(&sample(Compression::None)[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    if fix_crc {
        let crc = crc32c::crc32c(&bytes[CRC_START..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    split_batches(bytes.freeze()).unwrap_err()
}

#[test]
fn records_survive_every_compression() {
    for codec in Compression::ALL {
        let bytes = sample(codec);
        let batch = split_batches(bytes).unwrap().remove(0);
        assert_eq!(batch.header().compression().unwrap(), codec);
        assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (1_000, 1_010));
        let records: Vec<_> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(
            (records[0].offset, records[0].timestamp_ms, records[0].key.as_deref()),
            (0, 1_000, Some(&b"k"[..]))
        );
        assert_eq!((records[1].timestamp_ms, records[1].key.as_deref()), (990, None));
        let headers: Vec<_> = records[1].headers.clone().collect();
        assert_eq!((&headers[0].key[..], headers[0].value.as_deref()), (&b"h"[..], Some(&b"x"[..])));
        assert_eq!(headers[1].value, None);
        assert_eq!(
            (records[2].offset, records[2].key.as_deref(), records[2].value.as_deref()),
            (2, Some(&b""[..]), None)
        );
    }
}

#[test]
fn several_batches_in_one_field_are_slices_of_it() {
    let field = Bytes::from([sample(Compression::None), sample(Compression::Zstd)].concat());
    let batches = split_batches(field.clone()).unwrap();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].bytes().as_ptr(), field.as_ptr());
    assert_eq!(batches[1].bytes().as_ptr_range().end, field.as_ptr_range().end);
    assert!(split_batches(Bytes::new()).unwrap().is_empty());
    assert!(split_batches(field.slice(..field.len() - 1)).is_err());
    assert_eq!(read_batches(field.slice(..field.len() - 1)).map(Result::unwrap).count(), 1);
}

#[test]
fn a_served_header_keeps_the_crc() {
    let batch = split_batches(sample(Compression::Lz4)).unwrap().remove(0);
    let served = [&batch.patch_header(1_000_000, 9)[..], &batch.body()].concat();
    let served = split_batches(served.into()).unwrap().remove(0);
    let header = served.header();
    assert_eq!((header.base_offset, header.last_offset(), header.leader_epoch), (1_000_000, 1_000_002, 9));
    assert_eq!(
        (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence()),
        (7, 1, 40, 42)
    );
}

#[test]
fn log_append_time_is_stamped_with_a_new_crc() {
    let batch = split_batches(sample(Compression::Gzip)).unwrap().remove(0);
    let stamped = split_batches(batch.with_log_append_time(5_555).bytes().clone()).unwrap().remove(0);
    assert!(stamped.header().is_log_append_time());
    assert!(stamped.records(1 << 20).unwrap().all(|record| record.unwrap().timestamp_ms == 5_555));
}

#[test]
fn every_fault_has_its_error_and_code() {
    let count = |records, last_offset_delta| BatchError::Count { records, last_offset_delta };
    for (error, expected, code) in [
        (broken(16, &[0], false), BatchError::OldMagic { magic: 0 }, ErrorCode::InvalidRecord),
        (broken(16, &[1], false), BatchError::OldMagic { magic: 1 }, ErrorCode::InvalidRecord),
        (broken(16, &[3], false), BatchError::UnknownMagic { magic: 3 }, ErrorCode::CorruptMessage),
        (broken(57, &4i32.to_be_bytes(), true), count(4, 2), ErrorCode::InvalidRecord),
        (broken(57, &i32::MIN.to_be_bytes(), true), count(i32::MIN, 2), ErrorCode::InvalidRecord),
        (broken(23, &(-1i32).to_be_bytes(), true), count(3, -1), ErrorCode::InvalidRecord),
        (broken(22, &[7], true), BatchError::UnknownCompression { bits: 7 }, ErrorCode::UnsupportedCompressionType),
        (
            broken(51, &(-1i16).to_be_bytes(), true),
            BatchError::Producer { producer_id: 7, epoch: -1, sequence: 40 },
            ErrorCode::InvalidRecord,
        ),
    ] {
        assert_eq!((error, error.error_code()), (expected, code));
    }
    assert!(matches!(broken(70, &[9], false), BatchError::Crc { .. }));
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        assert!(matches!(broken(8, &length.to_be_bytes(), false), BatchError::Length { .. }), "{length}");
    }
    let batch = split_batches(sample(Compression::None)).unwrap().remove(0);
    assert_eq!(batch.check_size(100).unwrap_err().error_code(), ErrorCode::MessageTooLarge);
}

#[test]
fn sequences_wrap() {
    let mut builder = BatchBuilder::new(Compression::None).producer(1, 0, i32::MAX);
    builder.push(0, None, None);
    builder.push(0, None, None);
    let batch = split_batches(builder.build().unwrap()).unwrap().remove(0);
    assert_eq!(batch.header().last_sequence(), 0);
}

#[test]
fn bad_records_end_the_iteration() {
    let mut bytes = BytesMut::from(&sample(Compression::None)[..]);
    bytes[HEADER_BYTES] = 0xff;
    let batch = Batch::take(&mut bytes.freeze()).unwrap();
    let records: Vec<_> = batch.records(1 << 20).unwrap().collect();
    assert!(matches!(records[..], [Err(BatchError::Record { index: 0, .. })]));
}
