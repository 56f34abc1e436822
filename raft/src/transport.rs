//! How Raft messages leave and enter this crate: the `Transport` that the peer layer implements, and the frame.
//! Invariant: payload bytes are never inside the encoded head, so nothing is copied to be sent.
//! Must never name a socket, an address or a protocol.

use bytes::Bytes;
use futures::future::BoxFuture;
use model::{GroupId, NodeId};

/// Which of the two connections to a peer a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Entries and snapshots, in order. May be slow.
    Append,
    /// Heartbeats, votes and transfers, so that bulk catch-up cannot fake a death.
    Control,
}

/// A request or an answer. `head` is encoded by `storage::codec`; `body` is payload bytes in order, in as many
/// slices as suits the sender: the receiver may get them in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What is asked or answered.
    pub head: Bytes,
    /// Entries or a snapshot.
    pub body: Vec<Bytes>,
}

impl Frame {
    /// Bytes of head and body.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is nothing in it; an encoded frame never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body in one piece: without a copy if it came in one.
    pub(crate) fn joined(mut self) -> Bytes {
        match self.body.len() {
            0 => Bytes::new(),
            1 => self.body.remove(0),
            _ => self.body.concat().into(),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no connection and none can be made now: try again later, not at once.
    #[error("node {node} is unreachable: {reason}")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// What the connection said.
        reason: String,
    },
    /// The connection broke before the answer came; whether the request arrived is unknown.
    #[error("connection to node {node} broke: {reason}")]
    Broken {
        /// The peer.
        node: NodeId,
        /// What the connection said.
        reason: String,
    },
}

/// The way to the other nodes.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` to the group's replica on node `to`. Requests of one lane to one node arrive in the order of
    /// the calls of this method (not of the first polls of what it returns). The caller applies its own deadline by
    /// dropping the future.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        group: GroupId,
        request: Frame,
    ) -> BoxFuture<'static, Result<Frame, TransportError>>;
}
