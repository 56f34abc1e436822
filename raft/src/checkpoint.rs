//! Checkpoints of a partition: when one is due, how it is stored, and which one the log may be purged to.
//! A checkpoint is a head and chunks of at most 64 KiB, named by its Raft index, never changed, written in one batch with the
//! rows of the entry that it stands behind. It is deleted in the change that purges the log beyond it (`storage::Writer`).
//! Invariant: what is purged is covered by a checkpoint written before, so the checkpoint survives whatever the purge does.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use model::GroupId;
use model::limits::{CHECKPOINT_SHARE, CHECKPOINTS_KEPT};
use model::partition::{Checkpoint, Mark, PartitionMachine, State};
use model::planted::{self, Bug};
use model::retention::Segment;
use serde::{Deserialize, Serialize};
use storage::{Reader, Row, RowKind, codec};

use crate::log_store::failed;
use crate::snapshot;
use crate::types::{Position, SMALL_BYTES_MAX, SetMembers, Snapshot, StoredMembership, invalid};

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// What is known of a checkpoint without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    mark: Mark,
    members: SetMembers,
    /// Bytes of all chunks.
    bytes: u64,
}

/// The checkpoints of a replica.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Oldest first, each with its size.
    marks: VecDeque<(Mark, u64)>,
    /// The leader's clock at the first append behind the last checkpoint.
    began: Option<i64>,
    /// Index of the one that the log is purged to, or is about to be: the snapshot for replicas that need older entries.
    base: Option<u64>,
    /// How far apart they should be.
    pub(crate) segment: Segment,
}

impl Checkpoints {
    /// What the disk has. May block on the device.
    pub(crate) fn load(reader: &Reader, group: GroupId) -> io::Result<Self> {
        let rows = reader.rows(group, RowKind::Checkpoint).map_err(|error| failed(&error))?;
        let head = |value: &[u8]| codec::decode::<Head>(value, SMALL_BYTES_MAX);
        let marks = rows.iter().map(|(_, value)| head(value).map(|head| (head.mark, head.bytes)));
        let marks: VecDeque<_> = marks.collect::<Result<_, _>>().map_err(|error| invalid("checkpoint", error))?;
        let purged = reader.row(group, RowKind::Purged).map_err(|error| failed(&error))?;
        let purged = purged.map(|row| codec::decode::<Position>(&row, SMALL_BYTES_MAX)).transpose();
        let purged = purged.map_err(|error| invalid("purge mark", error))?.map(|purged| purged.index);
        let base = purged.filter(|index| marks.iter().any(|(mark, _)| mark.index == *index));
        Ok(Checkpoints { marks, base, ..Checkpoints::default() })
    }

    /// Those of a replica that has nothing but the one it installed.
    pub(crate) fn installed(mark: Mark, bytes: u64, segment: Segment) -> Self {
        Checkpoints { marks: VecDeque::from([(mark, bytes)]), base: Some(mark.index), began: None, segment }
    }

    /// The index of the one that stands for the purged part of the log.
    pub(crate) fn base(&self) -> Option<u64> {
        self.base
    }

    /// Where they stand, oldest first.
    pub(crate) fn marks(&self) -> impl DoubleEndedIterator<Item = &Mark> {
        self.marks.iter().map(|(mark, _)| mark)
    }

    /// Whether one is due after an entry of the time `leader_ts` (0: none), which emptied the log if `emptied`.
    pub(crate) fn is_due(&mut self, machine: &PartitionMachine, leader_ts: i64, emptied: bool) -> bool {
        let state = machine.state();
        let (before, size) = self.marks.back().map_or((0, 0), |(mark, bytes)| (mark.position, *bytes));
        let fresh = state.log_bytes.saturating_sub(before);
        if fresh == 0 {
            return false;
        }
        let began = match leader_ts {
            0 => self.began,
            now => Some(*self.began.get_or_insert(now)),
        };
        let old = began.is_some_and(|began| leader_ts.saturating_sub(began) >= self.segment.ms);
        let share = CHECKPOINT_SHARE.saturating_mul(size);
        let far = self.segment.bytes.max(share).max(machine.size_bytes() / CHECKPOINTS_KEPT);
        emptied || old || fresh >= far
    }

