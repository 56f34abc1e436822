//! S10: of all deliveries of a message one at most does not say that it may have been delivered before; the count of failures is never above
//! those that consumers sent, nor below those that were heard by nodes that nothing was wrong with since.

use crate::history::History;
use crate::history::queues::{Delivery, Queues, Settled, Verdict};

/// Deliveries that say something wrong.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let mut violations = Vec::new();
    for deliveries in queues.by_message().values() {
        let mut fresh = deliveries.iter().filter(|delivery| !delivery.redelivered);
        if let (Some(one), Some(other)) = (fresh.next(), fresh.next()) {
            violations.push(format!("{}, and unmarked again: {}", queues.words(one), queues.words(other)));
        }
        violations.extend(deliveries.iter().filter_map(|delivery| miscounted(queues, deliveries, delivery)));
    }
    violations
}

fn miscounted(queues: &Queues, deliveries: &[&Delivery], delivery: &Delivery) -> Option<String> {
    let failed =
        |one: &&&Delivery| settled(one).is_some_and(|said| said.verdict == Verdict::Failed && said.sent <= delivery.at);
    let failures: Vec<_> = deliveries.iter().filter(failed).collect();
    let known = |one: &&&&Delivery| {
        settled(one).is_some_and(|said| {
            let troubled = |one| queues.in_trouble(one, said.sent, delivery.at);
            said.heard.is_some_and(|at| at < delivery.at) && !troubled(one) && !troubled(delivery)
        })
    };
    let (most, least) = (failures.len(), failures.iter().filter(known).count());
    let right = (least..=most).contains(&(delivery.failures as usize));
    (!right).then(|| format!("{}, between {least} and {most} are due", queues.words(delivery)))
}

fn settled(delivery: &Delivery) -> Option<Settled> {
    delivery.settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::QueueSample;
    use crate::history::queues::Outcome;

    #[test]
    fn wrong_counts_and_missing_marks_are_seen() {
        let mut sample = QueueSample::default();
        let number = sample.publish("plain", 1, Outcome::Confirmed);
        let consumer = sample.consume("plain", 1);
        let first = sample.deliver(number, consumer, 2, 0);
        sample.settle(first, Verdict::Failed, Some(3));
        let second = sample.deliver(number, consumer, 4, 1);
        assert!(check(&sample.history).is_empty());
        for wrong in [0, 2] {
            sample.history.queues.deliveries[second].failures = wrong;
            assert_eq!(check(&sample.history).len(), 1, "{wrong}");
        }
        sample.history.queues.deliveries[second].failures = 1;
        sample.history.queues.deliveries[second].redelivered = false;
        assert_eq!(check(&sample.history).len(), 1);
    }
}
