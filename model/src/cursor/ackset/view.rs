//! What may be asked of an ack-set cursor: what is ready, in which order; what waits for a time; what is dead; what pins the log.
//! The leader's soft side works with these; nothing here changes the state.

use super::AckSet;
use super::command::{Place, Reason};
use super::outbox::{Dead, Sending};
use super::rows::State;
use crate::planted::{self, Bug};

/// How many messages are what. Those in flight are known to the leader only, and are among the ready here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be delivered, or in flight.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// Dead, and not yet with all their targets.
    pub dead_pending: u64,
    /// Ever dead, by reason in the order of [`Reason::ALL`].
    pub dead: [u64; Reason::ALL.len()],
}

/// What sets a message apart from those that were only published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Deliveries that failed and were counted.
    pub failures: u32,
    /// Not to be delivered before, ms since 1970.
    pub not_before: Option<i64>,
    /// If it is dead: why, and where it goes.
    pub dead: Option<Dead>,
}

impl AckSet {
    /// The counters.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether the message is there, neither settled nor dead.
    pub fn is_live(&self, offset: i64) -> bool {
        let open = (self.state.floor..self.state.next).contains(&offset) && !self.done.contains(offset);
        open && !self.outbox.dead.contains_key(&offset)
    }

    /// How many messages are what at `now`.
    pub fn counts(&self, now: i64) -> Counts {
        let State { floor, next, dead, .. } = self.state;
        let (delayed, dead_pending) = (self.due.count_after(now) as u64, self.outbox.dead.len() as u64);
        let open = (next - floor) as u64 - self.done.count(floor, next);
        Counts { ready: open - delayed - dead_pending, delayed, dead_pending, dead }
    }

    /// What sets the message at `offset` apart.
    pub fn exception(&self, offset: i64) -> Exception {
        let dead = self.outbox.dead.get(&offset).cloned();
        let failed = self.failures.get(&offset).copied();
        let failures = dead.as_ref().map_or(failed.unwrap_or_default(), |dead| dead.failures);
        Exception { failures, not_before: self.due.get(offset), dead }
    }

    /// When the message expires by its own time, ms since 1970.
    pub fn expires_at(&self, offset: i64) -> Option<i64> {
        self.expiry.get(offset)
    }

    /// The priorities that messages have, the highest first: [`AckSet::next_ready`] is asked for each in turn.
    pub fn priorities(&self) -> Vec<u8> {
        let mut priorities: Vec<u8> = self.priorities.keys().copied().collect();
        if let Err(place) = priorities.binary_search(&self.config.priority) {
            priorities.insert(place, self.config.priority);
        }
        if !planted::is(Bug::PriorityInverted) {
            priorities.reverse();
        }
        priorities
    }

    /// The first range (first offset, offset after it) of messages with this priority, from `from` on, that may be delivered at
    /// `now`. What goes on behind the range is found by asking again.
    pub fn next_ready(&self, priority: u8, from: i64, now: i64) -> Option<(i64, i64)> {
        let mut from = from.max(self.state.floor);
        loop {
            let (first, end) = self.next_of(priority, from)?;
            let dead = self.outbox.dead.range(first..).next().map(|(offset, _)| *offset);
            let timed = self.due.next(first);
            if dead == Some(first) || self.due.get(first).is_some_and(|time| time > now) {
                from = first + 1;
                continue;
            }
            let timed = if timed == Some(first) { Some(first + 1) } else { timed };
            return Some((first, [dead, timed].into_iter().flatten().fold(end, i64::min)));
        }
    }

    /// The first range from `from` on with this priority, dead and waiting messages included.
    fn next_of(&self, priority: u8, from: i64) -> Option<(i64, i64)> {
        let stated = self.priorities.get(&priority).and_then(|set| set.next_run(from));
        let unstated = || self.next_unstated(from);
        let unstated = (priority == self.config.priority).then(unstated).flatten();
        stated.into_iter().chain(unstated).min()
    }

    /// The first range of messages from `from` on that state no priority.
    fn next_unstated(&self, mut from: i64) -> Option<(i64, i64)> {
        loop {
            let (first, mut end) = self.done.gaps(from, self.state.next).next()?;
            let stated = self.priorities.values().filter_map(|set| set.next_run(first)).min();
            match stated {
                Some((begin, after)) if begin == first => from = after,
                stated => {
                    end = stated.map_or(end, |(begin, _)| end.min(begin));
                    return Some((first, end));
                }
            }
        }
    }

    /// When the first message that waits is due, ms since 1970; it may have been due for some time.
    pub fn due_at(&self) -> Option<i64> {
        self.due.earliest()
    }

    /// When the next one that still waits at `now` is due, ms since 1970.
    pub fn due_after(&self, now: i64) -> Option<i64> {
        self.due.after(now)
    }

    /// When the next one that is not over at `now` expires, ms since 1970.
    pub fn expiry_after(&self, now: i64) -> Option<i64> {
        self.expiry.after(now)
    }

    /// The rules.
    pub fn config(&self) -> &super::Config {
        &self.config
    }

    /// When the next message expires by its own time, ms since 1970.
    pub fn next_expiry(&self) -> Option<i64> {
        self.expiry.earliest()
    }

    /// Up to `count_max` messages whose own time is over: for `Verdict::Expire`, without those in flight.
    pub fn expired(&self, now: i64, count_max: usize) -> Vec<i64> {
        self.expiry.come(now, count_max)
    }

    /// Dead messages that nobody has decided where to send.
    pub fn unresolved(&self) -> impl Iterator<Item = i64> + '_ {
        self.outbox.unresolved()
    }

    /// Who was ever sent a dead message.
    pub fn targets(&self) -> impl Iterator<Item = Place> + '_ {
        self.outbox.targets()
    }

    /// The letters to `target`, in the order in which it takes them.
    pub fn sendings(&self, target: Place) -> impl Iterator<Item = Sending> + '_ {
        self.outbox.sendings(target)
    }

    /// The lowest offset whose record is still needed: the log may be truncated to it. Dead messages need their record until
    /// their targets have them.
    pub fn needed_from(&self) -> i64 {
        self.state.floor
    }

    /// The ranges of from..to whose records are still needed: what a relocation moves so that the log up to `to` can be purged.
    pub fn pinned(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.done.gaps(from.max(self.state.floor), to.min(self.state.next))
    }

    /// How many records of from..to are still needed. Moving a stretch pays when that is less than half of it.
    pub fn needed_in(&self, from: i64, to: i64) -> u64 {
        let (from, to) = (from.max(self.state.floor), to.min(self.state.next));
        if from < to { (to - from) as u64 - self.done.count(from, to) } else { 0 }
    }

    /// What the state holds, bytes, from the sizes of its structures.
    pub fn bytes(&self) -> usize {
        let sets = self.priorities.values().map(super::set::OffsetSet::bytes).sum::<usize>();
        let failures = self.failures.len() * super::FAILURE_BYTES;
        self.done.bytes() + sets + self.due.bytes() + self.expiry.bytes() + failures + self.outbox.bytes()
    }
}
