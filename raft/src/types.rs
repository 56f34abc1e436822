//! The one place where openraft's generics are spelled out, and the translation between its types and ours.
//! Invariants: standard Raft leader ids (one leader per term, so that a term is a Kafka leader epoch);
//! a blank or membership entry is stored under model's own tags. Nothing of openraft leaves this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, io};

use model::ReplicaId;
use model::command::{Payload, Tag};
use openraft::entry::RaftEntry;
use openraft::vote::leader_id_std;
use serde::{Deserialize, Serialize};
use storage::LogEntry;

/// Bytes that a membership body or a small row may have.
pub(crate) const SMALL_BYTES_MAX: usize = 1 << 20;

#[allow(deprecated)]
mod runtime {
    /// openraft's own tokio runtime; its crate is not ours to name.
    pub(crate) type Runtime = openraft::impls::TokioRuntime;
}

openraft::declare_raft_types!(
    /// Entry, reply and identity types of every Raft group.
    pub(crate) TypeConfig:
        D = Data,
        R = model::Reply,
        NodeId = ReplicaId,
        Node = (),
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, ReplicaId>,
        AsyncRuntime = runtime::Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;
pub(crate) type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<leader_id_std::LeaderId<u64, ReplicaId>>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, EntryPayload>;
pub(crate) type EntryPayload = openraft::EntryPayload<Data, ReplicaId, ()>;
pub(crate) type Membership = openraft::Membership<ReplicaId, ()>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, ReplicaId, ()>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, ReplicaId, ()>;
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeaderId, ReplicaId, (), bytes::Bytes>;

/// What is proposed: an entry of `model`, whose bytes no log line prints.
#[derive(Clone)]
pub(crate) struct Data(pub(crate) Payload);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A log id as it is stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<&LogId> for Position {
    fn from(id: &LogId) -> Self {
        Position { term: id.leader_id.term, index: id.index }
    }
}

impl From<Position> for LogId {
    fn from(position: Position) -> Self {
        log_id(position.term, position.index)
    }
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

/// A vote as it is stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) replica: ReplicaId,
    pub(crate) committed: bool,
}

impl From<&Vote> for Ballot {
    fn from(vote: &Vote) -> Self {
        Ballot { term: vote.leader_id.term, replica: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        let leader_id = leader_id_std::LeaderId { term: ballot.term, voted_for: ballot.replica };
        Vote { leader_id, committed: ballot.committed }
    }
}

/// The members of a group as they are stored and sent: voter sets (two while a change is joint) and everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) voters: Vec<BTreeSet<ReplicaId>>,
    pub(crate) everybody: BTreeSet<ReplicaId>,
}

impl From<&Membership> for Members {
    fn from(membership: &Membership) -> Self {
        Members {
            voters: membership.get_joint_config().clone(),
            everybody: membership.nodes().map(|(id, ())| *id).collect(),
        }
    }
}

impl Members {
    pub(crate) fn to_raft(&self) -> io::Result<Membership> {
        if self.voters.is_empty() && self.everybody.is_empty() {
            return Ok(Membership::default());
        }
        let nodes: BTreeMap<ReplicaId, ()> = self.everybody.iter().map(|id| (*id, ())).collect();
        Membership::new(self.voters.clone(), nodes).map_err(|error| invalid("membership", error))
    }
}

/// A membership with the entry that set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetMembers {
    pub(crate) at: Option<Position>,
    pub(crate) members: Members,
}

impl From<&StoredMembership> for SetMembers {
    fn from(stored: &StoredMembership) -> Self {
        SetMembers { at: stored.log_id().as_ref().map(Position::from), members: stored.membership().into() }
    }
}

impl SetMembers {
    pub(crate) fn to_raft(&self) -> io::Result<StoredMembership> {
        Ok(StoredMembership::new(self.at.map(LogId::from), self.members.to_raft()?))
    }
}

/// An error about bytes that are not what they should be.
pub(crate) fn invalid(what: &str, error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {error}"))
}

/// The bytes of a Raft entry, whatever it is.
pub(crate) fn to_payload(payload: EntryPayload) -> Payload {
    match payload {
        EntryPayload::Blank => Payload::blank(0),
        EntryPayload::Normal(Data(payload)) => payload,
        EntryPayload::Membership(membership) => {
            Payload::command(Tag::Membership, 0, storage::codec::encode(&Members::from(&membership)))
        }
    }
}

/// The Raft entry that the bytes stand for.
pub(crate) fn from_payload(payload: Payload) -> io::Result<EntryPayload> {
    let header = payload.header().map_err(|error| invalid("entry", error))?;
    match header.tag {
        Tag::Blank => Ok(EntryPayload::Blank),
        Tag::Membership => {
            let body = payload.body.first().map_or(&[][..], |body| &body[..]);
            let members: Members =
                storage::codec::decode(body, SMALL_BYTES_MAX).map_err(|e| invalid("membership", e))?;
            Ok(EntryPayload::Membership(members.to_raft()?))
        }
        _ => Ok(EntryPayload::Normal(Data(payload))),
    }
}

/// An entry as `storage` keeps it.
pub(crate) fn to_stored(entry: Entry) -> LogEntry {
    LogEntry { index: entry.log_id.index, term: entry.log_id.leader_id.term, payload: to_payload(entry.payload) }
}

/// An entry as openraft sees it.
pub(crate) fn from_stored(entry: LogEntry) -> io::Result<Entry> {
    Ok(Entry::new(log_id(entry.term, entry.index), from_payload(entry.payload)?))
}
