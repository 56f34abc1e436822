//! The partition machine against a naive reference, against its own rows, and against hostile entries.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::machine::WriteKind;
use crate::record::{LiveBatch, sample_batch, sample_facts};

/// A log as storage keeps it: entries by index, and the surviving rows.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) machine: PartitionMachine,
    pub(super) entries: Vec<(u64, u64, Payload)>,
    /// The bodies of cursor batches by index, which only a codec reads from the entries.
    pub(super) batches: BTreeMap<u64, Batch>,
    pub(super) rows: BTreeMap<(WriteKind, Vec<u8>), Write>,
    pub(super) term: u64,
    pub(super) now: i64,
    pub(super) last_checkpoint: Option<Checkpoint>,
}

impl Log {
    pub(super) fn apply(&mut self, payload: Payload) -> (Reply, Out) {
        let at = At { index: self.machine.applied().0 + 1, term: self.term, leader_ts: self.now };
        let mut out = Out::default();
        let batch = self.batches.get(&at.index).cloned();
        let reply = self.machine.apply_decoded(at, &payload, batch, &mut out);
        self.note(&out.writes);
        self.entries.push((at.index, at.term, payload));
        (reply, out)
    }

    pub(super) fn apply_batch(&mut self, batch: Batch) -> Reply {
        self.batches.insert(self.machine.applied().0 + 1, batch);
        self.apply(Payload::command(Tag::CursorBatch, self.now, Bytes::from_static(b"a batch"))).0
    }

