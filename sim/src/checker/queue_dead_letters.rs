//! S9: a message dies once, for a reason that there was, and is then in the log of the dead letters, once. What a consumer rejected, and
//! was heard, is dead unless somebody else was done with it; what nobody rejected, failed often enough or left for too long is not.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::History;
use crate::history::queues::{Delivery, Logged, Queues, Verdict};
use crate::workload::queues::GRAVES;

/// Dead letters that are missing, doubled or without a reason.
pub fn check(history: &History) -> Vec<String> {
    let queues = &history.queues;
    let Some(graves) = queues.logs.get(GRAVES) else { return Vec::new() };
    let (mut violations, mut dead) = (Vec::new(), BTreeSet::new());
    let deliveries = queues.by_message();
    for letter in graves {
        let number = letter.number;
        if !dead.insert(number) {
            violations.push(format!("message {number} is among the dead letters twice"));
        }
        let Some(publication) = queues.publications.get(number) else { continue };
        let told = deliveries.get(&(publication.queue, number)).map_or(&[][..], Vec::as_slice);
        violations.extend(groundless(queues, letter, told));
    }
    violations.extend(missing(queues, &deliveries, &dead));
    violations
}

/// A letter whose reason was never given.
fn groundless(queues: &Queues, letter: &Logged, told: &[&Delivery]) -> Option<String> {
    let publication = &queues.publications[letter.number];
    let kind = queues.kind(publication.queue)?;
    let said = |verdict| told.iter().filter(|delivery| says(delivery, verdict)).count();
    let grounds = match letter.death.as_deref() {
        Some("rejected") => said(Verdict::Rejected) > 0,
        Some("delivery_limit") => kind.failures_max.is_some_and(|max| said(Verdict::Failed) > max as usize),
        Some("expired") => kind.ttl_ms.is_some() || publication.ttl_ms.is_some(),
        _ => false,
    };
    let (number, queue, death) = (letter.number, publication.queue, &letter.death);
    let words: Vec<String> = told.iter().map(|delivery| queues.words(delivery)).collect();
    (!grounds).then(|| format!("message {number} of {queue} is dead by {death:?}, but {}", words.join(", ")))
}

/// Rejected messages that are not dead, though nobody else was done with them and none waits for a clock.
fn missing(
    queues: &Queues,
    deliveries: &BTreeMap<(&'static str, usize), Vec<&Delivery>>,
    dead: &BTreeSet<usize>,
) -> Vec<String> {
    let mut violations = Vec::new();
    for ((queue, number), told) in deliveries {
        let rejected = told.iter().find(|one| says(one, Verdict::Rejected) && is_heard(one));
        let over = dead.contains(number) || told.iter().any(|one| says(one, Verdict::Done));
        if let Some(rejected) = rejected.filter(|_| *queue != GRAVES && !over && !queues.may_wait(*number)) {
            violations.push(format!("{}, and is not among the dead letters", queues.words(rejected)));
        }
    }
    violations
}

fn says(delivery: &Delivery, verdict: Verdict) -> bool {
    delivery.settled.is_some_and(|settled| settled.verdict == verdict)
}

fn is_heard(delivery: &Delivery) -> bool {
    delivery.settled.is_some_and(|settled| settled.heard.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{QueueSample, at};
    use crate::fault::Fault;
    use crate::history::queues::Outcome;

    #[test]
    fn lost_doubled_and_groundless_letters_are_seen() {
        let mut sample = QueueSample::default();
        let number = sample.publish("strict", 1, Outcome::Confirmed);
        let consumer = sample.consume("strict", 1);
        sample.log("strict", number, None);
        sample.history.queues.logs.entry(GRAVES).or_default();
        let delivery = sample.deliver(number, consumer, 2, 0);
        sample.settle(delivery, Verdict::Rejected, Some(3));
        assert_eq!(check(&sample.history).len(), 1, "lost");
        sample.log(GRAVES, number, Some("delivery_limit"));
        assert_eq!(check(&sample.history).len(), 1, "groundless");
        sample.history.queues.logs.insert(GRAVES, Vec::new());
        sample.log(GRAVES, number, Some("rejected"));
        assert!(check(&sample.history).is_empty());
        sample.log(GRAVES, number, Some("rejected"));
        assert_eq!(check(&sample.history).len(), 1, "twice");
    }

    #[test]
    fn what_waits_for_a_clock_that_jumped_is_not_lost() {
        let mut sample = QueueSample::default();
        let number = sample.publish("patient", 1, Outcome::Confirmed);
        let consumer = sample.consume("patient", 1);
        sample.history.queues.logs.entry(GRAVES).or_default();
        let rejected = sample.deliver(number, consumer, 2, 0);
        sample.settle(rejected, Verdict::Rejected, Some(3));
        let failed = sample.deliver(number, consumer, 4, 0);
        sample.settle(failed, Verdict::Failed, Some(5));
        sample.history.queues.failed.insert(number);
        assert_eq!(check(&sample.history).len(), 1, "it is back within a second");
        sample.history.queues.troubles.note(at(5), &Fault::ClockJump { node: 1, by_ms: -3_600_000 });
        assert!(check(&sample.history).is_empty());
    }
}
