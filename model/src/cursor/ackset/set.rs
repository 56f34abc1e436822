//! A set of offsets in chunks of 64K, each a list of runs or a bitmap: whichever is smaller, so that no pattern costs more than
//! 8 KiB a chunk, and a range of any length costs a few bytes. Owns which chunks changed since that was last asked.
//! Invariant: the form of a chunk is a function of what it holds, so equal sets are equal values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Offsets of one chunk, as a power of two.
const CHUNK_BITS: u32 = 16;
const WORDS: usize = 1 << (CHUNK_BITS - 6);
/// A list of more runs is larger than the bitmap.
const RUNS_MAX: usize = WORDS * 8 / 4;
/// What a chunk costs besides its runs or bits: key, length, pointer and a share of the tree's node.
const CHUNK_BYTES: usize = 64;

/// The offsets of one chunk, relative to its first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chunk {
    /// First and last of each run, ascending, none next to another.
    Runs(Vec<(u16, u16)>),
    /// A bit per offset, the lowest first.
    Bits(Vec<u64>),
}

/// The bits of word `word` that first..=last cover.
fn mask(word: usize, first: u16, last: u16) -> u64 {
    let from = (first as usize).saturating_sub(word * 64).min(63);
    let to = (last as usize - word * 64).min(63);
    (u64::MAX << from) & (u64::MAX >> (63 - to))
}

fn words_of(first: u16, last: u16) -> std::ops::RangeInclusive<usize> {
    first as usize / 64..=last as usize / 64
}

impl Chunk {
    /// Whether the form is the one that this content has.
    pub(super) fn is_canonical(&self) -> bool {
        match self {
            Chunk::Runs(runs) => {
                let apart = runs.windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0));
                !runs.is_empty() && runs.len() <= RUNS_MAX && apart && runs.iter().all(|(first, last)| first <= last)
            }
            Chunk::Bits(words) => words.len() == WORDS && count_runs(words) > RUNS_MAX,
        }
    }

    fn bytes(&self) -> usize {
        CHUNK_BYTES
            + match self {
                Chunk::Runs(runs) => 4 * runs.len(),
                Chunk::Bits(words) => 8 * words.len(),
            }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Chunk::Runs(runs) if runs.is_empty())
    }

    fn change(&mut self, first: u16, last: u16, on: bool) {
        match self {
            Chunk::Runs(runs) if on => add_run(runs, first, last),
            Chunk::Runs(runs) => cut_run(runs, first, last),
            Chunk::Bits(words) => {
                for word in words_of(first, last) {
                    match on {
                        true => words[word] |= mask(word, first, last),
                        false => words[word] &= !mask(word, first, last),
                    }
                }
            }
        }
        self.normalise();
    }

    fn normalise(&mut self) {
        match self {
            Chunk::Runs(runs) if runs.len() > RUNS_MAX => {
                let mut words = vec![0; WORDS];
                for (first, last) in runs.iter().copied() {
                    words_of(first, last).for_each(|word| words[word] |= mask(word, first, last));
                }
                *self = Chunk::Bits(words);
            }
            Chunk::Bits(words) if count_runs(words) <= RUNS_MAX => {
                let mut runs = Vec::with_capacity(RUNS_MAX);
                let mut from = Some(0);
                while let Some((first, last)) = from.and_then(|from| next_bits(words, from)) {
                    runs.push((first, last));
                    from = last.checked_add(1);
                }
                *self = Chunk::Runs(runs);
            }
            _ => {}
        }
    }

    fn count(&self, first: u16, last: u16) -> u64 {
        match self {
            Chunk::Runs(runs) => {
                let begin = runs.partition_point(|run| run.1 < first);
                let within = runs[begin..].iter().take_while(|run| run.0 <= last);
                within.map(|run| u64::from(run.1.min(last) - run.0.max(first)) + 1).sum()
            }
            Chunk::Bits(words) => {
                words_of(first, last).map(|word| u64::from((words[word] & mask(word, first, last)).count_ones())).sum()
            }
        }
    }

    /// The first run that has an offset from `from` on, without what lies before it.
    fn next_run(&self, from: u16) -> Option<(u16, u16)> {
        match self {
            Chunk::Runs(runs) => {
                let run = runs.get(runs.partition_point(|run| run.1 < from))?;
                Some((run.0.max(from), run.1))
            }
            Chunk::Bits(words) => next_bits(words, from),
        }
    }
}

fn add_run(runs: &mut Vec<(u16, u16)>, first: u16, last: u16) {
    let begin = runs.partition_point(|run| u32::from(run.1) + 1 < u32::from(first));
    let end = runs.partition_point(|run| u32::from(run.0) <= u32::from(last) + 1);
    let merged = match runs.get(begin..end) {
        Some([only]) => (only.0.min(first), only.1.max(last)),
        Some([left, .., right]) => (left.0.min(first), right.1.max(last)),
        _ => (first, last),
    };
    runs.splice(begin..end, [merged]);
}

