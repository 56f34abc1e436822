//! What a compacted topic asks for: when its log is worth a pass, and up to where. As Kafka's log cleaner chooses, with checkpoints in
//! the place of segments: what is behind the newest checkpoint stays as it is.
//! Invariant: no record is chosen that is younger than `min.compaction.lag.ms`, and never the last batch of a log.

use crate::partition::{Mark, NO_TIMESTAMP, PartitionMachine};

/// Bytes of a message that nobody has looked at. Of a log that is mostly what became of messages, an average says nothing.
const MESSAGE_BYTES: u128 = 1_024;

/// What the configs of a topic say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`.
    pub lag_ms_min: i64,
    /// `max.compaction.lag.ms`.
    pub lag_ms_max: i64,
    /// `delete.retention.ms`.
    pub tombstone_ms: i64,
}

/// A part of a log that may be compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Offset after the last record that may go.
    pub end: i64,
    /// Bytes of what was compacted before, which is moved once more.
    pub clean_bytes: u64,
    /// Bytes of what was not.
    pub dirty_bytes: u64,
    /// Whether a record waits for longer than it may.
    pub overdue: bool,
}

impl Work {
    /// Which part of the bytes was never compacted.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }

    /// Bytes that are read, and freed if nothing of them is kept.
    pub fn bytes(&self) -> u64 {
        self.clean_bytes + self.dirty_bytes
    }
}

/// What retention would delete up to `expired`, but for messages there that a cursor still needs: the checkpoint up to which the log
/// can go once they are moved, and about how many bytes they have, rather too few: whoever moves them looks first.
pub fn held_back<'a>(
    expired: i64,
    machine: &PartitionMachine,
    marks: impl DoubleEndedIterator<Item = &'a Mark>,
) -> Option<(Mark, u64)> {
    machine.needed_from().filter(|needed| *needed < expired)?;
    let mark = marks.rev().find(|mark| mark.next_offset <= expired)?;
    let begin = machine.log_start();
    let offsets = u128::try_from(mark.next_offset - begin).ok().filter(|offsets| *offsets > 0)?;
    let needed = u128::from(machine.needed_in(begin, mark.next_offset));
    let bytes = u128::from(machine.moved_bytes() + machine.in_place_bytes(Some(mark)));
    let left = (bytes * needed / offsets).min(needed * MESSAGE_BYTES);
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    (!machine.is_covered_by(mark)).then_some((*mark, left))
}

impl Rules {
    /// What of the log of `machine` may be compacted at `now_ms`; `marks` are its checkpoints, oldest first.
    pub fn work<'a>(
        &self,
        now_ms: i64,
        machine: &PartitionMachine,
        marks: impl DoubleEndedIterator<Item = &'a Mark>,
    ) -> Option<Work> {
        let time = |mark: &Mark| match mark.max_timestamp {
            NO_TIMESTAMP => mark.leader_ts,
            newest => newest,
        };
        let begin = machine.log_start().max(machine.clean().end);
        let dirty = |mark: &&Mark| (begin + 1..machine.next_offset()).contains(&mark.next_offset);
        let old = |mark: &&Mark| self.lag_ms_min == 0 || time(mark) <= now_ms.saturating_sub(self.lag_ms_min);
        let mut dirty = marks.filter(dirty);
        // What lies before the first checkpoint is as old as that at least; the second half of the time is for the pass.
        let first = dirty.next().filter(old)?;
        let overdue = now_ms.saturating_sub(first.leader_ts) >= self.lag_ms_max / 2;
        let last = dirty.rfind(old).unwrap_or(first);
        let (clean_bytes, dirty_bytes) = (machine.moved_bytes(), machine.in_place_bytes(Some(last)));
        Some(Work { end: last.next_offset, clean_bytes, dirty_bytes, overdue })
    }

    /// Whether `work` is worth a look.
    pub fn is_due(&self, work: &Work) -> bool {
        work.overdue || work.dirty_ratio() >= self.dirty_ratio_min
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Payload;
    use crate::machine::{At, Out};
    use crate::record::{sample_batch, sample_facts};

    const RULES: Rules = Rules { dirty_ratio_min: 0.5, lag_ms_min: 0, lag_ms_max: i64::MAX, tombstone_ms: 0 };

    /// Ten batches of one record and 1,000 bytes at times 0, 100, ..., with a mark behind each third.
    fn log() -> (PartitionMachine, Vec<Mark>) {
        let (mut machine, mut marks) = (PartitionMachine::new(), Vec::new());
        for place in 0..10 {
            let batch = sample_batch(&sample_facts(1, place * 100), 1_000);
            let (at, payload) = (place * 100 + 7, Payload::append(place * 100 + 7, vec![batch]));
            machine.apply(At { index: place as u64 + 1, term: 1, leader_ts: at }, &payload, &mut Out::default());
            if place % 3 == 2 {
                marks.push(Mark::of(machine.state(), at));
            }
        }
        (machine, marks)
    }

    fn end(rules: Rules, now_ms: i64) -> Option<i64> {
        let (machine, marks) = log();
        rules.work(now_ms, &machine, marks.iter()).map(|work| work.end)
    }

    #[test]
    fn everything_up_to_the_newest_checkpoint_that_is_old_enough() {
        assert_eq!(end(RULES, 0), Some(9));
        assert_eq!(end(Rules { lag_ms_min: 300, ..RULES }, 499), None);
        assert_eq!(end(Rules { lag_ms_min: 300, ..RULES }, 500), Some(3));
        assert_eq!(end(Rules { lag_ms_min: 300, ..RULES }, 1_100), Some(9));
    }

    #[test]
    fn the_last_batch_of_a_log_stays() {
        let (machine, mut marks) = log();
        marks.push(Mark::of(machine.state(), 0));
        assert_eq!(RULES.work(0, &machine, marks.iter()).map(|work| work.end), Some(9));
    }

    #[test]
    fn what_waits_too_long_is_overdue_whatever_the_ratio() {
        let (machine, marks) = log();
        let rules = Rules { dirty_ratio_min: 2.0, lag_ms_max: 1_000, ..RULES };
        let work = |now_ms| rules.work(now_ms, &machine, marks.iter()).unwrap();
        assert!(!rules.is_due(&work(706)) && rules.is_due(&work(707)));
    }

    #[test]
    fn the_ratio_counts_what_was_never_compacted() {
        let (machine, marks) = log();
        let work = RULES.work(0, &machine, marks.iter()).unwrap();
        assert_eq!((work.clean_bytes, work.dirty_ratio()), (0, 1.0));
        assert!((9_000..10_500).contains(&work.dirty_bytes), "{work:?}");
        assert!(!RULES.is_due(&Work { clean_bytes: work.dirty_bytes + 1, ..work }));
    }
}
