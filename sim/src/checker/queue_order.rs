//! S10: of the messages that one consumer is the first to get, those of a priority come in the order of the log, and none before one of
//! a higher priority that was confirmed when the consumer had room for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::History;
use crate::history::queues::{Delivery, Outcome, Queues};

/// Messages that overtook others.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let logged =
        queues.logs.iter().flat_map(|(name, log)| log.iter().map(move |one| ((*name, one.number), one.offset)));
    let offsets: BTreeMap<_, i64> = logged.collect();
    let mut lives: BTreeMap<usize, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &queues.deliveries {
        lives.entry(delivery.consumer).or_default().push(delivery);
    }
    let mut violations = Vec::new();
    for deliveries in lives.values() {
        violations.extend(out_of_order(queues, &offsets, deliveries));
        violations.extend(overtaken(queues, deliveries));
    }
    violations
}

fn priority(queues: &Queues, delivery: &Delivery) -> u8 {
    let ranked = queues.kind(queues.consumer(delivery).queue).is_some_and(|kind| kind.priority_max > 0);
    if ranked { queues.publications[delivery.number].priority } else { 0 }
}

/// First deliveries whose offset is below that of one before of the same priority.
fn out_of_order(queues: &Queues, offsets: &BTreeMap<(&str, usize), i64>, deliveries: &[&Delivery]) -> Option<String> {
    let mut last: BTreeMap<u8, (i64, &Delivery)> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| !delivery.redelivered) {
        let Some(offset) = offsets.get(&(queues.consumer(delivery).queue, delivery.number)) else { continue };
        let before = last.insert(priority(queues, delivery), (*offset, delivery));
        if let Some((after, other)) = before.filter(|(before, _)| before > offset) {
            let (one, other) = (queues.words(delivery), queues.words(other));
            return Some(format!("{one}, which has offset {offset}, after {after}: {other}"));
        }
    }
    None
}

/// First deliveries before which one of a higher priority was due.
fn overtaken(queues: &Queues, deliveries: &[&Delivery]) -> Option<String> {
    let consumer = queues.consumer(deliveries.first()?);
    let mut settled: Vec<Duration> = deliveries.iter().filter_map(|one| Some(one.settled?.sent)).collect();
    settled.sort_unstable();
    for (place, low) in deliveries.iter().enumerate() {
        // It had room for this one since that many were settled.
        let room = place.checked_sub(consumer.prefetch.into()).and_then(|nth| settled.get(nth));
        let room = room.copied().unwrap_or(consumer.begun);
        let due = |high: &&&Delivery| {
            let confirmed = queues.publications[high.number].ended;
            let above = !high.redelivered && priority(queues, high) > priority(queues, low);
            let known = matches!(confirmed, Some((at, Outcome::Confirmed)) if at < room);
            above && known && !queues.in_trouble(low, room, high.at)
        };
        if let Some(high) = deliveries[place + 1..].iter().find(due).filter(|_| !low.redelivered) {
            return Some(format!("{}, before one of a higher priority: {}", queues.words(low), queues.words(high)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::QueueSample;
    use crate::history::queues::Verdict;

    #[test]
    fn messages_that_overtake_are_seen() {
        let mut sample = QueueSample::default();
        let numbers: Vec<usize> = (0..2).map(|_| sample.publish("ranked", 1, Outcome::Confirmed)).collect();
        numbers.iter().for_each(|number| sample.log("ranked", *number, None));
        let consumer = sample.consume("ranked", 2);
        let first = sample.deliver(numbers[0], consumer, 3, 0);
        sample.settle(first, Verdict::Done, Some(4));
        sample.deliver(numbers[1], consumer, 5, 0);
        assert!(check(&sample.history).is_empty());
        sample.history.queues.publications[numbers[1]].priority = 3;
        assert_eq!(check(&sample.history).len(), 1, "the higher one was there");
        sample.history.queues.publications[numbers[1]].priority = 0;
        sample.history.queues.deliveries.reverse();
        assert_eq!(check(&sample.history).len(), 1, "not in the order of the log");
    }
}
