//! The leader's side of an ack-set cursor: each rule by itself, then any mixture of them beside a plain order.

use proptest::prelude::*;

use super::super::{Command, Fact, Settlement, Verdict};
use super::*;
use crate::machine::At;

const ONE: ConsumerId = ConsumerId(1);
const TWO: ConsumerId = ConsumerId(2);

fn apply(cursor: &mut AckSet, leader_ts: i64, command: Command) {
    cursor.apply(At { index: 1, term: 1, leader_ts }, command, &mut Vec::new()).unwrap();
}

fn published(next: i64, facts: &[Fact]) -> AckSet {
    let mut cursor = AckSet::default();
    apply(&mut cursor, 0, Command::Publish { next, facts: facts.to_vec() });
    cursor
}

fn one(offset: i64) -> Ranges {
    Ranges::of([(offset, offset + 1)])
}

fn consumers(credits: &[(ConsumerId, usize)]) -> Dispatch {
    let mut dispatch = Dispatch::default();
    credits.iter().for_each(|(consumer, credit)| dispatch.set_credit(*consumer, *credit));
    dispatch
}

/// Consumer and offset of each delivery.
fn deliver(dispatch: &mut Dispatch, cursor: &AckSet, now: i64) -> Vec<(u64, i64)> {
    let deliveries = dispatch.deliver(cursor, now, now + 100, 100);
    deliveries.into_iter().map(|delivery| (delivery.consumer.0, delivery.offset)).collect()
}

/// Applies what became of a message, as the leader does once that is committed.
fn commit(dispatch: &mut Dispatch, cursor: &mut AckSet, now: i64, offset: i64, verdict: Verdict) {
    apply(cursor, now, Command::Settle(vec![Settlement { verdict, ranges: one(offset) }]));
    dispatch.applied([(offset, offset + 1)]);
}

const AGAIN: Verdict = Verdict::Release { counted: true, delay_ms: None };

#[test]
fn what_is_too_much_is_the_least_important_and_oldest_that_nobody_has() {
    let high = Fact { offset: 1, priority: Some(5), ..Fact::default() };
    let late = Fact { offset: 2, not_before: Some(1_000), ..Fact::default() };
    let cursor = published(6, &[high, late]);
    let mut dispatch = consumers(&[(ONE, 2)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 1), (1, 0)]);
    assert_eq!((dispatch.holder(0), dispatch.held(ONE)), (Some(ONE), vec![0, 1]));
    assert_eq!(dispatch.surplus(&cursor, 0, 2), Ranges::of([(3, 5)]));
    assert_eq!(dispatch.surplus(&cursor, 0, 9), Ranges::of([(5, 6)]));
    assert_eq!((dispatch.taken(), dispatch.taken_count()), (Ranges::of([(0, 2), (3, 6)]), 5));
    assert!(dispatch.is_taken(5) && !dispatch.is_taken(2));
    dispatch.set_credit(ONE, 9);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), []);
    dispatch.applied([(3, 6)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 3), (1, 4), (1, 5)]);
}

#[test]
fn consumers_with_credit_take_turns() {
    let cursor = published(100, &[]);
    let mut dispatch = consumers(&[(ONE, 3), (TWO, 1), (ConsumerId(9), 2)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 0), (2, 1), (9, 2), (1, 3), (9, 4), (1, 5)]);
    assert!(dispatch.settle(TWO, 1) && dispatch.settle(ONE, 0));
    // After consumer 1 it is the turn of the next.
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(2, 6), (1, 7)]);
    dispatch.set_credit(TWO, 0);
    assert!(dispatch.settle(TWO, 6) && !dispatch.settle(TWO, 6) && !dispatch.settle(TWO, 5));
    assert_eq!(deliver(&mut dispatch, &cursor, 0), []);
    assert_eq!(dispatch.in_flight(), 5);
}

#[test]
fn a_message_goes_back_to_its_place_once_that_is_committed() {
    let urgent = Fact { offset: 2, priority: Some(5), ..Fact::default() };
    let mut cursor = published(4, &[urgent]);
    let mut dispatch = consumers(&[(ONE, 2)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 2), (1, 0)]);
    assert!(dispatch.settle(ONE, 0));
    // Until then the next one goes first.
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 1)]);
    commit(&mut dispatch, &mut cursor, 0, 0, AGAIN);
    assert!(dispatch.settle(ONE, 2));
    let again = dispatch.deliver(&cursor, 0, 100, 1);
    assert_eq!(again, [Delivery { consumer: ONE, offset: 0, failures: 1 }]);
    commit(&mut dispatch, &mut cursor, 0, 2, Verdict::Accept);
    dispatch.set_credit(ONE, 9);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 3)]);
}

