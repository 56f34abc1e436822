//! Keyed records, moved by passes that may stop anywhere, against a plain list of what must be readable.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::partition::tests::{Log, successor};
use crate::partition::{Checkpoint, Mark, State};
use crate::record::{BATCH_HEADER_BYTES, sample_batch, sample_facts, thinned_batch};

/// Bytes of a record in these tests: its offset delta and its key.
const RECORD_BYTES: usize = 8;

fn with_records(batch: &Bytes, records: &[(u32, u32)]) -> Bytes {
    let mut bytes = batch.to_vec();
    let body = records.iter().flat_map(|(delta, key)| [delta.to_le_bytes(), key.to_le_bytes()].concat());
    bytes.splice(BATCH_HEADER_BYTES.., body);
    Bytes::from(bytes)
}

fn records(batch: &LiveBatch) -> Vec<(u32, u32)> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let body = batch.bytes[BATCH_HEADER_BYTES..].chunks_exact(RECORD_BYTES);
    body.map(|record| (number(&record[..4]), number(&record[4..]))).collect()
}

/// Offset and key of every record that a reader from `offset` on is given.
fn read(log: &Log, offset: i64) -> Vec<(i64, u32)> {
    let batches = log.read(offset);
    assert!(batches.is_sorted_by(|a, b| a.next_offset <= b.base_offset));
    let all = batches.iter().flat_map(|batch| {
        records(batch).into_iter().map(move |(delta, key)| (batch.base_offset + i64::from(delta), key))
    });
    all.filter(|(at, _)| *at >= offset).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Vec<u32>>),
    Elect,
    DeleteRecords(f64),
    Checkpoint,
    Pass {
        upto: f64,
        batches_at_once: usize,
        stop_after: usize,
    },
    /// Proposes what was proposed before once more.
    Late(usize),
    /// Purges to the newest checkpoint that covers the log.
    Purge,
    /// Everybody begins with the newest checkpoint that covers the log.
    Succeed,
}

fn step() -> impl Strategy<Value = Step> {
    let batch = proptest::collection::vec(0u32..6, 1..5);
    prop_oneof![
        10 => proptest::collection::vec(batch, 1..5).prop_map(Step::Append),
        1 => Just(Step::Elect),
        1 => (0.0..1.0).prop_map(Step::DeleteRecords),
        4 => Just(Step::Checkpoint),
        6 => (0.0..=1.0f64, 1usize..4, 0usize..12).prop_map(|(upto, batches_at_once, stop_after)| {
            Step::Pass { upto, batches_at_once, stop_after: if stop_after > 6 { usize::MAX } else { stop_after } }
        }),
        2 => (0usize..20).prop_map(Step::Late),
        2 => Just(Step::Purge),
        1 => Just(Step::Succeed),
    ]
}

#[derive(Default)]
struct World {
    log: Log,
    /// What must be readable: key and leader epoch by offset.
    kept: BTreeMap<i64, (u32, u64)>,
    /// The newest record of each key.
    newest: BTreeMap<u32, i64>,
    checkpoints: Vec<Checkpoint>,
    proposed: Vec<Relocation>,
}

impl World {
    fn append(&mut self, batches: &[Vec<u32>]) {
        let batch = |keys: &Vec<u32>| {
            let records: Vec<_> = (0..).zip(keys.iter().copied()).collect();
            with_records(&sample_batch(&sample_facts(keys.len() as i32, 7), keys.len() * RECORD_BYTES), &records)
        };
        let payload = Payload::append(self.log.now, batches.iter().map(batch).collect());
        for (offset, key) in (self.log.machine.next_offset()..).zip(batches.iter().flatten()) {
            self.kept.insert(offset, (*key, self.log.term));
            self.newest.insert(*key, offset);
        }
        self.log.apply(payload);
    }

