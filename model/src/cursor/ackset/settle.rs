//! What becomes of messages: settled, delivered again, dead. Invariant: nothing that is settled or dead is moved by a settlement
//! that comes late; a refused settlement changes nothing; accepting is never refused, since it only gives space back in the end.

use super::AckSet;
use super::command::{Fact, Place, Ranges, Reason, Refusal, Settlement, Verdict};
use super::rows::Key;
use crate::check;
use crate::limits;
use crate::machine::At;

impl AckSet {
    pub(super) fn publish(&mut self, at: At, next: i64, facts: &[Fact]) -> Result<u64, Refusal> {
        let next = next.max(self.state.next);
        let ascend = facts.is_sorted_by(|a, b| a.offset < b.offset);
        let within =
            facts.first().is_none_or(|first| first.offset >= 0) && facts.last().is_none_or(|last| last.offset < next);
        if !ascend || !within {
            return Err(Refusal::Facts);
        }
        if facts.len() > limits::CURSOR_FACTS_MAX {
            return Err(Refusal::TooMany);
        }
        self.has_room(facts.len())?;
        self.state.next = next;
        let live: Vec<&Fact> = facts.iter().filter(|fact| self.is_live(fact.offset)).collect();
        live.iter().for_each(|fact| self.learn(at, fact));
        Ok(live.len() as u64)
    }

    /// A record that failed waits for what the failure says; what it once said of its priority stays.
    fn learn(&mut self, at: At, fact: &Fact) {
        let offset = fact.offset;
        let known = self.priorities.values().any(|set| set.contains(offset));
        if let Some(priority) = fact.priority.filter(|_| !known) {
            self.priorities.entry(priority).or_default().insert(offset, offset + 1);
        }
        let not_before = fact.not_before.filter(|time| *time > at.leader_ts && !self.failures.contains_key(&offset));
        not_before.into_iter().for_each(|time| self.due.insert(offset, time));
        fact.expires_at.into_iter().for_each(|time| self.expiry.insert(offset, time));
    }

    pub(super) fn settle(&mut self, at: At, settlement: &Settlement) -> Result<u64, Refusal> {
        let ranges = settlement.ranges.within(self.state.next).ok_or(Refusal::Ranges)?;
        match settlement.verdict {
            Verdict::Accept => Ok(ranges.iter().map(|(from, to)| self.finish(*from, *to)).sum()),
            Verdict::Reject(reason) if !self.config.dead_letters => {
                let gone = ranges.iter().map(|(from, to)| self.finish(*from, *to)).sum();
                self.count_dead(reason, gone);
                Ok(gone)
            }
            Verdict::Reject(reason) => {
                let live = self.live_of(&ranges)?;
                self.has_room(live.len())?;
                live.iter().for_each(|offset| self.kill(*offset, reason));
                Ok(live.len() as u64)
            }
            Verdict::Release { counted, delay_ms } => {
                let live = self.live_of(&ranges)?;
                self.has_room(if counted || delay_ms.is_some() { live.len() } else { 0 })?;
                live.iter().for_each(|offset| self.release(at, *offset, counted, delay_ms));
                Ok(live.len() as u64)
            }
            Verdict::Expire => {
                let over = self.over_of(at, &ranges);
                self.has_room(if self.config.dead_letters { over.len() } else { 0 })?;
                over.iter().for_each(|offset| self.kill(*offset, Reason::Expired));
                Ok(over.len() as u64)
            }
        }
    }

    fn release(&mut self, at: At, offset: i64, counted: bool, delay_ms: Option<i64>) {
        let failures = self.failures.get(&offset).copied().unwrap_or_default().saturating_add(counted.into());
        if counted {
            self.failures.insert(offset, failures);
            self.touched.insert(Key::Failures(offset));
            if self.config.failures_max > 0 && failures >= self.config.failures_max {
                return self.kill(offset, Reason::Failed);
            }
        }
        let by_rule = self.config.backoff.filter(|_| counted).map(|backoff| backoff.delay_ms(failures));
        match delay_ms.or(by_rule) {
            Some(delay) if delay > 0 => self.due.insert(offset, at.leader_ts.saturating_add(delay)),
            _ => self.due.remove(offset, offset + 1),
        }
    }