#[test]
fn what_waits_is_delivered_in_its_place_when_it_is_due() {
    let later = Fact { offset: 0, not_before: Some(50), ..Fact::default() };
    let mut cursor = published(3, &[later]);
    let mut dispatch = consumers(&[(ONE, 1)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 49), [(1, 1)]);
    assert_eq!(cursor.due_at(), Some(50));
    // Whether a command has cleared the time away or not.
    apply(&mut cursor, 50, Command::Settle(vec![]));
    assert_eq!(cursor.due_at(), None);
    dispatch.set_credit(ONE, 3);
    assert_eq!(deliver(&mut dispatch, &cursor, 50), [(1, 0), (1, 2)]);
}

#[test]
fn what_is_over_is_not_delivered_and_what_is_in_flight_does_not_expire() {
    let short = |offset| Fact { offset, expires_at: Some(10), ..Fact::default() };
    let cursor = published(4, &[short(0), short(2)]);
    let mut dispatch = consumers(&[(ONE, 1)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 9), [(1, 0)]);
    dispatch.set_credit(ONE, 9);
    assert_eq!(deliver(&mut dispatch, &cursor, 10), [(1, 1), (1, 3)]);
    assert_eq!(dispatch.expired(&cursor, 9, 1), Ranges::default());
    assert_eq!(dispatch.expired(&cursor, 10, 1), one(2));
}

#[test]
fn nobody_keeps_a_message_for_ever() {
    let mut cursor = published(2, &[]);
    let mut dispatch = consumers(&[(ONE, 1), (TWO, 1)]);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 0), (2, 1)]);
    assert_eq!((dispatch.next_deadline(), dispatch.overdue(99, 9)), (Some(100), Ranges::default()));
    assert_eq!(dispatch.overdue(100, 1), one(0));
    assert_eq!(dispatch.remove(TWO), one(1));
    // The commands that release them are on their way.
    assert_eq!(deliver(&mut dispatch, &cursor, 100), []);
    commit(&mut dispatch, &mut cursor, 100, 0, AGAIN);
    commit(&mut dispatch, &mut cursor, 100, 1, AGAIN);
    assert_eq!(deliver(&mut dispatch, &cursor, 100), [(1, 0)]);
    assert!(!dispatch.settle(TWO, 1) && dispatch.in_flight() == 1);
}

#[test]
fn a_new_leader_delivers_nothing_that_a_gateway_still_holds() {
    let cursor = published(3, &[]);
    let mut dispatch = Dispatch::default();
    assert!(dispatch.claim(TWO, 1, 100) && dispatch.claim(TWO, 1, 100));
    assert!(!dispatch.claim(ONE, 1, 100));
    dispatch.set_credit(ONE, 9);
    dispatch.set_credit(TWO, 1);
    assert_eq!(deliver(&mut dispatch, &cursor, 0), [(1, 0), (1, 2)]);
    assert!(dispatch.settle(TWO, 1));
}

/// What a plain reading of the rules delivers: consumer and offset.
fn expected(
    dispatch: &Dispatch,
    cursor: &AckSet,
    busy: &BTreeSet<i64>,
    facts: &BTreeMap<i64, Fact>,
    now: i64,
) -> Option<(u64, i64)> {
    let free = |id: &&ConsumerId| dispatch.consumers[id].held < dispatch.consumers[id].credit;
    let later = dispatch.consumers.keys().filter(|id| Some(**id) > dispatch.last).find(free);
    let consumer = later.or_else(|| dispatch.consumers.keys().find(free))?;
    let fits = |offset: &i64| {
        let waits = cursor.exception(*offset).not_before.is_some_and(|time| time > now);
        let over = cursor.expires_at(*offset).is_some_and(|time| time <= now);
        cursor.is_live(*offset) && !waits && !over && !busy.contains(offset)
    };
    let priority = |offset: i64| facts.get(&offset).and_then(|fact| fact.priority).unwrap_or_default();
    let offset = (0..cursor.state().next).filter(fits).min_by_key(|offset| (255 - priority(*offset), *offset))?;
    Some((consumer.0, offset))
}

/// A leader's day: its cursor, who holds what, and what is settled and on its way.
#[derive(Default)]
struct Day {
    cursor: AckSet,
    dispatch: Dispatch,
    facts: BTreeMap<i64, Fact>,
    holds: BTreeMap<i64, ConsumerId>,
    proposed: BTreeMap<i64, Verdict>,
    now: i64,
}

