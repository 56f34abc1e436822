//! All Raft groups of one node: opens, closes and destroys them, and answers what their peers ask.
//! Owns the `storage::Writer`. Invariants: a group is open at most once; it is founded only by founders of revision 1
//! on a log never used; requests reach a group in the order of the calls of `handle`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::planted::{self, Bug};
use model::{GroupId, NodeId, ReplicaId};
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use storage::{Reader, Writer};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

use crate::log_store::{LogStore, failed, settled};
use crate::network::Network;
use crate::published::Published;
use crate::quiesce::Around;
use crate::rest::{Rest, Restless};
use crate::settings;
use crate::snapshot;
use crate::state_machine::StateMachine;
use crate::throttle::Throttle;
use crate::types::{Ballot, LogId, Raft, Snapshot};
use crate::wire::{Answer, Call, Candidacy, Refusal, Request};
use crate::{Error, Frame, Group, Kind, Options, Transport, owner, verdict};

/// A leader that goes on is waited for so long: nodes that start together open thousands of groups in the same order, but not at the same time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The groups of one node. Clones share them.
#[derive(Clone)]
pub struct Groups {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    writer: Writer,
    reader: Reader,
    transport: Arc<dyn Transport>,
    throttle: Arc<Throttle>,
    open: Mutex<BTreeMap<GroupId, Slot>>,
    around: RwLock<Arc<Around>>,
    restless: Arc<Restless>,
    woken: Mutex<BTreeMap<GroupId, Instant>>,
    /// The groups that were opened since the start.
    begun: Mutex<BTreeSet<GroupId>>,
}

/// A group that is open, or reserved while it opens or closes.
#[derive(Clone)]
enum Slot {
    Busy,
    Open(Group),
}

/// Frees the slot of a group whose opening or closing ends, however it ends.
struct Reservation<'a> {
    inner: &'a Inner,
    group: GroupId,
    becomes: Option<Group>,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut open = self.inner.open();
        match self.becomes.take() {
            Some(group) => drop(open.insert(self.group, Slot::Open(group))),
            None => drop(open.remove(&self.group)),
        }
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, BTreeMap<GroupId, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a leader of this group goes on in its term: once after the node before stopped in order. Who was not stopped so may have
    /// told followers of entries that the disk has lost, and would put others in their places.
    fn resumes(&self, group: GroupId, kind: Kind) -> bool {
        let is_first = self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
        is_first && self.options.resumes && kind == Kind::Partition
    }
}

impl Groups {
    /// Hosts groups on one store and one transport.
    pub fn new(options: Options, writer: Writer, reader: Reader, transport: Arc<dyn Transport>) -> Self {
        let throttle = Arc::new(Throttle::new(options.catch_up_bytes_per_second));
        let inner = Inner {
            options,
            writer,
            reader,
            transport,
            throttle,
            open: Mutex::default(),
            around: RwLock::default(),
            restless: Arc::default(),
            woken: Mutex::default(),
            begun: Mutex::default(),
        };
        Groups { inner: Arc::new(inner) }
    }

    /// Limits what is sent to new replicas of all groups, beside `catch_up_bytes_per_second`; the lower holds, 0 is no limit.
    pub fn limit_catch_up(&self, bytes_per_second: u64) {
        self.inner.throttle.limit(bytes_per_second);
    }

