//! Guard and codec: whatever the guard lets pass the codec reads to the end, and the guard lets pass what is valid.

use bytes::Bytes;

use super::super::messages::{
    AnyRequest, AnyResponse, DescribeClusterResponse, FetchResponse, InitProducerIdResponse, ListOffsetsResponse,
    MetadataResponse, list_offsets, metadata,
};
use super::super::versions::{APIS, MAX_SMALL_REQUEST_BYTES};
use super::super::{ApiKey, Str, Uuid, frame, schema};
use super::rounds;
use crate::bound::generate::{Random, message};
use crate::{Error, bound};

/// Overwrites, cuts or lengthens; often with the bytes that make huge lengths.
fn mutate(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 => bytes.extend(std::iter::repeat_n(0xff, random.below(9) as usize)),
            3 => bytes.iter_mut().skip(at).take(4).for_each(|b| *b = 0x7f),
            4 => bytes.iter_mut().skip(at).take(5).for_each(|b| *b = 0xff),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = random.next() as u8),
        }
    }
    bytes
}

#[test]
fn what_the_guard_passes_the_codec_reads() {
    let (mut passed, mut refused) = (0, 0);
    for api in APIS {
        for version in api.min..=api.max {
            let mut random = Random(3 ^ ((api.key as u64) << 32) ^ version as u64);
            for _ in 0..rounds(300) {
                let valid = message(&mut random, schema::request(api.key), version, api.is_flexible(version));
                let bytes = mutate(&mut random, valid);
                let guard = bound::check(schema::request(api.key), version, api.is_flexible(version), &bytes);
                let codec = AnyRequest::decode(api.key, version, Bytes::from(bytes.clone()));
                match (guard, codec) {
                    (Ok(()), Ok(_)) => passed += 1,
                    (Ok(()), Err(Error::Decode(reason))) => {
                        assert!(
                            reason.to_lowercase().contains("utf"),
                            "{} v{version}: {reason} {bytes:02x?}",
                            api.name
                        );
                    }
                    (Err(error), Err(same)) if error == same => refused += 1,
                    (guard, codec) => panic!("{} v{version}: {guard:?} {codec:?} {bytes:02x?}", api.name),
                }
            }
        }
    }
    assert!(passed > 1_000 && refused > 1_000, "{passed} passed, {refused} refused");
}

#[test]
fn mutated_responses_never_panic() {
    for api in APIS {
        for version in api.min..=api.max {
            let mut random = Random(4 ^ ((api.key as u64) << 32) ^ version as u64);
            for _ in 0..rounds(50) {
                let body = message(&mut random, schema::response(api.key), version, api.is_flexible(version));
                let frame =
                    mutate(&mut random, [vec![0; 4 + api.response_header_version(version) as usize], body].concat());
                let _ = AnyResponse::decode(api.key, version, frame.into());
            }
        }
    }
}

#[test]
fn the_measured_killers_are_cheap_errors() {
    // reference/kafka.md 3.1: 4 and 7 bytes of Metadata made kafka-protocol 0.18 ask for 154 and 309 GB.
    let v1 = AnyRequest::decode(ApiKey::Metadata, 1, Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]));
    assert!(matches!(v1, Err(Error::Malformed { what: "topics", .. })), "{v1:?}");
    let v9 = AnyRequest::decode(ApiKey::Metadata, 9, Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]));
    assert!(matches!(v9, Err(Error::Malformed { what: "topics", .. })), "{v9:?}");
    // What kacrab alone would take: a tag count near the bytes left, reserved at 40 bytes for each.
    let mut tags = vec![1, 1, 0xff, 0xff, 0x3f];
    tags.resize(1 << 20, 0);
    let tags = AnyRequest::decode(ApiKey::ApiVersions, 3, tags.into());
    assert!(matches!(tags, Err(Error::Malformed { .. } | Error::TooManyElements { .. })), "{tags:?}");
    // A million topics of two bytes each: honest lengths, but 70 times the memory.
    let mut topics = vec![0x81, 0x89, 0x7a];
    topics.extend([1, 0].repeat(2_000_000));
    let topics = AnyRequest::decode(ApiKey::Metadata, 9, topics.into());
    assert!(matches!(topics, Err(Error::TooManyElements { what: "topics" })), "{topics:?}");
}

