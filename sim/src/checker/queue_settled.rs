//! S9: what a consumer has settled for good, and was heard by a node that nothing was wrong with since, is not delivered again, whoever led
//! the queue then and leads it now. Whoever was cut off meanwhile may have it from before. What was settled while all was well is committed
//! soon: whoever begins to consume later never gets it, whatever goes wrong.

use std::time::Duration;

use crate::history::History;
use crate::history::queues::{Delivery, Verdict};

/// By then everybody knows what was settled while all was well.
const KNOWN: Duration = Duration::from_millis(1_500);

/// Messages that were delivered again.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let mut violations = Vec::new();
    for deliveries in queues.by_message().values() {
        for (place, one) in deliveries.iter().enumerate() {
            let Some(settled) = one.settled.filter(|settled| settled.verdict != Verdict::Failed) else { continue };
            let Some(heard) = settled.heard else { continue };
            let known = settled.sent + KNOWN;
            let is_known = queues.troubles.none(settled.sent, known);
            let again = |other: &&&Delivery| {
                let troubled = |delivery| queues.in_trouble(delivery, settled.sent, other.at);
                let late = is_known && queues.consumer(other).begun >= known;
                late || (other.at > heard && !troubled(one) && !troubled(other))
            };
            let again = deliveries[place + 1..].iter().find(again);
            violations.extend(again.map(|other| format!("{}, but then {}", queues.words(one), queues.words(other))));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{QueueSample, at};
    use crate::fault::Fault;
    use crate::history::queues::Outcome;

    #[test]
    fn a_delivery_after_an_acknowledgement_is_seen() {
        let mut sample = QueueSample::default();
        let number = sample.publish("plain", 1, Outcome::Confirmed);
        let consumer = sample.consume("plain", 1);
        for (verdict, seconds) in [(Verdict::Failed, 2), (Verdict::Done, 4)] {
            let delivery = sample.deliver(number, consumer, seconds, 0);
            sample.settle(delivery, verdict, Some(seconds + 1));
        }
        assert!(check(&sample.history).is_empty());
        sample.deliver(number, consumer, 9, 1);
        assert_eq!(check(&sample.history).len(), 1);
        sample.history.queues.troubles.note(at(7), &Fault::Reset { one: 1, other: 2 });
        assert!(check(&sample.history).is_empty(), "the node may have forgotten");
        sample.history.queues.consumers[consumer].begun = at(8);
        assert_eq!(check(&sample.history).len(), 1, "nobody may forget what was known");
    }
}
