//! What must hold in a run, one promise per file, named as in docs and reference. Those that watch are asked by [`crate::probe`]
//! on the way; the others read the history when it is over. Each says which promise broke, with evidence.

pub mod acknowledged;
pub mod committed_durable;
pub mod committed_stays;
pub mod dense;
pub mod leader_per_term;
pub mod members_intersect;
pub mod once;
pub mod replicas_identical;
pub mod stable;
pub mod works_after_healing;

use std::collections::BTreeSet;

use model::ReplicaId;

use crate::history::History;

/// A promise: its name (the invariant's, see docs) and the violations that `history` shows.
pub type Checker = (&'static str, fn(&History) -> Vec<String>);

/// Every checker of a history.
pub const ALL: &[Checker] = &[
    ("S4 AcknowledgedStays", acknowledged::check),
    ("S5 OffsetsDense", dense::check),
    ("S12 ProducedOnce", once::check),
    ("S2 ReadStays", stable::check),
];

/// Whether more than half of `voters` are `with` us.
pub fn majority(voters: &BTreeSet<ReplicaId>, with: impl Fn(ReplicaId) -> bool) -> bool {
    voters.iter().filter(|voter| with(**voter)).count() * 2 > voters.len()
}