    /// What the leader does: finds the newest record of each key up to a place, then moves what is left.
    fn pass(&mut self, upto: f64, batches_at_once: usize, stop_after: usize) {
        let machine = &self.log.machine;
        let batches = self.log.read(machine.log_start());
        let bounds: Vec<i64> = batches.iter().map(|batch| batch.next_offset).collect();
        let Some(end) = bounds.get((bounds.len() as f64 * upto) as usize).copied() else { return };
        let mut newest = BTreeMap::new();
        for (offset, key) in read(&self.log, machine.log_start()).into_iter().filter(|(offset, _)| *offset < end) {
            newest.insert(key, offset);
        }
        let todo: Vec<LiveBatch> = batches.into_iter().filter(|batch| batch.base_offset < end).collect();
        let mut from = todo[0].base_offset.min(machine.log_start());
        for (place, some) in todo.chunks(batches_at_once).enumerate().take(stop_after) {
            let to = todo.get((place + 1) * batches_at_once).map_or(end, |next| next.base_offset);
            let left = some.iter().filter_map(|batch| thin(batch, &newest)).collect();
            let after = self.log.machine.clean().moves;
            let relocation = Relocation { after, from, to, batches: left };
            self.proposed.push(relocation.clone());
            assert_eq!(self.log.apply(relocation.payload(self.log.now)).0, Reply::Relocated(true));
            self.kept.retain(|offset, (key, _)| *offset >= to || *offset < from || newest.get(key) == Some(offset));
            from = to;
        }
    }

    fn covering(&self) -> Option<&Checkpoint> {
        let mark = |checkpoint: &Checkpoint| Mark::of(checkpoint.state().unwrap(), 0);
        self.checkpoints.iter().rev().find(|one| self.log.machine.is_covered_by(&mark(one)))
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(batches) => self.append(batches),
            Step::Elect => {
                self.log.term += 1;
                self.log.apply(Payload::blank(self.log.now));
            }
            Step::DeleteRecords(share) => {
                let before = (self.log.machine.next_offset() as f64 * share) as i64;
                self.log.apply(Payload::log_start(self.log.now, before));
            }
            Step::Checkpoint => {
                let checkpoint = self.log.checkpoint();
                self.checkpoints.push(checkpoint);
            }
            Step::Pass { upto, batches_at_once, stop_after } => self.pass(*upto, *batches_at_once, *stop_after),
            Step::Late(place) => {
                let Some(late) = self.proposed.get(*place).cloned() else { return };
                let current = late.after == self.log.machine.clean().moves;
                let reply = self.log.apply(late.payload(self.log.now)).0;
                assert!(!current && reply != Reply::Relocated(true), "{reply:?}");
            }
            Step::Purge => {
                let upto = self.covering().and_then(Checkpoint::state).map_or(0, |state: &State| state.applied_index);
                self.log.entries.retain(|(index, ..)| *index > upto);
            }
            Step::Succeed => self.succeed(),
        }
    }

    /// A replica that has the checkpoint and the entries after it reads the same, and goes on from here.
    fn succeed(&mut self) {
        let Some(checkpoint) = self.covering().cloned() else { return };
        let machine = successor(&self.log, checkpoint);
        let young = Log { machine, ..self.log.clone() };
        let start = self.log.machine.log_start();
        assert_eq!(young.machine.clean(), self.log.machine.clean());
        assert!(young.machine.moved().eq(self.log.machine.moved()), "the same places");
        assert_eq!(young.read(start), self.log.read(start), "the same bytes");
        let rows = young.machine.rows();
        self.log = Log { rows: rows.into_iter().map(|row| (row.key(), row)).collect(), ..young };
        // They may need entries that are gone for good now.
        self.checkpoints.clear();
    }

    fn check(&mut self, probe: f64) -> Result<(), TestCaseError> {
        let machine = &self.log.machine;
        let (start, next) = (machine.log_start(), machine.next_offset());
        self.kept.retain(|offset, _| *offset >= start);
        let expected: Vec<_> = self.kept.iter().map(|(offset, (key, _))| (*offset, *key)).collect();
        prop_assert_eq!(read(&self.log, start), expected);
        let from = start + ((next - start) as f64 * probe) as i64;
        let expected: Vec<_> = self.kept.range(from..).map(|(offset, (key, _))| (*offset, *key)).collect();
        prop_assert_eq!(read(&self.log, from), expected, "from {}", from);
        for batch in self.log.read(start) {
            let epochs = self.kept.range(batch.base_offset..batch.next_offset).map(|(_, (_, term))| *term as i32);
            prop_assert!(epochs.into_iter().all(|epoch| epoch == batch.leader_epoch));
        }
        for (key, offset) in self.newest.iter().filter(|(_, offset)| **offset >= start) {
            prop_assert!(self.kept.contains_key(offset), "the newest record of key {}", key);
        }
        let clean: Vec<u32> = self.kept.range(..machine.clean().end).map(|(_, (key, _))| *key).collect();
        prop_assert_eq!(clean.iter().collect::<BTreeSet<_>>().len(), clean.len(), "one record a key");
        prop_assert_eq!(&self.log.restored(), machine, "rows");
        prop_assert_eq!(machine.breach(), None);
        Ok(())
    }
}

