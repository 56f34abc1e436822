//! The rules of KIP-227, one test each.
use std::time::Duration;

use tokio::time::advance;
use wire::kafka::fetch_writer::ServedBatch;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};
use wire::kafka::{Str, Uuid};

use super::*;

const BOUNDS: Bounds = Bounds { sessions: 2, partitions: 100 };

fn sessions(bounds: Bounds) -> Sessions {
    Sessions::new(bounds, Gauges::default())
}

/// A request for partitions of topic `t`, each with its offset.
fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        ..Default::default()
    };
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    let topic = FetchTopic { topic: Str::from_static("t"), partitions, ..Default::default() };
    let topics = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
    FetchRequest { session_id, session_epoch, topics, ..Default::default() }
}

fn forgetting(mut request: FetchRequest, partitions: &[i32]) -> FetchRequest {
    let partitions = partitions.to_vec();
    request.forgotten_topics_data =
        vec![ForgottenTopic { topic: Str::from_static("t"), partitions, ..Default::default() }];
    request
}

/// An answer for one partition: so many batches, and the high watermark.
fn read(partition: i32, batches: usize, high_watermark: i64) -> FetchedPartition {
    let batch = ServedBatch::new(&vec![0; 100].into(), 0, 0).unwrap();
    let mut answer = FetchedPartition::empty(partition, ErrorCode::None);
    (answer.batches, answer.high_watermark, answer.log_start_offset) = (vec![batch; batches], high_watermark, 0);
    answer
}

fn failed(partition: i32) -> FetchedPartition {
    FetchedPartition::empty(partition, ErrorCode::NotLeaderOrFollower)
}

/// Begins a session for `partitions`, whose high watermarks are all 5 and told.
fn begun(sessions: &Sessions, partitions: &[i32]) -> i32 {
    let asked: Vec<_> = partitions.iter().map(|partition| (*partition, 5)).collect();
    let accepted = sessions.accept(&request(0, 0, &asked), false).unwrap();
    let (id, told) = sessions.answer(accepted, partitions.iter().map(|partition| read(*partition, 0, 5)).collect());
    assert_eq!(told.len(), partitions.len(), "a full answer leaves nothing out");
    id
}

/// Goes on with a session: in which order it reads, and which partitions are told of, if `answer` is what is there.
fn go_on(
    sessions: &Sessions,
    request: &FetchRequest,
    answer: impl Fn(i32) -> FetchedPartition,
) -> (Vec<i32>, Vec<i32>) {
    let accepted = sessions.accept(request, false).unwrap();
    let order: Vec<i32> = accepted.wanted.iter().map(|wanted| wanted.key.partition).collect();
    let (id, told) = sessions.answer(accepted, order.iter().map(|partition| answer(*partition)).collect());
    assert_eq!(id, request.session_id);
    (order, told.into_iter().map(|(key, _)| key.partition).collect())
}

fn kept(sessions: &Sessions) -> (usize, usize) {
    let cache = sessions.lock();
    assert_eq!(cache.by_use.len(), cache.entries.len());
    assert!(cache.by_size.len() <= cache.entries.len());
    assert_eq!(cache.partitions, cache.entries.values().map(|entry| entry.size).sum::<usize>());
    (cache.entries.len(), cache.partitions)
}

#[tokio::test]
async fn epoch_minus_one_gets_no_session_and_ends_the_one_it_names() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0]);
    assert!(id > 0);
    assert_eq!(kept(&sessions), (1, 1));
    let accepted = sessions.accept(&request(id, -1, &[(0, 5)]), false).unwrap();
    assert_eq!(sessions.answer(accepted, vec![read(0, 0, 5)]).0, 0);
    assert_eq!(kept(&sessions), (0, 0));
}

#[tokio::test]
async fn epoch_zero_ends_the_session_it_names_and_begins_another() {
    let sessions = sessions(BOUNDS);
    let first = begun(&sessions, &[0]);
    let accepted = sessions.accept(&request(first, 0, &[(0, 5), (1, 5)]), false).unwrap();
    let (second, _) = sessions.answer(accepted, vec![read(0, 0, 5), read(1, 0, 5)]);
    assert!(second > 0 && second != first);
    assert_eq!(kept(&sessions), (1, 2));
    let gone = sessions.accept(&request(first, 1, &[]), false).unwrap_err();
    assert_eq!(gone, ErrorCode::FetchSessionIdNotFound);
}

