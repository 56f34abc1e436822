//! One replica of one Raft group, as the node uses it: propose, read what is applied, ask, change members.
//! Invariants: payloads enter the log in the order of the calls of `propose`; what is readable is committed.
//! Must never wait for a disk or a peer in a method that is not async.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use model::command::Payload;
use model::controller::Image;
use model::coordinator::CoordinatorMachine;
use model::partition::PartitionMachine;
use model::planted::{self, Bug};
use model::{GroupId, NodeId, ReplicaId, Reply};
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::raft::WriteResult;
use openraft::{ChangeMembers, ReadPolicy};
use storage::{Reader, Writer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, unconstrained};

use crate::change::CAUGHT_UP_BYTES;
use crate::published::Published;
use crate::quiesce::{Member, Standing};
use crate::rest::Rest;
use crate::settings::ELECTION_MAX;
use crate::status::{self, Mark, Metrics, Status};
use crate::types::{Data, LogId, Raft, TypeConfig};
use crate::{Error, Kind, ProposeError, verdict};

/// How often a learner's progress is looked at.
const CATCH_UP_TICK: Duration = Duration::from_millis(50);
/// How long a transfer may take before it is reported as failed; the group elects a leader in any case.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(4);

/// A payload that is committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Raft index of the entry.
    pub index: u64,
    /// Raft term of the entry: the leader epoch.
    pub term: u64,
    /// What the machine says.
    pub reply: Reply,
}

/// A replica of a group. Clones are handles of the same; the group lives until `Groups::close`.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    kind: Kind,
    replica: ReplicaId,
    raft: Raft,
    writer: Writer,
    reader: Reader,
    published: Arc<Published>,
    rest: Arc<Rest>,
    status: watch::Receiver<Status>,
    watcher: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} {:?} replica {})", self.inner.group, self.inner.kind, self.inner.replica)
    }
}

fn leader_of(forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
    forward.leader_id.map(ReplicaId::node)
}

fn proposed(result: Result<WriteResult<TypeConfig>, Fatal<TypeConfig>>) -> Result<Proposed, ProposeError> {
    match result {
        Ok(Ok(written)) => {
            Ok(Proposed { index: written.log_id.index, term: written.log_id.leader_id.term, reply: written.response })
        }
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
            Err(ProposeError::NotLeader { leader: leader_of(&forward) })
        }
        Ok(Err(ClientWriteError::LogEntryDiscarded(forward))) => {
            Err(ProposeError::Lost { leader: leader_of(&forward) })
        }
        Ok(Err(error)) => Err(ProposeError::Closed(error.to_string())),
        Err(fatal) => Err(ProposeError::Closed(fatal.to_string())),
    }
}

impl Group {
    pub(crate) fn new(
        (group, kind, replica): (GroupId, Kind, ReplicaId),
        raft: Raft,
        (writer, reader): (Writer, Reader),
        (published, rest): (Arc<Published>, Arc<Rest>),
    ) -> Self {
        let (sender, status) = watch::channel(Status::default());
        let watched = (published.clone(), rest.clone());
        let watcher = tokio::spawn(status::watch(group, raft.clone(), watched, sender)).abort_handle();
        let inner = Inner { group, kind, replica, raft, writer, reader, published, rest, status, watcher };
        Group { inner: Arc::new(inner) }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(crate) fn published(&self) -> &Published {
        &self.inner.published
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.inner.reader
    }

    /// The last entry removed from the log's start.
    pub(crate) fn purged(&self) -> Option<u64> {
        self.metrics().purged
    }

    pub(crate) fn rest(&self) -> &Rest {
        &self.inner.rest
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.inner.group
    }

    /// Which machine it replicates.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// This replica of it.
    pub fn replica(&self) -> ReplicaId {
        self.inner.replica
    }

    /// Puts the payloads into the log, in order, behind those of earlier calls, when this is called; the future
    /// gives one result for each once it is applied here or lost. Dropping the future takes nothing back. Of a leader that sleeps
    /// the future wakes it first, so that the order is that of the polls: who cares for it calls [`Group::rouse`] before.
    pub fn propose(&self, payloads: Vec<Payload>) -> BoxFuture<'static, Vec<Result<Proposed, ProposeError>>> {
        if self.rest().proposes() || !self.inner.status.borrow().is_leader {
            return self.propose_now(payloads);
        }
        let (group, count) = (self.clone(), payloads.len());
        async move {
            match group.rouse().await {
                Ok(()) => group.propose_now(payloads).await,
                Err(error) => vec![Err(error); count],
            }
        }
        .boxed()
    }

