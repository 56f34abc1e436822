//! What must hold in a run, one promise per file, named as in docs and reference. Those that watch are asked by [`crate::probe`]
//! on the way; the others read the history when it is over. Each says which promise broke, with evidence.

pub mod acknowledged_stays;
pub mod batches_whole;
pub mod committed_durable;
pub mod committed_stays;
pub mod compacted_newest;
pub mod end_linearizable;
pub mod group_commits;
pub mod group_covers;
pub mod group_fenced;
pub mod group_holds;
pub mod group_owners;
pub mod groups_settle;
pub mod leader_per_term;
pub mod log_start_allowed;
pub mod members_intersect;
pub mod metadata_linearizable;
pub mod minority_bounded;
pub mod offsets_dense;
pub mod operations_end;
pub mod operations_finish;
pub mod orphans_wake;
pub mod produced_once;
pub mod queue_counts;
pub mod queue_dead_letters;
pub mod queue_keeps;
pub mod queue_one_consumer;
pub mod queue_order;
pub mod queue_settled;
pub mod queue_times;
pub mod queues_drain;
pub mod read_stays;
pub mod ready;
pub mod replicas_as_wanted;
pub mod replicas_identical;
#[cfg(test)]
pub mod sample;
pub mod sleepers_agree;
pub mod works_after_healing;

use std::collections::BTreeSet;

use model::ReplicaId;

use crate::history::History;

/// A promise: its name (the invariant's, see docs) and the violations that `history` shows.
pub type Checker = (&'static str, fn(&History) -> Vec<String>);

/// Every checker of a history.
pub const ALL: &[Checker] = &[
    ("S2 ReadStays", read_stays::check),
    ("S4 AcknowledgedStays", acknowledged_stays::check),
    ("S4 BatchesWhole", batches_whole::check),
    ("S4 CompactedNewest", compacted_newest::check),
    ("S5 OffsetsDense", offsets_dense::check),
    ("S7 OneOwner", group_owners::check),
    ("S7 OneHolder", group_holds::check),
    ("S7 ZombiesFenced", group_fenced::check),
    ("S8 CommitsStay", group_commits::check),
    ("S8 GroupCovers", group_covers::check),
    ("S9 NothingVanishes", queue_keeps::check),
    ("S9 DeadLettersOnce", queue_dead_letters::check),
    ("S9 SettledStays", queue_settled::check),
    ("S10 CountsKnown", queue_counts::check),
    ("S10 OneConsumer", queue_one_consumer::check),
    ("S10 OrderKept", queue_order::check),
    ("S10 NotEarly", queue_times::check),
    ("S12 ProducedOnce", produced_once::check),
    ("S14 MetadataLinearizable", metadata_linearizable::check),
    ("L1 WorksAfterHealing", works_after_healing::fresh_writes),
    ("L2 OperationsEnd", operations_end::check),
    ("L5 GroupsSettle", groups_settle::check),
    ("L7 QueuesDrain", queues_drain::check),
];

/// Whether more than half of `voters` are `with` us.
pub fn majority(voters: &BTreeSet<ReplicaId>, with: impl Fn(ReplicaId) -> bool) -> bool {
    voters.iter().filter(|voter| with(**voter)).count() * 2 > voters.len()
}