impl Day {
    fn publish(&mut self, bits: u8) {
        let offset = self.cursor.state().next;
        let fact = Fact {
            offset,
            priority: (bits & 1 > 0).then_some(bits % 5),
            not_before: (bits & 2 > 0).then_some(self.now + i64::from(bits % 17)),
            expires_at: (bits & 12 == 12).then_some(self.now + i64::from(bits % 29)),
        };
        self.facts.insert(offset, fact);
        apply(&mut self.cursor, self.now, Command::Publish { next: offset + 1, facts: vec![fact] });
    }

    fn deliver(&mut self, count_max: u8) {
        for _ in 0..count_max {
            let busy: BTreeSet<i64> = self.holds.keys().chain(self.proposed.keys()).copied().collect();
            let expected = expected(&self.dispatch, &self.cursor, &busy, &self.facts, self.now);
            let delivered = self.dispatch.deliver(&self.cursor, self.now, self.now + 10, 1).pop();
            assert_eq!(delivered.map(|delivery| (delivery.consumer.0, delivery.offset)), expected);
            self.holds.extend(delivered.map(|delivery| (delivery.offset, delivery.consumer)));
        }
    }

    fn give_back(&mut self, ranges: &Ranges) {
        for offset in ranges.within(i64::MAX).unwrap().into_iter().flat_map(|(from, to)| from..to) {
            assert!(self.holds.remove(&offset).is_some(), "{offset} was in flight");
            self.proposed.insert(offset, AGAIN);
        }
    }

    fn step(&mut self, kind: u8, bits: u8) {
        let consumer = ConsumerId(u64::from(bits % 4));
        match kind {
            0..=2 => self.publish(bits),
            3..=5 => self.deliver(bits % 5),
            6..=7 => {
                let held = self.holds.iter().nth(usize::from(bits) % self.holds.len().max(1));
                let Some((offset, holder)) = held.map(|(offset, holder)| (*offset, *holder)) else { return };
                assert!(!self.dispatch.settle(ConsumerId(77), offset) && self.dispatch.settle(holder, offset));
                self.holds.remove(&offset);
                let delay_ms = (bits & 8 > 0).then_some(i64::from(bits % 9));
                let again = Verdict::Release { counted: bits & 4 > 0, delay_ms };
                self.proposed.insert(offset, if bits & 3 > 0 { Verdict::Accept } else { again });
            }
            8..=9 => {
                if let Some((offset, verdict)) = self.proposed.pop_last() {
                    commit(&mut self.dispatch, &mut self.cursor, self.now, offset, verdict);
                }
            }
            10 => {
                let late = self.dispatch.overdue(self.now, 3);
                self.give_back(&late);
            }
            11 if bits & 16 > 0 => {
                let held = self.dispatch.remove(consumer);
                self.give_back(&held);
            }
            11 => self.dispatch.set_credit(consumer, usize::from(bits % 6)),
            12 => {
                let over = self.dispatch.expired(&self.cursor, self.now, 3);
                apply(
                    &mut self.cursor,
                    self.now,
                    Command::Settle(vec![Settlement { verdict: Verdict::Expire, ranges: over }]),
                );
            }
            _ => self.now += i64::from(bits % 7),
        }
        assert_eq!(self.dispatch.in_flight(), self.holds.len());
        for (id, consumer) in &self.dispatch.consumers {
            assert_eq!(consumer.held, self.holds.values().filter(|holder| *holder == id).count());
        }
    }
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn the_right_message_goes_to_the_right_consumer(
        steps in proptest::collection::vec((0u8..14, any::<u8>()), 1..100),
    ) {
        let mut day = Day::default();
        steps.into_iter().for_each(|(kind, bits)| day.step(kind, bits));
        // In the end somebody takes everything: nothing is orphaned.
        day.now += 1_000;
        let late = day.dispatch.overdue(day.now, usize::MAX);
        day.give_back(&late);
        while let Some((offset, verdict)) = day.proposed.pop_first() {
            commit(&mut day.dispatch, &mut day.cursor, day.now, offset, verdict);
        }
        // Some of that waits once more.
        day.now += 1_000;
        let over = day.dispatch.expired(&day.cursor, day.now, usize::MAX);
        apply(&mut day.cursor, day.now, Command::Settle(vec![Settlement { verdict: Verdict::Expire, ranges: over }]));
        day.dispatch.set_credit(ONE, 1_000);
        for (_, offset) in deliver(&mut day.dispatch, &day.cursor, day.now) {
            commit(&mut day.dispatch, &mut day.cursor, day.now, offset, Verdict::Accept);
        }
        prop_assert_eq!(day.cursor.state().floor, day.cursor.state().next);
        prop_assert_eq!(day.cursor.bytes(), 0);
    }
}
