//! The hand-written Fetch response is byte for byte the codec's, for every version and content.

use bytes::Bytes;
use wire::compression::Compression;
use wire::kafka::fetch_writer::{FetchResponse, FetchedPartition, FetchedTopic, ServedBatch, encode_fetch_response};
use wire::kafka::messages::{self, fetch};
use wire::kafka::{ApiKey, BatchHeader, ErrorCode, Str, Uuid, batch};

fn stored_batch(value_bytes: usize) -> Bytes {
    let mut builder = batch::BatchBuilder::new(Compression::None);
    builder.push(5, Some(b"key"), Some(&vec![7; value_bytes]));
    builder.build().unwrap()
}

fn partition(index: i32, bodies: &[usize]) -> FetchedPartition {
    let served = |(i, bytes): (usize, &usize)| ServedBatch::new(&stored_batch(*bytes), i as i64 * 10, 3).unwrap();
    FetchedPartition {
        high_watermark: 1_000 + i64::from(index),
        last_stable_offset: 900,
        log_start_offset: 5,
        batches: bodies.iter().enumerate().map(served).collect(),
        ..FetchedPartition::empty(index, ErrorCode::None)
    }
}

fn responses(version: i16) -> Vec<FetchResponse> {
    let empty = FetchResponse {
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        topics: vec![],
        node_endpoints: vec![],
    };
    let mut failed = FetchedPartition::empty(2, ErrorCode::NotLeaderOrFollower);
    let mut aborted = partition(3, &[10, 600, 70_000, 1, 600]);
    aborted.aborted_transactions = Some(vec![(7, 100), (8, 200)]);
    let mut no_aborted = partition(4, &[511, 512]);
    no_aborted.aborted_transactions = Some(vec![]);
    let mut diverging = FetchedPartition::empty(5, ErrorCode::None);
    if version >= 11 {
        no_aborted.preferred_read_replica = 3;
    }
    if version >= 12 {
        failed.current_leader = Some((2, 9));
        diverging.diverging_epoch = Some((4, 77));
        diverging.current_leader = Some((1, 5));
    }
    let topic = |name, partitions| FetchedTopic { name: Str::from_static(name), id: Uuid::ONE, partitions };
    let endpoint = |node_id, rack| fetch::NodeEndpoint {
        node_id,
        host: Str::from_static("127.0.0.1"),
        port: 9092,
        rack,
        ..Default::default()
    };
    let full = FetchResponse {
        throttle_time_ms: 12,
        error: if version >= 7 { ErrorCode::UnknownTopicId } else { ErrorCode::None },
        session_id: if version >= 7 { 0x0102_0304 } else { 0 },
        topics: vec![
            topic("orders", vec![partition(0, &[]), partition(1, &[5_000]), failed, aborted]),
            topic("", vec![]),
            topic("payments", vec![no_aborted, diverging]),
        ],
        node_endpoints: vec![],
    };
    let located = FetchResponse {
        node_endpoints: vec![endpoint(1, None), endpoint(300, Some(Str::from_static("rack-a")))],
        ..full.clone()
    };
    if version >= 16 { vec![empty, full, located] } else { vec![empty, full] }
}

/// The same content for the codec; the batches are patched here on their own.
fn for_codec(version: i16, response: &FetchResponse) -> messages::FetchResponse {
    let partition =
        |p: &FetchedPartition, sizes: &[Bytes]| fetch::PartitionData {
            partition_index: p.partition,
            error_code: p.error.code(),
            high_watermark: p.high_watermark,
            last_stable_offset: p.last_stable_offset,
            log_start_offset: if version >= 5 { p.log_start_offset } else { -1 },
            diverging_epoch: p.diverging_epoch.map_or_else(Default::default, |(epoch, end_offset)| {
                fetch::EpochEndOffset { epoch, end_offset, ..Default::default() }
            }),
            current_leader: p.current_leader.map_or_else(Default::default, |(leader_id, leader_epoch)| {
                fetch::LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() }
            }),
            aborted_transactions: p.aborted_transactions.as_ref().map(|list| {
                list.iter()
                    .map(|(producer_id, first_offset)| fetch::AbortedTransaction {
                        producer_id: *producer_id,
                        first_offset: *first_offset,
                        ..Default::default()
                    })
                    .collect()
            }),
            preferred_read_replica: p.preferred_read_replica,
            records: Some(sizes.concat().into()),
            ..Default::default()
        };
    let topic = |t: &FetchedTopic| fetch::FetchableTopicResponse {
        topic: if version <= 12 { t.name.clone() } else { Str::default() },
        topic_id: if version >= 13 { t.id } else { Uuid::ZERO },
        partitions: t.partitions.iter().map(|p| partition(p, &patched(p))).collect(),
        ..Default::default()
    };
    messages::FetchResponse {
        throttle_time_ms: response.throttle_time_ms,
        error_code: response.error.code(),
        session_id: response.session_id,
        responses: response.topics.iter().map(topic).collect(),
        node_endpoints: response.node_endpoints.clone(),
        ..Default::default()
    }
}

/// What the batches of [`partition`] must look like, made without the writer.
fn patched(partition: &FetchedPartition) -> Vec<Bytes> {
    let sizes: &[usize] = match partition.partition {
        1 => &[5_000],
        3 => &[10, 600, 70_000, 1, 600],
        4 => &[511, 512],
        _ => &[],
    };
    let patch = |(i, size): (usize, &usize)| {
        let stored = stored_batch(*size);
        let header =
            BatchHeader { base_offset: i as i64 * 10, leader_epoch: 3, ..BatchHeader::parse(&stored).unwrap() };
        [&header.to_bytes()[..], &stored[batch::HEADER_BYTES..]].concat().into()
    };
    sizes.iter().enumerate().map(patch).collect()
}

#[test]
fn the_writer_agrees_with_the_codec_byte_for_byte() {
    for version in 4..=18 {
        for (i, response) in responses(version).iter().enumerate() {
            let ours = encode_fetch_response(77, version, response).unwrap().concat();
            let theirs = messages::encode_response(77, version, &for_codec(version, response)).unwrap();
            assert_eq!(ours, theirs, "version {version}, response {i}");
            let (correlation_id, decoded) =
                messages::decode_response::<messages::FetchResponse>(version, Bytes::from(ours).slice(4..)).unwrap();
            assert_eq!((correlation_id, decoded.responses.len()), (77, response.topics.len()));
        }
    }
    assert_eq!(ApiKey::Fetch.api().max, 18);
}

#[test]
fn bodies_are_not_copied() {
    let stored = stored_batch(4_000);
    let mut served = FetchedPartition::empty(0, ErrorCode::None);
    served.batches = vec![ServedBatch::new(&stored, 1, 1).unwrap()];
    let topics = vec![FetchedTopic { name: Str::from_static("t"), id: Uuid::ONE, partitions: vec![served] }];
    let response =
        FetchResponse { throttle_time_ms: 0, error: ErrorCode::None, session_id: 0, topics, node_endpoints: vec![] };
    let parts = encode_fetch_response(1, 18, &response).unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[1].as_ptr(), stored[batch::HEADER_BYTES..].as_ptr());
    assert!(encode_fetch_response(1, 3, &response).is_err() && encode_fetch_response(1, 19, &response).is_err());
}