#[test]
fn bytes_after_the_end_are_let_be_and_nulls_are_refused() {
    // What librdkafka 2.16 sends to ask for all topics at version 13: the request is the first four bytes.
    let librdkafka = AnyRequest::decode(ApiKey::Metadata, 13, Bytes::from_static(&[0, 0, 0, 0, 1, 0, 0]));
    let Ok(AnyRequest::Metadata(all)) = librdkafka else { panic!("{librdkafka:?}") };
    assert_eq!((all.topics, all.allow_auto_topic_creation), (None, false));
    let null_topics =
        AnyRequest::decode(ApiKey::DeleteTopics, 1, Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    assert!(matches!(null_topics, Err(Error::Malformed { problem: "null where none may be", .. })), "{null_topics:?}");
    let all_topics = AnyRequest::decode(ApiKey::Metadata, 1, Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]));
    let Ok(AnyRequest::Metadata(request)) = all_topics else { panic!("{all_topics:?}") };
    assert_eq!(request.topics, None);
}

#[test]
fn the_head_of_a_request_tells_its_length_or_that_it_is_too_long() {
    const MAX: usize = 10 << 20;
    let head = |length: i32, key: i16| {
        let mut head = [0; frame::FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..].copy_from_slice(&key.to_be_bytes());
        frame::request_bytes(head, MAX)
    };
    let (max, small) = (MAX as i32, MAX_SMALL_REQUEST_BYTES as i32);
    for (key, most) in [(ApiKey::Produce as i16, max), (ApiKey::Metadata as i16, small), (i16::MAX, small)] {
        assert_eq!((head(0, key), head(most, key)), (Ok(0), Ok(most as usize)));
        for refused in [most + 1, i32::MAX, -1, i32::MIN] {
            let error = Error::FrameTooLarge { bytes: refused.into(), max: most as usize };
            assert_eq!(head(refused, key), Err(error), "key {key}");
        }
    }
}

#[test]
fn records_of_a_produce_request_are_slices_of_the_frame() {
    let records = Bytes::from(vec![7; 1_000]);
    let mut body = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    body.extend(1_000u32.to_be_bytes());
    body.extend(&records);
    let body = Bytes::from(body);
    let Ok(AnyRequest::Produce(request)) = AnyRequest::decode(ApiKey::Produce, 3, body.clone()) else { panic!() };
    let decoded = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert_eq!((decoded, decoded.as_ptr_range().end), (&records, body.as_ptr_range().end));
}

#[test]
fn fields_that_cannot_be_left_out_are_those_in_the_docs() {
    let refuses = |version: i16, response: &AnyResponse| matches!(response.encode(version, 1), Err(Error::Encode(_)));
    let mut list_offsets = ListOffsetsResponse { topics: vec![Default::default()], ..Default::default() };
    list_offsets.topics[0].partitions =
        vec![list_offsets::ListOffsetsPartitionResponse { leader_epoch: 3, ..Default::default() }];
    let mut metadata = MetadataResponse { topics: vec![Default::default()], ..Default::default() };
    metadata.topics[0].topic_authorized_operations = 7;
    let fetch = FetchResponse { session_id: 1, ..Default::default() };
    let cluster = DescribeClusterResponse { endpoint_type: 2, ..Default::default() };
    let producer = InitProducerIdResponse { ongoing_txn_producer_id: 5, ..Default::default() };
    for (response, from) in [
        (AnyResponse::ListOffsets(list_offsets), 4),
        (AnyResponse::Metadata(metadata), 8),
        (AnyResponse::Fetch(fetch), 7),
        (AnyResponse::DescribeCluster(cluster), 1),
        (AnyResponse::InitProducerId(producer), 6),
    ] {
        assert!(refuses(from - 1, &response) && !refuses(from, &response), "{response:?}");
    }
    let everything_else = MetadataResponse {
        throttle_time_ms: 1,
        cluster_id: Some(Str::from_static("c")),
        controller_id: 1,
        topics: vec![metadata::MetadataResponseTopic {
            name: Some(Str::from_static("t")),
            topic_id: Uuid::ONE,
            partitions: vec![metadata::MetadataResponsePartition {
                leader_epoch: 4,
                offline_replicas: vec![1],
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert!((0..=13).all(|version| !refuses(version, &AnyResponse::Metadata(everything_else.clone()))));
}
