//! What can go wrong with a Raft group, as its user can act on it. Nothing of openraft shows.

use model::{GroupId, NodeId, ReplicaId};

/// Why a group cannot be opened, changed or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The group is open already.
    #[error("group {0} is open")]
    AlreadyOpen(GroupId),
    /// The group is not open on this node.
    #[error("group {0} is not open here")]
    NotOpen(GroupId),
    /// What is on disk contradicts itself. The replica must not vote, serve or purge; it is rebuilt from its peers.
    #[error("group {group} is quarantined: {reason}")]
    Quarantined {
        /// The group.
        group: GroupId,
        /// What contradicts what.
        reason: String,
    },
    /// This node had a later replica of the group: who asks for an earlier one knows less than the disk.
    #[error("group {group} has replica {by} here already")]
    Superseded {
        /// The group.
        group: GroupId,
        /// The replica whose data is here.
        by: ReplicaId,
    },
    /// Storage failed. The group acknowledges nothing any more.
    #[error("group {group} stopped: {reason}")]
    Stopped {
        /// The group.
        group: GroupId,
        /// What failed.
        reason: String,
    },
    /// Only the leader can do this.
    #[error("not the leader, which is {leader:?}")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// A membership change that is not allowed now (another one is in progress, no learner, no voter left).
    #[error("membership change refused: {0}")]
    Membership(String),
    /// A frame that is not one of ours, or not for this replica.
    #[error("bad frame from node {from}: {reason}")]
    BadFrame {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        reason: String,
    },
    /// It did not happen within its time.
    #[error("{what} took too long for replica {replica}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// Whom it concerns.
        replica: ReplicaId,
    },
}

/// Why a payload was not committed by this proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead. The payload is in no log.
    #[error("not the leader, which is {leader:?}")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// Leadership was lost after the payload had entered the log: it may commit still, or never.
    #[error("leadership was lost, the outcome is unknown; the leader is {leader:?}")]
    Lost {
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// The group's queue is full. The payload is in no log.
    #[error("the group's queue is full")]
    Busy,
    /// The group is closed or its storage failed; the outcome is unknown.
    #[error("the group has stopped: {0}")]
    Closed(String),
}