fn cut_run(runs: &mut Vec<(u16, u16)>, first: u16, last: u16) {
    let begin = runs.partition_point(|run| run.1 < first);
    let end = runs.partition_point(|run| run.0 <= last);
    let Some((left, right)) = runs.get(begin..end).and_then(|cut| Some((cut.first()?.0, cut.last()?.1))) else {
        return;
    };
    let left = (left < first).then(|| (left, first - 1));
    let right = (right > last).then(|| (last + 1, right));
    runs.splice(begin..end, left.into_iter().chain(right));
}

/// A run begins with a bit that is set where the one before it is not.
fn count_runs(words: &[u64]) -> usize {
    let (mut runs, mut before) = (0, 0);
    for bits in words {
        runs += (bits & !(bits << 1 | before)).count_ones() as usize;
        before = bits >> 63;
    }
    runs
}

fn next_bits(words: &[u64], from: u16) -> Option<(u16, u16)> {
    let find = |from: usize, flip: u64| {
        let rest = (words.get(from / 64)? ^ flip) & (u64::MAX << (from % 64));
        let mut later = words.iter().enumerate().skip(from / 64 + 1).map(|(word, bits)| (word, bits ^ flip));
        let (word, bits) = if rest == 0 { later.find(|(_, bits)| *bits != 0)? } else { (from / 64, rest) };
        Some(word * 64 + bits.trailing_zeros() as usize)
    };
    let first = find(from as usize, 0)?;
    let end = find(first, u64::MAX).unwrap_or(WORDS * 64);
    Some((first as u16, (end - 1) as u16))
}

/// A set of offsets, none negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetSet {
    chunks: BTreeMap<i64, Chunk>,
    bytes: usize,
    dirty: BTreeSet<i64>,
}

/// The part of from..to in `chunk`, relative to its first offset. Both ends are in it: it is never empty.
fn part(chunk: i64, from: i64, to: i64) -> (u16, u16) {
    let base = chunk << CHUNK_BITS;
    ((from - base).max(0) as u16, (to - 1 - base).min((1 << CHUNK_BITS) - 1) as u16)
}

impl OffsetSet {
    /// Adds from..to; how many of them are new.
    pub fn insert(&mut self, from: i64, to: i64) -> u64 {
        if from >= to {
            return 0;
        }
        let before = self.count(from, to);
        for chunk in from >> CHUNK_BITS..=(to - 1) >> CHUNK_BITS {
            self.edit(chunk, part(chunk, from, to), true);
        }
        (to - from) as u64 - before
    }

    /// Takes from..to out; how many of them were there.
    pub fn remove(&mut self, from: i64, to: i64) -> u64 {
        let gone = self.count(from, to);
        if gone > 0 {
            let held = self.chunks.range(from >> CHUNK_BITS..=(to - 1) >> CHUNK_BITS).map(|(chunk, _)| *chunk);
            for chunk in held.collect::<Vec<_>>() {
                self.edit(chunk, part(chunk, from, to), false);
            }
        }
        gone
    }

    fn edit(&mut self, key: i64, (first, last): (u16, u16), on: bool) {
        let chunk = self.chunks.entry(key).or_insert_with(|| Chunk::Runs(Vec::new()));
        self.bytes -= if chunk.is_empty() { 0 } else { chunk.bytes() };
        chunk.change(first, last, on);
        if chunk.is_empty() {
            self.chunks.remove(&key);
        } else {
            self.bytes += chunk.bytes();
        }
        self.dirty.insert(key);
    }

    /// How many of from..to are in the set.
    pub fn count(&self, from: i64, to: i64) -> u64 {
        if from >= to {
            return 0;
        }
        let held = self.chunks.range(from >> CHUNK_BITS..=(to - 1) >> CHUNK_BITS);
        let within = |(key, chunk): (&i64, &Chunk)| {
            let (first, last) = part(*key, from, to);
            chunk.count(first, last)
        };
        held.map(within).sum()
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: i64) -> bool {
        self.count(offset, offset.saturating_add(1)) == 1
    }

    /// The first run (first offset, offset after it) with an offset from `from` on; what lies before is left out. A run ends
    /// with its chunk.
    pub fn next_run(&self, from: i64) -> Option<(i64, i64)> {
        self.chunks.range(from >> CHUNK_BITS..).find_map(|(key, chunk)| {
            let base = key << CHUNK_BITS;
            let (first, last) = chunk.next_run((from - base).max(0) as u16)?;
            Some((base + i64::from(first), (base + i64::from(last)).saturating_add(1)))
        })
    }

    /// The ranges of from..to that are not in the set, ascending.
    pub fn gaps(&self, mut from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        std::iter::from_fn(move || {
            while from < to {
                match self.next_run(from).filter(|(first, _)| *first < to) {
                    Some((first, end)) if first == from => from = end,
                    next => {
                        let end = next.map_or(to, |(first, _)| first);
                        return Some((std::mem::replace(&mut from, end), end));
                    }
                }
            }
            None
        })
    }

    /// Its runs, ascending; each ends with its chunk.
    pub fn runs(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        std::iter::successors(self.next_run(0), |(_, end)| self.next_run(*end))
    }

