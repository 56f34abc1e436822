//! The disks of the world: one a node, outliving its crashes. A crash keeps what was synced and a prefix, chosen by the seed, of
//! what was not.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::{GroupId, ReplicaId};
use node::config;
use node::seams::EngineFactory;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use storage::RowKind;
use storage::engine::sim::SimDisk;

/// Less than the node wants to be free, and enough for what it does not refuse.
const LITTLE_SPACE: u64 = 128 << 20;
/// So little that the node runs into the end of it.
const NO_SPACE: u64 = 16 << 10;

/// All disks of a run. Clones are the same disks.
#[derive(Clone)]
pub struct Disks {
    disks: Vec<SimDisk>,
    rng: Arc<Mutex<SmallRng>>,
}

impl Disks {
    /// `nodes` empty disks with fsync times of their own.
    pub fn new(nodes: u32, rng: &mut SmallRng) -> Self {
        let disks = (0..nodes).map(|_| {
            let disk = SimDisk::new(rng.random());
            let slowest = rng.random_range(2..25);
            disk.set_fsync(Duration::from_micros(300), Duration::from_millis(slowest));
            disk
        });
        Self { disks: disks.collect(), rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(rng.random()))) }
    }

    /// Power failure of `node`: returns how many unsynced writes were lost.
    pub fn crash(&self, node: u32) -> usize {
        let disk = self.of_node(node);
        disk.crash(self.dice(disk.unsynced() + 1))
    }

    /// Syncs of `node` take at least so long; zero ends it.
    pub fn slow(&self, node: u32, sync: Duration) {
        self.of_node(node).set_sync_min(sync);
    }

    /// The device of `node` is full: mostly so that the node still refuses by itself, else to the last page. Or free again.
    pub fn full(&self, node: u32, full: bool) {
        let disk = self.of_node(node);
        match full {
            true if self.dice(4) == 0 => disk.set_free(NO_SPACE),
            true => disk.set_free(LITTLE_SPACE),
            false => disk.free(),
        }
    }

    /// The next sync of `node` fails.
    pub fn fail_sync(&self, node: u32) {
        self.of_node(node).fail_next_sync();
    }

    /// A bit of a durable log entry of `node` flips. Says of which; none if it has none.
    pub fn rot(&self, node: u32) -> Option<(GroupId, u64)> {
        self.of_node(node).rot()
    }

    /// The end of the log of `node` is gone. Returns how many entries.
    pub fn cut_off(&self, node: u32) -> usize {
        self.of_node(node).cut_off(1 + self.dice(4))
    }

    /// The disk of `node` is an empty one.
    pub fn wipe(&self, node: u32) {
        self.of_node(node).wipe();
    }

    /// A copy of what is durable on the disk of `node` is put aside.
    pub fn backup(&self, node: u32) {
        self.of_node(node).backup();
    }

    /// The copy is put in its place. False if there is none.
    pub fn restore(&self, node: u32) -> bool {
        self.of_node(node).restore()
    }

    fn of_node(&self, node: u32) -> &SimDisk {
        &self.disks[node as usize - 1]
    }

    fn dice(&self, sides: usize) -> usize {
        self.rng.lock().expect("one thread").random_range(0..sides)
    }

    /// Term and stored bytes of an entry that `node` can not lose any more.
    pub fn durable(&self, node: u32, group: GroupId, index: u64) -> Option<(u64, Bytes)> {
        self.disk(node)?.durable(group, index)
    }

    /// Term and stored bytes of an entry that `node` wrote last, synced or not.
    pub fn written(&self, node: u32, group: GroupId, index: u64) -> Option<(u64, Bytes)> {
        self.disk(node)?.written(group, index)
    }

    /// The term in which `node` has durably voted last, or that it has durably seen.
    pub fn durable_term(&self, node: u32, group: GroupId) -> Option<u64> {
        raft::voted_term(&self.disk(node)?.durable_row(group, RowKind::Vote)?).ok()
    }

    /// The last entry that `node` has durably purged.
    pub fn purged(&self, node: u32, group: GroupId) -> Option<u64> {
        raft::purged_index(&self.disk(node)?.durable_row(group, RowKind::Purged)?).ok()
    }

    /// Whether the disk of its node durably holds anything of `replica` of `group`.
    pub fn holds_replica(&self, replica: ReplicaId, group: GroupId) -> bool {
        let node = replica.node().0;
        let row = self.disk(node).and_then(|disk| disk.durable_row(group, RowKind::Local));
        row.is_some_and(|row| raft::owner(&row).ok() == Some(replica)) && self.holds(node, group)
    }

    /// Whether the disk of `node` durably holds anything of `group`.
    pub fn holds(&self, node: u32, group: GroupId) -> bool {
        let purged = || self.disk(node).is_some_and(|disk| disk.durable_row(group, RowKind::Purged).is_some());
        self.disk(node).is_some_and(|disk| disk.durable_last(group).is_some()) || purged()
    }

    /// The last entry that `node` has purged, synced or not.
    pub fn purged_last(&self, node: u32, group: GroupId) -> Option<u64> {
        raft::purged_index(&self.disk(node)?.written_row(group, RowKind::Purged)?).ok()
    }

    fn disk(&self, node: u32) -> Option<&SimDisk> {
        self.disks.get(node.checked_sub(1)? as usize)
    }

    /// The factory through which `node` opens its disk.
    pub fn of(&self, node: u32) -> Arc<dyn EngineFactory> {
        Arc::new(Factory(self.of_node(node).clone()))
    }
}

struct Factory(SimDisk);

impl EngineFactory for Factory {
    fn open(&self, _data: &Path, _options: &config::Storage) -> Result<Arc<dyn storage::Engine>, storage::Error> {
        match self.0.is_cut_off() {
            true => Err(storage::Error::Corrupt("the log ends before what was synced".to_owned())),
            false => Ok(self.0.open()),
        }
    }
}
