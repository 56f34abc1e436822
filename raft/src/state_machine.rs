//! openraft's state machine over `model`'s machines, and their applied state as others read it.
//! Invariants: a run of entries is applied, its rows and the applied id are ONE put behind the log, then replies go out;
//! a partition recovers from exactly its rows (or begins with a checkpoint), the others from a snapshot and the log.
//! Must never panic on replicated bytes, never wait for a sync, never hold the lock across an await.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use model::command::{Payload, Tag};
use model::controller::{ControllerMachine, Image};
use model::coordinator::CoordinatorMachine;
use model::machine::{DeadReason, WriteKind};
use model::partition::{Checkpoint, Mark, PartitionMachine};
use model::planted::{self, Bug};
use model::retention::Segment;
use model::{At, Effect, GroupId, Out, ReplicaId, Reply, Write};
use openraft::storage::{EntryResponder, RaftStateMachine};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::{Reader, Row, RowKind, Writer, codec};
use tokio::sync::{Notify, watch};

use crate::checkpoint::{self, Checkpoints};
use crate::log_store::{awaited, failed, purge_mark, unwatched};
use crate::settings::SNAPSHOT_BYTES;
use crate::snapshot::{SnapshotBuilder, Snapshots, Source};
use crate::types::{
    EntryPayload, LogId, Position, SMALL_BYTES_MAX, SetMembers, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
    invalid, to_payload,
};
use crate::wire::Seal;
use crate::{Effects, Kind, verdict};

/// Entries applied under one lock and stored in one batch.
const RUN_ENTRIES: usize = 256;
/// Bytes that one row or the state of a controller may have.
const STATE_BYTES_MAX: usize = codec::LIMIT_MAX;
/// The tables of a partition.
const PARTITION_ROWS: [RowKind; 7] =
    [RowKind::State, RowKind::Sparse, RowKind::Epoch, RowKind::Dead, RowKind::Producer, RowKind::Moved, RowKind::Clean];

/// The replicated machine of a group.
#[derive(Debug)]
pub(crate) enum Machine {
    Partition(Box<PartitionMachine>),
    Controller(Box<ControllerMachine>),
    Coordinator(Box<CoordinatorMachine>),
}

/// A machine and what it has applied.
#[derive(Debug)]
struct State {
    machine: Machine,
    last: Option<LogId>,
    members: StoredMembership,
    /// Of a partition.
    checkpoints: Checkpoints,
}

impl State {
    /// Before the first entry.
    fn new(machine: Machine) -> Self {
        let (members, checkpoints) = (StoredMembership::default(), Checkpoints::default());
        State { machine, last: None, members, checkpoints }
    }

    /// Takes the checkpoint that is due after an entry; gives its rows.
    fn checkpoint(&mut self, group: GroupId, leader_ts: i64, reply: &Reply, out: &mut Out) -> Vec<Row> {
        let Machine::Partition(machine) = &mut self.machine else { return Vec::new() };
        let emptied = matches!(reply, Reply::LogStart(_)) && machine.log_start() == machine.next_offset();
        if !self.checkpoints.is_due(machine, leader_ts, emptied) {
            return Vec::new();
        }
        let checkpoint = machine.checkpoint(leader_ts, out);
        self.checkpoints.add(group, &checkpoint, machine.state(), &self.members)
    }

    /// The checkpoint that the log can be purged to, if it is not purged so far.
    fn purge_target(&self, purged: Option<u64>) -> Option<u64> {
        match &self.machine {
            Machine::Partition(machine) => self.checkpoints.target(machine, purged),
            _ => None,
        }
    }

    fn seal(&self) -> Option<Seal> {
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
struct Seals {
    here: Option<Seal>,
    told: Option<Seal>,
    verdict: Option<String>,
}

impl Seals {
    /// Compares what can be compared. What is behind us can not be: the leader tells again soon.
    fn check(&mut self) -> Option<String> {
        let (here, told) = self.here.zip(self.told)?;
        if here.index >= told.index {
            self.told = None;
        }
        let differs = here.index == told.index && here.digest != told.digest && !planted::is(Bug::DigestIgnored);
        differs.then(|| verdict::words(here, told))
    }
}

/// The row behind every run: what the machine's rows are the state of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedRow {
    last: Option<Position>,
    members: SetMembers,
}

impl Published {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self) -> Kind {
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

    fn seals(&self) -> MutexGuard<'_, Seals> {
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

    /// Index of the last applied entry, and when it changes.
    pub(crate) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }
}

/// The state machine of one group.
pub(crate) struct StateMachine {
    group: GroupId,
    snapshots: Snapshots,
    published: Arc<Published>,
    effects: Option<Effects>,
}

