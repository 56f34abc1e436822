//! The key layout, the only place that knows it. Integers are big endian, so that key order is numeric order.
//! `log`: group u32 | index u64 | term u64. `meta`: kind u8 | group u32 | suffix.
//! Invariant: numbers of `RowKind` are on disk and never change meaning.

use bytes::{BufMut, Bytes, BytesMut};
use model::GroupId;

use crate::Error;

/// What a row of the `meta` table is about. The number is the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// Format, store, node and cluster of this folder (one row, group 0; not a row of that group).
    Identity = 1,
    /// Raft vote.
    Vote = 2,
    /// Last committed log id known.
    Committed = 3,
    /// Last purged log id.
    Purged = 4,
    /// Last applied log id and membership; written in one batch with the machine's rows.
    Applied = 5,
    /// Snapshot metadata and its chunks.
    Snapshot = 6,
    /// A machine's single-row state.
    State = 7,
    /// Sparse offset index of a partition.
    Sparse = 8,
    /// Leader epochs of a partition.
    Epoch = 9,
    /// Dead batches of a partition.
    Dead = 10,
    /// Producer states of a partition.
    Producer = 11,
    /// Heads of checkpoints (complete machine state at an index); suffix = index.
    Checkpoint = 12,
    /// Cumulative log bytes at an index, this crate's own; suffix = index.
    Size = 13,
    /// What the node itself keeps about a group (placement, replica id).
    Local = 14,
    /// Why a replica takes no part any more: its log differs from its leader's.
    Verdict = 15,
    /// The parts of checkpoints; suffix = index, number.
    CheckpointChunk = 16,
    /// Where records of a partition were moved to.
    Moved = 17,
    /// How far compaction of a partition has come.
    Clean = 18,
    /// What the cursors on a partition's log remember; suffix = cursor, and the cursor's own key.
    Cursor = 19,
    /// The last letter that a partition took of each source; suffix = source.
    Inbox = 20,
    /// Keys of messages that a partition takes once; suffix = key.
    Recent = 21,
}

impl RowKind {
    /// Every kind that belongs to a group and goes with it when the group is destroyed.
    pub const OF_GROUP: [RowKind; 20] = [
        RowKind::Vote,
        RowKind::Committed,
        RowKind::Purged,
        RowKind::Applied,
        RowKind::Snapshot,
        RowKind::State,
        RowKind::Sparse,
        RowKind::Epoch,
        RowKind::Dead,
        RowKind::Producer,
        RowKind::Checkpoint,
        RowKind::Size,
        RowKind::Local,
        RowKind::Verdict,
        RowKind::CheckpointChunk,
        RowKind::Moved,
        RowKind::Clean,
        RowKind::Cursor,
        RowKind::Inbox,
        RowKind::Recent,
    ];

    /// Whether a write of this row must be durable before its `Done`. The others can be rebuilt from the log, and the
    /// write order protects them: they never survive a crash that loses what was written before them.
    pub const fn synced(self) -> bool {
        matches!(
            self,
            RowKind::Identity
                | RowKind::Vote
                | RowKind::Purged
                | RowKind::Snapshot
                | RowKind::Checkpoint
                | RowKind::CheckpointChunk
                | RowKind::Local
                | RowKind::Verdict
        )
    }
}

pub(crate) const LOG_KEY_BYTES: usize = 20;

/// The key of one log entry.
pub fn log(group: GroupId, index: u64, term: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(LOG_KEY_BYTES);
    key.put_u32(group.0);
    key.put_u64(index);
    key.put_u64(term);
    key.freeze()
}

/// The first possible log key of `group` at `index`. An index past the last gives the next group's first key.
pub fn log_from(group: GroupId, index: u64) -> Bytes {
    log(group, index, 0)
}

/// The first key after the last possible log key of `group`.
pub fn log_end(group: GroupId) -> Bytes {
    match group.0.checked_add(1) {
        Some(next) => log(GroupId(next), 0, 0),
        None => Bytes::from_static(&[0xff; LOG_KEY_BYTES + 1]),
    }
}

/// Group, index and term of a log key.
///
/// # Errors
/// `Corrupt` when it is not 20 bytes long.
pub fn parse_log(key: &[u8]) -> Result<(GroupId, u64, u64), Error> {
    let key: &[u8; LOG_KEY_BYTES] =
        key.try_into().map_err(|_| Error::Corrupt(format!("log key of {} bytes", key.len())))?;
    let number = |range: std::ops::Range<usize>| key[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Ok((GroupId(number(0..4) as u32), number(4..12), number(12..20)))
}

const META_PREFIX_BYTES: usize = 5;

/// The key of one meta row.
pub fn meta(kind: RowKind, group: GroupId, suffix: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(META_PREFIX_BYTES + suffix.len());
    key.put_u8(kind as u8);
    key.put_u32(group.0);
    key.put_slice(suffix);
    key.freeze()
}

/// The first key after all rows of this kind and group.
pub fn meta_end(kind: RowKind, group: GroupId) -> Bytes {
    match group.0.checked_add(1) {
        Some(next) => meta(kind, GroupId(next), &[]),
        None => Bytes::copy_from_slice(&[kind as u8 + 1]),
    }
}

/// The first key after all rows of this kind.
pub fn kind_end(kind: RowKind) -> Bytes {
    Bytes::copy_from_slice(&[kind as u8 + 1])
}

/// Group and suffix of a meta key of a known kind.
///
/// # Errors
/// `Corrupt` when it is shorter than its prefix.
pub fn parse_meta(key: &Bytes) -> Result<(GroupId, Bytes), Error> {
    match key.get(1..META_PREFIX_BYTES).and_then(|group| group.try_into().ok()) {
        Some(group) => Ok((GroupId(u32::from_be_bytes(group)), key.slice(META_PREFIX_BYTES..))),
        None => Err(Error::Corrupt(format!("meta key of {} bytes", key.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keys_round_trip_and_sort_by_group_index_term() {
        let ids = [(0, 0, 0), (0, 1, 9), (0, 2, 1), (0, u64::MAX, 3), (1, 0, 1), (1024, 7, 2), (u32::MAX, 1, u64::MAX)];
        let keys: Vec<Bytes> = ids.iter().map(|&(group, index, term)| log(GroupId(group), index, term)).collect();
        assert!(keys.is_sorted());
        for (key, &(group, index, term)) in keys.iter().zip(&ids) {
            assert_eq!(parse_log(key).unwrap(), (GroupId(group), index, term));
            assert!(key < &log_end(GroupId(group)));
        }
        assert!(parse_log(&keys[0][1..]).is_err());
    }

    #[test]
    fn meta_keys_round_trip_and_ranges_hold_exactly_their_rows() {
        for group in [0, 5, u32::MAX] {
            let key = meta(RowKind::Dead, GroupId(group), b"suffix");
            assert_eq!(parse_meta(&key).unwrap(), (GroupId(group), Bytes::from_static(b"suffix")));
            assert!(key < meta_end(RowKind::Dead, GroupId(group)));
            assert!(meta_end(RowKind::Dead, GroupId(group)) <= kind_end(RowKind::Dead));
        }
        assert!(meta_end(RowKind::Dead, GroupId(5)) <= meta(RowKind::Dead, GroupId(6), &[]));
        assert!(parse_meta(&Bytes::from_static(b"abc")).is_err());
    }

    #[test]
    fn numbers_on_disk_do_not_change() {
        let numbers: Vec<u8> = RowKind::OF_GROUP.iter().map(|kind| *kind as u8).collect();
        assert_eq!(numbers, (2..=21).collect::<Vec<u8>>());
    }
}
