//! Record batches against kafka-protocol: what one builds the other reads, for every compression.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use wire::compression::Compression;
use wire::kafka::batch::{BatchBuilder, Record, read_batches, split_batches};

const CAP: usize = 8 << 20;

/// One record in a form both sides turn into.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

fn samples() -> Vec<Vec<Plain>> {
    let record = |offset: i64, key: Option<&'static str>, value: Option<Vec<u8>>, headers| Plain {
        offset,
        timestamp_ms: 1_700_000_000_000 + offset * 7,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers,
    };
    let headers = vec![("trace".to_owned(), Some(Bytes::from_static(b"\x00\xff"))), ("none".to_owned(), None)];
    let few = vec![
        record(0, Some("key"), Some(b"value".to_vec()), vec![]),
        record(1, None, None, vec![]),
        record(2, Some(""), Some(vec![]), headers),
    ];
    let noise = |i: i64| (0..1_000i64).map(|j| ((i * 7_919 + j * j * 31) % 251) as u8).collect();
    let many = (0..300).map(|i| record(i, Some("k"), Some(noise(i)), vec![])).collect();
    let large = vec![record(0, None, Some(vec![b'x'; 3 << 20]), vec![])];
    vec![few, many, large]
}

fn of_ours(record: Record) -> Plain {
    let headers = record.headers.map(|h| (String::from_utf8(h.key.to_vec()).unwrap(), h.value)).collect();
    let Record { offset, timestamp_ms, key, value, .. } = record;
    Plain { offset, timestamp_ms, key, value, headers }
}

fn of_oracle(record: oracle::Record) -> Plain {
    let headers = record.headers.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    let oracle::Record { offset, timestamp, key, value, .. } = record;
    Plain { offset, timestamp_ms: timestamp, key, value, headers }
}

fn to_oracle(plain: &Plain) -> oracle::Record {
    let header = |(key, value): &(String, Option<Bytes>)| (StrBytes::from_string(key.clone()), value.clone());
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 77,
        producer_epoch: 2,
        timestamp_type: oracle::TimestampType::Creation,
        offset: plain.offset,
        sequence: 5 + plain.offset as i32,
        timestamp: plain.timestamp_ms,
        key: plain.key.clone(),
        value: plain.value.clone(),
        headers: plain.headers.iter().map(header).collect::<IndexMap<_, _>>(),
    }
}

fn oracle_compression(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

#[test]
fn the_oracle_reads_our_batches() {
    for codec in Compression::ALL {
        for sample in samples() {
            let mut builder = BatchBuilder::new(codec).producer(77, 2, 5);
            for plain in &sample {
                let headers: Vec<_> = plain.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
                builder.push_with_headers(plain.timestamp_ms, plain.key.as_deref(), plain.value.as_deref(), &headers);
            }
            let mut bytes = builder.build().unwrap();
            let decoded = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
            assert_eq!((decoded.version, bytes.len()), (2, 0));
            assert!(decoded.records.iter().all(|r| (r.producer_id, r.producer_epoch) == (77, 2)));
            assert_eq!(decoded.records.last().unwrap().sequence, 4 + sample.len() as i32);
            let decoded: Vec<_> = decoded.records.into_iter().map(of_oracle).collect();
            assert!(decoded == sample, "{}, {} records", codec.name(), sample.len());
        }
    }
}

#[test]
fn we_read_the_oracles_batches() {
    for codec in Compression::ALL {
        for sample in samples() {
            let records: Vec<_> = sample.iter().map(to_oracle).collect();
            let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_compression(codec) };
            let mut bytes = BytesMut::new();
            oracle::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
            let bytes = bytes.freeze();
            let batches = split_batches(bytes.clone()).unwrap();
            assert_eq!(batches, read_batches(bytes).map(Result::unwrap).collect::<Vec<_>>());
            let header = batches[0].header();
            assert_eq!((header.compression(), header.producer_id, header.base_sequence), (Ok(codec), 77, 5));
            let read = batches.iter().flat_map(|batch| batch.records(CAP).unwrap()).map(|r| of_ours(r.unwrap()));
            assert!(read.collect::<Vec<_>>() == sample, "{}, {} records", codec.name(), sample.len());
        }
    }
}
