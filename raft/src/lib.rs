//! Many Raft groups under one roof: openraft over `storage`'s committer and a `Transport` that the node brings.
//! Owns openraft (no type of it is public) and the only `storage::Writer`: nothing reaches the disk without agreement.
//! Must never name a socket, an address or a client protocol.
#![forbid(unsafe_code)]

mod change;
mod checkpoint;
mod error;
mod group;
mod groups;
mod log_store;
mod machine;
mod network;
mod owner;
mod published;
mod purge;
mod quiesce;
mod rest;
mod settings;
mod sleep;
mod snapshot;
mod state_machine;
mod status;
mod throttle;
mod transport;
mod types;
mod verdict;
mod wire;

#[cfg(test)]
mod suite_tests;

use std::sync::Arc;
use std::time::Duration;

use model::{Effect, GroupId};

pub use change::{Goal, Step};
pub use error::{Error, ProposeError};
pub use group::{Group, Proposed};
pub use groups::Groups;
pub use owner::owner;
pub use purge::Space;
pub use quiesce::{Around, Neighbour};
pub use status::{Mark, Metrics, Status, purged_index, voted_term};
pub use transport::{Frame, Lane, Transport, TransportError};

/// Which machine a group replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The cluster's metadata; ordinary snapshots.
    Controller,
    /// The log of a topic partition; purged at the log start only.
    Partition,
    /// Consumer groups and their offsets; ordinary snapshots.
    Coordinator,
}

/// Told what the entries just applied have changed. Called on every replica, in order, from the group's own task:
/// it must return at once. The node decides who is the leader and acts.
pub type Effects = Arc<dyn Fn(GroupId, &[Effect]) + Send + Sync>;

/// How a node hosts its groups.
#[derive(Clone, Default)]
pub struct Options {
    /// Where effects go; `None` drops them.
    pub effects: Option<Effects>,
    /// A partition without a new entry for so long falls asleep; `None` keeps all awake.
    pub quiesce_after: Option<Duration>,
    /// Bytes a second that this node sends to replicas that do not vote yet; 0: no limit.
    pub catch_up_bytes_per_second: u64,
    /// The node before stopped in order, and the store has all that it wrote: partitions that it led it leads on, without an election.
    pub resumes: bool,
}
