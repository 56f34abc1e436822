//! Idempotent producers of one partition: which batch is new, a retry, out of order or fenced.
//! The rules are Kafka's ProducerStateManager and ProducerAppendInfo (KIP-98, KIP-360).
//! Invariant: batches and producers are bounded; age is counted in `leader_ts` only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::check;
use crate::limits;
use crate::machine::AppendError;
use crate::record::BatchFacts;

/// What a partition remembers of one producer. One row of the partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Given out by the controller.
    pub id: i64,
    /// The newest epoch that wrote here.
    pub epoch: i16,
    /// The last batches of this epoch, oldest first, at most [`limits::PRODUCER_BATCHES_KEPT`].
    pub batches: Vec<ProducerBatch>,
    /// `leader_ts` of the last live batch, ms since 1970.
    pub last_ts: i64,
    /// First offset of the open transaction (reserved: none until transactions exist).
    pub transaction_first_offset: Option<i64>,
    /// Epoch of the transaction coordinator (reserved: -1 until transactions exist).
    pub coordinator_epoch: i32,
}

/// One live batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerBatch {
    /// Sequence of the first record.
    pub first_sequence: i32,
    /// Sequence of the last record.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub base_offset: i64,
}

/// What a batch is to its producer's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where the producer was.
    New,
    /// It is one of the batches remembered.
    Duplicate {
        /// Offset of the original.
        base_offset: i64,
    },
}

/// All producers of one partition, with their order of age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// (last_ts, id): the first is the one silent for longest.
    by_age: BTreeSet<(i64, i64)>,
}

fn follows(last: i32, first: i32) -> bool {
    first as i64 == last as i64 + 1 || (first == 0 && last == i32::MAX)
}

impl Producer {
    fn judge(&self, facts: &BatchFacts) -> Result<Verdict, AppendError> {
        if facts.producer_epoch < self.epoch {
            return Err(AppendError::InvalidProducerEpoch { epoch: facts.producer_epoch, current: self.epoch });
        }
        let first = facts.base_sequence;
        if facts.producer_epoch > self.epoch {
            return if first == 0 {
                Ok(Verdict::New)
            } else {
                Err(AppendError::OutOfOrderSequence { first, last: -1 })
            };
        }
        let range = (first, facts.last_sequence());
        if let Some(same) = self.batches.iter().find(|b| (b.first_sequence, b.last_sequence) == range) {
            return Ok(Verdict::Duplicate { base_offset: same.base_offset });
        }
        match self.batches.last() {
            Some(last) if !follows(last.last_sequence, first) => {
                Err(AppendError::OutOfOrderSequence { first, last: last.last_sequence })
            }
            _ => Ok(Verdict::New),
        }
    }

    fn record(&mut self, facts: &BatchFacts, base_offset: i64, leader_ts: i64) {
        if facts.producer_epoch != self.epoch {
            check!(
                facts.producer_epoch > self.epoch,
                ProducerSequenceGapless,
                "epoch {} is older",
                facts.producer_epoch
            );
            self.epoch = facts.producer_epoch;
            self.batches.clear();
        }
        if let Some(last) = self.batches.last() {
            let (last, first) = (last.last_sequence, facts.base_sequence);
            check!(follows(last, first), ProducerSequenceGapless, "producer {}: {first} after {last}", self.id);
        }
        if self.batches.len() == limits::PRODUCER_BATCHES_KEPT {
            self.batches.remove(0);
        }
        self.batches.push(ProducerBatch {
            first_sequence: facts.base_sequence,
            last_sequence: facts.last_sequence(),
            base_offset,
        });
        self.last_ts = leader_ts;
    }
}

impl Producers {
    /// What `facts`, a batch with a producer, is to that producer's history. A producer that is not known may begin with
    /// any sequence: its history may have been forgotten (KIP-360).
    pub fn judge(&self, facts: &BatchFacts) -> Result<Verdict, AppendError> {
        if facts.producer_epoch < 0 || facts.base_sequence < 0 {
            return Err(AppendError::InvalidRecord);
        }
        self.by_id.get(&facts.producer_id).map_or(Ok(Verdict::New), |producer| producer.judge(facts))
    }

    /// Remembers a live batch that was judged [`Verdict::New`].
    pub fn record(&mut self, facts: &BatchFacts, base_offset: i64, leader_ts: i64) {
        let producer = self.by_id.entry(facts.producer_id).or_insert_with(|| Producer {
            id: facts.producer_id,
            epoch: facts.producer_epoch,
            batches: Vec::new(),
            last_ts: leader_ts,
            transaction_first_offset: None,
            coordinator_epoch: -1,
        });
        self.by_age.remove(&(producer.last_ts, producer.id));
        producer.record(facts, base_offset, leader_ts);
        self.by_age.insert((producer.last_ts, producer.id));
        let (ids, ages) = (self.by_id.len(), self.by_age.len());
        check!(ids == ages, ProducersBounded, "{ids} producers and {ages} ages");
    }

