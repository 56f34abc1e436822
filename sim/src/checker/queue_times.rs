//! S10: no message is dead of its age before that has come, and none is delivered again before it has waited as its queue demands after a
//! failure. In runs whose wall clocks agree: ages are told by them.

use std::time::Duration;

use crate::history::History;
use crate::history::queues::{Delivery, Queues, Verdict};
use crate::workload::queues::GRAVES;

/// Messages that were too early.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    if !queues.troubles.clocks_agree() {
        return Vec::new();
    }
    let messages = queues.by_message();
    let mut violations = Vec::new();
    for ((_, number), deliveries) in messages.iter().filter(|((queue, _), _)| *queue == GRAVES) {
        violations.extend(deliveries.first().and_then(|first| died_young(queues, *number, first)));
    }
    for ((queue, _), deliveries) in &messages {
        let Some((first, most)) = queues.kind(queue).and_then(|kind| kind.retry_ms) else { continue };
        let early = deliveries.iter().filter(|delivery| came_back_early(deliveries, delivery, (first, most)));
        violations.extend(early.map(|delivery| format!("{}, too early", queues.words(delivery))));
    }
    violations
}

/// An expired message that was among the dead before its time.
fn died_young(queues: &Queues, number: usize, delivery: &Delivery) -> Option<String> {
    let publication = queues.publications.get(number)?;
    let mut letters = queues.logs.get(GRAVES)?.iter().filter(|letter| letter.number == number);
    letters.find(|letter| letter.death.as_deref() == Some("expired"))?;
    let rule = queues.kind(publication.queue)?.ttl_ms;
    let ttl = Duration::from_millis(rule.into_iter().chain(publication.ttl_ms).min()?);
    let age = delivery.at.saturating_sub(publication.sent);
    (age < ttl).then(|| {
        format!("message {number} of {} is dead at the age of {age:?}, its time is {ttl:?}", publication.queue)
    })
}

/// Whether a message came again before it had waited for so long after its last failure.
fn came_back_early(deliveries: &[&Delivery], delivery: &Delivery, (first_ms, max_ms): (u64, u64)) -> bool {
    let failed = deliveries
        .iter()
        .filter_map(|one| one.settled)
        .filter(|settled| settled.verdict == Verdict::Failed && settled.sent <= delivery.at);
    let failed: Vec<Duration> = failed.map(|settled| settled.sent).collect();
    // Only if all of them are counted is it known which was the last.
    let Some(last) = failed.iter().max().filter(|_| failed.len() == delivery.failures as usize) else { return false };
    let wait = first_ms.saturating_mul(1 << (failed.len() - 1).min(32)).min(max_ms);
    delivery.at < *last + Duration::from_millis(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::QueueSample;
    use crate::history::queues::Outcome;

    #[test]
    fn those_who_come_too_early_are_seen() {
        let mut sample = QueueSample::default();
        let number = sample.publish("brief", 10, Outcome::Confirmed);
        let consumer = sample.consume(GRAVES, 1);
        sample.log(GRAVES, number, Some("expired"));
        sample.deliver(number, consumer, 12, 0);
        assert!(check(&sample.history).is_empty());
        sample.history.queues.deliveries[0].at = Duration::from_secs(11);
        assert_eq!(check(&sample.history).len(), 1);
        let mut sample = QueueSample::default();
        let number = sample.publish("patient", 1, Outcome::Confirmed);
        let consumer = sample.consume("patient", 1);
        let first = sample.deliver(number, consumer, 2, 0);
        sample.settle(first, Verdict::Failed, Some(3));
        let second = sample.deliver(number, consumer, 4, 1);
        assert!(check(&sample.history).is_empty());
        sample.history.queues.deliveries[second].at = Duration::from_millis(3_100);
        assert_eq!(check(&sample.history).len(), 1);
    }
}
