//! What may be asked of an ack-set cursor, and what it answers. Free of any protocol's words: queues, share groups and retries
//! of consumer groups say the same things. Invariant: nothing in here is trusted before `apply` has checked it.

use serde::{Deserialize, Serialize};

use super::outbox::Letter;
use crate::ids::GroupId;

/// A command. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The log has grown, or what is said of some of its records is said again (behind a seek).
    Publish {
        /// Offset of the next record of the log.
        next: i64,
        /// What records say of themselves, ascending by offset; those that say nothing are not named.
        facts: Vec<Fact>,
    },
    /// What became of messages.
    Settle(Vec<Settlement>),
    /// Where a dead message goes, decided once: the first answer stays.
    Resolve {
        /// Of the message.
        offset: i64,
        /// Logs and queues that get it; none if nobody wants it.
        targets: Vec<Place>,
    },
    /// The target has all letters up to this number.
    Sent {
        /// Who has them.
        target: Place,
        /// The last of them.
        through: u64,
    },
    /// The target does not exist any more, and never will again.
    ForgetTarget(Place),
    /// Everything below an offset is settled, except what is kept and what is on its way to dead letters.
    Purge {
        /// Offset after the last message to go.
        to: i64,
        /// What consumers have and nobody settled.
        keep: Ranges,
    },
    /// Goes on from this offset, forward or back: what lies before is settled, what lies behind is to be had again.
    Seek {
        /// The next offset.
        to: i64,
    },
    /// Records below this offset are gone, whatever became of them.
    LogStart(i64),
    /// From now on these rules.
    Configure(Config),
}

/// The rules of a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The priority of messages that state none.
    pub priority: u8,
    /// How often a message may fail before it is dead; 0 for ever.
    pub failures_max: u32,
    /// How long it waits after each failure.
    pub backoff: Option<Backoff>,
    /// Whether dead messages go anywhere.
    pub dead_letters: bool,
}

/// Waiting twice as long after each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// After the first failure, ms.
    pub first_ms: i64,
    /// At most, ms.
    pub max_ms: i64,
}

impl Backoff {
    /// How long to wait after `failures` failures, ms.
    pub fn delay_ms(self, failures: u32) -> i64 {
        let doublings = failures.saturating_sub(1).min(62);
        let delay = self.first_ms.max(0).saturating_mul(1 << doublings);
        delay.min(self.max_ms.max(0))
    }
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which record.
    pub offset: i64,
    /// The higher, the sooner.
    pub priority: Option<u8>,
    /// Not to be delivered before, ms since 1970.
    pub not_before: Option<i64>,
    /// Not to be delivered from then on, ms since 1970.
    pub expires_at: Option<i64>,
}

/// What became of the messages of some ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// What.
    pub verdict: Verdict,
    /// Of which.
    pub ranges: Ranges,
}

/// What became of a message. It never moves one that is settled or dead already: late and repeated settlements are harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is done.
    Accept,
    /// It is to be delivered again, in its old place.
    Release {
        /// Whether that was a failure.
        counted: bool,
        /// After so many ms, in the place of what the rules say.
        delay_ms: Option<i64>,
    },
    /// It is dead.
    Reject(Reason),
    /// It is dead if its own time is over; else nothing.
    Expire,
}

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// A consumer does not want it, and nobody else shall.
    Rejected,
    /// Its time is over.
    Expired,
    /// It failed too often.
    Failed,
    /// There were too many.
    Overflow,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 4] = [Reason::Rejected, Reason::Expired, Reason::Failed, Reason::Overflow];
}

/// Ranges of offsets, ascending: a few bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Where the first gap begins.
    base: i64,
    /// (offsets between the last range and this one, offsets of this one)
    runs: Vec<(u64, u64)>,
}