impl StateMachine {
    /// Recovers the group's machine. May block on the device.
    ///
    /// # Errors
    /// `InvalidData` when the rows contradict each other: quarantine the replica.
    pub(crate) fn open(
        group: GroupId,
        kind: Kind,
        (writer, reader): (Writer, Reader),
        effects: Option<Effects>,
    ) -> io::Result<Self> {
        let state = match kind {
            Kind::Partition => recover_partition(group, &reader)?,
            Kind::Controller => State::new(Machine::Controller(Box::default())),
            Kind::Coordinator => State::new(Machine::Coordinator(Box::default())),
        };
        let (index, _) = watch::channel(state.last.map_or(0, |id| id.index));
        let seals = Seals { here: state.seal(), ..Seals::default() };
        let published = Published {
            state: RwLock::new(state),
            index,
            seals: Mutex::new(seals),
            bytes_since_snapshot: AtomicU64::new(0),
            snapshot_due: Notify::new(),
        };
        let snapshots = Snapshots { group, writer, reader };
        Ok(StateMachine { group, snapshots, published: Arc::new(published), effects })
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// Applies a run of entries, stores what it changed, publishes, answers.
    ///
    /// # Errors
    /// `InvalidData` when the log differs from the leader's: nothing of the run is stored or answered.
    fn apply_run(&self, run: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let mut out = Out::default();
        let mut replies = Vec::with_capacity(run.len());
        let mut state = self.published.write();
        let (mut bytes, mut rows) = (0, Vec::new());
        for (entry, responder) in run {
            if let EntryPayload::Membership(membership) = &entry.payload {
                state.members = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            let payload = to_payload(entry.payload);
            bytes += payload.len() as u64;
            let leader_ts = payload.header().map_or(0, |header| header.leader_ts);
            let reply = state.machine.apply(entry.log_id, leader_ts, &payload, &mut out);
            state.last = Some(entry.log_id);
            rows.extend(state.checkpoint(self.group, leader_ts, &reply, &mut out));
            replies.push((responder, reply));
            self.seal(&state)?;
        }
        let last = state.last;
        if let Machine::Partition(_) = state.machine {
            self.store(&out.writes, rows, last, &state.members);
        } else {
            self.count(bytes);
        }
        let freed = |reply: &Reply| matches!(reply, Reply::LogStart(_) | Reply::Relocated(true));
        if (replies.iter().any(|(_, reply)| freed(reply)) || planted::is(Bug::PurgePastReader))
            && state.purge_target(state.checkpoints.base()).is_some()
        {
            self.published.snapshot_due.notify_one();
        }
        drop(state);
        self.published.index.send_replace(last.map_or(0, |id| id.index));
        for (responder, reply) in replies {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        self.announce(&out.effects);
        Ok(())
    }

    /// Notes the digest after an entry, and compares it with what the leader has told for that entry.
    fn seal(&self, state: &State) -> io::Result<()> {
        let difference = {
            let mut seals = self.published.seals();
            seals.here = state.seal();
            seals.check()
        };
        let Some(difference) = difference else { return Ok(()) };
        if self.published.condemn(&difference) {
            verdict::store(&self.snapshots.writer, self.group, &difference);
        }
        Err(invalid("log", difference))
    }

    fn announce(&self, effects: &[Effect]) {
        if let (Some(sink), false) = (&self.effects, effects.is_empty()) {
            sink(self.group, effects);
        }
    }

    /// One put for the whole run. The counters' row is written by every apply: only its last value is stored.
    fn store(&self, writes: &[Write], mut rows: Vec<Row>, last: Option<LogId>, members: &StoredMembership) {
        let newest = writes.iter().rposition(|write| matches!(write, Write::State(_)));
        for (place, write) in writes.iter().enumerate() {
            if !matches!(write, Write::State(_)) || newest == Some(place) {
                rows.push(self.row(write));
            }
        }
        let skipped = planted::is(Bug::TablesAheadOfApplied) && last.is_some_and(|last| last.index % 4 != 0);
        rows.extend((!skipped).then(|| self.applied_row(last, members)));
        self.snapshots.writer.put(rows, unwatched());
    }

    fn row(&self, write: &Write) -> Row {
        let (kind, key) = write.key();
        let kind = match kind {
            WriteKind::State => RowKind::State,
            WriteKind::Sparse => RowKind::Sparse,
            WriteKind::Epoch => RowKind::Epoch,
            WriteKind::Dead => RowKind::Dead,
            WriteKind::Producer => RowKind::Producer,
            WriteKind::Moved => RowKind::Moved,
            WriteKind::Clean => RowKind::Clean,
        };
        let value = (!write.is_gone()).then(|| codec::encode(write));
        Row { group: self.group, kind, suffix: Bytes::from(key), value }
    }

    fn applied_row(&self, last: Option<LogId>, members: &StoredMembership) -> Row {
        let row = AppliedRow { last: last.as_ref().map(Position::from), members: SetMembers::from(members) };
        Row { group: self.group, kind: RowKind::Applied, suffix: Bytes::new(), value: Some(codec::encode(&row)) }
    }

    fn count(&self, bytes: u64) {
        let before = self.published.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
        if before < SNAPSHOT_BYTES && before + bytes >= SNAPSHOT_BYTES {
            self.published.snapshot_due.notify_one();
        }
    }

    /// The snapshot to be: of a partition the newest checkpoint that nobody can read below, if there is one.
    fn due(&self) -> Option<Source> {
        let mut state = self.published.write();
        if !matches!(state.machine, Machine::Partition(_)) {
            drop(state);
            return Some(self.now());
        }
        let index = state.purge_target(None)?;
        state.checkpoints.choose(index);
        Some(Source::Checkpoint(index))
    }

    /// The state as it is.
    fn now(&self) -> Source {
        let state = self.published.read();
        let data = match &state.machine {
            Machine::Controller(machine) => codec::encode(&machine.snapshot()),
            Machine::Coordinator(machine) => codec::encode(machine),
            Machine::Partition(machine) => codec::encode(&machine.clone().checkpoint(0, &mut Out::default())),
        };
        self.published.bytes_since_snapshot.store(0, Ordering::Relaxed);
        Source::New(SnapshotMeta { last_log_id: state.last, last_membership: state.members.clone() }, data)
    }

    /// The rows that turn what is stored into exactly `rows`.
    fn replacing(&self, writes: &[Write]) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for kind in PARTITION_ROWS {
            let old = self.snapshots.reader.rows(self.group, kind).map_err(|error| failed(&error))?;
            rows.extend(old.into_iter().map(|(suffix, _)| Row { group: self.group, kind, suffix, value: None }));
        }
        rows.extend(writes.iter().map(|write| self.row(write)));
        Ok(rows)
    }
}

impl Machine {
    /// Entry 0 is the founding membership, written by openraft before any leader: it means nothing to a machine.
    fn apply(&mut self, id: LogId, leader_ts: i64, payload: &Payload, out: &mut Out) -> Reply {
        let at = At { index: id.index, term: id.leader_id.term, leader_ts };
        match self {
            Machine::Partition(_) if id.index == 0 => Reply::None,
            Machine::Partition(machine) => machine.apply(at, payload, out),
            Machine::Controller(machine) => {
                command(payload, Tag::Controller, |command| Reply::Controller(machine.apply(at, command, out)))
            }
            Machine::Coordinator(machine) => {
                command(payload, Tag::Coordinator, |command| Reply::Coordinator(machine.apply(at, command)))
            }
        }
    }
}

/// Applies the command that an entry of a controller or coordinator carries.
fn command<C: DeserializeOwned>(payload: &Payload, own: Tag, apply: impl FnOnce(C) -> Reply) -> Reply {
    let header = match payload.header() {
        Ok(header) => header,
        Err(error) => return Reply::Dead(error.into()),
    };
    match (header.tag, payload.body.as_slice()) {
        (Tag::Blank | Tag::Membership, _) => Reply::None,
        (tag, [body]) if tag == own => match codec::decode(body, model::limits::ENTRY_BYTES_MAX) {
            Ok(command) => apply(command),
            Err(_) => Reply::Dead(DeadReason::Body),
        },
        (tag, _) if tag == own => Reply::Dead(DeadReason::Body),
        (tag, _) => Reply::Dead(DeadReason::Foreign(tag as u8)),
    }
}

fn recover_partition(group: GroupId, reader: &Reader) -> io::Result<State> {
    let mut writes = Vec::new();
    for kind in PARTITION_ROWS {
        for (_, value) in reader.rows(group, kind).map_err(|error| failed(&error))? {
            let write: Write = codec::decode(&value, STATE_BYTES_MAX).map_err(|error| invalid("row", error))?;
            let forgotten = matches!(write, Write::Producer(_)) && planted::is(Bug::ProducersNotRestored);
            writes.extend((!forgotten).then_some(write));
        }
    }
    let machine = PartitionMachine::restore(writes.into_iter());
    let row = reader.row(group, RowKind::Applied).map_err(|error| failed(&error))?;
    let row: Option<AppliedRow> = row
        .map(|bytes| codec::decode(&bytes, SMALL_BYTES_MAX).map_err(|error| invalid("applied row", error)))
        .transpose()?;
    let (last, members) = row.map_or((None, SetMembers::default()), |row| (row.last, row.members));
    let (said, is) = (last.map_or(0, |last| last.index), machine.applied().0);
    if said != is && !planted::is(Bug::TablesAheadOfApplied) {
        return Err(invalid("applied row", format_args!("it says {said}, the machine's rows say {is}")));
    }
    Ok(State {
        machine: Machine::Partition(Box::new(machine)),
        last: last.map(LogId::from),
        members: members.to_raft()?,
        checkpoints: Checkpoints::load(reader, group)?,
    })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.published.read();
        Ok((state.last, state.members.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut runs = entries.ready_chunks(RUN_ENTRIES);
        while let Some(run) = runs.next().await {
            self.apply_run(run.into_iter().collect::<Result<_, _>>()?)?;
        }
        Ok(())
    }

    /// Without a checkpoint to purge to, a partition's snapshot is put off, unless openraft insists.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        let insists = force || planted::is(Bug::PurgeByDefault);
        let source = self.due().or_else(|| insists.then(|| self.now()))?;
        Some(SnapshotBuilder { snapshots: self.snapshots.clone(), source })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { snapshots: self.snapshots.clone(), source: self.now() }
    }

    /// All or nothing: the machine, what is applied, the checkpoint itself and the purge of the log below it are one change.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        let kind = self.published.kind();
        let state = match kind {
            Kind::Partition => self.install_partition(meta, &snapshot).await?,
            Kind::Controller | Kind::Coordinator => self.install_whole(kind, meta, snapshot).await?,
        };
        self.published.seals().here = state.seal();
        *self.published.write() = state;
        self.published.index.send_replace(meta.last_log_id.map_or(0, |id| id.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        match self.published.marked(|_, checkpoints| checkpoints.base()).flatten() {
            Some(index) => checkpoint::read(&self.snapshots.reader, self.group, index).map(Some),
            None => self.snapshots.read(),
        }
    }
}

impl StateMachine {
    async fn install_whole(&self, kind: Kind, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<State> {
        let rows = self.snapshots.rows(meta, snapshot.clone());
        let read = |error| invalid("snapshot", error);
        let machine = match kind {
            Kind::Coordinator => Machine::Coordinator(codec::decode(&snapshot, STATE_BYTES_MAX).map_err(read)?),
            _ => {
                let image = codec::decode(&snapshot, STATE_BYTES_MAX).map_err(read)?;
                Machine::Controller(Box::new(ControllerMachine::restore(image)))
            }
        };
        let (done, wait) = awaited();
        self.snapshots.writer.put(rows, done);
        wait.await?;
        let (last, members) = (meta.last_log_id, meta.last_membership.clone());
        Ok(State { last, members, ..State::new(machine) })
    }

    async fn install_partition(&self, meta: &SnapshotMeta, snapshot: &Bytes) -> io::Result<State> {
        let last = meta.last_log_id.ok_or_else(|| invalid("snapshot", "it is of an empty log"))?;
        let checkpoint: Checkpoint =
            codec::decode(snapshot, STATE_BYTES_MAX).map_err(|error| invalid("snapshot", error))?;
        let state = checkpoint.state().copied().unwrap_or_default();
        let leader_ts = checkpoint.leader_ts;
        if (state.applied_index, state.applied_term) != (last.index, last.leader_id.term) {
            return Err(invalid("snapshot", format_args!("it is of {}, not of {last}", state.applied_index)));
        }
        let machine = PartitionMachine::from_checkpoint(checkpoint);
        let machine = machine.map_err(|id| invalid("snapshot", format_args!("{} does not hold", id.name())))?;
        let members = meta.last_membership.clone();
        let mark = Mark::of(&state, leader_ts);
        let mut rows = self.replacing(&machine.rows())?;
        rows.push(self.applied_row(meta.last_log_id, &members));
        rows.extend(checkpoint::rows(self.group, mark, &members, snapshot.clone()));
        rows.push(purge_mark(self.group, &last));
        let (done, wait) = awaited();
        self.snapshots.writer.purge(self.group, last.index, rows, done);
        wait.await?;
        let segment = self.published.read().checkpoints.segment;
        let checkpoints = Checkpoints::installed(mark, snapshot.len() as u64, segment);
        Ok(State { machine: Machine::Partition(Box::new(machine)), last: Some(last), members, checkpoints })
    }
}
