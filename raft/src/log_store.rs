//! openraft's log storage over `storage`: the log of one group, its vote, its commit mark.
//! Invariants: everything goes through the one committer, in call order; entries are readable when `append` returns;
//! a vote is durable before it counts. The purge mark and the purge are one change, so no crash can show a hole.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use model::{GroupId, ReplicaId};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};
use storage::{Closed, Done, Reader, Row, RowKind, Writer, codec};
use tokio::sync::oneshot;

use crate::settings::FRAME_BYTES;
use crate::types::{
    Ballot, Entry, EntryPayload, LogId, Membership, Position, SMALL_BYTES_MAX, TypeConfig, Vote, from_stored, invalid,
    to_stored,
};

/// The log of one group. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    group: GroupId,
    writer: Writer,
    reader: Reader,
    marks: Arc<Mutex<Marks>>,
}

/// The small rows of the group, as last written.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

pub(crate) fn closed(why: &Closed) -> io::Error {
    io::Error::other(why.to_string())
}

/// `InvalidData` when what is stored is wrong, so that the replica is quarantined; else the device failed.
pub(crate) fn failed(error: &storage::Error) -> io::Error {
    let kind = match error {
        storage::Error::Corrupt(_) | storage::Error::Broken { .. } | storage::Error::Decode(_) => {
            io::ErrorKind::InvalidData
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.to_string())
}

/// A `Done` that nobody waits for: the committer closes for good on an error, and the next append reports it.
pub(crate) fn unwatched() -> Done {
    Box::new(|_| {})
}

/// Waits until all that was submitted is written.
pub(crate) async fn settled(writer: &Writer) -> io::Result<()> {
    let (done, wait) = awaited();
    writer.put(Vec::new(), done);
    wait.await
}

/// A `Done` and what waits for it.
pub(crate) fn awaited() -> (Done, impl Future<Output = io::Result<()>> + Send) {
    let (sender, receiver) = oneshot::channel();
    let done: Done = Box::new(move |result| {
        sender.send(result).ok();
    });
    let wait = async move {
        match receiver.await {
            Ok(result) => result.map_err(|why| closed(&why)),
            Err(_) => Err(io::Error::other("the committer is gone")),
        }
    };
    (done, wait)
}

fn decode_row<T: serde::de::DeserializeOwned>(row: Option<Bytes>, what: &str) -> io::Result<Option<T>> {
    row.map(|bytes| codec::decode(&bytes, SMALL_BYTES_MAX).map_err(|error| invalid(what, error))).transpose()
}

impl LogStore {
    /// Reads the group's marks. May block on the device.
    pub(crate) fn open(group: GroupId, writer: Writer, reader: Reader) -> io::Result<Self> {
        let row = |kind| reader.row(group, kind).map_err(|error| failed(&error));
        let vote: Option<Ballot> = decode_row(row(RowKind::Vote)?, "vote")?;
        let committed: Option<Position> = decode_row(row(RowKind::Committed)?, "committed")?;
        let purged: Option<Position> = decode_row(row(RowKind::Purged)?, "purged")?;
        let marks = Marks {
            vote: vote.map(Vote::from),
            committed: committed.map(LogId::from),
            purged: purged.map(LogId::from),
        };
        Ok(LogStore { group, writer, reader, marks: Arc::new(Mutex::new(marks)) })
    }

    fn marks(&self) -> Marks {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_marks(&self, set: impl FnOnce(&mut Marks)) {
        set(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn row(&self, kind: RowKind, value: Bytes) -> Row {
        Row { group: self.group, kind, suffix: Bytes::new(), value: Some(value) }
    }

    /// The leader that was elected last, as far as this replica knew when it wrote this, and its term.
    pub(crate) fn leader(&self) -> Option<(u64, ReplicaId)> {
        let vote = self.marks().vote.filter(|vote| vote.committed);
        vote.map(|vote| (vote.leader_id.term, vote.leader_id.voted_for))
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<u64> {
        self.marks().purged.map(|purged| purged.index)
    }

    /// Whether nothing was ever written for this replica.
    pub(crate) fn is_new(&self) -> io::Result<bool> {
        let marks = self.marks();
        Ok(marks.vote.is_none() && marks.purged.is_none() && self.last()?.is_none())
    }

    /// Writes a group's first entry, its founders, into an empty log, as openraft's `initialize` does. That would refuse a
    /// replica that has voted: if its candidate died before it replicated anything, the group would have no members.
    pub(crate) async fn found(&self, founders: &[ReplicaId]) -> io::Result<()> {
        if self.last()?.is_some() {
            return Ok(());
        }
        let members: BTreeSet<ReplicaId> = founders.iter().copied().collect();
        let membership = Membership::new_with_defaults(vec![members], []);
        let payload = EntryPayload::Membership(membership);
        let first = Entry::new(LogId::from(Position { term: 0, index: 0 }), payload);
        let (done, wait) = awaited();
        self.writer.append(self.group, vec![to_stored(first)], done);
        wait.await
    }

    /// The last log id, or the purge mark if nothing is left.
    pub(crate) fn last(&self) -> io::Result<Option<LogId>> {
        let last = self.reader.last(self.group).map_err(|error| failed(&error))?;
        let last = last.map(|(index, term)| LogId::from(Position { term, index }));
        let purged = self.marks().purged;
        match (last, purged) {
            (Some(last), Some(purged)) if last.index <= purged.index => Ok(Some(purged)),
            (None, purged) => Ok(purged),
            (last, _) => Ok(last),
        }
    }

    /// Entries from `from` on, until `to` (exclusive) or `bytes` is reached; at least one if there is one.
    async fn read(&self, from: u64, to: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let first = self.marks().purged.map_or(0, |purged| purged.index + 1);
        let from = from.max(first);
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.reader.entries(self.group, from, to, bytes).await.map_err(|error| failed(&error))?;
        entries.into_iter().map(from_stored).collect()
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (mut from, to) = bounds(&range);
        let mut all = Vec::new();
        while from < to {
            let some = self.read(from, to, FRAME_BYTES).await?;
            let Some(last) = some.last() else { break };
            from = last.log_id.index + 1;
            all.extend(some);
        }
        Ok(all)
    }

    /// Read while it is consumed, so that applying a long run never holds all of it.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        let start = (self.clone(), from, VecDeque::new());
        Box::pin(futures::stream::try_unfold(start, move |(store, mut from, mut ready)| async move {
            if ready.is_empty() && from < to {
                ready = VecDeque::from(store.read(from, to, FRAME_BYTES).await?);
            }
            let next: Option<Entry> = ready.pop_front();
            from = next.as_ref().map_or(to, |entry| entry.log_id.index + 1);
            Ok(next.map(|entry| (entry, (store, from, ready))))
        }))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, FRAME_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.marks().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState { last_purged_log_id: self.marks().purged, last_log_id: self.last()? })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = awaited();
        self.writer.put(vec![self.row(RowKind::Vote, codec::encode(&Ballot::from(vote)))], done);
        wait.await?;
        self.set_marks(|marks| marks.vote = Some(*vote));
        Ok(())
    }

    /// Not waited for, and written when something else is: queued behind the entries that it names, it is a hint that is never ahead.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = &committed {
            self.writer.put_along(vec![self.row(RowKind::Committed, codec::encode(&Position::from(id)))]);
        }
        self.set_marks(|marks| marks.committed = committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.marks().committed)
    }

    /// An error unless the entries are readable: openraft applies what is committed as soon as this returns, also while
    /// it has yet to hear from `callback` that the store took nothing.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(to_stored).collect();
        let done: Done = Box::new(move |result| callback.io_completed(result.map_err(|why| closed(&why))));
        let taken = self.writer.append(self.group, entries, done);
        taken.then_some(()).ok_or_else(|| io::Error::other("the store took no entries"))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.writer.truncate_after(self.group, last_log_id.map(|id| id.index), unwatched());
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.writer.purge(self.group, log_id.index, vec![purge_mark(self.group, &log_id)], unwatched());
        self.set_marks(|marks| marks.purged = Some(log_id));
        Ok(())
    }
}

/// The row that says what is purged.
pub(crate) fn purge_mark(group: GroupId, last: &LogId) -> Row {
    let value = Some(codec::encode(&Position::from(last)));
    Row { group, kind: RowKind::Purged, suffix: Bytes::new(), value }
}
