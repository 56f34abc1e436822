//! Who gets which message next: the leader's own side of an ack-set cursor, never replicated and never stored. A new leader begins
//! with an empty one and lets gateways claim what they hold. Owns consumers with their credit, deliveries and their deadlines.
//! Invariants: a message is with one consumer at a time; it goes to the ready one of highest priority and lowest offset first, and
//! back to its old place; consumers with credit take turns. Every delivery has a deadline, so that none is orphaned.

use std::collections::{BTreeMap, BTreeSet};

use super::{AckSet, OffsetSet, Ranges};
use crate::check;

/// A consumer of the cursor, numbered by the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Who gets it.
    pub consumer: ConsumerId,
    /// Which.
    pub offset: i64,
    /// How often it failed before.
    pub failures: u32,
}

/// A message that a consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    consumer: ConsumerId,
    deadline: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Consumer {
    credit: usize,
    held: usize,
}

/// The deliveries of one cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    consumers: BTreeMap<ConsumerId, Consumer>,
    /// Who was served last.
    last: Option<ConsumerId>,
    flights: BTreeMap<i64, Flight>,
    /// (deadline, offset)
    deadlines: BTreeSet<(i64, i64)>,
    /// In flight, or settled and not yet applied.
    taken: OffsetSet,
    /// By priority: nothing before is ready and not taken.
    positions: BTreeMap<u8, i64>,
    /// When the first message that was passed over is due.
    due_at: Option<i64>,
}

impl Dispatch {
    /// Lets a consumer hold up to `credit` messages; one that holds more gets none until it holds less.
    pub fn set_credit(&mut self, consumer: ConsumerId, credit: usize) {
        self.consumers.entry(consumer).or_default().credit = credit;
    }

    /// A consumer is gone: what it held, to be released by a command. None of it is delivered before that is applied.
    pub fn remove(&mut self, consumer: ConsumerId) -> Ranges {
        let held = self.flights.iter().filter(|(_, flight)| flight.consumer == consumer).map(|(offset, _)| *offset);
        let held: Vec<i64> = held.collect();
        self.land_all(&held);
        self.consumers.remove(&consumer);
        Ranges::of(held.into_iter().map(|offset| (offset, offset + 1)))
    }

    /// Up to `count_max` messages for those who have credit, until `deadline`.
    pub fn deliver(&mut self, cursor: &AckSet, now: i64, deadline: i64, count_max: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count_max {
            let Some(consumer) = self.next_consumer() else { break };
            let Some(delivery) = self.deliver_to(consumer, cursor, now, deadline) else { break };
            self.last = Some(consumer);
            deliveries.push(delivery);
        }
        deliveries
    }

    /// The next message for this consumer, whatever its credit and its turn, until `deadline`.
    pub fn deliver_to(&mut self, consumer: ConsumerId, cursor: &AckSet, now: i64, deadline: i64) -> Option<Delivery> {
        if self.due_at.is_some_and(|due| due <= now) {
            self.positions.clear();
        }
        let offset = cursor.priorities().iter().find_map(|priority| self.next_offset(cursor, *priority, now));
        self.due_at = cursor.due_after(now);
        let offset = offset?;
        self.claim(consumer, offset, deadline);
        Some(Delivery { consumer, offset, failures: cursor.exception(offset).failures })
    }