    /// Forgets producers silent for longer than [`limits::PRODUCER_EXPIRATION_MS`] at `leader_ts`, oldest first, and those
    /// beyond [`limits::PRODUCERS_PER_PARTITION_MAX`]. Returns their ids.
    pub fn forget_old(&mut self, leader_ts: i64) -> Vec<i64> {
        let mut gone = Vec::new();
        while let Some((last_ts, id)) = self.by_age.first().copied() {
            let crowded = self.by_id.len() > limits::PRODUCERS_PER_PARTITION_MAX;
            let silent = leader_ts.saturating_sub(last_ts) > limits::PRODUCER_EXPIRATION_MS;
            let due = crowded || (silent && gone.len() < limits::PRODUCER_EXPIRE_PER_APPLY_MAX);
            if !due {
                break;
            }
            self.by_age.pop_first();
            self.by_id.remove(&id);
            gone.push(id);
        }
        let known = self.by_id.len();
        check!(known <= limits::PRODUCERS_PER_PARTITION_MAX, ProducersBounded, "{known} producers");
        gone
    }

    /// The state of one producer.
    pub fn get(&self, id: i64) -> Option<&Producer> {
        self.by_id.get(&id)
    }

    /// All producers, by id (Kafka's DescribeProducers).
    pub fn iter(&self) -> impl Iterator<Item = &Producer> {
        self.by_id.values()
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn restore(&mut self, producer: Producer) {
        self.remove(producer.id);
        self.by_age.insert((producer.last_ts, producer.id));
        self.by_id.insert(producer.id, producer);
        check!(self.by_id.len() == self.by_age.len(), ProducersBounded, "ages and producers differ");
    }

    pub(crate) fn remove(&mut self, id: i64) {
        if let Some(old) = self.by_id.remove(&id) {
            let had = self.by_age.remove(&(old.last_ts, id));
            check!(had, ProducersBounded, "producer {id} had no age");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample_facts;

    fn batch(id: i64, epoch: i16, first: i32, count: i32) -> BatchFacts {
        BatchFacts { producer_id: id, producer_epoch: epoch, base_sequence: first, ..sample_facts(count, 0) }
    }

    fn append(producers: &mut Producers, facts: BatchFacts, offset: i64) -> Result<Verdict, AppendError> {
        let verdict = producers.judge(&facts)?;
        if verdict == Verdict::New {
            producers.record(&facts, offset, offset);
        }
        Ok(verdict)
    }

    #[test]
    fn any_first_sequence_is_accepted_without_history_but_a_new_epoch_begins_with_zero() {
        let mut producers = Producers::default();
        assert_eq!(append(&mut producers, batch(1, 3, 77, 1), 0), Ok(Verdict::New));
        let refused = Err(AppendError::OutOfOrderSequence { first: 78, last: -1 });
        assert_eq!(append(&mut producers, batch(1, 4, 78, 1), 1), refused);
        assert_eq!(append(&mut producers, batch(1, 4, 0, 1), 1), Ok(Verdict::New));
        let fenced = Err(AppendError::InvalidProducerEpoch { epoch: 3, current: 4 });
        assert_eq!(append(&mut producers, batch(1, 3, 78, 1), 2), fenced);
    }

    #[test]
    fn the_last_five_batches_are_known_again_and_the_sixth_is_out_of_order() {
        let mut producers = Producers::default();
        for i in 0..6 {
            assert_eq!(append(&mut producers, batch(1, 0, 2 * i, 2), 100 + i as i64), Ok(Verdict::New));
        }
        for i in 1..6 {
            let original = Ok(Verdict::Duplicate { base_offset: 100 + i as i64 });
            assert_eq!(append(&mut producers, batch(1, 0, 2 * i, 2), 0), original);
        }
        let forgotten = Err(AppendError::OutOfOrderSequence { first: 0, last: 11 });
        assert_eq!(append(&mut producers, batch(1, 0, 0, 2), 0), forgotten);
        let other_range = Err(AppendError::OutOfOrderSequence { first: 10, last: 11 });
        assert_eq!(append(&mut producers, batch(1, 0, 10, 1), 0), other_range);
    }

    #[test]
    fn sequences_go_on_with_zero_after_the_largest() {
        let mut producers = Producers::default();
        assert_eq!(append(&mut producers, batch(1, 0, i32::MAX - 1, 2), 0), Ok(Verdict::New));
        assert!(append(&mut producers, batch(1, 0, 1, 1), 2).is_err());
        assert_eq!(append(&mut producers, batch(1, 0, 0, 1), 2), Ok(Verdict::New));
    }

    #[test]
    fn a_producer_without_epoch_or_sequence_is_invalid() {
        let producers = Producers::default();
        assert_eq!(producers.judge(&batch(1, -1, 0, 1)), Err(AppendError::InvalidRecord));
        assert_eq!(producers.judge(&batch(1, 0, -1, 1)), Err(AppendError::InvalidRecord));
    }

    #[test]
    fn silence_and_crowding_forget_the_oldest_first() {
        let mut producers = Producers::default();
        for id in 0..3 {
            producers.record(&batch(id, 0, 0, 1), 0, 10 + id);
        }
        let limit = limits::PRODUCER_EXPIRATION_MS;
        assert!(producers.forget_old(10 + limit).is_empty());
        assert_eq!(producers.forget_old(11 + limit), [0]);
        let most = limits::PRODUCERS_PER_PARTITION_MAX as i64;
        for id in 3..most + 3 {
            producers.record(&batch(id, 0, 0, 1), 0, 20);
            producers.forget_old(20);
        }
        assert_eq!(producers.len() as i64, most);
        assert!(producers.get(1).is_none() && producers.get(2).is_none() && producers.get(3).is_some());
    }
}
