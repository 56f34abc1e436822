//! openraft's state machine over `model`'s machines.
//! Invariants: a run of entries is applied, its rows and the applied id are ONE put behind the log, then replies go out;
//! a partition recovers from exactly its rows (or begins with a checkpoint), the others from a snapshot and the log.
//! Must never panic on replicated bytes, never wait for a sync, never hold the lock across an await.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use model::controller::ControllerMachine;
use model::machine::WriteKind;
use model::partition::{Checkpoint, Mark, PartitionMachine};
use model::planted::{self, Bug};
use model::{Effect, GroupId, Out, Reply, Write};
use openraft::storage::{EntryResponder, RaftStateMachine};
use serde::{Deserialize, Serialize};
use storage::{Reader, Row, RowKind, Writer, codec};

use crate::checkpoint::{self, Checkpoints};
use crate::log_store::{awaited, failed, purge_mark, settled};
use crate::machine::Machine;
use crate::published::{Published, State};
use crate::snapshot::{SnapshotBuilder, Snapshots, Source};
use crate::types::{
    EntryPayload, LogId, Position, SMALL_BYTES_MAX, SetMembers, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
    invalid, to_payload,
};
use crate::{Effects, Kind, verdict};

/// Entries applied under one lock and stored in one batch.
const RUN_ENTRIES: usize = 256;
/// Bytes that one row or the state of a controller may have.
const STATE_BYTES_MAX: usize = codec::LIMIT_MAX;
/// The tables of a partition.
const PARTITION_ROWS: [RowKind; 10] = [
    RowKind::State,
    RowKind::Sparse,
    RowKind::Epoch,
    RowKind::Dead,
    RowKind::Producer,
    RowKind::Moved,
    RowKind::Clean,
    RowKind::Cursor,
    RowKind::Inbox,
    RowKind::Recent,
];

/// The row behind every run: what the machine's rows are the state of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AppliedRow {
    last: Option<Position>,
    members: SetMembers,
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
        let snapshots = Snapshots { group, writer, reader };
        let published = Arc::new(Published::new(state));
        Ok(StateMachine { group, snapshots, published, effects })
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
            self.published.count(bytes);
        }
        let freed = |reply: &Reply| matches!(reply, Reply::LogStart(_) | Reply::Relocated(true));
        if (replies.iter().any(|(_, reply)| freed(reply)) || planted::is(Bug::PurgePastReader))
            && state.purge_target(state.checkpoints.base()).is_some()
        {
            self.published.snapshot_due.notify_one();
        }
        drop(state);
        self.published.tell(last);
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

    /// One put for the whole run. The counters' row is written by every apply, and a cursor's chunk by many: only the last value of
    /// each is stored.
    fn store(&self, writes: &[Write], mut rows: Vec<Row>, last: Option<LogId>, members: &StoredMembership) {
        let mut stored = BTreeSet::new();
        rows.extend(writes.iter().rev().filter(|write| stored.insert(write.key())).map(|write| self.row(write)));
        let skipped = planted::is(Bug::TablesAheadOfApplied) && last.is_some_and(|last| last.index % 4 != 0);
        rows.extend((!skipped).then(|| self.applied_row(last, members)));
        self.snapshots.writer.put_along(rows);
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
            WriteKind::Cursor => RowKind::Cursor,
            WriteKind::Inbox => RowKind::Inbox,
            WriteKind::Recent => RowKind::Recent,
        };
        let value = (!write.is_gone()).then(|| codec::encode(write));
        Row { group: self.group, kind, suffix: Bytes::from(key), value }
    }

    fn applied_row(&self, last: Option<LogId>, members: &StoredMembership) -> Row {
        let row = AppliedRow { last: last.as_ref().map(Position::from), members: SetMembers::from(members) };
        Row { group: self.group, kind: RowKind::Applied, suffix: Bytes::new(), value: Some(codec::encode(&row)) }
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
        self.published.restart_count();
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
    if let Some(broken) = machine.breach() {
        return Err(invalid("rows", format_args!("{} does not hold", broken.name())));
    }
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
        self.published.tell(meta.last_log_id);
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
        // What was applied before may still wait to be written, and would come back behind what replaces it.
        settled(&self.snapshots.writer).await?;
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
