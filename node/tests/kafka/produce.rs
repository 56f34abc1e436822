//! Produce: offsets, acks, duplicates, and the codes a Kafka broker gives for what is wrong.
use bytes::{Bytes, BytesMut};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use wire::kafka::messages::{InitProducerIdRequest, ListOffsetsRequest, ProduceRequest};
use wire::kafka::{ErrorCode, Str};

use crate::client::Client;
use crate::node::{batch, produce, produced, start, start_with};

async fn code(client: &mut Client, version: i16, request: &ProduceRequest) -> Option<ErrorCode> {
    ErrorCode::from_i16(produced(&client.call(version, request).await).error_code)
}

async fn end_offset(client: &mut Client, topic: &str) -> i64 {
    let partitions = vec![ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: topic.to_owned().into(), partitions, ..Default::default() }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    client.call(5, &request).await.topics[0].partitions[0].offset
}

#[tokio::test]
async fn offsets_count_records_and_all_acks_are_answered() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let mut offsets = Vec::new();
    for acks in [-1, 1] {
        let request = ProduceRequest { acks, ..produce("t", 0, batch(&["a", "b", "c"])) };
        offsets.push(produced(&client.call(9, &request).await).base_offset);
    }
    assert_eq!(offsets, [0, 3]);
    let silent = ProduceRequest { acks: 0, ..produce("t", 0, batch(&["d"])) };
    client.send(9, &silent).await;
    let answer = client.call(9, &produce("t", 0, batch(&["e"]))).await;
    assert_eq!(produced(&answer).base_offset, 7, "the record without acks is in front, and had no answer");
}

#[tokio::test]
async fn an_error_without_acks_closes_the_connection() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.send(9, &ProduceRequest { acks: 0, ..produce("nowhere", 0, batch(&["a"])) }).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn many_requests_on_one_connection_keep_their_order() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let mut sent = Vec::new();
    for round in 0..50 {
        sent.push(client.send(9, &produce("t", 0, batch(&[&format!("v{round}")]))).await);
    }
    for (offset, id) in (0..).zip(sent) {
        let (answered, response) = client.receive(9).await;
        assert_eq!(answered, id);
        assert_eq!(produced(&response).base_offset, offset);
    }
}

#[tokio::test]
async fn what_cannot_be_appended_is_named() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let good = batch(&["a"]);
    let damaged = |at: usize, value: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = value;
        bytes.freeze()
    };
    for (what, request, expected) in [
        ("unknown topic", produce("nowhere", 0, good.clone()), ErrorCode::UnknownTopicOrPartition),
        ("unknown partition", produce("t", 7, good.clone()), ErrorCode::UnknownTopicOrPartition),
        ("negative partition", produce("t", -1, good.clone()), ErrorCode::UnknownTopicOrPartition),
        ("bad acks", ProduceRequest { acks: 2, ..produce("t", 0, good.clone()) }, ErrorCode::InvalidRequiredAcks),
        ("crc", produce("t", 0, damaged(good.len() - 1, 0xff)), ErrorCode::CorruptMessage),
        ("magic 0", produce("t", 0, damaged(16, 0)), ErrorCode::InvalidRecord),
        ("magic 1", produce("t", 0, damaged(16, 1)), ErrorCode::InvalidRecord),
        ("magic 3", produce("t", 0, damaged(16, 3)), ErrorCode::CorruptMessage),
        ("nothing", produce("t", 0, Bytes::new()), ErrorCode::InvalidRecord),
        (
            "a transaction",
            ProduceRequest { transactional_id: Some(Str::from_static("x")), ..produce("t", 0, good.clone()) },
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
    ] {
        assert_eq!(code(&mut client, 9, &request).await, Some(expected), "{what}");
    }
    assert_eq!(end_offset(&mut client, "t").await, 0, "nothing of it was appended");
}

#[tokio::test]
async fn a_batch_over_the_topics_limit_is_too_large() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let value = "x".repeat(1_048_588);
    let answer = client.call(9, &produce("t", 0, batch(&[&value]))).await;
    assert_eq!(produced(&answer).error_code, ErrorCode::MessageTooLarge.code());
    assert!(produced(&answer).error_message.is_some());
    assert_eq!(code(&mut client, 9, &produce("t", 0, batch(&[&value[..1_000_000]]))).await, Some(ErrorCode::None));
}

#[tokio::test]
async fn zstd_needs_version_seven() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(1, None, Some(b"value"));
    let request = produce("t", 0, builder.build().unwrap());
    assert_eq!(code(&mut client, 6, &request).await, Some(ErrorCode::UnsupportedCompressionType));
    assert_eq!(code(&mut client, 7, &request).await, Some(ErrorCode::None));
}

#[tokio::test]
async fn an_idempotent_producer_is_deduplicated_and_kept_in_order() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let given =
        client.call(4, &InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() }).await;
    assert_eq!((given.error_code, given.producer_epoch), (0, 0));
    let batch = |epoch, sequence| {
        let mut builder = BatchBuilder::new(Compression::None).producer(given.producer_id, epoch, sequence);
        builder.push(1, None, Some(b"value"));
        produce("t", 0, builder.build().unwrap())
    };
    for (sequence, offset) in [(0, 0), (1, 1), (0, 0), (1, 1), (2, 2)] {
        let answer = client.call(9, &batch(0, sequence)).await;
        assert_eq!((produced(&answer).error_code, produced(&answer).base_offset), (0, offset), "sequence {sequence}");
    }
    assert_eq!(code(&mut client, 9, &batch(0, 7)).await, Some(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(code(&mut client, 9, &batch(1, 0)).await, Some(ErrorCode::None));
    assert_eq!(code(&mut client, 9, &batch(0, 3)).await, Some(ErrorCode::InvalidProducerEpoch));
    assert_eq!(end_offset(&mut client, "t").await, 4);
}

#[tokio::test]
async fn transactions_are_refused_for_good() {
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let ask = |id: &'static str| InitProducerIdRequest {
        transactional_id: Some(Str::from_static(id)),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let refused = client.call(4, &ask("tx")).await;
    assert_eq!(refused.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    assert_eq!(client.call(4, &ask("")).await.error_code, ErrorCode::InvalidRequest.code());
}

#[tokio::test]
async fn large_batches_pass_where_the_budget_is_small() {
    const MIB: usize = 1 << 20;
    let node = start_with(|config| config.limits.request_memory_bytes = 4 * MIB).await;
    node.topic("t", 4).await;
    let value = "x".repeat(900_000);
    let senders = (0..8).map(|sender| {
        let (node, value) = (&node, &value);
        async move {
            let mut client = node.client().await;
            for _ in 0..3 {
                let answer = client.call(9, &produce("t", sender % 4, batch(&[value]))).await;
                assert_eq!(produced(&answer).error_code, 0);
            }
        }
    });
    futures::future::join_all(senders).await;
}
