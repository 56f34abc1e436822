//! Whether a partition's rows can belong together. Rows come from a disk: what is wrong with them is a value, not a panic.

use super::PartitionMachine;
use crate::invariants::InvariantId;

impl PartitionMachine {
    /// The first invariant that the machine breaks, if any. A replica restored from such rows must be quarantined.
    pub fn breach(&self) -> Option<InvariantId> {
        let state = &self.state;
        let missing = self.moved.clean.missing.map_or(0, |(_, end)| end);
        let log_start = (0..=state.next_offset).contains(&state.log_start);
        // The point of a checkpoint stands before the record to come, and its entry.
        let sparse = self.sparse.iter().is_sorted_by(|a, b| a.index < b.index && a.base_offset < b.base_offset)
            && self
                .sparse
                .iter()
                .all(|point| point.base_offset <= state.next_offset && point.position <= state.log_bytes)
            && (self.sparse.front().is_some_and(|first| first.base_offset <= self.first_in_place().max(missing))
                || state.next_offset == 0);
        let epochs = self.epochs.values().is_sorted_by(|a, b| a < b)
            && self.epochs.iter().all(|(term, start)| *term <= state.applied_term && *start <= state.next_offset);
        let applied = self.sparse.back().is_none_or(|point| point.index <= state.applied_index.saturating_add(1))
            && self.dead.last().is_none_or(|dead| dead.index <= state.applied_index);
        let moved = self.moved.rows.values().is_sorted_by(|a, b| a.to <= b.from)
            && self
                .moved
                .rows
                .values()
                .all(|row| row.from < row.to && row.to <= self.moved.clean.end && row.index <= state.applied_index)
            && self.moved.clean.end <= state.next_offset;
        let mut batches = self.producers.iter().flat_map(|producer| &producer.batches);
        let producers = batches.all(|batch| (0..state.next_offset).contains(&batch.base_offset));
        let cursors = self.cursors.breach(self.extent());
        let holds = [
            (log_start, InvariantId::LogStartMonotonic),
            (sparse, InvariantId::SparseOrdered),
            (epochs, InvariantId::EpochMonotonic),
            (applied, InvariantId::AppliedMonotonic),
            (moved, InvariantId::MovedInOrder),
            (producers, InvariantId::ProducerSequenceGapless),
        ];
        holds.into_iter().find(|(holds, _)| !holds).map(|(_, id)| id).or(cursors)
    }
}
