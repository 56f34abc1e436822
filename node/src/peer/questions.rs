//! What members ask each other about the rafts they run, outside of Raft itself. Encoded by `storage::codec`.
//! Plain data, no behaviour.
use std::io;

use bytes::Bytes;
use model::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

const QUESTION_BYTES_MAX: usize = 64 << 10;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Asked of a node that leads a group, or holds one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Hand the leadership of `group` to the voter on `to`, and answer when another replica leads.
    HandOver {
        /// The group, led by whom is asked.
        group: GroupId,
        /// Who shall lead it.
        to: NodeId,
    },
    /// How far the members of a group are that whom is asked leads.
    Quorum(GroupId),
    /// How many bytes the log of each partition here has.
    Sizes,
}

/// The answer to the [`Question`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answered {
    /// Another replica leads.
    HandedOver,
    /// As the leader sees it.
    Quorum(Quorum),
    /// In order of the groups.
    Sizes(Vec<(GroupId, u64)>),
}

/// The members of a group as its leader sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Quorum {
    /// The leader.
    #[schema(value_type = u32)]
    pub leader: NodeId,
    /// Its Raft term.
    pub term: u64,
    /// Last entry known to be on a majority.
    pub committed: u64,
    /// Voters first, each kind by node.
    pub members: Vec<Member>,
}

/// One member of a [`Quorum`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Member {
    /// Its node.
    #[schema(value_type = u32)]
    pub node: NodeId,
    /// Whether it votes.
    pub votes: bool,
    /// The last entry that it is known to hold.
    pub matched: Option<u64>,
    /// How long ago it answered the leader last; 0 for the leader itself.
    pub heard_ms_ago: Option<u64>,
    /// Whether it holds all that the leader holds.
    pub is_caught_up: bool,
}

impl Question {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, QUESTION_BYTES_MAX)
    }
}

impl Answered {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        super::messages::decode(bytes, ANSWER_BYTES_MAX)
    }
}
