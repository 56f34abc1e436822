//! S5: whoever says where a log ends knows of everything that was acknowledged, or read, before it was asked: a leader that was
//! deposed and has not heard of it, and one that was elected and has not applied all yet, must not answer. From KIP-207 (a new
//! leader does not answer before its high watermark is known), KIP-279 (ends of leader epochs), and etcd's stale reads.

use std::time::Duration;

use crate::history::{History, Partition, Place};

/// What is known of a partition when a question begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    asked: Duration,
    partition: Partition,
    /// Behind the last record that is acknowledged.
    acknowledged: i64,
    /// The newest leader epoch that was told of, and the furthest end that was told of it.
    epoch: Option<(i32, i64)>,
}

impl Known {
    /// Of `partition`, when asked at `asked`.
    pub fn of(history: &History, partition: Partition, asked: Duration) -> Self {
        let told = history.epoch_ends.range((partition, i32::MIN)..=(partition, i32::MAX)).next_back();
        let epoch = told.map(|((_, epoch), (end, ..))| (*epoch, *end));
        Self { asked, partition, acknowledged: history.acknowledged_end(partition), epoch }
    }

    /// The newest epoch that was told of.
    pub fn epoch(&self) -> i32 {
        self.epoch.map_or(0, |(epoch, _)| epoch)
    }

    /// `who` says that the partition ends at `end`.
    pub fn end(&self, history: &History, who: &str, end: i64) -> Option<String> {
        let Self { asked, partition, acknowledged, .. } = *self;
        let place = Place { partition, offset: acknowledged - 1 };
        let (serial, at) =
            history.acknowledged.get(&place).zip(history.times.get(&place)).filter(|_| end < acknowledged)?;
        let before = asked.saturating_sub(*at);
        Some(format!(
            "{who}, asked at {asked:?}, says that {partition} ends at {end}, but {serial} was acknowledged at {place} {before:?} before"
        ))
    }

    /// `who` says that the epoch `found` ends at `end`. Of an older epoch than the newest that says nothing: then it is the answer of
    /// a leader which was deposed before.
    pub fn epoch_end(&self, history: &History, who: &str, (found, end): (i32, i64)) -> Option<String> {
        let Self { asked, partition, .. } = *self;
        let (_, told) = self.epoch.filter(|(epoch, told)| *epoch == found && end < *told)?;
        let (_, node, at) = history.epoch_ends.get(&(partition, found))?;
        let first = format!("node {node} said at {at:?} that epoch {found} of {partition} goes up to {told} at least");
        Some(format!("{first}, but {who}, asked at {asked:?}, says that it ends at {end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;

    const ASKED: Duration = Duration::from_secs(3);

    #[test]
    fn an_end_before_what_was_acknowledged_is_seen() {
        let history = sample::ledger();
        let known = Known::of(&history, sample::place(0).partition, ASKED);
        assert_eq!(known.end(&history, "node 2", 4), None);
        assert!(known.end(&history, "node 2", 3).is_some());
    }

    #[test]
    fn an_epoch_that_ends_before_where_it_was_is_seen() {
        let mut history = sample::ledger();
        let partition = sample::place(0).partition;
        let known = Known::of(&history, partition, ASKED);
        assert_eq!(known.epoch_end(&history, "node 2", (7, 0)), None);
        history.epoch_ends.insert((partition, 6), (3, 1, ASKED));
        history.epoch_ends.insert((partition, 7), (10, 1, ASKED));
        let known = Known::of(&history, partition, ASKED);
        assert_eq!(known.epoch_end(&history, "node 2", (7, 10)), None);
        assert_eq!(known.epoch_end(&history, "node 2", (6, 2)), None, "of a leader that was deposed");
        assert!(known.epoch_end(&history, "node 2", (7, 9)).is_some());
    }
}