impl Ranges {
    /// The ranges (first offset, offset after it), which must ascend; one that touches the last is joined to it.
    pub fn of(ranges: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut this = Ranges::default();
        let mut end = 0;
        for (from, to) in ranges.into_iter().filter(|(from, to)| from < to) {
            if this.runs.is_empty() {
                (this.base, end) = (from, from);
            }
            debug_assert!(from >= end, "{from} after {end}");
            match this.runs.last_mut() {
                Some((_, length)) if from == end => *length += (to - from) as u64,
                _ => this.runs.push(((from - end) as u64, (to - from) as u64)),
            }
            end = to;
        }
        this
    }

    /// The ranges, if all of them are ranges within 0..`next` and ascend.
    pub fn within(&self, next: i64) -> Option<Vec<(i64, i64)>> {
        let mut end = u64::try_from(self.base).ok()?;
        let range = |(gap, length): &(u64, u64)| {
            let from = end.checked_add(*gap)?;
            end = from.checked_add(*length).filter(|end| *end > from && *end <= next as u64)?;
            Some((from as i64, end as i64))
        };
        self.runs.iter().map(range).collect()
    }
}

/// A queue of a log: where dead letters come from and go to. Another queue may be there later: numbers of letters only go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The log's raft.
    pub group: GroupId,
    /// Which of its cursors or queues.
    pub queue: u32,
}

impl Place {
    /// A key that sorts as places do.
    pub fn to_be_bytes(self) -> [u8; 8] {
        (u64::from(self.group.0) << 32 | u64::from(self.queue)).to_be_bytes()
    }
}

/// What the proposer is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Of most commands: how many messages it changed.
    Changed(u64),
    /// Of Settle: the same for each settlement.
    Settled(Vec<Result<u64, Refusal>>),
    /// Of Resolve: what is decided.
    Resolved(Vec<Letter>),
}

/// Why a command, or one settlement, changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Ranges that are none, or beyond the end of the log.
    #[error("not ranges of offsets of this log")]
    Ranges,
    /// Facts that do not ascend, or of records that there are not.
    #[error("not facts of records of this log")]
    Facts,
    /// More than one command may say.
    #[error("more than one command may say")]
    TooMany,
    /// The state would grow beyond its bound: settle what is delivered first.
    #[error("the cursor remembers as much as it may")]
    Full,
    /// No message is dead at this offset.
    #[error("no dead message at this offset")]
    NotDead,
    /// The same target twice, or too many.
    #[error("the targets of a dead message must be few and distinct")]
    Targets,
    /// A letter that was never numbered.
    #[error("no letter of this number was given to the target")]
    Number,
    /// An offset outside of the log.
    #[error("an offset outside of the log")]
    OutOfRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_the_cap_without_overflow() {
        let backoff = Backoff { first_ms: 100, max_ms: 1_000 };
        let delays: Vec<i64> = (0..7).map(|failures| backoff.delay_ms(failures)).collect();
        assert_eq!(delays, [100, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(Backoff { first_ms: i64::MAX, max_ms: i64::MAX }.delay_ms(u32::MAX), i64::MAX);
        assert_eq!(Backoff { first_ms: 3, max_ms: i64::MAX }.delay_ms(63), i64::MAX);
        assert_eq!(Backoff { first_ms: -1, max_ms: -1 }.delay_ms(5), 0);
    }

    #[test]
    fn ranges_come_back_as_they_were_or_not_at_all() {
        let list = [(5, 6), (9, 12), (12, 14), (20, 21)];
        let ranges = Ranges::of(list);
        assert_eq!(ranges.within(21), Some(vec![(5, 6), (9, 14), (20, 21)]));
        assert_eq!(ranges.within(20), None);
        let forged = |base, runs: &[(u64, u64)]| Ranges { base, runs: runs.to_vec() }.within(i64::MAX);
        assert_eq!(forged(-1, &[(0, 1)]), None);
        assert_eq!(forged(0, &[(0, 0)]), None);
        assert_eq!(forged(0, &[(u64::MAX, 1)]), None);
        assert_eq!(forged(7, &[(0, u64::MAX)]), None);
        assert_eq!(forged(0, &[]), Some(vec![]));
    }
}
