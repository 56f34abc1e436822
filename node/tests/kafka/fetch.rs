//! Fetch and the offset APIs: whole batches, limits, waiting, sessions, epochs.
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wire::kafka::batch::read_batches;
use wire::kafka::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic};
use wire::kafka::messages::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::kafka::messages::{
    DeleteRecordsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use wire::kafka::{ErrorCode, Str, Uuid};

use crate::client::Client;
use crate::node::{Node, batch, produce, produced, start, start_with};

const TOPIC: &str = "t";

fn fetch(fetch_offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset, current_leader_epoch: -1, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: Str::from_static(TOPIC), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_bytes: 1 << 20, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

fn only(response: &FetchResponse) -> &PartitionData {
    assert_eq!((response.error_code, response.session_id), (0, 0));
    let [topic] = response.responses.as_slice() else { panic!("one topic, not {response:?}") };
    let [partition] = topic.partitions.as_slice() else { panic!("one partition, not {topic:?}") };
    partition
}

/// (offset, value) of every record.
fn records(partition: &PartitionData) -> Vec<(i64, String)> {
    let bytes: Bytes = partition.records.clone().unwrap_or_default();
    let mut found = Vec::new();
    for batch in read_batches(bytes) {
        let batch = batch.expect("a good batch");
        for record in batch.records(1 << 20).expect("readable records") {
            let record = record.expect("a good record");
            found.push((record.offset, String::from_utf8(record.value.expect("a value").to_vec()).expect("text")));
        }
    }
    found
}

/// A topic with the batches [a b c] [d] [e f].
async fn filled() -> (Node, Client, Uuid) {
    let node = start().await;
    let id = node.topic(TOPIC, 1).await;
    let mut client = node.client().await;
    for values in [&["a", "b", "c"][..], &["d"], &["e", "f"]] {
        assert_eq!(produced(&client.call(9, &produce(TOPIC, 0, batch(values))).await).error_code, 0);
    }
    (node, client, id)
}

#[tokio::test]
async fn whole_batches_with_their_offsets() {
    let (_node, mut client, id) = filled().await;
    let all = client.call(12, &fetch(0)).await;
    let expected: Vec<_> = (0..).zip(["a", "b", "c", "d", "e", "f"].map(String::from)).collect();
    assert_eq!(records(only(&all)), expected);
    assert_eq!((only(&all).high_watermark, only(&all).last_stable_offset, only(&all).log_start_offset), (6, 6, 0));
    let within = client.call(12, &fetch(1)).await;
    assert_eq!(records(only(&within)), expected, "the batch that contains the offset comes whole");
    let later = client.call(12, &fetch(4)).await;
    assert_eq!(records(only(&later)), expected[4..]);
    let mut by_id = fetch(3);
    by_id.topics[0].topic = Str::default();
    by_id.topics[0].topic_id = id;
    assert_eq!(records(only(&client.call(13, &by_id).await)), expected[3..]);
}

#[tokio::test]
async fn limits_leave_at_least_one_batch() {
    let (_node, mut client, _) = filled().await;
    let mut small = fetch(0);
    small.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(records(only(&client.call(12, &small).await)).len(), 3);
    let tiny = FetchRequest { max_bytes: 1, ..fetch(3) };
    assert_eq!(records(only(&client.call(12, &tiny).await)).len(), 1);
    let two = FetchRequest { max_bytes: 180, ..fetch(0) };
    assert_eq!(records(only(&client.call(12, &two).await)).len(), 4);
}

/// The node has room for the answer to one of them at a time.
#[tokio::test]
async fn many_readers_of_a_batch_larger_than_their_part_take_turns() {
    let node = start_with(|config| {
        (config.limits.request_memory_bytes, config.limits.request_bytes_max) = (2 << 20, 1 << 20);
    })
    .await;
    node.topic(TOPIC, 1).await;
    let mut producer = node.client().await;
    let large = "x".repeat(300 << 10);
    assert_eq!(produced(&producer.call(9, &produce(TOPIC, 0, batch(&[&large]))).await).error_code, 0);
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut reader = node.client().await;
        reader.send(12, &FetchRequest { max_bytes: 50 << 20, ..fetch(0) }).await;
        readers.push(reader);
    }
    for mut reader in readers {
        let (_, answer) = reader.receive::<FetchResponse>(12).await;
        assert_eq!(records(only(&answer)), [(0, large.clone())]);
    }
}

#[tokio::test]
async fn an_empty_fetch_waits_and_a_record_wakes_it() {
    let (node, mut client, _) = filled().await;
    let started = Instant::now();
    let waited = client.call(12, &FetchRequest { max_wait_ms: 300, ..fetch(6) }).await;
    assert!(records(only(&waited)).is_empty() && only(&waited).error_code == 0);
    assert!(only(&waited).records.is_some(), "clients choke on null");
    assert!(started.elapsed() >= Duration::from_millis(290));
    let started = Instant::now();
    client.send(12, &FetchRequest { max_wait_ms: 20_000, ..fetch(6) }).await;
    sleep(Duration::from_millis(100)).await;
    let mut producer = node.client().await;
    producer.call(9, &produce(TOPIC, 0, batch(&["g"]))).await;
    let (_, woken) = client.receive::<FetchResponse>(12).await;
    assert_eq!(records(only(&woken)), [(6, "g".to_owned())]);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn min_bytes_waits_for_enough() {
    let (node, mut client, _) = filled().await;
    client.send(12, &FetchRequest { max_wait_ms: 20_000, min_bytes: 150, ..fetch(6) }).await;
    let mut producer = node.client().await;
    for value in ["g", "h", "i"] {
        sleep(Duration::from_millis(50)).await;
        producer.call(9, &produce(TOPIC, 0, batch(&[value]))).await;
    }
    let (_, enough) = client.receive::<FetchResponse>(12).await;
    assert!(records(only(&enough)).len() >= 2, "one batch has less than 150 bytes");
}

#[tokio::test]
async fn offsets_and_epochs_outside_the_log() {
    let (_node, mut client, _) = filled().await;
    for offset in [-1, 7, i64::MAX] {
        let answer = client.call(12, &fetch(offset)).await;
        assert_eq!(only(&answer).error_code, ErrorCode::OffsetOutOfRange.code(), "offset {offset}");
    }
    for (epoch, expected) in [(0, ErrorCode::FencedLeaderEpoch), (i32::MAX, ErrorCode::UnknownLeaderEpoch)] {
        let mut request = fetch(0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(only(&client.call(12, &request).await).error_code, expected.code(), "epoch {epoch}");
    }
    let mut unknown = fetch(0);
    unknown.topics[0].partitions[0].partition = 9;
    assert_eq!(only(&client.call(12, &unknown).await).error_code, ErrorCode::UnknownTopicOrPartition.code());
    let mut by_id = fetch(0);
    by_id.topics[0].topic_id = Uuid::from_parts(1, 1);
    assert_eq!(only(&client.call(13, &by_id).await).error_code, ErrorCode::UnknownTopicId.code());
}

/// Goes on with a session; the answer's partitions and how many records each has.
async fn go_on(client: &mut Client, request: &FetchRequest) -> Vec<(i32, usize)> {
    let answer: FetchResponse = client.call(12, request).await;
    assert_eq!((answer.error_code, answer.session_id), (0, request.session_id));
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition_index, records(partition).len())).collect()
}

#[tokio::test]
async fn a_session_goes_on_with_what_is_new() {
    let node = start().await;
    let id = node.topic(TOPIC, 3).await;
    let mut client = node.client().await;
    let mut all = FetchRequest { session_epoch: 0, ..fetch(0) };
    let partition = all.topics[0].partitions[0].clone();
    all.topics[0].partitions = (0..3).map(|index| FetchPartition { partition: index, ..partition.clone() }).collect();
    let begun = client.call(12, &all).await;
    assert_eq!((begun.error_code, begun.responses[0].partitions.len()), (0, 3));
    assert!(begun.session_id > 0);
    let mut next = FetchRequest { session_id: begun.session_id, session_epoch: 1, topics: Vec::new(), ..all.clone() };
    assert_eq!(go_on(&mut client, &next).await, [], "nothing is new");
    produced(&client.call(9, &produce(TOPIC, 1, batch(&["a", "b"]))).await);
    next.session_epoch = 2;
    assert_eq!(go_on(&mut client, &next).await, [(1, 2)]);
    next.session_epoch = 3;
    assert_eq!(go_on(&mut client, &next).await, [(1, 2)], "the client did not say that it has them");
    let onward = FetchPartition { partition: 1, fetch_offset: 2, ..partition };
    next.topics = vec![FetchTopic { partitions: vec![onward], ..all.topics[0].clone() }];
    next.session_epoch = 4;
    assert_eq!(go_on(&mut client, &next).await, []);
    let late: FetchResponse = client.call(12, &next).await;
    assert_eq!((late.error_code, late.session_id), (ErrorCode::InvalidFetchSessionEpoch.code(), 0));
    let by_id = FetchRequest { session_epoch: 5, topics: Vec::new(), ..next.clone() };
    assert_eq!(client.call(13, &by_id).await.error_code, ErrorCode::FetchSessionTopicIdError.code());
    (all.topics[0].topic, all.topics[0].topic_id) = (Str::default(), id);
    let begun = client.call(13, &FetchRequest { session_id: begun.session_id, ..all }).await;
    assert_eq!((begun.error_code, records(&begun.responses[0].partitions[1]).len()), (0, 2));
    next.session_epoch = 5;
    let ended = client.call(12, &next).await;
    assert_eq!((ended.error_code, ended.responses.len()), (ErrorCode::FetchSessionIdNotFound.code(), 0));
}

#[tokio::test]
async fn a_waiting_session_is_woken_by_records_alone() {
    let (node, mut client, _) = filled().await;
    let begun = client.call(12, &FetchRequest { session_epoch: 0, ..fetch(6) }).await;
    let next = FetchRequest {
        session_id: begun.session_id,
        session_epoch: 1,
        topics: Vec::new(),
        max_wait_ms: 20_000,
        ..fetch(6)
    };
    client.send(12, &next).await;
    sleep(Duration::from_millis(100)).await;
    let mut producer = node.client().await;
    producer.call(9, &produce(TOPIC, 0, batch(&["g"]))).await;
    let (_, woken) = client.receive::<FetchResponse>(12).await;
    assert_eq!(woken.session_id, begun.session_id);
    assert_eq!(records(&woken.responses[0].partitions[0]), [(6, "g".to_owned())]);
}

#[tokio::test]
async fn read_committed_gets_a_list_of_no_transactions() {
    let (_node, mut client, _) = filled().await;
    let committed = client.call(11, &FetchRequest { isolation_level: 1, ..fetch(0) }).await;
    assert_eq!(only(&committed).aborted_transactions, Some(Vec::new()));
    assert_eq!(records(only(&committed)).len(), 6);
}

async fn list(client: &mut Client, timestamp: i64) -> ListOffsetsPartitionResponse {
    let partitions = vec![ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: Str::from_static(TOPIC), partitions, ..Default::default() }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    client.call(11, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn offsets_by_position_and_time() {
    let (_node, mut client, _) = filled().await;
    // Timestamps within a batch are 1, 2, 3, ...
    for (timestamp, offset, found_at) in [
        (-1, 6, -1),
        (-2, 0, -1),
        (-3, 2, 3),
        (-4, 0, -1),
        (-5, -1, -1),
        (-6, -1, -1),
        (2, 1, 2),
        (3, 2, 3),
        (4, -1, -1),
    ] {
        let answer = list(&mut client, timestamp).await;
        assert_eq!((answer.error_code, answer.offset, answer.timestamp), (0, offset, found_at), "at {timestamp}");
    }
    assert_eq!(list(&mut client, -9).await.error_code, ErrorCode::UnsupportedVersion.code());
}

async fn epoch_end(client: &mut Client, leader_epoch: i32) -> EpochEndOffset {
    let partitions = vec![OffsetForLeaderPartition { current_leader_epoch: -1, leader_epoch, ..Default::default() }];
    let topics = vec![OffsetForLeaderTopic { topic: Str::from_static(TOPIC), partitions, ..Default::default() }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics, ..Default::default() };
    client.call(4, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn the_current_epoch_ends_at_the_end() {
    let (_node, mut client, _) = filled().await;
    let batch = client.call(12, &fetch(0)).await;
    let first = read_batches(only(&batch).records.clone().unwrap()).next().unwrap().unwrap();
    let epoch = first.header().leader_epoch;
    assert!(epoch > 0);
    let current = epoch_end(&mut client, epoch).await;
    assert_eq!((current.error_code, current.leader_epoch, current.end_offset), (0, epoch, 6));
    let newer = epoch_end(&mut client, epoch + 5).await;
    assert_eq!((newer.error_code, newer.leader_epoch, newer.end_offset), (0, -1, -1));
}

#[tokio::test]
async fn deleted_records_are_gone() {
    let (_node, mut client, _) = filled().await;
    let delete = |offset| {
        let partitions = vec![DeleteRecordsPartition { offset, ..Default::default() }];
        let topics = vec![DeleteRecordsTopic { name: Str::from_static(TOPIC), partitions, ..Default::default() }];
        DeleteRecordsRequest { topics, timeout_ms: 10_000, ..Default::default() }
    };
    for (offset, low_watermark, code) in [
        (4, 4, ErrorCode::None),
        (2, 4, ErrorCode::None),
        (99, -1, ErrorCode::OffsetOutOfRange),
        (-5, -1, ErrorCode::OffsetOutOfRange),
        (-1, 6, ErrorCode::None),
    ] {
        let mut answer = client.call(2, &delete(offset)).await;
        let partition = answer.topics.remove(0).partitions.remove(0);
        assert_eq!((partition.low_watermark, partition.error_code), (low_watermark, code.code()), "offset {offset}");
    }
    assert_eq!(list(&mut client, -2).await.offset, 6);
    assert_eq!(only(&client.call(12, &fetch(0)).await).error_code, ErrorCode::OffsetOutOfRange.code());
}