/// What is left of a batch.
fn thin(batch: &LiveBatch, newest: &BTreeMap<u32, i64>) -> Option<MovedBatch> {
    let is_newest = |(delta, key): &(u32, u32)| newest.get(key) == Some(&(batch.base_offset + i64::from(*delta)));
    let left: Vec<_> = records(batch).into_iter().filter(is_newest).collect();
    let facts = BatchFacts::read_thinned(&batch.bytes).unwrap();
    let facts = BatchFacts { record_count: left.len() as i32, ..facts };
    let place = (batch.base_offset, batch.leader_epoch);
    let bytes = with_records(&thinned_batch(&facts, place, left.len() * RECORD_BYTES), &left);
    (!left.is_empty()).then_some(MovedBatch { bytes, horizon_ms: NO_HORIZON })
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn readers_get_the_newest_of_each_key_wherever_passes_stop(
        steps in proptest::collection::vec((step(), 0.0..1.0f64), 1..60),
    ) {
        let mut world = World { log: Log { term: 1, ..Log::default() }, ..World::default() };
        for (step, probe) in &steps {
            world.take(step);
            world.check(*probe)?;
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_move_that_breaks_the_order(
        ranges in proptest::collection::vec((0i64..12, 0i64..12, proptest::collection::vec((0i64..12, 0i32..6), 0..3)), 1..12),
    ) {
        let mut log = Log { term: 1, ..Log::default() };
        log.apply(Payload::append(0, vec![sample_batch(&sample_facts(10, 0), 0)]));
        for (from, to, batches) in ranges {
            let batch = |(base, last_offset_delta): (i64, i32)| MovedBatch {
                bytes: thinned_batch(&BatchFacts { last_offset_delta, ..sample_facts(1, 0) }, (base, 1), 0),
                horizon_ms: NO_HORIZON,
            };
            let after = log.machine.clean().moves;
            let moved = Relocation { after, from, to, batches: batches.into_iter().map(batch).collect() };
            log.apply(moved.payload(0));
            prop_assert_eq!(log.machine.breach(), None);
            prop_assert_eq!(&log.restored(), &log.machine);
        }
    }
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let batch = |base, horizon_ms| MovedBatch { bytes: thinned_batch(&sample_facts(2, 50), (base, 3), 5), horizon_ms };
    let moved = Relocation { after: 9, from: 4, to: 20, batches: vec![batch(4, NO_HORIZON), batch(10, 77)] };
    let payload = moved.clone().payload(5);
    assert_eq!(Relocation::read(&payload), Some(moved));
    let places = |range| {
        let batches = moved_batches(&payload, range);
        batches.iter().map(|b| (b.base_offset, b.next_offset, b.leader_epoch, b.horizon_ms)).collect::<Vec<_>>()
    };
    assert_eq!(places((4, 20)), [(4, 6, 3, NO_HORIZON), (10, 12, 3, 77)]);
    assert_eq!(places((5, 11)), [(10, 12, 3, 77)]);
    assert_eq!(Relocation::read(&Payload::append(0, payload.body.clone())), None, "another tag");
    let short = Payload::encode(Tag::Relocate, Flags::RELOCATED, 0, vec![payload.body[0].slice(..31)]);
    assert_eq!(Relocation::read(&short), None);
}
