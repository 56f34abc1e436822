//! S4, for batches that were sent once and not retried: such a batch is in the log never, once, or (the network's doing) more than
//! once, but always whole and in one piece. What Kafka promises of a record batch.

use crate::history::{History, Place, Serial};

/// Every appearance of a batch must be its records, in order, at offsets that follow each other.
pub fn check(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut found = history.read.found.as_slice();
    while let Some(((place, serial), rest)) = found.split_first() {
        found = rest;
        let Some((first, count)) = batch_of(history, *serial) else { continue };
        let begins = history.read.starts.get(&place.partition).copied().unwrap_or(0);
        let missing = serial.number - first.number;
        // The log start may lie within a batch.
        if missing > 0 && place.offset != begins {
            violations.push(format!("{serial} at {place} is not behind the record before it, which was in its batch"));
            continue;
        }
        for number in 1..count - missing {
            let next = Serial { number: serial.number + number, ..*serial };
            let there = Place { offset: place.offset + number as i64, ..*place };
            match found.split_first() {
                Some((here, rest)) if *here == (there, next) => found = rest,
                _ => {
                    violations
                        .push(format!("of the batch of {count} that begins with {first} only a part is at {place}"));
                    break;
                }
            }
        }
    }
    violations
}

/// The first record and the size of the batch that holds `serial`, if it is one of those.
fn batch_of(history: &History, serial: Serial) -> Option<(Serial, u64)> {
    let (first, count) = history.loose.range(..=serial).next_back()?;
    let within = first.producer == serial.producer && serial.number < first.number + count;
    within.then_some((*first, *count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample;

    fn history(numbers: &[u64]) -> History {
        let mut history = History::default();
        history.loose.insert(Serial { producer: 10, number: 0 }, 3);
        history.loose.insert(Serial { producer: 10, number: 3 }, 1);
        let found = (0..)
            .zip(numbers)
            .map(|(offset, number)| (sample::place(offset), Serial { producer: 10, number: *number }));
        history.read.found = found.collect();
        history
    }

    #[test]
    fn a_batch_appears_whole_any_number_of_times() {
        for whole in [&[][..], &[0, 1, 2], &[3], &[0, 1, 2, 3, 0, 1, 2], &[3, 3]] {
            assert!(check(&history(whole)).is_empty(), "{whole:?}");
        }
    }

    #[test]
    fn a_part_of_a_batch_is_seen() {
        for part in [&[0, 1][..], &[0, 2, 1], &[3, 1, 2], &[0, 1, 3]] {
            assert!(!check(&history(part)).is_empty(), "{part:?}");
        }
        let mut cut = history(&[1, 2, 3]);
        assert!(check(&cut).is_empty(), "the log begins within the batch");
        cut.read.starts.insert(sample::place(0).partition, -1);
        assert!(!check(&cut).is_empty());
    }
}
