//! How long a topic keeps records: where the log start may move to, and how far apart checkpoints should be.
//! The unit is what lies between two checkpoints, which is to Flotilla what a segment is to Kafka: deleted whole or not.
//! Invariant: no record is chosen that is younger than `retention.ms`, and the newest `retention.bytes` stay.

use crate::limits;
use crate::partition::{Mark, NO_TIMESTAMP, State};
use crate::planted::{self, Bug};

/// What the configs of a topic say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `retention.ms`; none is for ever.
    pub ms: Option<i64>,
    /// `retention.bytes`; none is no limit.
    pub bytes: Option<u64>,
    /// How far apart checkpoints should be.
    pub segment: Segment,
}

/// The distance of two checkpoints: whichever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of entries.
    pub bytes: u64,
    /// Time between the first and the last entry by the leaders' clocks, ms.
    pub ms: i64,
}

impl Default for Segment {
    fn default() -> Self {
        Segment { bytes: limits::SEGMENT_BYTES_MAX, ms: i64::MAX }
    }
}

impl Rules {
    /// From the four configs, as Kafka writes them: -1 is no limit. `segment.*` are hints: what is kept is never more than
    /// an eighth over the limits because of them.
    pub fn new(retention_ms: i64, retention_bytes: i64, segment_ms: i64, segment_bytes: i64) -> Self {
        let ms = Some(retention_ms).filter(|ms| *ms >= 0);
        let bytes = u64::try_from(retention_bytes).ok();
        let eighth = |limit: u64| limit / 8;
        let segment_bytes = u64::try_from(segment_bytes).unwrap_or(u64::MAX).min(bytes.map_or(u64::MAX, eighth));
        let segment_ms = segment_ms.min(ms.map_or(i64::MAX, |ms| ms / 8));
        let segment = Segment {
            bytes: segment_bytes.clamp(limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX),
            ms: segment_ms.max(limits::SEGMENT_MS_MIN),
        };
        Rules { ms, bytes, segment }
    }

    /// Where the log start should move to at `now_ms`, if it should: a mark's offset, or the end when everything is too
    /// old. `marks` are the checkpoints of the log, oldest first.
    pub fn log_start<'a>(
        &self,
        now_ms: i64,
        state: &State,
        marks: impl DoubleEndedIterator<Item = &'a Mark>,
    ) -> Option<i64> {
        let oldest = self.ms.map_or(i64::MIN, |ms| now_ms.saturating_sub(ms));
        if state.next_offset > state.log_start && state.max_timestamp != NO_TIMESTAMP && state.max_timestamp < oldest {
            return Some(state.next_offset);
        }
        let expired = |mark: &Mark| match mark.max_timestamp {
            NO_TIMESTAMP => mark.leader_ts < oldest,
            newest => newest < oldest,
        };
        let surplus = |mark: &Mark| {
            let kept = state.log_bytes.saturating_sub(mark.position);
            let slack = if planted::is(Bug::RetentionBoundary) { self.segment.bytes } else { 0 };
            self.bytes.is_some_and(|bytes| kept + slack >= bytes)
        };
        let new = |mark: &&Mark| mark.next_offset > state.log_start;
        // Of checkpoints with no live record between them the newest counts: up to there the log would be purged.
        let mut newer = None;
        let whole = |mark: &&Mark| newer.replace(mark.next_offset) != Some(mark.next_offset);
        let mut places = marks.rev().take_while(new).filter(whole);
        places.find(|mark| expired(mark) || surplus(mark)).map(|mark| mark.next_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Vec<Mark> {
        let mark = |n: i64| Mark {
            index: n as u64 * 10,
            next_offset: n * 100,
            max_timestamp: n * 1_000,
            position: n as u64 * 1_000,
            ..Mark::default()
        };
        (1..=5).map(mark).collect()
    }

    fn state() -> State {
        State { next_offset: 550, max_timestamp: 5_500, log_bytes: 5_500, ..State::default() }
    }

    fn start(rules: Rules, now_ms: i64, log_start: i64) -> Option<i64> {
        rules.log_start(now_ms, &State { log_start, ..state() }, marks().iter())
    }

    #[test]
    fn time_deletes_what_is_older_and_nothing_else() {
        let rules = Rules::new(1_000, -1, i64::MAX, i64::MAX);
        assert_eq!(start(rules, 2_000, 0), None, "just as old as allowed");
        assert_eq!(start(rules, 2_001, 0), Some(100));
        assert_eq!(start(rules, 4_500, 0), Some(300));
        assert_eq!(start(rules, 4_500, 300), None, "done already");
        assert_eq!(start(rules, 6_500, 0), Some(500));
        assert_eq!(start(rules, 6_501, 0), Some(550), "everything");
        assert_eq!(start(rules, 6_501, 550), None, "nothing is left");
    }

    #[test]
    fn size_keeps_at_least_what_it_says() {
        let bytes = |bytes| start(Rules::new(-1, bytes, i64::MAX, i64::MAX), i64::MAX, 0);
        assert_eq!(bytes(5_000), None);
        assert_eq!(bytes(4_500), Some(100));
        assert_eq!(bytes(4_499), Some(100));
        assert_eq!(bytes(3_500), Some(200));
        assert_eq!(bytes(0), Some(500), "the newest part stays, as Kafka's active segment does");
        assert_eq!(bytes(-1), None);
    }

    #[test]
    fn what_only_retries_wrote_is_no_part_of_what_is_kept() {
        let mut marks = marks();
        let retries = Mark { position: 3_000, ..marks[1] };
        marks.insert(2, retries);
        let rules = Rules::new(-1, 3_000, i64::MAX, i64::MAX);
        assert_eq!(rules.log_start(0, &state(), self::marks().iter()), Some(200));
        assert_eq!(
            rules.log_start(0, &state(), marks.iter()),
            Some(100),
            "2,500 bytes would be left behind the retries"
        );
    }

    #[test]
    fn the_stricter_limit_counts() {
        let rules = Rules::new(1_000, 3_500, i64::MAX, i64::MAX);
        assert_eq!(start(rules, 0, 0), Some(200));
        assert_eq!(start(rules, 5_500, 0), Some(400));
    }

    #[test]
    fn batches_without_a_time_age_by_the_leaders_clock() {
        let rules = Rules::new(1_000, -1, i64::MAX, i64::MAX);
        let mark = Mark { max_timestamp: NO_TIMESTAMP, leader_ts: 7_000, next_offset: 3, ..Mark::default() };
        let state = State { max_timestamp: NO_TIMESTAMP, next_offset: 9, ..State::default() };
        assert_eq!(rules.log_start(8_000, &state, [mark].iter()), None);
        assert_eq!(rules.log_start(8_001, &state, [mark].iter()), Some(3));
    }

    #[test]
    fn hints_stay_within_an_eighth_of_the_limits() {
        let segment = |ms, bytes, segment_ms, segment_bytes| Rules::new(ms, bytes, segment_ms, segment_bytes).segment;
        assert_eq!(segment(-1, -1, 604_800_000, 1 << 30), Segment { bytes: 16 << 20, ms: 604_800_000 });
        assert_eq!(segment(80_000, 80 << 20, 604_800_000, 1 << 30), Segment { bytes: 10 << 20, ms: 10_000 });
        assert_eq!(segment(0, 0, 0, 0), Segment { bytes: limits::SEGMENT_BYTES_MIN, ms: limits::SEGMENT_MS_MIN });
        assert_eq!(segment(-1, -1, 5_000, 1 << 20), Segment { bytes: 1 << 20, ms: 5_000 });
    }
}
