//! A batch that lost records, as log compaction makes it (Kafka's message format: a compacted batch keeps base offset, last offset
//! delta, producer fields and leader epoch). Records stay byte for byte; the body is compressed again as it was.

use bytes::{Bytes, BytesMut};

use super::{Batch, BatchHeader, CRC_START, HEADER_BYTES, LENGTH_PREFIX_BYTES, Record, Records, Result};
use crate::compression::Compression;

impl Batch {
    /// The batch at its place in the log, with the records that `keep` wants; none if it wants none. The body is decompressed
    /// into at most `max_bytes`. Offsets of the records are those in the log.
    ///
    /// # Errors
    /// As [`Batch::records`]: a batch that cannot be read whole.
    pub fn thin(
        &self,
        (base_offset, leader_epoch): (i64, i32),
        max_bytes: usize,
        mut keep: impl FnMut(&Record) -> bool,
    ) -> Result<Option<Bytes>> {
        let placed = BatchHeader { base_offset, leader_epoch, ..*self.header() };
        let codec = placed.compression()?;
        let body = match codec {
            Compression::None => self.body(),
            codec => codec.decompress(&self.bytes()[HEADER_BYTES..], max_bytes)?.into(),
        };
        let mut records = Records::new(&placed, body);
        let (mut kept, mut count, mut newest) = (BytesMut::new(), 0, i64::MIN);
        let mut before = records.rest().clone();
        while let Some(record) = records.next() {
            let record = record?;
            let rest = records.rest();
            if keep(&record) {
                kept.extend_from_slice(&before[..before.len() - rest.len()]);
                count += 1;
                newest = newest.max(record.timestamp_ms);
            }
            before = rest.clone();
        }
        if count == placed.record_count {
            return Ok(Some(joined(&placed, &self.bytes()[HEADER_BYTES..])));
        }
        if count == 0 {
            return Ok(None);
        }
        let body = if codec == Compression::None { kept.freeze() } else { codec.compress(&kept)?.into() };
        let length = (HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len()) as i32;
        let mut header = BatchHeader { length, record_count: count, max_timestamp: newest, ..placed };
        header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.to_bytes()[CRC_START..]), &body);
        Ok(Some(joined(&header, &body)))
    }

    /// The batch at its place in the log, whatever is in it.
    #[must_use]
    pub fn placed(&self, (base_offset, leader_epoch): (i64, i32)) -> Bytes {
        joined(&BatchHeader { base_offset, leader_epoch, ..*self.header() }, &self.bytes()[HEADER_BYTES..])
    }
}

fn joined(header: &BatchHeader, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(body);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::batch::{BatchBuilder, BatchError, read_batches};

    const MAX: usize = 1 << 20;

    fn batch(codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(codec).producer(7, 1, 40);
        for number in 0..10i64 {
            let (key, value) = (format!("key-{number}"), "v".repeat(number as usize));
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"trace", Some(b"parent")), (b"none", None)];
            let value = (number != 4).then_some(value.as_bytes());
            builder.push_with_headers(1_000 - number, Some(key.as_bytes()), value, headers);
        }
        Batch::take(&mut builder.build().unwrap()).unwrap()
    }

    #[test]
    fn what_is_kept_is_untouched_and_keeps_its_offset() {
        for codec in Compression::ALL {
            let whole = batch(codec);
            let all: Vec<_> = whole.records(MAX).unwrap().map(Result::unwrap).collect();
            let left = whole.thin((500, 3), MAX, |record| record.offset % 3 == 0).unwrap().unwrap();
            let mut read = read_batches(left);
            let thin = read.next().unwrap().unwrap();
            assert!(read.next().is_none());
            let header = *thin.header();
            assert_eq!((header.base_offset, header.leader_epoch, header.last_offset_delta), (500, 3, 9));
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 40));
            assert_eq!((header.record_count, header.max_timestamp), (3, 999), "offsets 501, 504 and 507 are left");
            assert_eq!(header.compression().unwrap(), codec);
            let records: Vec<_> = thin.records(MAX).unwrap().map(Result::unwrap).collect();
            let expected = [1, 4, 7].map(|place: usize| Record { offset: 500 + place as i64, ..all[place].clone() });
            assert_eq!(records, expected);
        }
    }

    #[test]
    fn all_or_nothing_is_left_as_it_was() {
        let whole = batch(Compression::Zstd);
        let placed = whole.thin((9, 2), MAX, |_| true).unwrap().unwrap();
        assert_eq!(placed, whole.placed((9, 2)));
        let read = Batch::take(&mut placed.clone()).unwrap();
        assert!(read.check_crc().is_ok());
        assert_eq!(read.body(), whole.body());
        assert_eq!(whole.thin((9, 2), MAX, |_| false), Ok(None));
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_an_error() {
        let whole = batch(Compression::Gzip);
        assert!(matches!(whole.thin((0, 0), 10, |_| true), Err(BatchError::Compression(_))));
        let short = BatchHeader { record_count: 11, ..*whole.header() };
        let short = Batch { header: short, bytes: whole.bytes().clone() };
        assert!(matches!(short.thin((0, 0), MAX, |_| true), Err(BatchError::Record { .. })));
    }
}
