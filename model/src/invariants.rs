//! Named invariants: the same names stand here, in sim's checkers and in the docs.
//! `check!` stops the process in debug builds and the simulation, and counts in production.
//! Owns the one counter table of the process, which only grows; nothing replicated ever reads it.
//! Must never be used on replicated or wire bytes: those are refused by value, see [`count`].

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! invariants {
    ($($name:ident = $text:literal,)*) => {
        /// What always holds. The number is only a place in the counter table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum InvariantId {
            $(#[doc = $text] $name,)*
        }

        impl InvariantId {
            /// Every invariant, in declaration order.
            pub const ALL: &[InvariantId] = &[$(InvariantId::$name,)*];

            /// What holds, in words.
            pub const fn text(self) -> &'static str {
                match self { $(InvariantId::$name => $text,)* }
            }

            /// The name, as used in metrics, logs and checkers.
            pub const fn name(self) -> &'static str {
                match self { $(InvariantId::$name => stringify!($name),)* }
            }
        }
    };
}

invariants! {
    OffsetsDense = "the offsets of a log are 0, 1, 2, ... without a gap",
    OffsetNeverReassigned = "an offset once given to a record is never given to another",
    HighWatermarkMonotonic = "the high watermark never goes back",
    LogStartMonotonic = "the log start never goes back and never passes the high watermark",
    ProducerSequenceGapless = "the live batches of one producer epoch have consecutive sequences",
    ProducersBounded = "a partition remembers a bounded number of producers, each with a bounded number of batches",
    EpochMonotonic = "leader epochs rise with strictly rising start offsets",
    AppliedMonotonic = "entries are applied once, in the order of their index, with terms that never fall",
    SparseOrdered = "points of the sparse index rise in index and offset",
    MovedInOrder = "records that were moved are found in one place each, below the clean end",
    DeadEntry = "no entry that this cluster wrote is unintelligible to it",
    ImageVersionMonotonic = "each change of the image raises its version by one",
    GroupNeverReused = "a Raft group id is given to one partition for ever",
    ProducerIdNeverReused = "a producer id is given out once",
    StoreNeverChanges = "a registered node keeps its store id",
    PlacementDistinct = "the replicas of a partition are distinct, on registered nodes",
    ReplicaIdNeverReused = "a replica id is given to one replica of a Raft group for ever",
    TopicIndexesAgree = "a topic found by name is the one found by id and by group",
    GroupPhase = "a consumer group is Empty without members, and each generation has a protocol that all know",
    OperationCounts = "an operation has done no more than there is to do",
    OffsetsCounted = "a coordinator shard counts its committed offsets, no more and no fewer than there are",
    CursorFloor = "all that is below a cursor's floor is settled, and the floor is within the log",
    CursorIndexes = "what a cursor knows of a message is of one that is neither settled nor dead",
    DeadLetterOnce = "each dead message has one letter for each of its targets, each with a number of its own",
    TopologyWhole = "a binding has both its ends, and a queue a topic of its own",
    PartitionOwnedOnce = "a partition has at most one owner in a group",
}

static BROKEN: [AtomicU64; InvariantId::ALL.len()] = [const { AtomicU64::new(0) }; InvariantId::ALL.len()];

/// Counts one breach without stopping: for what replicated bytes did, which must never stop a node.
pub fn count(id: InvariantId) {
    BROKEN[id as usize].fetch_add(1, Ordering::Relaxed);
}

/// How often `id` was seen broken in this process. The metrics and the simulation read it.
pub fn broken(id: InvariantId) -> u64 {
    BROKEN[id as usize].load(Ordering::Relaxed)
}

/// Counts and, in debug builds and the simulation, stops. Use [`check!`](crate::check).
#[track_caller]
pub fn fail(id: InvariantId, detail: std::fmt::Arguments<'_>) {
    count(id);
    debug_assert!(false, "invariant {} broken ({}): {detail}", id.name(), id.text());
}

/// `check!(holds, OffsetsDense, "next {}", next)`: the condition is local state that this code keeps true.
/// Stops in debug and simulation builds, counts in production; evaluates to whether it holds.
#[macro_export]
macro_rules! check {
    ($holds:expr, $id:ident, $($detail:tt)+) => {{
        let holds: bool = $holds;
        if !holds {
            $crate::invariants::fail($crate::invariants::InvariantId::$id, format_args!($($detail)+));
        }
        holds
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_is_counted() {
        let before = broken(InvariantId::TopicIndexesAgree);
        assert!(check!(true, TopicIndexesAgree, "fine"));
        assert_eq!(broken(InvariantId::TopicIndexesAgree), before);
        count(InvariantId::TopicIndexesAgree);
        assert_eq!(broken(InvariantId::TopicIndexesAgree), before + 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "invariant OffsetsDense broken")]
    fn a_breach_stops_debug_builds() {
        check!(1 + 1 == 3, OffsetsDense, "arithmetic");
    }
}