    fn kill(&mut self, offset: i64, reason: Reason) {
        self.count_dead(reason, 1);
        if !self.config.dead_letters {
            self.finish(offset, offset + 1);
            return;
        }
        let failures = self.failures.get(&offset).copied().unwrap_or_default();
        self.forget(offset, offset + 1);
        self.outbox.kill(offset, reason, failures);
        self.touched.insert(Key::Dead(offset));
    }

    fn count_dead(&mut self, reason: Reason, count: u64) {
        let counter = &mut self.state.dead[reason as usize];
        *counter = counter.saturating_add(count);
    }

    /// Settles what is live of from..to and not dead; how many that were.
    pub(super) fn finish(&mut self, from: i64, to: i64) -> u64 {
        let (mut from, to) = (from.max(self.state.floor), to.min(self.state.next));
        if from >= to {
            return 0;
        }
        let dead: Vec<i64> = self.outbox.dead.range(from..to).map(|(offset, _)| *offset).collect();
        let mut settled = 0;
        for stop in dead.into_iter().chain([to]) {
            settled += if from < stop { self.finish_all(from, stop) } else { 0 };
            from = stop.saturating_add(1);
        }
        settled
    }

    fn finish_all(&mut self, from: i64, to: i64) -> u64 {
        self.forget(from, to);
        let before = self.done.count(from, to);
        // In the order of the log, which is the rule, nothing but the floor changes.
        if from == self.state.floor {
            self.done.remove(from, to);
            self.state.floor = to;
        } else {
            self.done.insert(from, to);
        }
        check!(self.state.floor <= self.state.next, CursorFloor, "{} of {}", self.state.floor, self.state.next);
        (to - from) as u64 - before
    }

    /// Forgets what the indexes know of from..to.
    fn forget(&mut self, from: i64, to: i64) {
        let failed: Vec<i64> = self.failures.range(from..to).map(|(offset, _)| *offset).collect();
        for offset in failed {
            self.failures.remove(&offset);
            self.touched.insert(Key::Failures(offset));
        }
        for set in self.priorities.values_mut() {
            set.remove(from, to);
        }
        self.due.remove(from, to);
        self.expiry.remove(from, to);
    }

    pub(super) fn resolve(&mut self, at: At, offset: i64, targets: &[Place]) -> Result<Vec<super::Letter>, Refusal> {
        // With nothing to send, only this can make room.
        let room = self.bytes() < limits::CURSOR_BYTES_MAX || self.outbox.letters() == 0;
        if !room {
            return Err(Refusal::Full);
        }
        let letters = self.outbox.resolve(at.index, offset, targets)?;
        self.touched.insert(Key::Dead(offset));
        self.touched.extend(letters.iter().map(|letter| Key::Last(letter.target)));
        self.bury([offset]);
        Ok(letters)
    }

    pub(super) fn sent(&mut self, target: Place, through: u64) -> Result<u64, Refusal> {
        if self.outbox.last(target).is_none_or(|last| through > last) {
            return Err(Refusal::Number);
        }
        let sent = self.outbox.sent(target, through);
        Ok(self.bury(sent))
    }

    pub(super) fn forget_target(&mut self, target: Place) -> u64 {
        let sent = self.outbox.forget(target);
        self.touched.insert(Key::Last(target));
        self.bury(sent)
    }

    /// Settles those dead messages that have nothing left to be sent; how many messages had a letter less.
    fn bury(&mut self, offsets: impl IntoIterator<Item = i64>) -> u64 {
        let mut changed = 0;
        for offset in offsets {
            changed += 1;
            self.touched.insert(Key::Dead(offset));
            if self.outbox.is_over(offset) {
                self.outbox.drop_dead(offset);
                self.finish(offset, offset + 1);
            }
        }
        changed
    }