#[tokio::test]
async fn epochs_come_one_after_the_other() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0]);
    for epoch in 1..4 {
        for wrong in [epoch + 1, epoch - 1, -2].into_iter().filter(|wrong| *wrong != 0) {
            let refused = sessions.accept(&request(id, wrong, &[]), false).unwrap_err();
            assert_eq!(refused, ErrorCode::InvalidFetchSessionEpoch, "{wrong} when {epoch} is due");
        }
        go_on(&sessions, &request(id, epoch, &[]), |partition| read(partition, 0, 5));
    }
    sessions.lock().entries.get_mut(&id).unwrap().epoch = i32::MAX;
    go_on(&sessions, &request(id, i32::MAX, &[]), |partition| read(partition, 0, 5));
    go_on(&sessions, &request(id, 1, &[]), |partition| read(partition, 0, 5));
}

#[tokio::test]
async fn names_and_ids_of_topics_do_not_mix() {
    let sessions = sessions(BOUNDS);
    let named = begun(&sessions, &[0]);
    assert_eq!(sessions.accept(&request(named, 1, &[]), true).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
    go_on(&sessions, &request(named, 1, &[]), |partition| read(partition, 0, 5));
    let mut by_id = request(0, 0, &[(0, 5)]);
    (by_id.topics[0].topic, by_id.topics[0].topic_id) = (Str::default(), Uuid::from_parts(1, 2));
    let accepted = sessions.accept(&by_id, true).unwrap();
    let (id, told) = sessions.answer(accepted, vec![read(0, 0, 5)]);
    assert_eq!(told[0].0.id, Uuid::from_parts(1, 2));
    assert_eq!(sessions.accept(&request(id, 1, &[]), false).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
    let accepted = sessions.accept(&FetchRequest { topics: Vec::new(), ..request(id, 1, &[]) }, true).unwrap();
    assert_eq!(accepted.wanted[0].key.id, Uuid::from_parts(1, 2));
}

#[tokio::test]
async fn only_news_are_told() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0, 1, 2]);
    let mut epoch = 0;
    let mut told = |answer: fn(i32) -> FetchedPartition| {
        epoch += 1;
        go_on(&sessions, &request(id, epoch, &[]), answer).1
    };
    assert!(told(|partition| read(partition, 0, 5)).is_empty(), "nothing happened");
    assert_eq!(told(|partition| read(partition, 0, if partition == 1 { 6 } else { 5 })), [1], "a high watermark");
    assert!(told(|partition| read(partition, 0, if partition == 1 { 6 } else { 5 })).is_empty());
    let records = |partition| read(partition, usize::from(partition == 2), if partition == 1 { 6 } else { 5 });
    assert_eq!(told(records), [2], "records below a high watermark that is known");
    assert_eq!(told(records), [2], "and more of them");
    let started = |partition| FetchedPartition {
        log_start_offset: i64::from(partition == 0),
        ..read(partition, 0, if partition == 1 { 6 } else { 5 })
    };
    assert_eq!(told(started), [0], "a log start");
    assert!(told(started).is_empty());
}

#[tokio::test]
async fn errors_are_told_every_time_and_so_is_their_end() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0, 1]);
    let fails = |partition| if partition == 0 { failed(0) } else { read(partition, 0, 5) };
    for epoch in [1, 2] {
        assert_eq!(go_on(&sessions, &request(id, epoch, &[]), fails).1, [0]);
    }
    let well = |partition| read(partition, 0, 5);
    assert_eq!(go_on(&sessions, &request(id, 3, &[]), well).1, [0], "the same as before the error, and yet told");
    assert!(go_on(&sessions, &request(id, 4, &[]), well).1.is_empty());
}

#[tokio::test]
async fn what_gave_records_is_read_last_next_time() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0, 1, 2]);
    // Each round has room for one partition's records: the first that is read takes it.
    let served: Vec<i32> = (1..=6)
        .map(|epoch| {
            let first = sessions.lock().entries[&id].session.wanted()[0].key.partition;
            go_on(&sessions, &request(id, epoch, &[]), |at| read(at, usize::from(at == first), 5)).1[0]
        })
        .collect();
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
}

