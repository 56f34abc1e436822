//! What a group has applied, as others read it while its state machine writes it.
//! Must never hold the lock across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::controller::Image;
use model::coordinator::CoordinatorMachine;
use model::partition::PartitionMachine;
use model::planted::{self, Bug};
use model::retention::Segment;
use model::{GroupId, Out, ReplicaId, Reply};
use storage::Row;
use tokio::sync::{Notify, watch};

use crate::checkpoint::Checkpoints;
use crate::machine::Machine;
use crate::settings::SNAPSHOT_BYTES;
use crate::types::{LogId, StoredMembership};
use crate::wire::Seal;
use crate::{Kind, verdict};

/// A machine and what it has applied.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) last: Option<LogId>,
    pub(crate) members: StoredMembership,
    /// Of a partition.
    pub(crate) checkpoints: Checkpoints,
}

impl State {
    /// Before the first entry.
    pub(crate) fn new(machine: Machine) -> Self {
        let (members, checkpoints) = (StoredMembership::default(), Checkpoints::default());
        State { machine, last: None, members, checkpoints }
    }

    /// Takes the checkpoint that is due after an entry; gives its rows.
    pub(crate) fn checkpoint(&mut self, group: GroupId, leader_ts: i64, reply: &Reply, out: &mut Out) -> Vec<Row> {
        let Machine::Partition(machine) = &mut self.machine else { return Vec::new() };
        let emptied = matches!(reply, Reply::LogStart(_)) && machine.log_start() == machine.next_offset();
        if !self.checkpoints.is_due(machine, leader_ts, emptied) {
            return Vec::new();
        }
        let checkpoint = machine.checkpoint(leader_ts, out);
        self.checkpoints.add(group, &checkpoint, machine.state(), &self.members)
    }

    /// The checkpoint that the log can be purged to, if it is not purged so far.
    pub(crate) fn purge_target(&self, purged: Option<u64>) -> Option<u64> {
        match &self.machine {
            Machine::Partition(machine) => self.checkpoints.target(machine, purged),
            _ => None,
        }
    }

    pub(crate) fn seal(&self) -> Option<Seal> {
        match &self.machine {
            Machine::Partition(machine) => {
                let state = machine.state();
                Some(Seal { index: state.applied_index, digest: state.digest })
            }
            _ => None,
        }
    }
}

/// The applied state of a group, read by anybody, written by its state machine only.
pub(crate) struct Published {
    state: RwLock<State>,
    index: watch::Sender<u64>,
    seals: Mutex<Seals>,
    bytes_since_snapshot: AtomicU64,
    /// Told when a controller has applied enough bytes for a snapshot, and when the log of a partition can be purged.
    pub(crate) snapshot_due: Notify,
}

/// A partition's digest here, and one that its leader has told for an entry not applied yet.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    pub(crate) here: Option<Seal>,
    told: Option<Seal>,
    verdict: Option<String>,
}

impl Seals {
    /// Compares what can be compared. What is behind us can not be: the leader tells again soon.
    pub(crate) fn check(&mut self) -> Option<String> {
        let (here, told) = self.here.zip(self.told)?;
        if here.index >= told.index {
            self.told = None;
        }
        let differs = here.index == told.index && here.digest != told.digest && !planted::is(Bug::DigestIgnored);
        differs.then(|| verdict::words(here, told))
    }
}

impl Published {
    pub(crate) fn new(state: State) -> Self {
        let (index, _) = watch::channel(state.last.map_or(0, |id| id.index));
        let seals = Mutex::new(Seals { here: state.seal(), ..Seals::default() });
        let (state, bytes_since_snapshot, snapshot_due) = (RwLock::new(state), AtomicU64::new(0), Notify::new());
        Published { state, index, seals, bytes_since_snapshot, snapshot_due }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.read().machine {
            Machine::Partition(_) => Kind::Partition,
            Machine::Controller(_) => Kind::Controller,
            Machine::Coordinator(_) => Kind::Coordinator,
        }
    }