    fn append(&mut self, batches: &[BatchFacts]) -> Vec<AppendReply> {
        let batches = batches.iter().map(|facts| sample_batch(facts, 0)).collect();
        match self.apply(Payload::append(self.now, batches)).0 {
            Reply::Append(replies) => replies,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn checkpoint(&mut self) -> Checkpoint {
        let mut out = Out::default();
        let checkpoint = self.machine.checkpoint(self.now, &mut out);
        self.note(&out.writes);
        checkpoint
    }

    fn note(&mut self, writes: &[Write]) {
        for write in writes {
            match write.is_gone() {
                true => drop(self.rows.remove(&write.key())),
                false => drop(self.rows.insert(write.key(), write.clone())),
            }
        }
    }

    fn walk_from(&self, point: Sparse) -> Vec<LiveBatch> {
        let mut next_offset = point.base_offset;
        let mut found = Vec::new();
        for (index, term, payload) in self.entries.iter().filter(|entry| entry.0 >= point.index) {
            let mut walk = self.machine.walk(*index, *term, next_offset, payload);
            found.extend(walk.by_ref());
            next_offset = walk.next_offset();
        }
        assert_eq!(next_offset, self.machine.next_offset());
        found
    }

    /// All that can be read from the record at `offset` on.
    pub(super) fn read(&self, offset: i64) -> Vec<LiveBatch> {
        let (mut want, mut found) = (offset, Vec::new());
        while let Some(place) = self.machine.place(want) {
            let Some(end) = place.end else {
                let begin = self.machine.locate(want.max(self.machine.first_in_place())).unwrap();
                assert_eq!((begin.index, begin.base_offset), (place.index, place.offset));
                found.extend(self.walk_from(begin));
                break;
            };
            let (_, _, payload) = self.entries.iter().find(|(index, ..)| *index == place.index).unwrap();
            found.extend(moved_batches(payload, (place.offset, end)));
            want = end;
        }
        found.retain(|batch| batch.next_offset > offset);
        found
    }

    pub(super) fn restored(&self) -> PartitionMachine {
        PartitionMachine::restore(self.rows.values().cloned())
    }
}

fn plain(count: i32) -> BatchFacts {
    sample_facts(count, 0)
}

fn ok(base_offset: i64) -> AppendReply {
    AppendReply::Ok { base_offset }
}

#[test]
fn offsets_are_dense_and_only_data_takes_them() {
    let mut log = Log { term: 1, ..Log::default() };
    assert_eq!(log.apply(Payload::blank(0)).0, Reply::None);
    assert_eq!(log.append(&[plain(3), plain(2)]), [ok(0), ok(3)]);
    let membership = Payload::command(Tag::Membership, 0, Bytes::from_static(b"voters"));
    let (reply, out) = log.apply(membership);
    assert_eq!((reply, out.writes, out.effects), (Reply::None, vec![Write::State(*log.machine.state())], vec![]));
    let (_, out) = log.apply(Payload::append(0, vec![sample_batch(&plain(1), 9)]));
    assert_eq!(out.effects, [Effect::HighWatermark(6)]);
    let offsets: Vec<_> = log.walk_from(log.machine.locate(0).unwrap()).iter().map(|b| b.base_offset).collect();
    assert_eq!(offsets, [0, 3, 5]);
}

#[test]
fn a_retry_in_the_same_entry_is_answered_with_the_original_offset() {
    let mut log = Log { term: 1, ..Log::default() };
    let first = BatchFacts { producer_id: 4, producer_epoch: 0, base_sequence: 0, ..plain(2) };
    let replies = log.append(&[plain(1), first, first, plain(1)]);
    assert_eq!(replies, [ok(0), ok(1), AppendReply::Duplicate { base_offset: 1 }, ok(3)]);
    assert!(log.machine.is_dead(1, 2) && !log.machine.is_dead(1, 1));
    let live = log.walk_from(log.machine.locate(0).unwrap());
    assert_eq!(live.iter().map(|b| (b.base_offset, b.next_offset)).collect::<Vec<_>>(), [(0, 1), (1, 3), (3, 4)]);
}

#[test]
fn epoch_end_answers_as_kafka_does() {
    let mut log = Log::default();
    assert_eq!(log.machine.epoch_end(1), None, "no epoch yet");
    for (term, records) in [(2, 5), (3, 0), (5, 5), (9, 0)] {
        log.term = term;
        log.apply(Payload::blank(0));
        if records > 0 {
            log.append(&[plain(records)]);
        }
    }
    // Epoch 3 wrote nothing, so 5 took its place; 9 is the latest and has nothing yet.
    let epochs: Vec<_> = log.machine.epochs().map(|e| (e.term, e.start_offset)).collect();
    assert_eq!(epochs, [(2, 0), (5, 5), (9, 10)]);
    let ends: Vec<_> = [1, 2, 3, 4, 5, 8, 9, 10].iter().map(|term| log.machine.epoch_end(*term)).collect();
    let want =
        [Some((1, 0)), Some((2, 5)), Some((2, 5)), Some((2, 5)), Some((5, 10)), Some((5, 10)), Some((9, 10)), None];
    assert_eq!(ends, want);
    assert_eq!([0, 4, 5, 9, 10].map(|offset| log.machine.epoch_of(offset)), [Some(2), Some(2), Some(5), Some(5), None]);
    log.apply(Payload::log_start(0, 7));
    let epochs: Vec<_> = log.machine.epochs().map(|e| (e.term, e.start_offset)).collect();
    assert_eq!(epochs, [(5, 7), (9, 10)]);
    assert_eq!(log.machine.epoch_end(2), Some((2, 7)), "ends where the history begins");
    assert_eq!(log.restored(), log.machine);
}

#[test]
fn log_start_moves_forward_within_the_log_only() {
    let mut log = Log { term: 1, ..Log::default() };
    log.append(&[plain(10)]);
    let (reply, out) = log.apply(Payload::log_start(0, 4));
    assert_eq!((reply, out.effects), (Reply::LogStart(4), vec![Effect::LogStart(4)]));
    let (reply, out) = log.apply(Payload::log_start(0, 2));
    assert_eq!((reply, out.effects), (Reply::LogStart(4), vec![]));
    let dead = Reply::Dead(DeadReason::LogStartOutOfRange { asked: 11, high_watermark: 10 });
    assert_eq!(log.apply(Payload::log_start(0, 11)).0, dead);
    assert!(matches!(log.apply(Payload::log_start(0, -2)).0, Reply::Dead(_)));
    assert_eq!(log.apply(Payload::log_start(0, -1)).0, Reply::LogStart(10));
    assert_eq!((log.machine.locate(9), log.machine.offset_for_timestamp(0)), (None, None));
}

#[test]
fn passed_points_and_dead_batches_are_forgotten() {
    let mut log = Log { term: 1, ..Log::default() };
    let large = sample_batch(&plain(1), limits::SPARSE_BYTES as usize);
    let dead = Bytes::from_static(b"not a batch");
    for _ in 0..5 {
        log.apply(Payload::append(0, vec![large.clone(), dead.clone()]));
    }
    assert_eq!((log.machine.sparse.len(), log.machine.dead.len()), (5, 5));
    assert_eq!(log.machine.size_bytes(), log.machine.state().log_bytes);
    log.apply(Payload::log_start(0, 3));
    assert_eq!((log.machine.sparse.len(), log.machine.dead.len()), (2, 2));
    assert_eq!(log.machine.size_bytes() * 5, log.machine.state().log_bytes * 2);
    assert_eq!(log.machine.locate(3).map(|point| point.index), Some(4));
    assert_eq!(log.restored(), log.machine);
    log.apply(Payload::log_start(0, -1));
    assert_eq!(log.append(&[plain(1)]), [ok(5)]);
    assert_eq!(log.walk_from(log.machine.locate(5).unwrap()).last().unwrap().base_offset, 5);
}

#[test]
fn a_point_never_stands_within_an_entry() {
    let mut log = Log { term: 1, ..Log::default() };
    log.checkpoint();
    log.apply(Payload::append(0, vec![Bytes::from(vec![0; limits::SPARSE_BYTES as usize])]));
    assert_eq!(log.append(&[plain(1), plain(1)]), [ok(0), ok(1)]);
    assert_eq!(log.walk_from(log.machine.locate(1).unwrap()).len(), 2);
}

#[test]
fn unintelligible_entries_change_nothing_but_the_applied_index() {
    let mut log = Log { term: 1, ..Log::default() };
    log.append(&[plain(1)]);
    let before = log.machine.clone();
    let good = Payload::append(0, vec![sample_batch(&plain(1), 0)]);
    let mut damaged = good.head.to_vec();
    damaged[9] ^= 1;
    let too_many = Payload::append(0, vec![sample_batch(&plain(1), 0); limits::BATCHES_PER_ENTRY_MAX + 1]);
    let hostile = [
        Payload { head: Bytes::from(damaged), body: good.body.clone() },
        Payload { head: good.head.clone(), body: vec![] },
        Payload::default(),
        Payload::command(Tag::Controller, 0, Bytes::from_static(b"?")),
        Payload::command(Tag::LogStart, 0, Bytes::from_static(b"short")),
        Payload::encode(Tag::LogStart, Default::default(), 0, vec![]),
        too_many,
    ];
    let counted = invariants::broken(InvariantId::DeadEntry);
    for (place, payload) in hostile.into_iter().enumerate() {
        let (reply, out) = log.apply(payload);
        assert!(matches!(reply, Reply::Dead(_)), "{place}: {reply:?}");
        assert!(out.effects.is_empty());
        let expected = State {
            applied_index: log.machine.state.applied_index,
            digest: log.machine.state.digest,
            ..*before.state()
        };
        assert_eq!(log.machine.state, expected);
    }
    assert!(invariants::broken(InvariantId::DeadEntry) >= counted + 7);
    assert_eq!(log.append(&[plain(1)]), [ok(1)]);
    assert_eq!(log.walk_from(log.machine.locate(0).unwrap()).len(), 2);
}

#[test]
fn offsets_do_not_overflow() {
    let state = State { next_offset: i64::MAX - 1, log_start: i64::MAX - 1, ..State::default() };
    let mut log = Log { machine: PartitionMachine::restore([Write::State(state)].into_iter()), ..Log::default() };
    assert_eq!(log.append(&[plain(2), plain(1)]), [AppendReply::Err(AppendError::OffsetsExhausted), ok(i64::MAX - 1)]);
}

#[test]
fn the_digest_tells_logs_apart() {
    let run = |batches: [i32; 2], term| {
        let mut log = Log { term, ..Log::default() };
        batches.iter().for_each(|count| drop(log.append(&[plain(*count)])));
        log.machine.state().digest
    };
    assert_eq!(run([1, 2], 1), run([1, 2], 1));
    let all = [run([1, 2], 1), run([2, 1], 1), run([1, 2], 2), run([1, 3], 1)];
    assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
}

#[test]
fn an_entry_that_is_not_applied_yet_is_not_walked() {
    let mut log = Log { term: 1, ..Log::default() };
    log.append(&[plain(1)]);
    let payload = Payload::append(0, vec![sample_batch(&plain(1), 0)]);
    assert_eq!(log.machine.walk(2, 1, 1, &payload).count(), 0);
}

#[test]
fn rows_that_cannot_belong_together_are_told() {
    let mut log = Log { term: 3, ..Log::default() };
    log.append(&[BatchFacts { producer_id: 1, producer_epoch: 0, base_sequence: 0, ..plain(5) }]);
    log.apply(Payload::append(0, vec![Bytes::from_static(b"junk")]));
    let good = log.machine.rows();
    let state = *log.machine.state();
    let with = |row: Write| PartitionMachine::restore(good.iter().cloned().chain([row])).breach();
    assert_eq!(with(Write::State(state)), None);
    assert_eq!(with(Write::State(State { log_start: 6, ..state })), Some(InvariantId::LogStartMonotonic));
    assert_eq!(
        with(Write::State(State { log_bytes: 0, next_offset: 0, ..state })),
        Some(InvariantId::ProducerSequenceGapless)
    );
    let beyond = Sparse { base_offset: 6, index: 2, max_timestamp: 0, position: 1 };
    assert_eq!(with(Write::Sparse(beyond)), Some(InvariantId::SparseOrdered));
    assert_eq!(with(Write::SparseGone(1)), Some(InvariantId::SparseOrdered));
    assert_eq!(with(Write::State(State { applied_term: 2, ..state })), Some(InvariantId::EpochMonotonic));
    assert_eq!(with(Write::State(State { applied_index: 1, ..state })), Some(InvariantId::AppliedMonotonic));
    assert_eq!(with(Write::State(State { next_offset: 1, ..state })), None);
    let mut producer = log.machine.producers().get(1).unwrap().clone();
    producer.batches[0].base_offset = 5;
    assert_eq!(with(Write::Producer(producer)), Some(InvariantId::ProducerSequenceGapless));
}

/// The log of a replica that has nothing but a checkpoint and the entries after it.
pub(super) fn successor(log: &Log, checkpoint: Checkpoint) -> PartitionMachine {
    let mut machine = PartitionMachine::from_checkpoint(checkpoint).unwrap();
    let (from, _) = machine.applied();
    for (index, term, payload) in log.entries.iter().filter(|(index, ..)| *index > from) {
        let leader_ts = payload.header().map_or(0, |header| header.leader_ts);
        let at = At { index: *index, term: *term, leader_ts };
        machine.apply_decoded(at, payload, log.batches.get(index).cloned(), &mut Out::default());
    }
    machine
}

#[test]
fn a_checkpoint_and_the_entries_after_it_are_the_whole_state() {
    let mut log = Log { term: 2, ..Log::default() };
    let of = |sequence, count| BatchFacts {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: sequence,
        ..sample_facts(count, 50 + i64::from(sequence))
    };
    log.append(&[of(0, 3), plain(2)]);
    log.term = 4;
    log.append(&[of(3, 2), of(3, 2)]);
    let checkpoint = log.checkpoint();
    assert!(!checkpoint.rows.iter().any(|row| matches!(row, Write::Dead(_))));
    assert_eq!(log.restored(), log.machine, "the point of a checkpoint is a row");
    assert_eq!(log.machine.locate(7), None);
    log.append(&[of(5, 1), plain(1), of(5, 1)]);
    assert_eq!(log.machine.locate(7).map(|point| point.index), Some(3), "reads begin behind the checkpoint");
    let young = successor(&log, checkpoint.clone());
    assert_eq!((young.log_start(), young.breach()), (0, None));
    assert_eq!((young.place(6), young.place(7).map(|place| place.index)), (None, Some(3)), "what it never had");
    assert_eq!(young.producers(), log.machine.producers(), "so it refuses the same retries");
    assert_eq!(young.state(), log.machine.state());
    log.apply(Payload::log_start(0, 8));
    assert_eq!(successor(&log, checkpoint), log.machine, "equal in every row once the log start has passed");
}

#[test]
fn a_checkpoint_that_is_not_whole_is_refused() {
    let mut log = Log { term: 2, ..Log::default() };
    log.append(&[plain(3)]);
    let checkpoint = log.checkpoint();
    let without = |gone: fn(&Write) -> bool| {
        let rows = checkpoint.rows.iter().filter(|row| !gone(row)).cloned().collect();
        PartitionMachine::from_checkpoint(Checkpoint { rows, ..checkpoint.clone() }).err()
    };
    assert_eq!(without(|row| matches!(row, Write::Sparse(_))), Some(InvariantId::SparseOrdered));
    assert_eq!(without(|row| matches!(row, Write::State(_))), Some(InvariantId::SparseOrdered));
    assert_eq!(without(|_| false), None);
}

/// What a proptest does to a log.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Spec>),
    Elect(u64),
    DeleteRecords(f64),
    Wait(i64),
    Checkpoint,
    Garbage(Vec<u8>, bool),
}

/// A batch to append. `sequence` is relative to the producer's next one, so that most batches are in order.
#[derive(Clone, Debug)]
struct Spec {
    count: i32,
    timestamp: i64,
    producer: Option<(i64, i16, i32)>,
    body_bytes: usize,
    control: bool,
}

fn spec() -> impl Strategy<Value = Spec> {
    let relative = prop_oneof![12 => Just(0), 2 => -12..0, 1 => 1..4];
    let epoch = prop_oneof![20 => Just(0i16), 1 => Just(1i16), 1 => Just(-1i16)];
    let producer = proptest::option::weighted(0.7, (0i64..3, epoch, relative));
    let body_bytes = prop_oneof![8 => 0usize..64, 1 => 90_000usize..300_000];
    (1i32..6, -1i64..1000, producer, body_bytes, proptest::bool::weighted(0.03)).prop_map(
        |(count, timestamp, producer, body_bytes, control)| Spec { count, timestamp, producer, body_bytes, control },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(spec(), 1..6).prop_map(Step::Append),
        2 => (1u64..3).prop_map(Step::Elect),
        1 => (0.0..1.0).prop_map(Step::DeleteRecords),
        1 => (0i64..limits::PRODUCER_EXPIRATION_MS).prop_map(Step::Wait),
        2 => Just(Step::Checkpoint),
        1 => (proptest::collection::vec(any::<u8>(), 0..100), any::<bool>()).prop_map(|(b, raw)| Step::Garbage(b, raw)),
    ]
}

/// One batch that lives.
#[derive(Clone)]
struct Live {
    base: i64,
    next: i64,
    term: u64,
    timestamp: i64,
    bytes: Bytes,
}

/// One live batch of a producer; sequences are not wrapped.
#[derive(Clone, Copy)]
struct Wrote {
    epoch: i16,
    first: i64,
    last: i64,
    base: i64,
    time: i64,
}

/// All that ever happened, from which every answer is recomputed by search.
#[derive(Default)]
struct Reference {
    live: Vec<Live>,
    history: BTreeMap<i64, Vec<Wrote>>,
    next: i64,
    log_start: i64,
}

impl Reference {
    fn newest_epoch(&self, id: i64) -> Option<i16> {
        self.history.get(&id)?.iter().map(|wrote| wrote.epoch).max()
    }

