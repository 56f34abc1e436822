//! Where recent readers of one log stopped, so that their next read need not search from the sparse index.
//! Bound: `CURSORS_MAX` places. The one not used for longest makes room, whatever its offset: a reader far behind keeps its
//! place beside many at the end.
use std::collections::BTreeMap;

/// Places remembered.
const CURSORS_MAX: usize = 64;

/// See the file header.
#[derive(Debug, Default)]
pub struct Cursors {
    /// By offset.
    places: BTreeMap<i64, Cursor>,
    /// Counts uses.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    index: u64,
    used: u64,
}

impl Cursors {
    /// Remembers that the entry at `index` begins with `offset`.
    pub fn remember(&mut self, offset: i64, index: u64) {
        self.clock += 1;
        self.places.insert(offset, Cursor { index, used: self.clock });
        if self.places.len() > CURSORS_MAX
            && let Some((oldest, _)) = self.places.iter().min_by_key(|(_, cursor)| cursor.used)
        {
            let oldest = *oldest;
            self.places.remove(&oldest);
        }
    }

    /// The nearest remembered (offset, index) at or below `offset`.
    pub fn recall(&mut self, offset: i64) -> Option<(i64, u64)> {
        self.clock += 1;
        let (offset, cursor) = self.places.range_mut(..=offset).next_back()?;
        cursor.used = self.clock;
        Some((*offset, cursor.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_far_behind_keeps_its_place_beside_many_at_the_end() {
        let mut cursors = Cursors::default();
        let mut behind = 0;
        cursors.remember(behind, 0);
        for read in 1..1_000 {
            let end = 1_000_000 + read * 10;
            cursors.remember(end, end as u64 / 10);
            if read % 20 == 0 {
                assert_eq!(cursors.recall(behind), Some((behind, behind as u64 / 10)), "after {read} reads at the end");
                behind += 10;
                cursors.remember(behind, behind as u64 / 10);
            }
        }
        assert_eq!(cursors.places.len(), CURSORS_MAX);
        assert_eq!(cursors.recall(i64::MAX), Some((1_009_990, 100_999)));
        assert_eq!(cursors.recall(-1), None);
    }
}
