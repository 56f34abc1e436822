//! What nodes tell each other outside of Raft: heartbeats, and the visits of those who found or join a cluster.
//! Encoded by `storage::codec`. Plain data, no behaviour.
use std::io;

use bytes::Bytes;
use model::{GroupId, NodeId, ReplicaId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::directory::Member;
use crate::router::Led;

const HEARTBEAT_BYTES_MAX: usize = 1 << 20;
const VISIT_BYTES_MAX: usize = 256 << 10;

/// A node lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Changes with every start of its process.
    pub boot: u64,
    /// The start of the receiver's process that it hears, if it hears it.
    pub hears: Option<u64>,
    /// Version of its controller image.
    pub image_version: u64,
    /// How far its disk is synced ([`storage::Engine::synced`]).
    pub synced: u64,
    /// Its disk takes writes.
    pub disk_ok: bool,
    /// It is about to stop: it takes no leadership over.
    pub stopping: bool,
    /// The groups it leads: all of them, or `None` when nothing changed since the last full list.
    pub leads: Option<Vec<(GroupId, Led)>>,
}

/// What somebody without a cluster asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visit {
    /// Who are you, and whom do you see?
    Probe,
    /// The cluster is founded so; take part.
    Found(Founding),
    /// Take me in.
    Join(Joining),
}

/// The answer to a [`Visit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visited {
    /// To a probe.
    Seen(Seen),
    /// To a founding: it is on disk.
    Founded,
    /// To a join.
    Joined(Joined),
    /// To a join: never, in words for the operator.
    Never(String),
}

/// What a probed node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Itself.
    pub me: Member,
    /// Its cluster, if it belongs to one.
    pub cluster: Option<String>,
    /// How many founders it expects.
    pub expect: u32,
    /// The nodes it sees, itself included, while it belongs to no cluster.
    pub sees: Vec<NodeId>,
    /// The founding it took part in, if it is a founder.
    pub founding: Option<Founding>,
}

/// The one decision that makes a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The new cluster's id.
    pub cluster: String,
    /// Its founders.
    pub founders: Vec<Member>,
}

/// A node that wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// Itself.
    pub me: Member,
    /// Its registration, an encoded controller command.
    pub registration: Vec<u8>,
}

/// What a joined node needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: String,
    /// Its replica of the controller.
    pub replica: ReplicaId,
    /// All members.
    pub members: Vec<Member>,
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> io::Result<T> {
    storage::codec::decode(bytes, max).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

impl Heartbeat {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        decode(bytes, HEARTBEAT_BYTES_MAX)
    }
}

impl Visit {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        decode(bytes, VISIT_BYTES_MAX)
    }
}

impl Visited {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        storage::codec::encode(self)
    }

    /// # Errors
    /// `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        decode(bytes, VISIT_BYTES_MAX)
    }
}