    /// The next one in turn that has credit.
    fn next_consumer(&self) -> Option<ConsumerId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last.map_or(Unbounded, Excluded);
        let mut in_turn = self.consumers.range((after, Unbounded)).chain(&self.consumers);
        in_turn.find(|(_, consumer)| consumer.held < consumer.credit).map(|(id, _)| *id)
    }

    /// The first message of this priority that is ready, not taken and not over; its place is remembered.
    fn next_offset(&mut self, cursor: &AckSet, priority: u8, now: i64) -> Option<i64> {
        let mut from = self.positions.get(&priority).copied().unwrap_or_default();
        let found = loop {
            let Some((first, _)) = cursor.next_ready(priority, from, now) else { break None };
            from = match self.taken.next_run(first) {
                Some((taken, end)) if taken == first => end,
                _ if cursor.expires_at(first).is_some_and(|time| time <= now) => first + 1,
                _ => break Some(first),
            };
        };
        self.positions.insert(priority, found.map_or(cursor.state().next.max(from), |offset| offset + 1));
        found
    }

    /// A consumer has this message: by a delivery, or because its gateway says so to a new leader. False if another one has it.
    pub fn claim(&mut self, consumer: ConsumerId, offset: i64, deadline: i64) -> bool {
        if self.taken.insert(offset, offset + 1) == 0 {
            return self.flights.get(&offset).is_some_and(|flight| flight.consumer == consumer);
        }
        self.consumers.entry(consumer).or_default().held += 1;
        let before = self.flights.insert(offset, Flight { consumer, deadline });
        check!(before.is_none(), CursorIndexes, "{offset} was in flight to {before:?}");
        self.deadlines.insert((deadline, offset));
        true
    }

    /// A consumer settles a message: whether it is the one that has it. From now on it has credit for another; the message stays
    /// taken until the command is applied.
    pub fn settle(&mut self, consumer: ConsumerId, offset: i64) -> bool {
        let holds = self.flights.get(&offset).is_some_and(|flight| flight.consumer == consumer);
        holds && self.land(offset)
    }

    fn land_all(&mut self, offsets: &[i64]) {
        for offset in offsets {
            self.land(*offset);
        }
    }

    /// Takes a message from whoever has it.
    fn land(&mut self, offset: i64) -> bool {
        let Some(flight) = self.flights.remove(&offset) else { return false };
        self.deadlines.remove(&(flight.deadline, offset));
        if let Some(consumer) = self.consumers.get_mut(&flight.consumer) {
            check!(consumer.held > 0, CursorIndexes, "{flight:?} of one that holds nothing");
            consumer.held -= 1;
        }
        true
    }

    /// The command that settles these messages is applied, or refused: what of them is still live is to be delivered again.
    pub fn applied(&mut self, ranges: impl IntoIterator<Item = (i64, i64)>) {
        for (from, to) in ranges {
            let held: Vec<i64> = self.flights.range(from..to).map(|(offset, _)| *offset).collect();
            self.land_all(&held);
            self.taken.remove(from, to);
            self.rewind(from);
        }
        self.taken.take_dirty();
    }

    /// Messages from this offset on may be ready that were not: after a seek, other rules, or new facts of old messages.
    pub fn rewind(&mut self, offset: i64) {
        self.positions.values_mut().for_each(|position| *position = offset.min(*position));
    }

    /// Up to `count_max` messages that their consumers have had for too long: to be released by a command.
    pub fn overdue(&mut self, now: i64, count_max: usize) -> Ranges {
        let late = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, offset)| *offset);
        let mut late: Vec<i64> = late.take(count_max).collect();
        late.sort_unstable();
        self.land_all(&late);
        Ranges::of(late.into_iter().map(|offset| (offset, offset + 1)))
    }

    /// Up to `count_max` messages whose own time is over and that nobody has: for `Verdict::Expire`.
    pub fn expired(&self, cursor: &AckSet, now: i64, count_max: usize) -> Ranges {
        let over = cursor.expired(now, count_max.saturating_add(self.flights.len()));
        let free: BTreeSet<i64> =
            over.into_iter().filter(|offset| !self.taken.contains(*offset)).take(count_max).collect();
        Ranges::of(free.into_iter().map(|offset| (offset, offset + 1)))
    }

    /// Who has this message.
    pub fn holder(&self, offset: i64) -> Option<ConsumerId> {
        self.flights.get(&offset).map(|flight| flight.consumer)
    }

    /// What a consumer has.
    pub fn held(&self, consumer: ConsumerId) -> Vec<i64> {
        self.flights.iter().filter(|(_, flight)| flight.consumer == consumer).map(|(offset, _)| *offset).collect()
    }

    /// How many that are.
    pub fn count_of(&self, consumer: ConsumerId) -> usize {
        self.consumers.get(&consumer).map_or(0, |consumer| consumer.held)
    }

    /// Whether the message is in flight, or settled by a command that is not applied.
    pub fn is_taken(&self, offset: i64) -> bool {
        self.taken.contains(offset)
    }

    /// All that is in flight, or settled by a command that is not applied: what a purge keeps.
    pub fn taken(&self) -> Ranges {
        Ranges::of(self.taken.runs())
    }

    /// How many that are.
    pub fn taken_count(&self) -> u64 {
        self.taken.count(0, i64::MAX)
    }

    /// Up to `count_max` ready messages that nobody has, of the lowest priority and the oldest of that first: to be settled by a
    /// command because there are too many. None of them is delivered before that is applied.
    pub fn surplus(&mut self, cursor: &AckSet, now: i64, count_max: usize) -> Ranges {
        let mut surplus = BTreeSet::new();
        for priority in cursor.priorities().into_iter().rev() {
            let mut from = 0;
            while surplus.len() < count_max
                && let Some((first, end)) = cursor.next_ready(priority, from, now)
            {
                let free = self.taken.gaps(first, end).flat_map(|(from, to)| from..to);
                surplus.extend(free.take(count_max - surplus.len()));
                from = end;
            }
        }
        let ranges: Vec<(i64, i64)> = surplus.into_iter().map(|offset| (offset, offset + 1)).collect();
        for (from, to) in &ranges {
            self.taken.insert(*from, *to);
        }
        Ranges::of(ranges)
    }

    /// How many messages consumers have.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// When the first delivery is late, if nobody settles it before.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests;
