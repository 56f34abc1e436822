//! Complete machine state as bytes. A controller's is written when it is taken, and the controller recovers from it; a
//! partition's is one of its checkpoints, which are written as its entries are applied (`checkpoint`).
//! Invariant: head and data of a snapshot are written in one batch, so they always belong together.

use std::io;

use bytes::Bytes;
use model::GroupId;
use openraft::RaftSnapshotBuilder;
use serde::{Deserialize, Serialize};
use storage::{Reader, Row, RowKind, Writer, codec};

use crate::checkpoint;
use crate::log_store::{awaited, failed};
use crate::types::{LogId, Position, SMALL_BYTES_MAX, SetMembers, Snapshot, SnapshotMeta, TypeConfig, invalid};

/// Suffixes of the two rows; the head sorts first.
const HEAD: Bytes = Bytes::new();
const DATA: Bytes = Bytes::from_static(b"data");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    last: Option<Position>,
    members: SetMembers,
}

/// Where one group keeps its snapshot.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) group: GroupId,
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
}

impl Snapshots {
    /// The rows of a snapshot.
    pub(crate) fn rows(&self, meta: &SnapshotMeta, data: Bytes) -> Vec<Row> {
        let head = Head {
            last: meta.last_log_id.as_ref().map(Position::from),
            members: SetMembers::from(&meta.last_membership),
        };
        let row = |suffix, value| Row { group: self.group, kind: RowKind::Snapshot, suffix, value: Some(value) };
        vec![row(HEAD, codec::encode(&head)), row(DATA, data)]
    }

    /// The last snapshot. May block on the device.
    pub(crate) fn read(&self) -> io::Result<Option<Snapshot>> {
        // Most have none. A scan for what is not there would read its neighbour in the table: the controller's, which is large.
        if self.reader.row(self.group, RowKind::Snapshot).map_err(|error| failed(&error))?.is_none() {
            return Ok(None);
        }
        let rows = self.reader.rows(self.group, RowKind::Snapshot).map_err(|error| failed(&error))?;
        let [(_, head), (_, data)] = rows.as_slice() else {
            return match rows.len() {
                0 => Ok(None),
                rows => Err(invalid("snapshot", format_args!("{rows} rows"))),
            };
        };
        let head: Head = codec::decode(head, SMALL_BYTES_MAX).map_err(|error| invalid("snapshot head", error))?;
        let meta = meta(head.last, &head.members)?;
        Ok(Some(Snapshot { meta, snapshot: data.clone() }))
    }
}

/// The metadata that openraft wants of a snapshot.
pub(crate) fn meta(last: Option<Position>, members: &SetMembers) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta { last_log_id: last.map(LogId::from), last_membership: members.to_raft()? })
}

/// What a snapshot is made of.
pub(crate) enum Source {
    /// A controller's state, not yet written.
    New(SnapshotMeta, Bytes),
    /// The checkpoint of a partition at this index, written behind its entry.
    Checkpoint(u64),
}

/// Makes a snapshot durable.
pub(crate) struct SnapshotBuilder {
    pub(crate) snapshots: Snapshots,
    pub(crate) source: Source,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Bytes;

    /// Durable when it returns: openraft may purge the log behind it.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Snapshots { group, writer, reader } = &self.snapshots;
        let (done, wait) = awaited();
        let rows = match &self.source {
            Source::New(meta, data) => self.snapshots.rows(meta, data.clone()),
            // The rows of a checkpoint are synced, and whatever was put before this is done when this is.
            Source::Checkpoint(_) => Vec::new(),
        };
        writer.put(rows, done);
        wait.await?;
        match &self.source {
            Source::New(meta, data) => Ok(Snapshot { meta: meta.clone(), snapshot: data.clone() }),
            Source::Checkpoint(index) => checkpoint::read(reader, *group, *index),
        }
    }
}