    fn of_epoch(&self, id: i64, epoch: i16) -> Vec<Wrote> {
        self.history.get(&id).into_iter().flatten().filter(|wrote| wrote.epoch == epoch).copied().collect()
    }

    fn next_sequence(&self, id: i64, epoch: i16) -> i64 {
        self.of_epoch(id, epoch).iter().map(|wrote| wrote.last + 1).max().unwrap_or(0)
    }

    /// The producer's answer, unless the batch is new.
    fn refuse(&self, facts: &BatchFacts) -> Option<AppendReply> {
        let (id, epoch, first) = (facts.producer_id, facts.producer_epoch, facts.base_sequence);
        if epoch < 0 || first < 0 {
            return Some(AppendReply::Err(AppendError::InvalidRecord));
        }
        let current = self.newest_epoch(id)?;
        if epoch < current {
            return Some(AppendReply::Err(AppendError::InvalidProducerEpoch { epoch, current }));
        }
        let mine = self.of_epoch(id, epoch);
        let range = (first as i64, first as i64 + facts.record_count as i64 - 1);
        if let Some(same) = mine.iter().rev().take(5).find(|wrote| (wrote.first, wrote.last) == range) {
            return Some(AppendReply::Duplicate { base_offset: same.base });
        }
        let last = mine.last().map_or(-1, |wrote| wrote.last) as i32;
        (first != last + 1).then_some(AppendReply::Err(AppendError::OutOfOrderSequence { first, last }))
    }