    /// Its chunks, by number.
    pub fn chunks(&self) -> &BTreeMap<i64, Chunk> {
        &self.chunks
    }

    /// Puts a chunk in a place that has none; refused if its form is not the one that its content has.
    pub(super) fn put(&mut self, key: i64, chunk: Chunk) -> bool {
        let free = !self.chunks.contains_key(&key);
        // The largest number there is is no offset: a run must have an end.
        let last = i64::MAX >> CHUNK_BITS;
        let ends = key < last || chunk.next_run(u16::MAX).is_none();
        let fits = free && ends && (0..=last).contains(&key) && chunk.is_canonical();
        if fits {
            self.bytes += chunk.bytes();
            self.chunks.insert(key, chunk);
        }
        fits
    }

    /// Numbers of the chunks that changed since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.dirty)
    }

    /// What it holds, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_second_offset_costs_a_bitmap_and_a_range_nothing() {
        let mut set = OffsetSet::default();
        assert!(set.put(0, Chunk::Bits(vec![0x5555_5555_5555_5555; WORDS])));
        assert_eq!((set.bytes(), set.next_run(1)), (CHUNK_BYTES + 8 * 1024, Some((2, 3))));
        assert_eq!(set.insert(0, 10_000_000), 10_000_000 - (1 << 15));
        assert!(set.bytes() < 153 * (CHUNK_BYTES + 8), "{}", set.bytes());
    }

    #[test]
    fn a_chunk_is_a_list_of_runs_up_to_the_size_of_the_bitmap() {
        let mut set = OffsetSet::default();
        (0..2048).for_each(|place| assert_eq!(set.insert(3 * place, 3 * place + 1), 1));
        assert!(matches!(set.chunks[&0], Chunk::Runs(_)));
        set.insert(65_535, 65_536);
        assert!(matches!(set.chunks[&0], Chunk::Bits(_)));
        assert_eq!(set.next_run(6_145), Some((65_535, 65_536)));
        set.remove(3, 4);
        assert!(matches!(set.chunks[&0], Chunk::Runs(_)));
    }

    #[test]
    fn the_last_offsets_there_are_have_a_place() {
        let mut set = OffsetSet::default();
        assert_eq!(set.insert(i64::MAX - 3, i64::MAX), 3);
        assert_eq!(set.next_run(0), Some((i64::MAX - 3, i64::MAX)));
    }

    #[test]
    fn a_chunk_of_another_form_is_refused() {
        let mut set = OffsetSet::default();
        let bad = [
            Chunk::Runs(vec![]),
            Chunk::Runs(vec![(3, 2)]),
            Chunk::Runs(vec![(1, 2), (3, 4)]),
            Chunk::Runs(vec![(7, 8), (1, 2)]),
            Chunk::Bits(vec![0; WORDS]),
            Chunk::Bits(vec![0x5555_5555_5555_5555; WORDS - 1]),
        ];
        assert!(bad.into_iter().all(|chunk| !set.put(0, chunk)));
        assert!(!set.put(-1, Chunk::Runs(vec![(1, 2)])) && !set.put(1 << 48, Chunk::Runs(vec![(1, 2)])));
        assert!(!set.put(i64::MAX >> CHUNK_BITS, Chunk::Runs(vec![(1, u16::MAX)])) && set.is_empty());
    }

    proptest! {
        #![proptest_config(crate::testing::config())]

        #[test]
        fn it_is_a_set(
            dense in 0u8..8,
            steps in proptest::collection::vec((any::<bool>(), 65_000i64..66_200, 1i64..90), 1..40),
        ) {
            let (mut set, mut plain) = (OffsetSet::default(), BTreeSet::new());
            if dense == 0 {
                for offset in (61_000..65_130).step_by(2) {
                    set.insert(offset, offset + 1);
                    plain.insert(offset);
                }
            }
            for (on, from, length) in steps {
                let range = from..from + length;
                let before = plain.len();
                let changed = match on {
                    true => { plain.extend(range); set.insert(from, from + length) }
                    false => { plain.retain(|offset| !range.contains(offset)); set.remove(from, from + length) }
                };
                prop_assert_eq!(changed as usize, before.abs_diff(plain.len()));
                prop_assert!(set.chunks.values().all(Chunk::is_canonical));
                prop_assert_eq!(set.bytes, set.chunks.values().map(Chunk::bytes).sum::<usize>());
            }
            prop_assert_eq!(set.runs().flat_map(|(from, to)| from..to).collect::<BTreeSet<_>>(), plain.clone());
            let outside: BTreeSet<i64> = set.gaps(60_990, 66_400).flat_map(|(from, to)| from..to).collect();
            prop_assert_eq!(outside, (60_990..66_400).filter(|offset| !plain.contains(offset)).collect());
            let mut fresh = OffsetSet::default();
            for (from, to) in set.runs() {
                fresh.insert(from, to);
            }
            prop_assert_eq!(fresh.chunks, set.chunks);
        }
    }
}
