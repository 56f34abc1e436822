//! How many bytes a log holds, and up to which index: a line through (index, bytes so far) marks, one every
//! `MARK_BYTES`, kept as rows of kind `Size` so that a start needs no scan.
//! Invariant: exact while only appended to; after a truncation, purge or restart off by at most one mark's distance.

use std::collections::VecDeque;

/// Distance of two marks, bytes.
pub(crate) const MARK_BYTES: u64 = 1 << 20;

/// A point of the line: `total` bytes in all entries up to and including `index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) index: u64,
    pub(crate) total: u64,
}

/// The sizes of one log. The first point stands before the log's first entry, the last one at its last.
#[derive(Clone, Debug, Default)]
pub(crate) struct SizeLine {
    points: VecDeque<Point>,
    /// `total` of the newest mark.
    marked: u64,
}

impl SizeLine {
    /// The line of a log found at a start: its bounds, the stored marks, and the mean size of its newest entries.
    pub(crate) fn load(first: u64, last: u64, marks: Vec<Point>, mean_bytes: u64) -> Self {
        let marks: VecDeque<Point> =
            marks.into_iter().filter(|mark| mark.index >= first && mark.index <= last).collect();
        let before = Point { index: first.saturating_sub(1), total: 0 };
        let (Some(oldest), Some(newest)) = (marks.front().copied(), marks.back().copied()) else {
            let total = ((last + 1 - first) * mean_bytes).min(MARK_BYTES);
            return SizeLine { points: VecDeque::from([before, Point { index: last, total }]), marked: 0 };
        };
        let below = ((oldest.index + 1 - first) * mean_bytes).min(MARK_BYTES);
        let above = ((last - newest.index) * mean_bytes).min(MARK_BYTES);
        let mut points = marks;
        points.push_front(Point { total: oldest.total.saturating_sub(below), ..before });
        if last > newest.index {
            points.push_back(Point { index: last, total: newest.total + above });
        }
        SizeLine { points, marked: newest.total }
    }

    /// Adds one entry; returns a mark to be stored when one is due.
    pub(crate) fn append(&mut self, index: u64, bytes: u64) -> Option<Point> {
        let last = match self.points.back() {
            Some(last) => *last,
            None => {
                let before = Point { index: index.saturating_sub(1), total: self.marked };
                self.points.push_back(before);
                before
            }
        };
        let point = Point { index, total: last.total + bytes };
        // The back is a mark, or the base, or a running end that moves.
        if self.points.len() > 1 && last.total != self.marked {
            self.points.pop_back();
        }
        self.points.push_back(point);
        if point.total - self.marked < MARK_BYTES {
            return None;
        }
        self.marked = point.total;
        Some(point)
    }

    /// Forgets everything above `index`.
    pub(crate) fn truncate_after(&mut self, index: u64) {
        let total = self.at(index);
        while self.points.back().is_some_and(|point| point.index > index) {
            self.points.pop_back();
        }
        self.points.push_back(Point { index, total });
        self.marked = self.marked.min(total);
    }

    /// Forgets everything up to and including `upto`.
    pub(crate) fn purge(&mut self, upto: u64) {
        let total = self.at(upto);
        while self.points.front().is_some_and(|point| point.index <= upto) {
            self.points.pop_front();
        }
        self.points.push_front(Point { index: upto, total });
    }

    /// Bytes of the whole log.
    pub(crate) fn bytes(&self) -> u64 {
        match (self.points.front(), self.points.back()) {
            (Some(first), Some(last)) => last.total - first.total,
            _ => 0,
        }
    }

    /// Bytes of the entries from the first up to and including `index`.
    pub(crate) fn bytes_upto(&self, index: u64) -> u64 {
        self.at(index).saturating_sub(self.points.front().map_or(0, |first| first.total))
    }

    /// `total` at `index`, interpolated between points, clamped to the line's ends.
    fn at(&self, index: u64) -> u64 {
        let above = self.points.partition_point(|point| point.index <= index);
        let right = self.points.get(above);
        match (above.checked_sub(1).and_then(|left| self.points.get(left)), right) {
            (Some(left), Some(right)) => {
                let (bytes, entries) = (right.total - left.total, right.index - left.index);
                left.total + (u128::from(bytes) * u128::from(index - left.index) / u128::from(entries)) as u64
            }
            (Some(end), None) | (None, Some(end)) => end.total,
            (None, None) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(entries: u64, bytes: u64) -> (SizeLine, Vec<Point>) {
        let mut line = SizeLine::default();
        let marks = (1..=entries).filter_map(|index| line.append(index, bytes)).collect();
        (line, marks)
    }

    #[test]
    fn appended_bytes_are_exact_and_marks_are_spaced() {
        let (line, marks) = line(100, 100_000);
        assert_eq!(line.bytes(), 10_000_000);
        assert_eq!(marks.len(), 9);
        assert_eq!(line.bytes_upto(50), 5_000_000);
        assert_eq!(line.points.len(), 1 + 9 + 1, "base, marks, running end");
    }

    #[test]
    fn cutting_either_end_leaves_the_rest() {
        let (mut line, _) = line(100, 100_000);
        line.truncate_after(70);
        line.purge(20);
        assert_eq!(line.bytes(), 5_000_000);
        line.append(71, 7);
        assert_eq!(line.bytes(), 5_000_007);
        line.purge(71);
        assert_eq!(line.bytes(), 0);
        line.append(72, 9);
        assert_eq!(line.bytes(), 9);
    }

    #[test]
    fn a_reloaded_line_is_off_by_less_than_a_mark_at_each_end() {
        let (mut exact, marks) = line(1_000, 10_000);
        exact.purge(333);
        let loaded = SizeLine::load(334, 1_000, marks, 10_000);
        assert!(loaded.bytes().abs_diff(exact.bytes()) < 2 * MARK_BYTES);
        assert!(loaded.bytes_upto(700).abs_diff(exact.bytes_upto(700)) < 2 * MARK_BYTES);
        assert_eq!(SizeLine::load(5, 14, Vec::new(), 100).bytes(), 1_000);
    }
}