    fn append(&mut self, facts: &BatchFacts, bytes: &Bytes, term: u64, now: i64) -> AppendReply {
        if facts.is_control() {
            return AppendReply::Err(AppendError::Transactional);
        }
        let (id, base, count) = (facts.producer_id, self.next, facts.record_count as i64);
        if id >= 0 {
            let silent = |last: &Wrote| now - last.time > limits::PRODUCER_EXPIRATION_MS;
            if self.history.get(&id).and_then(|all| all.last()).is_some_and(silent) {
                self.history.remove(&id);
            }
            if let Some(reply) = self.refuse(facts) {
                return reply;
            }
            let (epoch, first) = (facts.producer_epoch, facts.base_sequence as i64);
            let wrote = Wrote { epoch, first, last: first + count - 1, base, time: now };
            self.history.entry(id).or_default().push(wrote);
        }
        self.next += count;
        self.live.push(Live { base, next: self.next, term, timestamp: facts.max_timestamp, bytes: bytes.clone() });
        AppendReply::Ok { base_offset: base }
    }
}

fn append_step(log: &mut Log, reference: &mut Reference, specs: &[Spec]) -> Result<(), TestCaseError> {
    let mut batches = Vec::new();
    let mut expected = Vec::new();
    for spec in specs {
        let mut facts = sample_facts(spec.count, spec.timestamp);
        if let Some((id, epoch_step, relative)) = spec.producer {
            facts.producer_id = id;
            facts.producer_epoch = reference.newest_epoch(id).unwrap_or(0).saturating_add(epoch_step);
            facts.base_sequence = (reference.next_sequence(id, facts.producer_epoch) + relative as i64) as i32;
        }
        facts.attributes = if spec.control { 0x20 } else { 0 };
        let bytes = sample_batch(&facts, spec.body_bytes);
        expected.push(reference.append(&facts, &bytes, log.term, log.now));
        batches.push(bytes);
    }
    let (reply, out) = log.apply(Payload::append(log.now, batches));
    prop_assert_eq!(reply, Reply::Append(expected));
    prop_assert!(out.effects.len() <= 1);
    Ok(())
}

fn take(log: &mut Log, reference: &mut Reference, step: &Step) -> Result<(), TestCaseError> {
    match step {
        Step::Append(specs) => append_step(log, reference, specs)?,
        Step::Elect(by) => {
            log.term += by;
            log.apply(Payload::blank(log.now));
        }
        Step::DeleteRecords(share) => {
            let before = (reference.next as f64 * share) as i64;
            reference.log_start = reference.log_start.max(before);
            let (reply, _) = log.apply(Payload::log_start(log.now, before));
            prop_assert_eq!(reply, Reply::LogStart(reference.log_start));
        }
        Step::Wait(ms) => log.now += ms,
        Step::Checkpoint => log.last_checkpoint = Some(log.checkpoint()),
        Step::Garbage(bytes, true) => {
            let payload = Payload { head: Bytes::from(bytes.clone()), body: vec![] };
            prop_assert!(matches!(log.apply(payload).0, Reply::Dead(_)));
        }
        Step::Garbage(bytes, false) => {
            let (reply, _) = log.apply(Payload::append(log.now, vec![Bytes::from(bytes.clone())]));
            prop_assert_eq!(reply, Reply::Append(vec![AppendReply::Err(AppendError::InvalidRecord)]));
        }
    }
    Ok(())
}

fn same_as_reference(log: &Log, reference: &Reference, probe: f64) -> Result<(), TestCaseError> {
    let (machine, live) = (&log.machine, &reference.live);
    prop_assert_eq!((machine.log_start(), machine.high_watermark()), (reference.log_start, reference.next));
    let max = live.iter().map(|batch| batch.timestamp).max();
    let first_max = live.iter().find(|batch| Some(batch.timestamp) == max).map(|batch| (batch.timestamp, batch.base));
    prop_assert_eq!(machine.max_timestamp(), first_max.unwrap_or((NO_TIMESTAMP, -1)));
    let offset = reference.log_start + ((reference.next - reference.log_start) as f64 * probe) as i64;
    let Some(point) = machine.locate(offset) else {
        prop_assert_eq!(offset, reference.next);
        return Ok(());
    };
    prop_assert!(point.base_offset <= offset);
    let walked: Vec<_> =
        log.walk_from(point).into_iter().map(|b| (b.base_offset, b.next_offset, b.leader_epoch, b.bytes)).collect();
    let from = live.iter().filter(|batch| batch.base >= point.base_offset);
    let expected: Vec<_> = from.map(|b| (b.base, b.next, b.term as i32, b.bytes.clone())).collect();
    prop_assert_eq!(walked, expected, "the log is read back");
    let reachable = |next: i64| next > reference.log_start;
    let timestamp = (1000.0 * probe) as i64;
    if let Some(first) = live.iter().find(|batch| batch.timestamp >= timestamp && reachable(batch.next)) {
        let hint = machine.offset_for_timestamp(timestamp);
        prop_assert!(hint.is_some(), "a record has this time");
        let found = hint.and_then(|hint| {
            log.read(hint).into_iter().find(|batch| {
                let facts = BatchFacts::read(&batch.bytes);
                facts.is_ok_and(|facts| facts.max_timestamp >= timestamp) && reachable(batch.next_offset)
            })
        });
        prop_assert_eq!(found.map(|batch| batch.base_offset), Some(first.base));
    }
    let epoch = live.iter().find(|batch| (batch.base..batch.next).contains(&offset)).map(|batch| batch.term);
    prop_assert_eq!(machine.epoch_of(offset), epoch);
    Ok(())
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn equals_the_reference_and_its_own_rows(steps in proptest::collection::vec((step(), 0.0..=1.0f64), 1..40)) {
        let mut log = Log { term: 1, ..Log::default() };
        let mut reference = Reference::default();
        for (step, probe) in &steps {
            take(&mut log, &mut reference, step)?;
            same_as_reference(&log, &reference, *probe)?;
            prop_assert_eq!(&log.restored(), &log.machine, "rows");
            prop_assert_eq!(log.machine.breach(), None);
            let rows = log.machine.rows();
            prop_assert_eq!(&PartitionMachine::restore(rows.into_iter().rev()), &log.machine, "rows in any order");
        }
        let unwritten = usize::from(log.machine.applied().0 == 0);
        prop_assert_eq!(log.machine.rows().len(), log.rows.len() + unwritten);
        if let Some(checkpoint) = log.last_checkpoint.take() {
            log.apply(Payload::log_start(log.now, -1));
            prop_assert_eq!(successor(&log, checkpoint), log.machine, "a checkpoint and the entries after it");
        }
    }
}