    fn propose_now(&self, payloads: Vec<Payload>) -> BoxFuture<'static, Vec<Result<Proposed, ProposeError>>> {
        let count = payloads.len();
        let sending = self.inner.raft.client_write_many(payloads.into_iter().map(Data));
        let results = match unconstrained(sending).now_or_never() {
            Some(Ok(results)) => results,
            Some(Err(fatal)) => return refused(count, ProposeError::Closed(fatal.to_string())),
            None => {
                let refusal = match self.status_now().stopped {
                    Some(why) => ProposeError::Closed(why),
                    None => ProposeError::Busy,
                };
                return refused(count, refusal);
            }
        };
        async move {
            let mut all: Vec<_> = results.map(proposed).collect().await;
            all.resize(count, Err(ProposeError::Closed("the group is gone".to_owned())));
            all
        }
        .boxed()
    }

    /// Whether this replica sleeps: an idle partition without ticks, that neither beats nor campaigns.
    pub fn is_asleep(&self) -> bool {
        self.rest().asleep().is_some()
    }

    /// Whether a leader may propose at once, and need not [`Group::rouse`] first.
    pub fn is_roused(&self) -> bool {
        self.rest().is_roused()
    }

    /// Ends sleep: ticks go on, here and by the next heartbeats everywhere, and a quorum has answered one when this returns.
    ///
    /// # Errors
    /// `NotLeader`, or `Closed`.
    pub async fn rouse(&self) -> Result<(), ProposeError> {
        self.wake();
        // A quorum that is slow to answer may find it asleep again.
        while !self.rest().proposes() {
            self.linearize().await?;
            self.wake();
            self.rest().refreshed();
        }
        Ok(())
    }

    async fn roused(&self) -> Result<(), Error> {
        match self.rouse().await {
            Err(ProposeError::NotLeader { leader }) => Err(Error::NotLeader { leader }),
            Err(ProposeError::Closed(reason)) => Err(self.stopped(reason)),
            Err(ProposeError::Lost { .. } | ProposeError::Busy) | Ok(()) => Ok(()),
        }
    }

    /// Why this replica is quarantined: its log differs from its leader's, or cannot be read.
    pub fn quarantined(&self) -> Option<String> {
        self.inner.published.verdict()
    }

    /// Stops this replica for good, and stores why: it must neither campaign nor serve. The first verdict stays.
    pub fn quarantine(&self, words: &str) {
        if !self.inner.published.condemn(words) {
            return;
        }
        verdict::store(&self.inner.writer, self.inner.group, words);
        let group = self.clone();
        tokio::spawn(async move { group.halt().await });
    }

    /// Ends the raft as a failure within it would: fault drills and tests. Its owner has to open it again.
    pub async fn halt(&self) {
        if let Err(error) = self.raft().shutdown().await {
            tracing::warn!(group = %self.id(), %error, "a raft group ended in a panic");
        }
    }

    /// Role and members, and when they change.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }

    /// Role and members now.
    pub fn status_now(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Where the logs stand now.
    pub fn metrics(&self) -> Metrics {
        status::metrics(&self.inner.raft, self.status_now())
    }

    /// What this replica is now, in short.
    pub fn mark(&self) -> Mark {
        let asleep = self.rest().asleep().map(|pact| (pact.leader, pact.term));
        Mark { asleep, ..status::mark(&self.inner.raft) }
    }

    /// Where this replica stands, and of a leader the other members.
    pub(crate) fn standing(&self) -> (Standing, Vec<Member>) {
        status::standing(&self.inner.raft)
    }

    /// Reads the applied partition machine; `None` in a group of another kind. Apply waits meanwhile: be short.
    pub fn partition<R>(&self, read: impl FnOnce(&PartitionMachine) -> R) -> Option<R> {
        self.inner.published.partition(read)
    }

    /// The applied image of the controller; `None` in a group of another kind.
    pub fn image(&self) -> Option<Arc<Image>> {
        self.inner.published.image()
    }

    /// Reads the applied coordinator machine; `None` in a group of another kind. Holds up its applies: be short.
    pub fn coordinator<R>(&self, read: impl FnOnce(&CoordinatorMachine) -> R) -> Option<R> {
        self.inner.published.coordinator(read)
    }

    /// Raft index of the last applied entry (0 before the first), and when it changes: wakes whoever waits for records.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.published.index()
    }

    /// Whether this replica leads and has applied an entry of its own term: only then does it know every committed
    /// entry, and may say where the log ends.
    pub fn knows_end(&self) -> bool {
        let status = self.inner.status.borrow();
        let applied = self.inner.published.last();
        let own = |id: LogId| id.leader_id.term == status.term || planted::is(Bug::EndBeforeOwnTerm);
        status.leads() && applied.is_some_and(own)
    }

    /// Waits until everything committed before the call is applied here, with proof of leadership by a quorum
    /// (ReadIndex). Returns the index up to which it is.
    ///
    /// # Errors
    /// `NotLeader`, or `Closed`.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        if planted::is(Bug::EndWithoutQuorum) {
            return Ok(*self.applied().borrow());
        }
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: leader_of(&forward) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(error) => Err(ProposeError::Closed(error.to_string())),
        }
    }

    /// Adds a replica that receives and does not vote, and returns once that is committed (not once it has caught up).
    ///
    /// # Errors
    /// `NotLeader`, `Membership`, `Stopped`.
    pub async fn add_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        self.roused().await?;
        let result = self.inner.raft.add_learner(replica, (), false).await;
        result.map(drop).map_err(|error| self.change_error(error))
    }

    /// Whether at most 1 MiB of entries is missing on `replica`, counted in bytes. Asks the leader's own view.
    ///
    /// # Errors
    /// `NotLeader` when this replica cannot know.
    pub fn is_caught_up(&self, replica: ReplicaId) -> Result<bool, Error> {
        let metrics = self.metrics();
        if !metrics.status.is_leader {
            return Err(Error::NotLeader { leader: metrics.status.leader });
        }
        let Some(last) = metrics.last else { return Ok(true) };
        let matched = metrics.matched.get(&replica).copied().flatten();
        Ok(matched.is_some_and(|matched| self.bytes_between(matched, last) <= CAUGHT_UP_BYTES))
    }

    /// Bytes of the entries behind `after`, up to and including `upto`.
    pub(crate) fn bytes_between(&self, after: u64, upto: u64) -> u64 {
        let upto_bytes = |index| self.inner.reader.group_bytes_upto(self.inner.group, index);
        upto_bytes(upto).saturating_sub(upto_bytes(after))
    }

    /// Waits until `replica` is caught up.
    ///
    /// # Errors
    /// `Timeout` after `deadline`, else as [`Group::is_caught_up`].
    pub async fn caught_up(&self, replica: ReplicaId, deadline: Duration) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + deadline;
        while !self.is_caught_up(replica)? {
            if tokio::time::Instant::now() >= until {
                return Err(Error::Timeout { what: "catching up", replica });
            }
            tokio::time::sleep(CATCH_UP_TICK).await;
        }
        Ok(())
    }

    /// Makes exactly `voters` vote; who is none of them leaves the group. Each must be a voter or a learner that has
    /// caught up ([`Group::caught_up`]). Returns once the new membership is committed.
    ///
    /// # Errors
    /// `NotLeader`, `Membership`, `Stopped`.
    pub async fn change_voters(&self, voters: BTreeSet<ReplicaId>) -> Result<(), Error> {
        self.roused().await?;
        let change = ChangeMembers::ReplaceAllVoters(voters);
        let result = self.inner.raft.change_membership(change, false).await;
        result.map(drop).map_err(|error| self.change_error(error))
    }

    /// Removes a learner.
    ///
    /// # Errors
    /// `NotLeader`, `Membership`, `Stopped`.
    pub async fn remove_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        self.roused().await?;
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([replica]));
        let result = self.inner.raft.change_membership(change, true).await;
        result.map(drop).map_err(|error| self.change_error(error))
    }

    /// Hands leadership to the voter on `node` and waits until another replica leads. When the target does not take
    /// over, the leader stays silent and the others elect one.
    ///
    /// # Errors
    /// `NotLeader`; `Membership` when no voter lives on `node`; `Timeout` when nobody took over.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), Error> {
        let mut status = self.status();
        let now = status.borrow_and_update().clone();
        if !now.is_leader {
            return Err(Error::NotLeader { leader: now.leader });
        }
        let Some(target) = now.voters.iter().copied().find(|voter| voter.node() == node) else {
            return Err(Error::Membership(format!("no voter on node {node}")));
        };
        if target == self.inner.replica {
            return Ok(());
        }
        self.roused().await?;
        self.rest().hands_over(now.term);
        self.inner.raft.trigger().transfer_leader(target).await.map_err(|fatal| self.stopped(fatal))?;
        let taken = status.wait_for(|new| new.term > now.term && new.leader.is_some() && !new.is_leader);
        match tokio::time::timeout(TRANSFER_DEADLINE, taken).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stopped("closed")),
            Err(_) => Err(Error::Timeout { what: "the leadership transfer", replica: target }),
        }
    }

    /// Campaigns now, if this replica is a voter and no leader. With a pre-vote, so that it deposes nobody who lives.
    ///
    /// # Errors
    /// `Stopped`.
    pub async fn elect(&self) -> Result<(), Error> {
        self.wake();
        self.inner.raft.trigger().elect(true).await.map_err(|fatal| self.stopped(fatal))
    }

    /// The longest time between a leader's death and the first campaign for its place.
    pub const fn election_timeout_max() -> Duration {
        ELECTION_MAX
    }

    fn stopped(&self, reason: impl ToString) -> Error {
        Error::Stopped { group: self.inner.group, reason: reason.to_string() }
    }

    fn change_error(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        match error {
            RaftError::APIError(
                ClientWriteError::ForwardToLeader(forward) | ClientWriteError::LogEntryDiscarded(forward),
            ) => Error::NotLeader { leader: leader_of(&forward) },
            RaftError::APIError(other) => Error::Membership(other.to_string()),
            RaftError::Fatal(fatal) => self.stopped(fatal),
        }
    }
}

fn refused(count: usize, error: ProposeError) -> BoxFuture<'static, Vec<Result<Proposed, ProposeError>>> {
    futures::future::ready(vec![Err(error); count]).boxed()
}