    /// Opens a replica with what is on disk, or empty. `founders` are the replicas of a group that may be new: each of
    /// them writes the same first entry into a log never used, and the first campaigns at once, so that a new group has
    /// a leader within a round trip; only replicas of revision 1. What an earlier replica of this node left is destroyed first.
    ///
    /// # Errors
    /// `AlreadyOpen`; `Superseded` when this node had a later replica; `Quarantined` when the disk contradicts itself; `Stopped` when it cannot be read, or has failed.
    pub async fn open(
        &self,
        group: GroupId,
        kind: Kind,
        replica: ReplicaId,
        founders: Option<Vec<ReplicaId>>,
    ) -> Result<Group, Error> {
        let mut reservation = self.reserve(group)?;
        self.settled(group).await?;
        let Inner { options, writer, reader, .. } = &*self.inner;
        owner::claim(writer, reader, group, replica).await?;
        let quarantined = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => Error::Quarantined { group, reason: error.to_string() },
            _ => Error::Stopped { group, reason: error.to_string() },
        };
        let verdict = verdict::read(reader, group).map_err(|error| quarantined(failed(&error)))?;
        if let Some(reason) = verdict {
            return Err(Error::Quarantined { group, reason });
        }
        let log = LogStore::open(group, writer.clone(), reader.clone()).map_err(quarantined)?;
        let stores = (writer.clone(), reader.clone());
        let machine = StateMachine::open(group, kind, stores, options.effects.clone()).map_err(quarantined)?;
        let published = machine.published();
        let last = log.last().map_err(quarantined)?;
        if published.last() > last {
            let reason = format!("applied {:?} is beyond the last entry {last:?}", published.last());
            return Err(Error::Quarantined { group, reason });
        }
        let uncovered = published.marked(|_, checkpoints| log.purged() > checkpoints.base()).unwrap_or(false);
        if uncovered {
            let reason = format!("its log is purged to {:?} without a checkpoint", log.purged());
            return Err(Error::Quarantined { group, reason });
        }
        let stopped = |error: &dyn std::fmt::Display| Error::Stopped { group, reason: error.to_string() };
        let founders = founders.filter(|founders| may_found(replica, founders)).unwrap_or_default();
        let campaigns = founders.first() == Some(&replica) && log.is_new().map_err(quarantined)?;
        if !campaigns && !founders.is_empty() {
            log.found(&founders).await.map_err(quarantined)?;
        }
        let before = if self.inner.resumes(group, kind) { log.leader() } else { None };
        let resumed = before.filter(|(_, leader)| *leader == replica).map(|(term, _)| term);
        let config = settings::config(kind, resumed.is_some()).map_err(|error| stopped(&error))?;
        let rest = Arc::new(Rest::new(group, self.inner.restless.clone(), resumed));
        let network = self.network((group, replica), &published, &rest);
        let raft = Raft::new(replica, config, network, log, machine).await.map_err(|error| stopped(&error))?;
        if before.is_some() && resumed.is_none() {
            expect_leader(&raft);
        }
        if campaigns && let Err(error) = raft.initialize(founders.into_iter().collect::<BTreeSet<_>>()).await {
            tracing::info!(%group, %error, "the group is founded already");
        }
        let stores = (writer.clone(), reader.clone());
        let opened = Group::new((group, kind, replica), raft, stores, (published, rest));
        reservation.becomes = Some(opened.clone());
        Ok(opened)
    }

    fn network(&self, (group, replica): (GroupId, ReplicaId), published: &Arc<Published>, rest: &Arc<Rest>) -> Network {
        let (transport, throttle) = (self.inner.transport.clone(), self.inner.throttle.clone());
        Network { transport, group, replica, published: published.clone(), rest: rest.clone(), throttle }
    }

    /// The groups that the disk holds something of, open or not, and as which replica. May block on the device.
    ///
    /// # Errors
    /// `Stopped` when it cannot be read.
    pub fn on_disk(&self) -> Result<Vec<(GroupId, ReplicaId)>, Error> {
        let group = GroupId::CONTROLLER;
        owner::all(&self.inner.reader).map_err(|error| Error::Stopped { group, reason: error.to_string() })
    }

    fn reserve(&self, group: GroupId) -> Result<Reservation<'_>, Error> {
        let mut open = self.inner.open();
        if open.contains_key(&group) {
            return Err(Error::AlreadyOpen(group));
        }
        open.insert(group, Slot::Busy);
        Ok(Reservation { inner: &self.inner, group, becomes: None })
    }

    /// The group, if it is open here.
    pub fn get(&self, group: GroupId) -> Option<Group> {
        match self.inner.open().get(&group) {
            Some(Slot::Open(group)) => Some(group.clone()),
            Some(Slot::Busy) | None => None,
        }
    }

    /// Every open group, by id.
    pub fn all(&self) -> Vec<Group> {
        let open = self.inner.open();
        open.values()
            .filter_map(|slot| match slot {
                Slot::Open(group) => Some(group.clone()),
                Slot::Busy => None,
            })
            .collect()
    }

    /// Stops a replica and returns when everything it wrote can be read. What is on disk stays.
    ///
    /// # Errors
    /// `NotOpen`; `Stopped` when storage has failed (the replica is closed all the same).
    pub async fn close(&self, group: GroupId) -> Result<(), Error> {
        let _reservation = self.shut_down(group).await?;
        self.settled(group).await
    }

    /// Waits until all that was submitted is on disk: openraft takes for held what a log has when it opens, so that nobody may
    /// see entries in it that are on their way, or that a failed store will never write.
    async fn settled(&self, group: GroupId) -> Result<(), Error> {
        settled(&self.inner.writer).await.map_err(|error| Error::Stopped { group, reason: error.to_string() })
    }

    /// Stops a replica, if it is open, and removes its log and tables. Afterwards the node may hold the group again
    /// under a new replica id only. What belongs to a later replica than `replica` stays.
    ///
    /// # Errors
    /// `AlreadyOpen` while it opens or closes; `Stopped` when storage has failed.
    pub async fn destroy(&self, group: GroupId, replica: ReplicaId) -> Result<(), Error> {
        if self.get(group).is_some_and(|open| open.replica().revision() > replica.revision()) {
            return Ok(());
        }
        let _reservation = match self.shut_down(group).await {
            Err(Error::NotOpen(_)) => self.reserve(group)?,
            other => other?,
        };
        self.settled(group).await?;
        owner::destroy(&self.inner.writer, &self.inner.reader, group, replica).await
    }

    async fn shut_down(&self, group: GroupId) -> Result<Reservation<'_>, Error> {
        let closing = {
            let mut open = self.inner.open();
            match open.get(&group).cloned() {
                Some(Slot::Open(closing)) => {
                    open.insert(group, Slot::Busy);
                    closing
                }
                Some(Slot::Busy) | None => return Err(Error::NotOpen(group)),
            }
        };
        let reservation = Reservation { inner: &self.inner, group, becomes: None };
        if let Err(error) = closing.raft().shutdown().await {
            tracing::warn!(%group, %error, "a raft group ended in a panic");
        }
        Ok(reservation)
    }

    /// Bytes that are submitted to the disk and not there yet: a peer listener reads its next append frame only when
    /// they are within its budget.
    pub fn queued_bytes(&self) -> usize {
        self.inner.writer.queued_bytes()
    }

    /// Waits until fewer than `limit` bytes are on their way to the disk.
    pub async fn below(&self, limit: usize) {
        self.inner.writer.below(limit).await;
    }

    /// Answers a request of a peer. The request is on its way into the group when this returns, before the future is
    /// polled: call it in the order of arrival.
    ///
    /// # Errors
    /// `BadFrame`: close the connection.
    pub fn handle(&self, from: NodeId, group: GroupId, frame: Frame) -> BoxFuture<'static, Result<Frame, Error>> {
        let bad = |reason: String| futures::future::ready(Err(Error::BadFrame { from, reason })).boxed();
        let request = match Request::from_frame(&frame) {
            Ok(request) if request.from.node() == from => request,
            Ok(request) => return bad(format!("it speaks for replica {}", request.from)),
            Err(error) => return bad(error.to_string()),
        };
        let Some(open) = self.get(group) else { return refuse(Refusal::NotOpen) };
        if open.replica() != request.to {
            return refuse(Refusal::OtherReplica(open.replica()));
        }
        if open.quarantined().is_some() {
            return refuse(Refusal::Stopped);
        }
        if let Call::Append(head) = &request.call
            && let Some(difference) = open.published().compare(head.seal)
        {
            open.quarantine(&difference);
            return refuse(Refusal::Stopped);
        }
        if let Err(refusal) = self.disturb(&open, request.from, &request.call) {
            return refuse(refusal);
        }
        let raft = open.raft().clone();
        match request.call {
            Call::Append(head) => match head.into_raft(frame.joined()) {
                Ok(append) => started(async move {
                    answer(raft.append_entries(append).await.map(|response| match response {
                        AppendEntriesResponse::Success => Answer::Appended,
                        AppendEntriesResponse::Conflict => Answer::Conflict,
                        AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(Ballot::from(&vote)),
                        AppendEntriesResponse::PartialSuccess(_) => {
                            Answer::Refused(Refusal::Malformed("partly appended".to_owned()))
                        }
                    }))
                }),
                Err(error) => bad(error.to_string()),
            },
            Call::Vote(Candidacy { candidate: vote, last, .. }) if planted::is(Bug::VotesUnkept) => {
                futures::future::ready(Ok(Answer::Vote { vote, granted: true, last }.to_frame())).boxed()
            }
            Call::Vote(candidacy) => {
                started(async move { answer(raft.vote(VoteRequest::from(candidacy)).await.map(Answer::from)) })
            }
            Call::PreVote(candidacy) => {
                started(async move { answer(raft.pre_vote(VoteRequest::from(candidacy)).await.map(Answer::from)) })
            }
            Call::Transfer { leader, target, last } => started(async move {
                let request = TransferLeaderRequest::new(leader.into(), target, last.map(LogId::from));
                answer(raft.handle_transfer_leader(request).await.map(|taken| match taken {
                    Ok(()) => Answer::Transferred,
                    Err(error) => Answer::NotTransferred(error.to_string()),
                }))
            }),
            Call::Snapshot { leader, last, members } => match snapshot::meta(last, &members) {
                Ok(meta) => started(async move {
                    let snapshot = Snapshot { meta, snapshot: frame.joined() };
                    let installed = raft.install_full_snapshot(leader.into(), snapshot).await;
                    answer(installed.map(|response| Answer::Snapshot(Ballot::from(&response.vote))))
                }),
                Err(error) => bad(error.to_string()),
            },
            Call::Sleep(pact) => answered(self.lie_down(&open, request.from, pact)),
            Call::Wake => answered(Answer::Awake(String::new())),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.inner.transport
    }

    pub(crate) fn restless(&self) -> &Restless {
        &self.inner.restless
    }

    /// Who was woken lately because something happened to a node, and when.
    pub(crate) fn woken(&self) -> MutexGuard<'_, BTreeMap<GroupId, Instant>> {
        self.inner.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no group is open, nor opens or closes, and the store has all that they wrote.
    pub fn is_at_rest(&self) -> bool {
        self.inner.open().is_empty() && self.inner.writer.closed().borrow().is_none()
    }

    /// The open partitions.
    pub(crate) fn partitions(&self) -> BTreeSet<GroupId> {
        self.inner.open().keys().copied().filter(|group| group.is_partition()).collect()
    }

    /// How many they are.
    pub(crate) fn partition_count(&self) -> usize {
        // All but the few that are none: this is asked often.
        let open = self.inner.open();
        open.len() - open.range(..GroupId::FIRST_PARTITION).count()
    }

    /// Whether a group is open, or opens or closes.
    pub(crate) fn is_reserved(&self, group: GroupId) -> bool {
        self.inner.open().contains_key(&group)
    }

    /// What was around this node when it was last looked.
    pub(crate) fn around(&self) -> Arc<Around> {
        self.inner.around.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what is around this node, and says whether that is news.
    pub(crate) fn look_around(&self, now: Around) -> (Arc<Around>, bool) {
        let mut around = self.inner.around.write().unwrap_or_else(PoisonError::into_inner);
        let changed = **around != now;
        if changed {
            *around = Arc::new(now);
        }
        (around.clone(), changed)
    }
}

