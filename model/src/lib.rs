//! What replicated data means: ids, entries, the partition and controller machines, limits, invariants.
//! Pure: the same entries give the same state on every replica. Never: tokio, clocks, rand, HashMap, files,
//! sockets, logging.
#![forbid(unsafe_code)]

pub mod assign;
pub mod balance;
pub mod command;
pub mod compaction;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod cursor;
pub mod exchange;
pub mod ids;
pub mod invariants;
pub mod limits;
pub mod machine;
pub mod partition;
pub mod planted;
pub mod producer;
pub mod record;
pub mod retention;

pub use ids::{GroupId, NodeId, PartitionIndex, ReplicaId, StoreId, TopicId};
pub use machine::{At, Effect, Out, Reply, Write};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod transcripts;
