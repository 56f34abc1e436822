//! Why the facade refuses: each variant is something a caller can act on, protocols map it to their own codes.
//! Carries no protocol number.
use model::NodeId;
use model::machine::AppendError;

/// Who leads a partition, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The leading node, if one is known and alive.
    pub node: Option<NodeId>,
    /// The leader epoch (Raft term) that goes with it; -1 if unknown.
    pub epoch: i32,
}

/// One error type for the whole facade.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Ask `leader` instead.
    #[error("this node does not lead the partition")]
    NotLeader {
        /// The leader to go to.
        leader: Leader,
    },
    /// No such topic, topic id or partition index in the image.
    #[error("no such topic or partition")]
    UnknownPartition,
    /// The client's leader epoch is older than the leader's (KIP-320).
    #[error("leader epoch is fenced")]
    FencedEpoch {
        /// The current leader.
        leader: Leader,
    },
    /// The client's leader epoch is newer than this node's (KIP-320).
    #[error("leader epoch is not known here yet")]
    UnknownEpoch,
    /// The offset lies outside log start ..= high watermark.
    #[error("offset out of range")]
    OffsetOutOfRange {
        /// First offset that exists.
        log_start: i64,
        /// End of what is committed.
        high_watermark: i64,
    },
    /// The offset may exist, but this new leader cannot tell yet; ask again.
    #[error("offset not available yet")]
    OffsetNotAvailable,
    /// Not decided before the deadline; the outcome is unknown.
    #[error("timed out")]
    Timeout,
    /// Over a bound (memory, rate); nothing was done, ask again later.
    #[error("too busy")]
    Busy,
    /// The machine refused the batch.
    #[error(transparent)]
    Rejected(#[from] AppendError),
    /// This node is stopping, its disk failed, or its replica does not run; the text says which.
    #[error("unavailable: {0}")]
    Unavailable(String),
}