#[tokio::test]
async fn changes_and_forgotten_partitions() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0, 1]);
    let change = forgetting(request(id, 1, &[(1, 9), (7, 3)]), &[0, 99]);
    let accepted = sessions.accept(&change, false).unwrap();
    let wanted: Vec<_> = accepted.wanted.iter().map(|wanted| (wanted.key.partition, wanted.offset)).collect();
    assert_eq!(wanted, [(1, 9), (7, 3)]);
    let (_, told) = sessions.answer(accepted, vec![read(1, 0, 5), read(7, 0, 5)]);
    assert_eq!(told.iter().map(|(key, _)| key.partition).collect::<Vec<_>>(), [7], "new to the session: told");
    assert_eq!(kept(&sessions), (1, 2));
    let empty = forgetting(request(id, 2, &[]), &[1, 7]);
    let accepted = sessions.accept(&empty, false).unwrap();
    assert!(accepted.wanted.is_empty());
    assert_eq!(sessions.answer(accepted, Vec::new()).0, 0, "a session without partitions is over");
    assert_eq!(kept(&sessions), (0, 0));
}

#[tokio::test]
async fn a_partition_listed_twice_is_one_at_its_last_offset() {
    let sessions = sessions(BOUNDS);
    let accepted = sessions.accept(&request(0, 0, &[(0, 1), (0, 2)]), false).unwrap();
    assert_eq!(accepted.wanted.iter().map(|wanted| wanted.offset).collect::<Vec<_>>(), [2]);
    let accepted = sessions.accept(&request(0, 0, &[]), false).unwrap();
    assert_eq!(sessions.answer(accepted, Vec::new()).0, 0, "nothing to follow");
}

#[tokio::test]
async fn names_are_not_slices_of_a_frame() {
    let sessions = sessions(BOUNDS);
    let frame = bytes::Bytes::from(vec![b't'; 1 << 20]);
    let mut large = request(0, 0, &[(0, 0), (1, 0)]);
    large.topics[0].topic = Str::new(frame.slice(7..8)).unwrap();
    let accepted = sessions.accept(&large, false).unwrap();
    sessions.answer(accepted, vec![read(0, 0, 5), read(1, 0, 5)]);
    drop(large);
    assert!(frame.is_unique(), "the session holds the frame in memory");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_is_not_evicted_and_the_next_client_does_without() {
    let sessions = sessions(BOUNDS);
    let (first, second) = (begun(&sessions, &[0]), begun(&sessions, &[0, 1]));
    assert_eq!(begun(&sessions, &[0, 1, 2]), 0, "both were used a moment ago, and are young");
    advance(Duration::from_secs(121)).await;
    go_on(&sessions, &request(second, 1, &[]), |partition| read(partition, 0, 5));
    let third = begun(&sessions, &[0]);
    assert!(third > 0, "the first was unused for two minutes");
    assert_eq!(sessions.accept(&request(first, 1, &[]), false).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(begun(&sessions, &[0]), 0, "smaller than the second, which is old");
    assert!(begun(&sessions, &[0, 1]) > 0, "not smaller");
    assert_eq!(sessions.accept(&request(second, 2, &[]), false).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(kept(&sessions), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn partitions_of_all_sessions_are_bounded() {
    let sessions = sessions(Bounds { sessions: 10, partitions: 4 });
    let first = begun(&sessions, &[0, 1]);
    assert_eq!(begun(&sessions, &[0, 1, 2]), 0);
    assert_eq!(begun(&sessions, &[0, 1, 2, 3, 4]), 0, "can never fit, and evicts nobody");
    let second = begun(&sessions, &[0, 1]);
    assert_eq!(kept(&sessions), (2, 4));
    let grown = request(second, 1, &[(2, 0)]);
    assert_eq!(sessions.accept(&grown, false).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(kept(&sessions), (1, 2), "it begins anew");
    go_on(&sessions, &request(first, 1, &[(2, 0), (3, 0)]), |partition| read(partition, 0, 5));
    assert_eq!(kept(&sessions), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_while_it_was_read_for_tells_everything() {
    let sessions = sessions(BOUNDS);
    let id = begun(&sessions, &[0, 1]);
    let accepted = sessions.accept(&request(id, 1, &[]), false).unwrap();
    sessions.accept(&request(id, -1, &[]), false).unwrap();
    let (_, told) = sessions.answer(accepted, vec![read(0, 0, 5), read(1, 1, 5)]);
    assert_eq!(told.len(), 2);
    assert_eq!(kept(&sessions), (0, 0));
}
