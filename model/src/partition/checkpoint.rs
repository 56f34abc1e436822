//! A checkpoint: the complete state of a partition after one entry, so that the log up to it is no longer needed.
//! Left out is what only readers of that entry and older ones need: the sparse index, the dead table, and where records were
//! moved to. Invariant: the machine of a checkpoint, given the entries after it, becomes the machine that gave it, once that
//! needs no older entry ([`PartitionMachine::is_covered_by`]).

use serde::{Deserialize, Serialize};

use super::{Clean, PartitionMachine, Sparse, State};
use crate::check;
use crate::invariants::InvariantId;
use crate::machine::{Out, Write};
use crate::planted::{self, Bug};

/// The state of a partition just after the entry that its counters name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The leader's wall clock at that entry, ms since 1970; 0 where none is known.
    pub leader_ts: i64,
    /// The rows that [`PartitionMachine::from_checkpoint`] takes.
    pub rows: Vec<Write>,
}

/// Where a checkpoint stands: what retention and purging choose by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Raft index of its entry.
    pub index: u64,
    /// Raft term of its entry.
    pub term: u64,
    /// Offset of the first record after it.
    pub next_offset: i64,
    /// Largest timestamp of all records up to it, -1 without any.
    pub max_timestamp: i64,
    /// The leader's wall clock at its entry, ms since 1970.
    pub leader_ts: i64,
    /// Bytes of append entries up to it, counted from the first entry ever.
    pub position: u64,
}

impl Mark {
    /// Where the machine with these counters stands.
    pub fn of(state: &State, leader_ts: i64) -> Self {
        Mark {
            index: state.applied_index,
            term: state.applied_term,
            next_offset: state.next_offset,
            max_timestamp: state.max_timestamp,
            leader_ts,
            position: state.log_bytes,
        }
    }
}

impl Checkpoint {
    /// The counters, if there are any.
    pub fn state(&self) -> Option<&State> {
        self.rows.iter().find_map(|row| match row {
            Write::State(state) => Some(state),
            _ => None,
        })
    }
}

impl PartitionMachine {
    /// The checkpoint after the last applied entry. A point of the sparse index marks the place behind it, so that readers
    /// can begin there once the entries before are gone.
    pub fn checkpoint(&mut self, leader_ts: i64, out: &mut Out) -> Checkpoint {
        let State { applied_index, next_offset: base_offset, max_timestamp, log_bytes: position, .. } = self.state;
        let point = Sparse { base_offset, index: applied_index + 1, max_timestamp, position };
        // Entries without a live record are between the two: readers may as well begin behind them.
        if let Some(same) = self.sparse.pop_back_if(|last| last.base_offset == base_offset) {
            check!(same.index <= point.index, SparseOrdered, "{same:?} then {point:?}");
            out.writes.push(Write::SparseGone(same.index));
        }
        self.sparse.push_back(point);
        out.writes.push(Write::Sparse(point));
        let mut rows = vec![Write::State(self.state), Write::Sparse(point)];
        rows.extend(self.epochs().map(Write::Epoch));
        if !planted::is(Bug::SnapshotWithoutProducers) {
            rows.extend(self.producers.iter().cloned().map(Write::Producer));
        }
        if !planted::is(Bug::CheckpointForgetsMoves) {
            rows.extend(self.clean_row(None));
        }
        rows.extend(self.cursors.rows());
        Checkpoint { leader_ts, rows }
    }

    fn clean_row(&self, missing: Option<(i64, i64)>) -> Option<Write> {
        let clean = Clean { missing, ..self.moved.clean };
        (clean != Clean::default()).then_some(Write::Clean(clean))
    }

    /// The machine of a checkpoint whose log has no entry before it. Between its log start and where its entries begin,
    /// records are missing until the entries come that moved them, or the log start.
    ///
    /// # Errors
    /// The first invariant that the rows break.
    pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Self, InvariantId> {
        let mut machine = Self::restore(checkpoint.rows.into_iter());
        if let Some(first) = machine.sparse.front() {
            let (begin, end) = (machine.state.log_start, first.base_offset);
            machine.moved.clean.missing = (begin < end).then_some((begin, end));
        }
        machine.breach().map_or(Ok(machine), Err)
    }

    /// Every row of the machine as it is.
    pub fn rows(&self) -> Vec<Write> {
        let mut rows = vec![Write::State(self.state)];
        rows.extend(self.sparse.iter().copied().map(Write::Sparse));
        rows.extend(self.epochs().map(Write::Epoch));
        rows.extend(self.dead.iter().copied().map(Write::Dead));
        rows.extend(self.producers.iter().cloned().map(Write::Producer));
        rows.extend(self.moved.rows.values().copied().map(Write::Moved));
        rows.extend(self.clean_row(self.moved.clean.missing));
        rows.extend(self.cursors.rows());
        rows
    }
}
