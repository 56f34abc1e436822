//! Dead letters on their way: which messages are dead, where each goes, and the number that each letter has at its target.
//! Letters to one target are numbered upwards and sent in that order; the target takes each number once ([`Inbox`]), so
//! that whatever is sent again, by whichever leader, arrives once. Invariants: a message leaves when all its targets have it; a number is
//! never given twice to a target, not even by a cursor that was closed and opened again ([`before`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{Place, Reason, Refusal};
use crate::check;
use crate::limits;

/// What a dead message costs besides its letters, and a letter: entries of two trees each.
const DEAD_BYTES: usize = 128;
const LETTER_BYTES: usize = 96;

/// One copy of a dead message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Who gets it.
    pub target: Place,
    /// Upwards for each target.
    pub number: u64,
}

/// A message that is dead and not yet with all its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Why.
    pub reason: Reason,
    /// How often it had failed.
    pub failures: u32,
    /// What is still to be sent; none while nobody has decided where it goes.
    pub letters: Option<Vec<Letter>>,
}

/// What the entry at this index of the log counts from for a target that it has no letter for yet: above all that entries before it have
/// given, each of which numbers fewer than 65,536 letters to one target.
fn before(index: u64) -> u64 {
    index.saturating_sub(1) << 16
}

/// The letters to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sequence {
    last: u64,
    pending: BTreeMap<u64, i64>,
}

/// A letter to send, with what the target needs to know of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// Of the message.
    pub offset: i64,
    /// The letter's number.
    pub number: u64,
    /// The lowest number that is still to be sent: those below have arrived, or will never be sent.
    pub lowest: u64,
}

/// The dead messages of a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outbox {
    pub(super) dead: BTreeMap<i64, Dead>,
    unresolved: BTreeSet<i64>,
    sequences: BTreeMap<Place, Sequence>,
    letters: usize,
}

impl Outbox {
    pub(super) fn kill(&mut self, offset: i64, reason: Reason, failures: u32) {
        let before = self.dead.insert(offset, Dead { reason, failures, letters: None });
        check!(before.is_none(), DeadLetterOnce, "{offset} was dead already: {before:?}");
        self.unresolved.insert(offset);
    }

    /// Numbers a letter for each target in the entry at `index`, unless that was done before.
    pub(super) fn resolve(&mut self, index: u64, offset: i64, targets: &[Place]) -> Result<Vec<Letter>, Refusal> {
        let dead = self.dead.get_mut(&offset).ok_or(Refusal::NotDead)?;
        if let Some(letters) = &dead.letters {
            return Ok(letters.clone());
        }
        let distinct: BTreeSet<&Place> = targets.iter().collect();
        let new = targets.iter().filter(|target| !self.sequences.contains_key(target)).count();
        let fits = targets.len() <= limits::DEAD_TARGETS_MAX && self.sequences.len() + new <= limits::TARGETS_MAX;
        if distinct.len() < targets.len() || !fits {
            return Err(Refusal::Targets);
        }
        let number = |target: &Place| {
            let begun = || Sequence { last: before(index), pending: BTreeMap::new() };
            let sequence = self.sequences.entry(*target).or_insert_with(begun);
            sequence.last += 1;
            let before = sequence.pending.insert(sequence.last, offset);
            check!(before.is_none(), DeadLetterOnce, "two letters {} to {target:?}", sequence.last);
            Letter { target: *target, number: sequence.last }
        };
        let letters: Vec<Letter> = targets.iter().map(number).collect();
        dead.letters = Some(letters.clone());
        self.letters += letters.len();
        self.unresolved.remove(&offset);
        Ok(letters)
    }

    /// Drops the letters to `target` up to number `through`: the messages that lost one.
    pub(super) fn sent(&mut self, target: Place, through: u64) -> Vec<i64> {
        let Some(sequence) = self.sequences.get_mut(&target) else { return Vec::new() };
        let later = through.checked_add(1).map(|next| sequence.pending.split_off(&next)).unwrap_or_default();
        let sent: Vec<i64> = std::mem::replace(&mut sequence.pending, later).into_values().collect();
        for offset in &sent {
            let letters = self.dead.get_mut(offset).and_then(|dead| dead.letters.as_mut());
            let before = letters.as_ref().map_or(0, |letters| letters.len());
            let after = letters.map_or(0, |letters| {
                letters.retain(|letter| letter.target != target);
                letters.len()
            });
            check!(before == after + 1, DeadLetterOnce, "{offset} had {before} letters, and now {after}");
            self.letters -= before - after;
        }
        sent
    }

    /// Whether the message is dead and has nothing left to be sent.
    pub(super) fn is_over(&self, offset: i64) -> bool {
        let letters = self.dead.get(&offset).and_then(|dead| dead.letters.as_ref());
        letters.is_some_and(Vec::is_empty)
    }

    /// Takes the message out, with what was still to be sent of it.
    pub(super) fn drop_dead(&mut self, offset: i64) {
        self.unresolved.remove(&offset);
        for Letter { target, number } in self.dead.remove(&offset).and_then(|dead| dead.letters).unwrap_or_default() {
            let held = self.sequences.get_mut(&target).and_then(|sequence| sequence.pending.remove(&number));
            check!(held == Some(offset), DeadLetterOnce, "letter {number} to {target:?} is of {held:?}, not {offset}");
            self.letters -= 1;
        }
    }

