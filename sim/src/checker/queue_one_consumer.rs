//! S10: a message is with one consumer at a time. Who got it and said nothing has it as long as its connection lives, and nobody else gets
//! it meanwhile, unless something is wrong with one of their nodes.

use crate::history::History;
use crate::history::queues::Delivery;

/// Messages that two consumers had.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let mut violations = Vec::new();
    for deliveries in queues.by_message().values() {
        for (place, one) in deliveries.iter().enumerate() {
            let heard = queues.consumer(one).heard;
            let has = |at| one.settled.map_or(heard > at, |settled| settled.sent > at && heard > at);
            let both = |other: &&&Delivery| {
                let troubled = |delivery| queues.in_trouble(delivery, one.at, other.at);
                has(other.at) && !troubled(one) && !troubled(other)
            };
            let both = deliveries[place + 1..].iter().find(both);
            violations.extend(both.map(|other| format!("{}, and {}", queues.words(one), queues.words(other))));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{QueueSample, at};
    use crate::history::queues::{Outcome, Verdict};

    #[test]
    fn two_who_have_the_same_message_are_seen() {
        let mut sample = QueueSample::default();
        let number = sample.publish("plain", 1, Outcome::Confirmed);
        let (one, other) = (sample.consume("plain", 1), sample.consume("plain", 1));
        let first = sample.deliver(number, one, 2, 0);
        sample.deliver(number, other, 5, 0);
        assert_eq!(check(&sample.history).len(), 1);
        sample.settle(first, Verdict::Done, Some(7));
        assert_eq!(check(&sample.history).len(), 1, "it had not settled it yet");
        sample.settle(first, Verdict::Failed, Some(4));
        assert!(check(&sample.history).is_empty());
        sample.history.queues.deliveries[first].settled = None;
        sample.history.queues.consumers[one].heard = at(4);
        assert!(check(&sample.history).is_empty(), "it may have been dead");
    }
}
