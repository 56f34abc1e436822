//! What one shard may hold. The coordinator's node says so by its settings; it is replicated, so that all replicas refuse alike.
//! Invariants: a bound refuses what would make a shard grow, and nothing else: whoever is in it goes on, also when bounds fall.

use serde::{Deserialize, Serialize};

use super::CoordinatorMachine;
use crate::check;
use crate::limits::{GROUPS_PER_SHARD, OFFSETS_PER_SHARD};

/// How much one shard may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Groups.
    pub groups: u32,
    /// Committed offsets, of all groups together.
    pub offsets: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { groups: GROUPS_PER_SHARD, offsets: OFFSETS_PER_SHARD }
    }
}

impl CoordinatorMachine {
    /// How much the shard may hold.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether the group is there, or could be.
    pub(super) fn has_room(&self, group: &str) -> bool {
        self.groups.contains_key(group) || self.groups.len() < self.bounds.groups as usize
    }

    /// Whether so many offsets could come.
    pub(super) fn has_room_for_offsets(&self, new: usize) -> bool {
        new == 0 || self.offset_count + new <= self.bounds.offsets as usize
    }

    /// So many offsets have gone.
    pub(super) fn forget(&mut self, offsets: usize) {
        check!(offsets <= self.offset_count, OffsetsCounted, "{offsets} of {} have gone", self.offset_count);
        self.offset_count = self.offset_count.saturating_sub(offsets);
    }
}
