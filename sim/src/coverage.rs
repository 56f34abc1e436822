//! Which fault met the cluster in which state, and which situations a set of runs came through.
//! A cell that stays empty over a sweep is a combination that was never tried; it is printed, not hidden.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// Counts of (fault, state), and of faults alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// How often each kind of fault had an effect.
    pub faults: BTreeMap<String, u64>,
    /// By fault, by state.
    pub met: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The states that are told apart, the columns of the table. Several may hold at a time, `steady` only alone.
pub const STATES: &[&str] = &[
    "steady",
    "no leader",
    "catching up",
    "not ready",
    "learner",
    "joint",
    "needs snapshot",
    "node down",
    "node paused",
];

/// Situations that a nightly sweep must have come through, by the name under which they are counted.
pub const SOMETIMES: &[&str] = &[
    "a group fell asleep",
    "a sleeping group's leader died and another was elected",
    "a write woke a group",
    "actors that panicked as told",
    "commit lost its coordinator",
    "compaction abandoned",
    "compaction finished",
    "duplicate answered with its first offset",
    "elections",
    "end refused by a leader that does not know it yet",
    "group leader died between join and sync",
    "leader after all nodes were down",
    "leader after all nodes lost power",
    "leader replaced that does not know it",
    "leader went on after a stop in order",
    "learner installed a snapshot",
    "log cut back to a leader's",
    "move cancelled or replaced",
    "move finished",
    "move went on after its leader was gone",
    "node joined amid faults",
    "nodes stopped by themselves",
    "not the leader, asked another",
    "operation cancelled",
    "operation finished",
    "operation went on under another controller",
    "old life of a static member refused",
    "partition given up to be reassigned",
    "paused leader replaced",
    "produce waited in vain for a leader",
    "reader crossed moved records",
    "reader fell behind the log start",
    "rebalance went on at another coordinator",
    "replica quarantined",
    "snapshot installed",
    "static member replaced without a rebalance",
    "zombie commit of the consumer protocol refused",
    "zombie commit refused",
];

impl Coverage {
    /// `fault` had an effect while all of `states` held.
    pub fn met(&mut self, fault: &Fault, states: &[&str]) {
        *self.faults.entry(fault.kind()).or_default() += 1;
        let row = self.met.entry(fault.kind()).or_default();
        for state in states {
            *row.entry((*state).to_owned()).or_default() += 1;
        }
    }

    /// Adds what another run met.
    pub fn add(&mut self, other: &Coverage) {
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
        for (fault, row) in &other.met {
            let sum = self.met.entry(fault.clone()).or_default();
            for (state, count) in row {
                *sum.entry(state.clone()).or_default() += count;
            }
        }
    }

    /// The table: a line a fault, its total, and a column a state; a dot for never.
    pub fn table(&self) -> String {
        let mut text = format!("{:<14} {:>7}", "fault", "times");
        STATES.iter().for_each(|state| text += &format!(" {state:>12}"));
        for (fault, total) in &self.faults {
            text += &format!("\n{fault:<14} {total:>7}");
            for state in STATES {
                let count = self.met.get(fault).and_then(|row| row.get(*state));
                text += &format!(" {:>12}", count.map_or(".".to_owned(), u64::to_string));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_shows_what_never_happened() {
        let mut one = Coverage::default();
        one.met(&Fault::Kill { node: 1 }, &["steady"]);
        let mut sum = one.clone();
        sum.met(&Fault::Kill { node: 2 }, &["no leader", "node down"]);
        sum.add(&one);
        assert_eq!(sum.faults["Kill"], 3);
        assert_eq!(sum.met["Kill"]["steady"], 2);
        let row = sum.table().lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(row, ["Kill", "3", "2", "1", ".", ".", ".", ".", ".", "1", "."]);
    }
}
