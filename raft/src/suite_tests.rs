//! openraft's own storage suite over both machines, on the simulated engine and on RocksDB.

use std::sync::Arc;

use model::GroupId;
use model::command::Payload;
use openraft::StorageError;
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use storage::LogEntry;
use storage::engine::sim::SimDisk;

use crate::Kind;
use crate::log_store::LogStore;
use crate::state_machine::StateMachine;
use crate::types::{LogId, Position, TypeConfig};

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

/// A follower that installed a snapshot beyond its log, then lost power between the mark and the deletion.
#[tokio::test(start_paused = true)]
async fn a_purge_whose_deletion_was_lost_is_repeated() {
    let entry = |index| LogEntry { index, term: 1, payload: Payload::default() };
    let disk = SimDisk::new(1);
    // One submission a write, so that the crash can part them.
    let options = storage::Options { batch_bytes: 1, ..storage::Options::default() };
    let (writer, reader) = storage::open(disk.open(), options).unwrap();
    let (done, wait) = crate::log_store::awaited();
    writer.append(GROUP, (1..=5).map(entry).collect(), done);
    wait.await.unwrap();
    let mut log = LogStore::open(GROUP, writer.clone(), reader).unwrap();
    let boundary = LogId::from(Position { term: 1, index: 9 });
    log.purge(boundary).await.unwrap();
    let (done, wait) = crate::log_store::awaited();
    writer.put(Vec::new(), done);
    wait.await.unwrap();
    assert_eq!(disk.crash(0), 2, "the deletion and the barrier were not synced");
    assert_eq!(disk.durable_last(GROUP), Some((5, 1)));

    let (writer, reader) = storage::open(disk.open(), storage::Options::default()).unwrap();
    let log = LogStore::open(GROUP, writer.clone(), reader.clone()).unwrap();
    assert_eq!(log.last().unwrap(), Some(boundary));
    let (done, wait) = crate::log_store::awaited();
    writer.append(GROUP, vec![entry(10)], done);
    wait.await.expect("the next entry follows the snapshot");
    assert_eq!(reader.first(GROUP), Some(10));
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
            assert!(std::thread::panicking() || wait_closed(self.0.path(), Duration::from_secs(10)), "left open");
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
