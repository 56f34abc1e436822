//! What must hold after a run, one promise per file. A checker reads the history and says which promise broke, with evidence.

pub mod acknowledged;
pub mod dense;
pub mod once;
pub mod stable;

use crate::history::History;

/// A promise: its name (the invariant's, see docs) and the violations that `history` shows.
pub type Checker = (&'static str, fn(&History) -> Vec<String>);

/// Every checker of a run.
pub const ALL: &[Checker] = &[
    ("S4 AcknowledgedStays", acknowledged::check),
    ("S5 OffsetsDense", dense::check),
    ("S12 ProducedOnce", once::check),
    ("S2 ReadStays", stable::check),
];
