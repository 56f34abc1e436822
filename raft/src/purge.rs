//! Frees the log of a partition up to the newest checkpoint below its log start; each replica does so for itself.
//! Also says what the log holds on disk, and what keeps it from being freed.
//! Invariant: the snapshot is the checkpoint before the log is purged to it; what is above the log start stays.

use std::sync::Arc;
use std::time::Duration;

use model::GroupId;
use model::compaction::{self, Work};
use model::limits::SPARSE_BYTES;
use model::retention::{Rules, Segment};

use crate::Group;
use crate::published::Published;
use crate::types::Raft;

/// How long a snapshot, which is a checkpoint written long ago, may take to become openraft's.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(5);

/// What the log of one replica holds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of its entries.
    pub bytes: u64,
    /// Offset of the first record that may be read.
    pub log_start: i64,
    /// Offset after the last record.
    pub next_offset: i64,
    /// Records below this offset were compacted; 0 if none were.
    pub clean_end: i64,
    /// Last Raft entry removed, if any was.
    pub purged: Option<u64>,
    /// Raft index of the checkpoint that the log can be purged to.
    pub target: Option<u64>,
    /// Raft index of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Checkpoints kept.
    pub checkpoints: usize,
    /// Bytes from the first entry on that a reader can need, to within a point of the sparse index.
    pub retained: u64,
    /// Of a leader: the last entry that its slowest replica is known to hold.
    pub slowest: Option<u64>,
}

impl Space {
    /// What holds the bytes, in words.
    pub fn pinned_by(&self) -> &'static str {
        match (self.target, self.slowest) {
            (Some(target), Some(slowest)) if slowest < target => "slow follower",
            (Some(_), _) => "purge under way",
            (None, _) if self.bytes >= self.retained + SPARSE_BYTES => "checkpoint",
            (None, _) if self.next_offset > self.log_start => "retention",
            (None, _) => "nothing",
        }
    }
}

/// Makes the snapshot that is due, and purges the log of a partition to it.
pub(crate) async fn snapshot(group: GroupId, raft: Raft, published: Arc<Published>) {
    let target = published.purge_target(None);
    // A group that has stopped does neither; the checkpoint stays, and the log with it.
    if raft.trigger().snapshot().await.is_err() {
        return;
    }
    let Some(target) = target else { return };
    let has = |metrics: &openraft::RaftMetrics<_>| metrics.snapshot.as_ref().is_some_and(|last| last.index >= target);
    match raft.wait(Some(SNAPSHOT_WAIT)).metrics(has, "the checkpoint is the snapshot").await {
        Ok(_) => drop(raft.trigger().purge_log(target).await),
        Err(error) => tracing::info!(%group, %error, "the log is not purged yet"),
    }
}

impl Group {
    /// Says how far apart checkpoints should be.
    pub fn set_segment(&self, segment: Segment) {
        self.published().set_segment(segment);
    }

    /// Where the log start of a partition should move to at `now_ms`, if it should: never beyond what a cursor still needs.
    pub fn expired(&self, rules: &Rules, now_ms: i64) -> Option<i64> {
        self.published()
            .marked(|machine, checkpoints| {
                let marks = machine.retention_marks(checkpoints.marks());
                let expired = rules.log_start(now_ms, machine.state(), marks.iter())?;
                let start = machine.needed_from().map_or(expired, |needed| needed.min(expired));
                (start > machine.log_start()).then_some(start)
            })
            .flatten()
    }

    /// What of the log of a partition may be compacted at `now_ms`, if anything.
    pub fn compactable(&self, rules: &compaction::Rules, now_ms: i64) -> Option<Work> {
        self.published().marked(|machine, checkpoints| rules.work(now_ms, machine, checkpoints.marks())).flatten()
    }

    /// What retention would delete at `now_ms` of the log of a partition but for messages there that a cursor still needs, where moving
    /// these frees most of it.
    pub fn held_back(&self, rules: &Rules, now_ms: i64) -> Option<Work> {
        let (mark, left) = self
            .published()
            .marked(|machine, checkpoints| {
                let marks = machine.retention_marks(checkpoints.marks());
                let expired = rules.log_start(now_ms, machine.state(), marks.iter())?;
                compaction::held_back(expired, machine, checkpoints.marks())
            })
            .flatten()?;
        let dirty_bytes = self.reader().group_bytes_upto(self.id(), mark.index);
        let work = Work { end: mark.next_offset, clean_bytes: 0, dirty_bytes, overdue: false };
        (left <= dirty_bytes / 2).then_some(work)
    }

    /// Purges what the log start has passed, if there is a checkpoint for it. Done by itself when the log start moves; asked
    /// again for what failed then.
    pub fn purge(&self) {
        let published = self.published();
        if published.purge_target(self.purged()).is_some() {
            published.snapshot_due.notify_one();
        }
    }

    /// What the log holds on disk; `None` in a group of another kind.
    pub fn space(&self) -> Option<Space> {
        let (metrics, reader, id) = (self.metrics(), self.reader(), self.id());
        let purged = metrics.purged;
        let (space, first) = self.published().marked(|machine, checkpoints| {
            let first = machine.first_index();
            let space = Space {
                log_start: machine.log_start(),
                next_offset: machine.next_offset(),
                clean_end: machine.clean().end,
                purged,
                target: checkpoints.target(machine, purged),
                checkpoint: checkpoints.marks().next_back().map(|mark| mark.index),
                checkpoints: checkpoints.marks().count(),
                slowest: metrics.matched.values().map(|matched| matched.unwrap_or(0)).min(),
                ..Space::default()
            };
            (space, first)
        })?;
        let bytes = reader.group_bytes(id);
        let below = reader.group_bytes_upto(id, first.saturating_sub(1));
        Some(Space { bytes, retained: bytes.saturating_sub(below), ..space })
    }
}