    /// The rows of a new one, which is the newest from now on.
    pub(crate) fn add(
        &mut self,
        group: GroupId,
        checkpoint: &Checkpoint,
        state: &State,
        members: &StoredMembership,
    ) -> Vec<Row> {
        let mark = Mark::of(state, checkpoint.leader_ts);
        let data = codec::encode(checkpoint);
        self.marks.push_back((mark, data.len() as u64));
        self.began = None;
        rows(group, mark, members, data)
    }

    /// The newest one below which `machine` needs no entry, if it is above `purged`.
    pub(crate) fn target(&self, machine: &PartitionMachine, purged: Option<u64>) -> Option<u64> {
        let passed = |mark: &&Mark| machine.is_covered_by(mark) || planted::is(Bug::PurgePastReader);
        let newest = self.marks().rev().find(passed)?;
        purged.is_none_or(|purged| newest.index > purged).then_some(newest.index)
    }

    /// Decides that the log is purged to the one at `index`, and forgets those before it.
    pub(crate) fn choose(&mut self, index: u64) {
        self.marks.retain(|(mark, _)| mark.index >= index);
        self.base = Some(index);
    }
}

/// The rows of a checkpoint.
pub(crate) fn rows(group: GroupId, mark: Mark, members: &StoredMembership, data: Bytes) -> Vec<Row> {
    let bytes = data.len() as u64;
    let head = Head { mark, members: SetMembers::from(members), bytes };
    let row = |kind, suffix, value| Row { group, kind, suffix, value: Some(value) };
    let mut rows = vec![row(RowKind::Checkpoint, suffix(mark.index), codec::encode(&head))];
    for number in 0..data.len().div_ceil(CHUNK_BYTES) {
        let chunk = data.slice(number * CHUNK_BYTES..data.len().min((number + 1) * CHUNK_BYTES));
        rows.push(row(RowKind::CheckpointChunk, chunk_suffix(mark.index, number), chunk));
    }
    rows
}

fn suffix(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn chunk_suffix(index: u64, number: usize) -> Bytes {
    [&index.to_be_bytes()[..], &(number as u32).to_be_bytes()[..]].concat().into()
}

/// The checkpoint at `index` as openraft's snapshot. May block on the device.
///
/// # Errors
/// `InvalidData` when it is not there or not whole.
pub(crate) fn read(reader: &Reader, group: GroupId, index: u64) -> io::Result<Snapshot> {
    let row = |kind, suffix: Bytes| {
        let row = reader.row_at(group, kind, &suffix).map_err(|error| failed(&error))?;
        row.ok_or_else(|| invalid("checkpoint", format_args!("a part of the one at {index} is missing")))
    };
    let head = row(RowKind::Checkpoint, suffix(index))?;
    let head: Head = codec::decode(&head, SMALL_BYTES_MAX).map_err(|error| invalid("checkpoint", error))?;
    let mut data = BytesMut::new();
    for number in 0..usize::try_from(head.bytes).unwrap_or(usize::MAX).div_ceil(CHUNK_BYTES) {
        data.extend_from_slice(&row(RowKind::CheckpointChunk, chunk_suffix(index, number))?);
    }
    if data.len() as u64 != head.bytes {
        return Err(invalid(
            "checkpoint",
            format_args!("the one at {index} has {} of {} bytes", data.len(), head.bytes),
        ));
    }
    let last = Position { term: head.mark.term, index: head.mark.index };
    Ok(Snapshot { meta: snapshot::meta(Some(last), &head.members)?, snapshot: data.freeze() })
}