/// Does not campaign for a while, since the leader goes on when its node has come back. Who is told to campaign does.
fn expect_leader(raft: &Raft) {
    raft.runtime_config().elect(false);
    let raft = raft.clone();
    tokio::spawn(async move {
        sleep(PATIENCE).await;
        raft.runtime_config().elect(true);
    });
}

/// Only the very first replicas of a group may found it.
fn may_found(replica: ReplicaId, founders: &[ReplicaId]) -> bool {
    founders.contains(&replica) && founders.iter().all(|founder| founder.revision() == 1)
}

fn refuse(refusal: Refusal) -> BoxFuture<'static, Result<Frame, Error>> {
    answered(Answer::Refused(refusal))
}

fn answered(answer: Answer) -> BoxFuture<'static, Result<Frame, Error>> {
    futures::future::ready(Ok(answer.to_frame())).boxed()
}

fn answer<E: std::fmt::Display>(result: Result<Answer, E>) -> Result<Frame, Error> {
    let answer = result.unwrap_or_else(|error| {
        tracing::debug!(%error, "a group that has stopped was asked");
        Answer::Refused(Refusal::Stopped)
    });
    Ok(answer.to_frame())
}

/// Polls the future once now, which is when openraft queues the request.
fn started<F>(future: F) -> BoxFuture<'static, Result<Frame, Error>>
where
    F: Future<Output = Result<Frame, Error>> + Send + 'static,
{
    let mut future = Box::pin(unconstrained(future));
    match (&mut future).now_or_never() {
        Some(ready) => futures::future::ready(ready).boxed(),
        None => future,
    }
}
