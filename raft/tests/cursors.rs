//! Cursors on a partition's log: every replica has them, whatever it began with, and they hold back retention but no purge.

mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::*;
use model::command::{Flags, Payload, Tag};
use model::cursor::ackset::{AckSet, Command, Config, Fact, Place, Ranges, Reply as Answer, Settlement, Verdict};
use model::cursor::{Batch, CursorCommand, LetterNote, Note};
use model::machine::AppendReply;
use model::partition::{MovedBatch, Relocation, moved_batches};
use model::record::NO_HORIZON;
use model::retention::{Rules, Segment};
use model::{At, GroupId, Reply, Write};
use raft::{Group, Kind};
use storage::codec;

const SEGMENT: Segment = Segment { bytes: 4_096, ms: i64::MAX };
const SOURCE: Place = Place { group: GroupId(2_000), queue: 0 };

async fn propose(group: &Group, payload: Payload) -> Reply {
    group.propose(vec![payload]).await.remove(0).unwrap().reply
}

async fn ask(group: &Group, command: CursorCommand) -> Answer {
    let body = codec::encode(&Batch(vec![command]));
    match propose(group, Payload::command(Tag::CursorBatch, 1, body)).await {
        Reply::Cursors(mut replies) => replies.remove(0).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn open(group: &Group) {
    let config = Config { dead_letters: true, ..Config::default() };
    ask(group, CursorCommand::Open { cursor: 0, config }).await;
}

async fn settle(group: &Group, verdict: Verdict, ranges: &[(i64, i64)]) {
    let settlement = Settlement { verdict, ranges: Ranges::of(ranges.iter().copied()) };
    let command = Command::Settle(vec![settlement]);
    let reply = ask(group, CursorCommand::Run { cursor: 0, command }).await;
    assert!(matches!(&reply, Answer::Settled(each) if each.iter().all(Result::is_ok)), "{reply:?}");
}

/// Publishes messages, each with a priority and a letter's number.
async fn publish(group: &Group, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let letter = LetterNote { source: SOURCE, number, lowest: number };
        let note = Note { priority: Some((number % 3) as u8), letter: Some(letter), ..Note::default() };
        let message = batch(&format!("{number}{}", ".".repeat(500)));
        let reply = propose(group, Payload::append_queue(1, Flags::AMQP, vec![message], &[note])).await;
        assert!(matches!(&reply, Reply::Append(one) if matches!(one[0], AppendReply::Ok { .. })), "{reply:?}");
    }
}

fn cursor(group: &Group) -> AckSet {
    group.partition(|machine| machine.cursor(0).cloned()).flatten().expect("open")
}

#[tokio::test(start_paused = true)]
async fn a_replica_has_the_cursors_from_its_rows_or_from_a_checkpoint() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    for node in 1..=3 {
        cluster.group(node).set_segment(SEGMENT);
    }
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    publish(&group, 1..=20).await;
    open(&group).await;
    let late = leader % 3 + 1;
    cluster.crash(late, 0).await;
    publish(&group, 21..=80).await;
    settle(&group, Verdict::Accept, &[(0, 70), (71, 75)]).await;
    settle(&group, Verdict::Release { counted: true, delay_ms: Some(500) }, &[(76, 77)]).await;
    settle(&group, Verdict::Reject(model::cursor::ackset::Reason::Rejected), &[(78, 79)]).await;
    publish(&group, 81..=90).await;
    propose(&group, Payload::log_start(1, 60)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(group.space().unwrap().purged.is_some_and(|purged| purged > 30), "{:?}", group.space());
    let returned = cluster.restart(late).await;
    cluster.converge().await;
    let want = cursor(&group);
    assert_eq!((want.state().floor, want.exception(76).failures, want.counts(0).dead_pending), (70, 1, 1));
    assert_eq!(cursor(&returned), want, "from a checkpoint and the entries after it");
    let letters = |group: &Group| group.partition(|machine| machine.inbox().clone()).unwrap();
    assert_eq!(letters(&returned), letters(&group));
    let other = (1..=3).find(|node| *node != leader && *node != late).unwrap();
    cluster.crash(other, usize::MAX).await;
    let restarted = cluster.restart(other).await;
    assert_eq!(cursor(&restarted), want, "from its rows");
    cluster.converge().await;
    assert_eq!((restarted.quarantined(), returned.quarantined()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn retention_stops_at_what_a_cursor_needs() {
    let cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    group.set_segment(SEGMENT);
    publish(&group, 1..=60).await;
    let rules = Rules::new(-1, 8_192, i64::MAX, i64::MAX);
    let free = group.expired(&rules, 1).unwrap();
    assert!((30..60).contains(&free), "{free}");
    open(&group).await;
    assert_eq!(group.expired(&rules, 1), None, "nothing is settled");
    settle(&group, Verdict::Accept, &[(0, 7), (8, 60)]).await;
    assert_eq!(group.expired(&rules, 1), Some(7), "one is not");
    assert_eq!(propose(&group, Payload::log_start(1, 7)).await, Reply::LogStart(7));
    assert_eq!(group.expired(&rules, 1), None);
    settle(&group, Verdict::Accept, &[(7, 8)]).await;
    assert_eq!(group.expired(&rules, 1), Some(free));
}

#[tokio::test(start_paused = true)]
async fn settling_alone_makes_checkpoints() {
    let cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    group.set_segment(SEGMENT);
    publish(&group, 1..=2).await;
    open(&group).await;
    let before = group.space().unwrap().checkpoints;
    for _ in 0..400 {
        settle(&group, Verdict::Release { counted: true, delay_ms: None }, &[(0, 1)]).await;
    }
    assert_eq!(cursor(&group).exception(0).failures, 400);
    let after = group.space().unwrap().checkpoints;
    assert!(after > before + 2, "{before} {after}");
}

/// What the leader does with messages that hold back what is too old: moves those that are needed, and leaves the others behind.
async fn relieve(group: &Group, rules: &Rules) -> bool {
    let Some(work) = group.held_back(rules, 1) else { return false };
    let (after, from, needed) =
        group.partition(|m| (m.clean().moves, m.log_start(), m.needed(m.log_start(), work.end))).unwrap();
    let moved = needed.into_iter().flat_map(|(from, to)| from..to).map(|offset| {
        let mut bytes = batch("moved").to_vec();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&1i32.to_be_bytes());
        MovedBatch { bytes: Bytes::from(bytes), horizon_ms: NO_HORIZON }
    });
    let moves = Relocation { after, from, to: work.end, batches: moved.collect() };
    assert_eq!(propose(group, moves.payload(1)).await, Reply::Relocated(true));
    tokio::time::sleep(Duration::from_secs(1)).await;
    true
}

/// The offsets of what was moved.
async fn moved(disk: &storage::engine::sim::SimDisk, group: &Group) -> Vec<i64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rows: Vec<_> = group.partition(|machine| machine.moved().copied().collect()).unwrap();
    let mut found = Vec::new();
    for row in rows {
        let (_, stored) = disk.durable(GROUP, row.index).unwrap_or_else(|| panic!("{row:?} {:?}", group.space()));
        let batches = moved_batches(&Payload::from_bytes(stored).unwrap(), (row.from, row.to));
        found.extend(batches.iter().map(|batch| batch.base_offset));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn one_old_message_that_nobody_settles_does_not_keep_the_disk() {
    let mut cluster = Cluster::new(3, 3, Kind::Partition).await;
    for node in 1..=3 {
        cluster.group(node).set_segment(SEGMENT);
    }
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    let rules = Rules::new(-1, 8_192, i64::MAX, i64::MAX);
    publish(&group, 1..=2).await;
    open(&group).await;
    let late = leader % 3 + 1;
    cluster.crash(late, 0).await;
    for round in 0..6u64 {
        publish(&group, 3 + 40 * round..=42 + 40 * round).await;
        let end = group.partition(|machine| machine.next_offset()).unwrap();
        settle(&group, Verdict::Accept, &[(1, 17), (18, end)]).await;
        assert!(relieve(&group, &rules).await, "round {round}: {:?}", group.space());
    }
    let space = group.space().unwrap();
    assert!(space.bytes < 4 * 8_192, "242 messages of 600 bytes are {} bytes: {space:?}", space.bytes);
    assert_eq!((space.log_start, cursor(&group).state().floor), (0, 0));
    assert_eq!(moved(&cluster.disks[&leader], &group).await, [0, 17]);
    assert!(!relieve(&group, &rules).await, "nothing more is to be had");
    let returned = cluster.restart(late).await;
    cluster.converge().await;
    assert_eq!(cursor(&returned), cursor(&group));
    assert_eq!(moved(&cluster.disks[&late], &returned).await, [0, 17], "it has the message from the move");
    settle(&group, Verdict::Accept, &[(0, 1), (17, 18)]).await;
    let start = group.expired(&rules, 1).unwrap();
    assert_eq!(propose(&group, Payload::log_start(1, start)).await, Reply::LogStart(start));
    assert_eq!(group.partition(|machine| machine.moved().count()), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_for_ever_does_not_fill_the_disk() {
    let mut cluster = Cluster::new(1, 1, Kind::Partition).await;
    let group = cluster.group(cluster.leader().await);
    group.set_segment(SEGMENT);
    publish(&group, 1..=1).await;
    open(&group).await;
    let rules = Rules::new(0, -1, i64::MAX, i64::MAX);
    let mut most = 0;
    for _ in 0..5 {
        for _ in 0..400 {
            settle(&group, Verdict::Release { counted: true, delay_ms: None }, &[(0, 1)]).await;
        }
        relieve(&group, &rules).await;
        most = most.max(group.space().unwrap().bytes);
    }
    assert_eq!(cursor(&group).exception(0).failures, 2_000);
    assert!(most < 60_000, "{most} bytes for 2,000 failures: {:?}", group.space());
    assert_eq!(moved(&cluster.disks[&1], &group).await, [0]);
    cluster.crash(1, usize::MAX).await;
    let group = cluster.restart(1).await;
    cluster.leader().await;
    assert_eq!(cursor(&group).exception(0).failures, 2_000);
    publish(&group, 2..=3).await;
    assert_eq!(group.partition(|machine| (machine.next_offset(), machine.breach())), Some((3, None)));
}

#[test]
fn what_a_cursor_remembers_is_encoded_half_as_large_again_at_most() {
    let at = At { index: 1, term: 1, leader_ts: 0 };
    let next = 1 << 40;
    let late = i64::MAX / 2;
    let base = next - 65_536;
    let few = |step: i64| (0..65_536 / step).map(move |place| base + step * place);
    let ranges = |step| Ranges::of(few(step).map(|offset| (offset, offset + 1)));
    let settled = |verdict, step| Command::Settle(vec![Settlement { verdict, ranges: ranges(step) }]);
    let publish = |facts: Vec<Fact>| Command::Publish { next, facts };
    let fact = |offset| Fact { offset, ..Fact::default() };
    let commands = [
        settled(Verdict::Accept, 2),
        settled(Verdict::Accept, 33),
        settled(Verdict::Accept, 4_096),
        settled(Verdict::Release { counted: true, delay_ms: None }, 2),
        settled(Verdict::Release { counted: true, delay_ms: Some(late) }, 2_048),
        settled(Verdict::Reject(model::cursor::ackset::Reason::Failed), 8),
        publish(few(1).map(|offset| Fact { expires_at: Some(late), ..fact(offset) }).collect()),
        publish(few(1_024).map(|offset| Fact { not_before: Some(late), ..fact(offset) }).collect()),
        publish(few(3).map(|offset| Fact { priority: Some((offset % 256) as u8), ..fact(offset) }).collect()),
    ];
    for command in commands {
        let mut cursor = AckSet::default();
        let rules = Config { dead_letters: true, ..Config::default() };
        for first in [publish(vec![]), Command::Configure(rules), command.clone()] {
            cursor.apply(at, first, &mut Vec::new()).unwrap();
        }
        let rows: Vec<Write> = cursor.rows().into_iter().map(|row| Write::Cursor { cursor: 0, row }).collect();
        let (encoded, held) = (codec::encode(&rows).len(), cursor.bytes());
        assert!(2 * (encoded - 64) <= 3 * held, "{encoded} bytes for {held} of {:.60}", format!("{command:?}"));
    }
}
