//! Times by offset, and the offsets whose time has come: when delayed messages are due, when others expire.
//! In blocks of 1,024 offsets of 10 bytes each, so that ten million times fit in 100 MiB; the blocks are ordered by their earliest.
//! Owns which blocks changed since that was last asked. Invariant: equal tables are equal values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Offsets of one block, as a power of two.
const BLOCK_BITS: u32 = 10;
/// What a block costs besides its times: two vectors, keys, and its share of two trees.
const BLOCK_BYTES: usize = 160;
/// An offset within its block, and a time.
const TIME_BYTES: usize = 10;

/// The times of one block. Never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Offsets relative to the first of the block, ascending.
    lows: Vec<u16>,
    /// Their times, ms since 1970.
    times: Vec<i64>,
}

impl Block {
    fn is_sound(&self) -> bool {
        let in_order =
            self.lows.is_sorted_by(|a, b| a < b) && self.lows.last().is_some_and(|last| last >> BLOCK_BITS == 0);
        in_order && self.lows.len() == self.times.len()
    }

    fn earliest(&self) -> Option<i64> {
        self.times.iter().copied().min()
    }

    fn place(&self, low: i64) -> Result<usize, usize> {
        self.lows.binary_search_by_key(&low, |low| i64::from(*low))
    }
}

/// A time for some of the offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    blocks: BTreeMap<i64, Block>,
    /// (earliest time, block)
    order: BTreeSet<(i64, i64)>,
    count: usize,
    dirty: BTreeSet<i64>,
}

impl Times {
    /// Gives `offset` a time in the place of any that it has.
    pub fn insert(&mut self, offset: i64, time: i64) {
        self.edit(offset >> BLOCK_BITS, |block, base| {
            match block.place(offset - base) {
                Ok(place) if block.times[place] == time => return false,
                Ok(place) => block.times[place] = time,
                Err(place) => {
                    block.lows.insert(place, (offset - base) as u16);
                    block.times.insert(place, time);
                }
            }
            true
        });
    }

    /// Forgets the times of from..to.
    pub fn remove(&mut self, from: i64, to: i64) {
        if from >= to {
            return;
        }
        let held = self.blocks.range(from >> BLOCK_BITS..=(to - 1) >> BLOCK_BITS).map(|(block, _)| *block);
        for block in held.collect::<Vec<_>>() {
            self.edit(block, |block, base| {
                let begin = block.place(from - base).unwrap_or_else(|place| place);
                let end = block.place(to - base).unwrap_or_else(|place| place);
                block.lows.drain(begin..end);
                block.times.drain(begin..end);
                begin < end
            });
        }
    }

    /// Changes a block, and the order if `change` says that it did.
    fn edit(&mut self, key: i64, change: impl FnOnce(&mut Block, i64) -> bool) {
        let block = self.blocks.entry(key).or_default();
        let (earliest, count) = (block.earliest(), block.lows.len());
        if !change(block, key << BLOCK_BITS) {
            return;
        }
        self.dirty.insert(key);
        self.count = self.count + block.lows.len() - count;
        let now = block.earliest();
        if now.is_none() {
            self.blocks.remove(&key);
        }
        if now != earliest {
            earliest.map(|time| self.order.remove(&(time, key)));
            now.map(|time| self.order.insert((time, key)));
        }
    }

    /// The time of `offset`.
    pub fn get(&self, offset: i64) -> Option<i64> {
        let block = self.blocks.get(&(offset >> BLOCK_BITS))?;
        let place = block.place(offset - (offset >> BLOCK_BITS << BLOCK_BITS)).ok()?;
        Some(block.times[place])
    }

    /// The first offset from `from` on that has a time.
    pub fn next(&self, from: i64) -> Option<i64> {
        self.blocks.range(from >> BLOCK_BITS..).find_map(|(key, block)| {
            let base = key << BLOCK_BITS;
            let place = block.place((from - base).max(0)).unwrap_or_else(|place| place);
            Some(base + i64::from(*block.lows.get(place)?))
        })
    }

    /// Up to `count_max` offsets whose time has come at `now`; those of the block with the earliest time first.
    pub fn come(&self, now: i64, count_max: usize) -> Vec<i64> {
        self.all_come(now).take(count_max).collect()
    }

