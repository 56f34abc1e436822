//! openraft's own storage suite over both machines, on the simulated engine and on RocksDB.

use std::sync::Arc;

use model::GroupId;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use storage::engine::sim::SimDisk;

use crate::Kind;
use crate::log_store::LogStore;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

const GROUP: GroupId = GroupId(1024);

fn stores(engine: Arc<dyn storage::Engine>, kind: Kind) -> (LogStore, StateMachine) {
    let (writer, reader) = storage::open(engine, storage::Options::default()).unwrap();
    let log = LogStore::open(GROUP, writer.clone(), reader.clone()).unwrap();
    let machine = StateMachine::open(GROUP, kind, (writer, reader), None).unwrap();
    (log, machine)
}

struct OnSim(Kind);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, SimDisk> for OnSim {
    async fn build(&self) -> Result<(SimDisk, LogStore, StateMachine), StorageError<TypeConfig>> {
        let disk = SimDisk::new(1);
        let (log, machine) = stores(disk.open(), self.0);
        Ok((disk, log, machine))
    }
}

#[tokio::test(start_paused = true)]
async fn partition_on_sim() {
    Suite::test_all(OnSim(Kind::Partition)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn controller_on_sim() {
    Suite::test_all(OnSim(Kind::Controller)).await.unwrap();
}

#[cfg(feature = "rocks")]
mod rocks {
    use std::time::Duration;

    use storage::engine::rocks::{RocksEngine, RocksOptions, wait_closed};

    use super::*;

    struct OnRocks(Kind);

    /// Goes when RocksDB has closed what is in it.
    struct Folder(tempfile::TempDir);

    impl Drop for Folder {
        fn drop(&mut self) {
            assert!(std::thread::panicking() || wait_closed(self.0.path(), Duration::from_secs(60)), "left open");
        }
    }

    impl StoreBuilder<TypeConfig, LogStore, StateMachine, Folder> for OnRocks {
        async fn build(&self) -> Result<(Folder, LogStore, StateMachine), StorageError<TypeConfig>> {
            let folder = Folder(tempfile::tempdir().unwrap());
            let engine = RocksEngine::open(folder.0.path(), RocksOptions::default()).unwrap();
            let (log, machine) = stores(engine, self.0);
            Ok((folder, log, machine))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn partition_on_rocks() {
        Suite::test_all(OnRocks(Kind::Partition)).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn controller_on_rocks() {
        Suite::test_all(OnRocks(Kind::Controller)).await.unwrap();
    }
}