    pub(super) fn purge(&mut self, to: i64, keep: &Ranges) -> Result<u64, Refusal> {
        let keep = keep.within(self.state.next).ok_or(Refusal::Ranges)?;
        if !(0..=self.state.next).contains(&to) {
            return Err(Refusal::OutOfRange);
        }
        let (mut from, mut purged) = (self.state.floor, 0);
        for (kept, end) in keep.into_iter().filter(|(kept, _)| *kept < to).chain([(to, to)]) {
            purged += self.finish(from, kept);
            from = end;
        }
        Ok(purged)
    }

    pub(super) fn seek(&mut self, to: i64) -> Result<u64, Refusal> {
        if !(0..=self.state.next).contains(&to) {
            return Err(Refusal::OutOfRange);
        }
        let to = to.max(self.state.start);
        let skipped = self.finish(self.state.floor, to);
        let again = self.done.remove(to, self.state.next) + (self.state.floor - to).max(0) as u64;
        self.state.floor = self.state.floor.min(to);
        check!(self.state.floor >= self.state.start, CursorFloor, "{} before {}", self.state.floor, self.state.start);
        Ok(skipped + again)
    }

    pub(super) fn move_start(&mut self, start: i64) -> Result<u64, Refusal> {
        if !(0..=self.state.next).contains(&start) {
            return Err(Refusal::OutOfRange);
        }
        self.state.start = self.state.start.max(start);
        let start = self.state.start;
        let dead: Vec<i64> = self.outbox.dead.range(..start).map(|(offset, _)| *offset).collect();
        for offset in dead {
            self.outbox.drop_dead(offset);
            self.touched.insert(Key::Dead(offset));
        }
        let gone = self.finish(self.state.floor, start);
        check!(self.state.floor >= start, CursorFloor, "{} before the log's start {start}", self.state.floor);
        Ok(gone)
    }

    /// The offsets of `ranges` that are neither settled nor dead.
    fn live_of(&self, ranges: &[(i64, i64)]) -> Result<Vec<i64>, Refusal> {
        let span = ranges.iter().map(|(from, to)| (to - from) as u64).fold(0, u64::saturating_add);
        if span > limits::CURSOR_SETTLE_MAX as u64 {
            return Err(Refusal::TooMany);
        }
        let open = ranges.iter().flat_map(|(from, to)| self.done.gaps((*from).max(self.state.floor), *to));
        Ok(open.flat_map(|(from, to)| from..to).filter(|offset| !self.outbox.dead.contains_key(offset)).collect())
    }

    /// The offsets of `ranges` whose own time is over. So many are looked at that no apply stalls; the rest is named again.
    fn over_of(&self, at: At, ranges: &[(i64, i64)]) -> Vec<i64> {
        let timed = |(from, to): &(i64, i64)| {
            let (first, to) = (self.expiry.next(*from), *to);
            std::iter::successors(first, |offset| self.expiry.next(offset + 1)).take_while(move |offset| *offset < to)
        };
        let over = |offset: &i64| self.expiry.get(*offset).is_some_and(|time| time <= at.leader_ts);
        ranges.iter().flat_map(timed).take(limits::CURSOR_SETTLE_MAX).filter(over).collect()
    }

    /// Whether so many more messages may have something of their own: asked before records that say something get offsets.
    ///
    /// # Errors
    /// `Full`.
    pub fn has_room(&self, messages: usize) -> Result<(), Refusal> {
        let after = self.bytes().saturating_add(messages.saturating_mul(limits::CURSOR_MESSAGE_BYTES));
        if messages > 0 && after > limits::CURSOR_BYTES_MAX { Err(Refusal::Full) } else { Ok(()) }
    }
}