    pub(super) fn forget(&mut self, target: Place) -> Vec<i64> {
        let sent = self.sent(target, u64::MAX);
        self.sequences.remove(&target);
        sent
    }

    pub(super) fn last(&self, target: Place) -> Option<u64> {
        self.sequences.get(&target).map(|sequence| sequence.last)
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = Place> + '_ {
        self.sequences.keys().copied()
    }

    pub(super) fn unresolved(&self) -> impl Iterator<Item = i64> + '_ {
        self.unresolved.iter().copied()
    }

    pub(super) fn letters(&self) -> usize {
        self.letters
    }

    pub(super) fn sendings(&self, target: Place) -> impl Iterator<Item = Sending> + '_ {
        let pending = self.sequences.get(&target).map(|sequence| &sequence.pending).into_iter().flatten();
        let lowest = self.sequences.get(&target).and_then(|sequence| Some(*sequence.pending.first_key_value()?.0));
        pending.map(move |(number, offset)| Sending {
            offset: *offset,
            number: *number,
            lowest: lowest.unwrap_or(*number),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.dead.len() * DEAD_BYTES + (self.letters + self.sequences.len()) * LETTER_BYTES
    }

    /// A row of a snapshot; refused where there is one already.
    pub(super) fn put_dead(&mut self, offset: i64, dead: Dead) -> bool {
        match &dead.letters {
            None => drop(self.unresolved.insert(offset)),
            Some(letters) => {
                self.letters += letters.len();
                for Letter { target, number } in letters {
                    let sequence = self.sequences.entry(*target).or_default();
                    if sequence.pending.insert(*number, offset).is_some() {
                        return false;
                    }
                }
            }
        }
        self.dead.insert(offset, dead).is_none()
    }

    /// A row of a snapshot; refused where there is one already.
    pub(super) fn put_last(&mut self, target: Place, last: u64) -> bool {
        last > 0 && std::mem::replace(&mut self.sequences.entry(target).or_default().last, last) == 0
    }

    /// Whether every letter is one that was numbered, and every message has some to send or nobody has decided.
    pub(super) fn is_sound(&self) -> bool {
        let numbered = |sequence: &Sequence| {
            let first = sequence.pending.first_key_value().is_none_or(|(number, _)| *number > 0);
            first && sequence.last > 0 && sequence.pending.last_key_value().is_none_or(|(n, _)| *n <= sequence.last)
        };
        let some = |dead: &Dead| {
            let Some(letters) = &dead.letters else { return true };
            let targets: BTreeSet<Place> = letters.iter().map(|letter| letter.target).collect();
            !letters.is_empty() && targets.len() == letters.len()
        };
        self.sequences.values().all(numbered) && self.dead.values().all(some)
    }
}

/// What the target knows of each source: the last number that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    last: BTreeMap<Place, u64>,
}

/// What the target does with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taking {
    /// It is new: append it.
    New,
    /// It was appended before: answer as then.
    Duplicate,
    /// One before it is missing, or too many sources are known: append nothing, send again later.
    Early,
}

impl Inbox {
    /// The inbox that took these last numbers.
    pub(crate) fn from_sources(sources: impl Iterator<Item = (Place, u64)>) -> Self {
        Inbox { last: sources.collect() }
    }

    /// What would become of letter `number` of `source`, whose lowest number still to be sent is `lowest`.
    pub fn judge(&self, source: Place, number: u64, lowest: u64) -> Taking {
        let last = self.last.get(&source).copied().unwrap_or_default();
        if number <= last {
            return Taking::Duplicate;
        }
        let next = last.saturating_add(1).max(lowest);
        let full = last == 0 && self.last.len() >= limits::SOURCES_MAX;
        if number > next || full { Taking::Early } else { Taking::New }
    }

    /// Decides about a letter, and takes it if it is new.
    pub fn take(&mut self, source: Place, number: u64, lowest: u64) -> Taking {
        let taking = self.judge(source, number, lowest);
        if taking == Taking::New {
            let before = self.last.insert(source, number);
            check!(
                before.is_none_or(|last| last < number),
                DeadLetterOnce,
                "letter {number} of {source:?} after {before:?}"
            );
        }
        taking
    }

    /// Forgets a source that does not exist any more; whether it was known. Nothing of it may be on the way: a letter would arrive
    /// twice.
    pub fn forget(&mut self, source: Place) -> bool {
        self.last.remove(&source).is_some()
    }

    /// The last number taken of each source.
    pub fn sources(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.last.iter().map(|(source, last)| (*source, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GroupId;

    #[test]
    fn numbers_go_up_though_a_cursor_is_closed_and_opened_again() {
        let [source, target] = [7, 8].map(|group| Place { group: GroupId(group), queue: 0 });
        let mut inbox = Inbox::default();
        for index in [5, 6] {
            let mut outbox = Outbox::default();
            (0..3).for_each(|offset| outbox.kill(offset, Reason::Rejected, 0));
            (0..3).for_each(|offset| drop(outbox.resolve(index, offset, &[target]).unwrap()));
            for Sending { number, lowest, .. } in outbox.sendings(target) {
                assert_eq!(inbox.take(source, number, lowest), Taking::New, "{number} of the entry at {index}");
            }
        }
    }
}
