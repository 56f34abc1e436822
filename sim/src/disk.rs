//! The disks of the world: one a node, outliving its crashes. A crash keeps what was synced and a prefix, chosen by the seed, of
//! what was not.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use node::config;
use node::seams::EngineFactory;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use storage::RowKind;
use storage::engine::sim::SimDisk;

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
        let disk = &self.disks[node as usize - 1];
        let keep = self.rng.lock().expect("one thread").random_range(0..=disk.unsynced());
        disk.crash(keep)
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

    fn disk(&self, node: u32) -> Option<&SimDisk> {
        self.disks.get(node.checked_sub(1)? as usize)
    }

    /// The factory through which `node` opens its disk.
    pub fn of(&self, node: u32) -> Arc<dyn EngineFactory> {
        Arc::new(Factory(self.disks[node as usize - 1].clone()))
    }
}

struct Factory(SimDisk);

impl EngineFactory for Factory {
    fn open(&self, _data: &Path, _options: &config::Storage) -> Result<Arc<dyn storage::Engine>, storage::Error> {
        Ok(self.0.open())
    }
}
