//! What Raft messages look like between nodes: our own mirror structs, so that no field of openraft is a wire format.
//! Invariants: a request names the replica it is for and the one it is from; the payload of entries travels in the
//! frame's body, one stored value after the other; every length is checked before it slices.

use bytes::Bytes;
use model::ReplicaId;
use model::command::Payload;
use model::planted::{self, Bug};
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use serde::{Deserialize, Serialize};

use crate::Frame;
use crate::quiesce::Pact;
use crate::types::{
    Ballot, Entry, EntryPayload, LogId, Position, SetMembers, TypeConfig, from_payload, invalid, log_id, to_payload,
};

/// Bytes that the head of a frame may have: 512 entry heads are about 8 KiB.
const HEAD_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Append(Append),
    Vote(Candidacy),
    PreVote(Candidacy),
    Transfer {
        leader: Ballot,
        target: ReplicaId,
        last: Option<Position>,
    },
    Snapshot {
        leader: Ballot,
        last: Option<Position>,
        members: SetMembers,
    },
    /// Fall asleep, as your leader does.
    Sleep(Pact),
    /// Be awake: the sender cannot do without you.
    Wake,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) leader: Ballot,
    pub(crate) previous: Option<Position>,
    pub(crate) committed: Option<Position>,
    pub(crate) entries: Vec<EntryHead>,
    pub(crate) seal: Option<Seal>,
    /// The leader sleeps on: this only asks who follows it.
    pub(crate) asleep: bool,
}

/// What a partition's log digests to at an applied entry: equal on every replica that has applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) index: u64,
    pub(crate) digest: u64,
}

/// Where an entry stands and how many bytes of the body are its.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryHead {
    pub(crate) at: Position,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidacy {
    pub(crate) candidate: Ballot,
    pub(crate) last: Option<Position>,
    pub(crate) transfer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Appended,
    Conflict,
    HigherVote(Ballot),
    Vote { vote: Ballot, granted: bool, last: Option<Position> },
    Transferred,
    NotTransferred(String),
    Snapshot(Ballot),
    Refused(Refusal),
    Asleep,
    Awake(String),
}

/// Why a replica did not look at a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the group is not open there")]
    NotOpen,
    #[error("the replica there is {0}")]
    OtherReplica(ReplicaId),
    #[error("the replica has stopped")]
    Stopped,
    #[error("the frame is malformed: {0}")]
    Malformed(String),
    #[error("the replica sleeps, and its leader lives")]
    Asleep,
}

impl Request {
    pub(crate) fn to_frame(&self, body: Vec<Bytes>) -> Frame {
        Frame { head: storage::codec::encode(self), body }
    }

    pub(crate) fn from_frame(frame: &Frame) -> std::io::Result<Self> {
        storage::codec::decode(&frame.head, HEAD_BYTES_MAX).map_err(|error| invalid("request", error))
    }
}

impl Answer {
    pub(crate) fn to_frame(&self) -> Frame {
        Frame { head: storage::codec::encode(self), body: Vec::new() }
    }

    pub(crate) fn from_frame(frame: &Frame) -> std::io::Result<Self> {
        storage::codec::decode(&frame.head, HEAD_BYTES_MAX).map_err(|error| invalid("answer", error))
    }
}

fn position(id: &Option<LogId>) -> Option<Position> {
    id.as_ref().map(Position::from)
}

/// Bytes of the entries of an append.
pub(crate) fn entry_bytes(request: &AppendEntriesRequest<TypeConfig>) -> usize {
    request.entries.iter().map(payload_bytes).sum()
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The same append as several, one behind the other, of at most `bytes` each unless one entry is larger.
pub(crate) fn split(
    mut request: AppendEntriesRequest<TypeConfig>,
    bytes: usize,
) -> Vec<AppendEntriesRequest<TypeConfig>> {
    let mut parts = Vec::new();
    let mut entries = std::mem::take(&mut request.entries).into_iter().peekable();
    loop {
        let mut part = AppendEntriesRequest { entries: Vec::new(), ..request.clone() };
        let mut room = bytes;
        while let Some(entry) = entries.next_if(|entry| part.entries.is_empty() || payload_bytes(entry) <= room) {
            room = room.saturating_sub(payload_bytes(&entry));
            part.entries.push(entry);
        }
        request.prev_log_id = part.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        parts.push(part);
        if entries.peek().is_none() {
            return parts;
        }
    }
}

/// The head of an append and the slices of its entries.
pub(crate) fn append(
    request: AppendEntriesRequest<TypeConfig>,
    seal: Option<Seal>,
    asleep: bool,
) -> (Append, Vec<Bytes>) {
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut body = Vec::with_capacity(request.entries.len() * 2);
    for entry in request.entries {
        let at = Position::from(&entry.log_id());
        let payload = to_payload(entry.payload);
        entries.push(EntryHead { at, bytes: payload.len() as u64 });
        body.push(payload.head);
        body.extend(payload.body);
    }
    let previous = position(&request.prev_log_id);
    let ahead = entries.last().map(|entry: &EntryHead| entry.at).filter(|_| planted::is(Bug::HighWatermarkAhead));
    let committed = ahead.or(position(&request.leader_commit));
    (Append { leader: Ballot::from(&request.vote), previous, committed, entries, seal, asleep }, body)
}

impl Append {
    /// The request whose entries are slices of `body`.
    pub(crate) fn into_raft(self, mut body: Bytes) -> std::io::Result<AppendEntriesRequest<TypeConfig>> {
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut next = self.previous.map_or(0, |previous| previous.index.wrapping_add(1));
        for EntryHead { at, bytes } in self.entries {
            if at.index != next {
                return Err(invalid("append", format_args!("index {} where {next} belongs", at.index)));
            }
            next = next.wrapping_add(1);
            if bytes > body.len() as u64 {
                return Err(invalid("append", format_args!("entry {} ends after the frame", at.index)));
            }
            let payload = Payload::from_bytes(body.split_to(bytes as usize)).map_err(|e| invalid("entry", e))?;
            entries.push(Entry::new(log_id(at.term, at.index), from_payload(payload)?));
        }
        if !body.is_empty() {
            return Err(invalid("append", format_args!("{} bytes after the last entry", body.len())));
        }
        Ok(AppendEntriesRequest {
            vote: self.leader.into(),
            prev_log_id: self.previous.map(LogId::from),
            leader_commit: self.committed.map(LogId::from),
            entries,
        })
    }
}

impl From<&VoteRequest<TypeConfig>> for Candidacy {
    fn from(request: &VoteRequest<TypeConfig>) -> Self {
        Candidacy {
            candidate: Ballot::from(&request.vote),
            last: position(&request.last_log_id),
            transfer: request.leadership_transfer,
        }
    }
}

impl From<Candidacy> for VoteRequest<TypeConfig> {
    fn from(candidacy: Candidacy) -> Self {
        let mut request = VoteRequest::new(candidacy.candidate.into(), candidacy.last.map(LogId::from));
        request.leadership_transfer = candidacy.transfer;
        request
    }
}

impl From<VoteResponse<TypeConfig>> for Answer {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Answer::Vote {
            vote: Ballot::from(&response.vote),
            granted: response.vote_granted,
            last: position(&response.last_log_id),
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