    fn all_come(&self, now: i64) -> impl Iterator<Item = i64> + '_ {
        let blocks = self.order.iter().take_while(move |(earliest, _)| *earliest <= now);
        let blocks = blocks.filter_map(|(_, key)| Some((key << BLOCK_BITS, self.blocks.get(key)?)));
        blocks.flat_map(move |(base, block)| {
            let times = block.lows.iter().zip(&block.times);
            times.filter(move |(_, time)| **time <= now).map(move |(low, _)| base + i64::from(*low))
        })
    }

    /// The earliest time after `now` that any offset has.
    pub fn after(&self, now: i64) -> Option<i64> {
        let mut found: Option<i64> = None;
        for (earliest, key) in &self.order {
            if found.is_some_and(|found| found <= *earliest) {
                break;
            }
            let times = self.blocks.get(key).map(|block| &block.times).into_iter().flatten();
            found = times.copied().filter(|time| *time > now).chain(found).min();
        }
        found
    }

    /// The earliest time that any offset has.
    pub fn earliest(&self) -> Option<i64> {
        self.order.first().map(|(time, _)| *time)
    }

    /// How many offsets have a time.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many have one after `now`.
    pub fn count_after(&self, now: i64) -> usize {
        self.count - self.all_come(now).count()
    }

    /// What it holds, bytes.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES + self.count * TIME_BYTES
    }

    /// Offsets and times, ascending by offset.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.blocks.iter().flat_map(|(key, block)| {
            let base = key << BLOCK_BITS;
            block.lows.iter().zip(&block.times).map(move |(low, time)| (base + i64::from(*low), *time))
        })
    }

    /// Its blocks, by number.
    pub fn blocks(&self) -> &BTreeMap<i64, Block> {
        &self.blocks
    }

    /// Puts a block in a place that has none; refused if it is not one.
    pub(super) fn put(&mut self, key: i64, block: Block) -> bool {
        let fits = (0..=i64::MAX >> BLOCK_BITS).contains(&key) && block.is_sound() && !self.blocks.contains_key(&key);
        if fits {
            self.count += block.lows.len();
            self.order.extend(block.earliest().map(|time| (time, key)));
            self.blocks.insert(key, block);
        }
        fits
    }

    /// Numbers of the blocks that changed since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<i64> {
        std::mem::take(&mut self.dirty)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_million_times_fit_in_100_mib() {
        let mut times = Times::default();
        // Whole blocks, as inserting would make them; one by one takes minutes without optimisation.
        for key in 0..10_000_000 >> BLOCK_BITS {
            let lows: Vec<u16> = (0..1 << BLOCK_BITS).collect();
            assert!(times.put(key, Block { times: vec![key; lows.len()], lows }));
        }
        assert!(times.count() > 9_990_000 && times.bytes() < 100 << 20, "{}", times.bytes());
    }

    #[test]
    fn a_block_that_is_none_is_refused() {
        let block = |lows: &[u16], times: &[i64]| Block { lows: lows.to_vec(), times: times.to_vec() };
        let bad =
            [block(&[], &[]), block(&[1], &[]), block(&[2, 1], &[0, 0]), block(&[1, 1], &[0, 0]), block(&[1024], &[0])];
        let mut times = Times::default();
        assert!(bad.into_iter().all(|block| !times.put(0, block)));
        assert!(times.put(0, block(&[3], &[7])) && !times.put(0, block(&[4], &[7])));
    }

    #[test]
    fn the_next_time_is_found_behind_those_that_have_come() {
        let mut times = Times::default();
        for (offset, time) in [(1, 10), (2, 40), (5_000, 20), (9_000, 30), (9_001, 5)] {
            times.insert(offset, time);
        }
        let next: Vec<_> = [0, 5, 10, 20, 30, 39, 40].into_iter().map(|now| times.after(now)).collect();
        assert_eq!(next, [Some(5), Some(10), Some(20), Some(30), Some(40), Some(40), None]);
    }

    proptest! {
        #![proptest_config(crate::testing::config())]

        #[test]
        fn it_is_a_map_with_an_order(
            steps in proptest::collection::vec((0u8..4, 900i64..3_200, 1i64..200, 0i64..50), 1..60),
            now in 0i64..50,
        ) {
            let (mut times, mut plain) = (Times::default(), BTreeMap::new());
            for (kind, offset, length, time) in steps {
                if kind == 0 {
                    times.remove(offset, offset + length);
                    plain.retain(|held, _| !(offset..offset + length).contains(held));
                } else {
                    times.insert(offset, time);
                    plain.insert(offset, time);
                }
                prop_assert_eq!(times.next(offset), plain.range(offset..).next().map(|(held, _)| *held));
                prop_assert_eq!(times.get(offset), plain.get(&offset).copied());
            }
            prop_assert_eq!(times.iter().collect::<BTreeMap<_, _>>(), plain.clone());
            prop_assert_eq!((times.count(), times.earliest()), (plain.len(), plain.values().min().copied()));
            let mut come = times.come(now, usize::MAX);
            come.sort_unstable();
            prop_assert_eq!(times.count_after(now), plain.len() - come.len());
            prop_assert_eq!(come, plain.iter().filter(|(_, time)| **time <= now).map(|(held, _)| *held).collect::<Vec<_>>());
            let mut again = Times::default();
            times.blocks().iter().for_each(|(key, block)| assert!(again.put(*key, block.clone())));
            times.take_dirty();
            prop_assert_eq!(again, times);
        }
    }
}