    /// Reads the partition machine; `None` in a group of another kind.
    pub(crate) fn partition<R>(&self, read: impl FnOnce(&PartitionMachine) -> R) -> Option<R> {
        match &self.read().machine {
            Machine::Partition(machine) => Some(read(machine)),
            _ => None,
        }
    }

    /// Reads the partition machine with the marks of its checkpoints, oldest first.
    pub(crate) fn marked<R>(&self, read: impl FnOnce(&PartitionMachine, &Checkpoints) -> R) -> Option<R> {
        let state = self.read();
        match &state.machine {
            Machine::Partition(machine) => Some(read(machine, &state.checkpoints)),
            _ => None,
        }
    }

    /// Says how far apart checkpoints should be.
    pub(crate) fn set_segment(&self, segment: Segment) {
        if self.read().checkpoints.segment != segment {
            self.write().checkpoints.segment = segment;
        }
    }

    /// The entry that the log can be purged to, if that is above `purged`.
    pub(crate) fn purge_target(&self, purged: Option<u64>) -> Option<u64> {
        self.read().purge_target(purged)
    }

    /// The controller's image; `None` in a group of another kind.
    pub(crate) fn image(&self) -> Option<Arc<Image>> {
        match &self.read().machine {
            Machine::Controller(machine) => Some(machine.image()),
            _ => None,
        }
    }

    /// Reads the coordinator machine; `None` in a group of another kind.
    pub(crate) fn coordinator<R>(&self, read: impl FnOnce(&CoordinatorMachine) -> R) -> Option<R> {
        match &self.read().machine {
            Machine::Coordinator(machine) => Some(read(machine)),
            _ => None,
        }
    }

    pub(crate) fn seals(&self) -> MutexGuard<'_, Seals> {
        self.seals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of a partition's log up to what is applied here.
    pub(crate) fn seal(&self) -> Option<Seal> {
        self.seals().here
    }

    /// Takes the leader's digest, to be compared now or once its entry is applied here. Gives a difference in words: equal
    /// log ids with different bytes, so nothing may be acknowledged any more.
    pub(crate) fn compare(&self, told: Option<Seal>) -> Option<String> {
        let mut seals = self.seals();
        seals.told = seals.told.or(told);
        seals.check()
    }

    /// Notes what was found against this replica; false if something was before.
    pub(crate) fn condemn(&self, words: &str) -> bool {
        let mut seals = self.seals();
        let is_first = seals.verdict.is_none();
        seals.verdict.get_or_insert_with(|| words.to_owned());
        is_first
    }

    /// What was found against this replica.
    pub(crate) fn verdict(&self) -> Option<String> {
        self.seals().verdict.clone()
    }

    /// Whether `replica` votes, by what is applied here. A first replica does until it is known that it does not: its group
    /// may be new.
    pub(crate) fn is_voter(&self, replica: ReplicaId) -> bool {
        let state = self.read();
        let members = state.members.membership();
        let is_stranger = members.nodes().all(|(id, ())| *id != replica);
        members.voter_ids().any(|voter| voter == replica) || (is_stranger && replica.revision() == 1)
    }

    /// Last applied log id.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.read().last
    }

    /// Counts bytes that were applied; tells when there are enough for a snapshot.
    pub(crate) fn count(&self, bytes: u64) {
        let before = self.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
        if before < SNAPSHOT_BYTES && before + bytes >= SNAPSHOT_BYTES {
            self.snapshot_due.notify_one();
        }
    }

    /// A snapshot of all that is applied is made: the count begins anew.
    pub(crate) fn restart_count(&self) {
        self.bytes_since_snapshot.store(0, Ordering::Relaxed);
    }

    /// Wakes those who wait for the entry that is applied now.
    pub(crate) fn tell(&self, last: Option<LogId>) {
        self.index.send_replace(last.map_or(0, |id| id.index));
    }

    /// Index of the last applied entry, and when it changes.
    pub(crate) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }
}
