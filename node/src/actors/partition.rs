//! The actor of one partition replica: opens its raft, admits appends, proposes all that waits in one turn.
//! Owns the replica's entry in the router. Bounded by the node's append budget, which is taken before proposing.
//! Invariant: jobs are proposed in the order of the inbox; every job is answered, whatever happens.
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use model::planted::{self, Bug};
use model::{GroupId, ReplicaId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use raft::{Kind, ProposeError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Context;
use super::coordinator::Coordinator;
use super::entries::{answer, pack};
use super::linger::Linger;
use crate::metrics::GroupLabel;
use crate::router::desk::Desk;
use crate::router::partition::Placement;
use crate::router::{Inbox, LocalPartition, Refused, Router};

/// Bytes and batches of one turn: several entries in one proposal.
const TURN_BYTES: usize = 4 << 20;
const TURN_BATCHES: usize = 2048;
/// A proposal undecided for so long gives its bytes back, so that a raft without a quorum does not starve the others.
const BUDGET_HELD_MAX: Duration = Duration::from_secs(5);

/// A raft without a living quorum that knows no leader so long after it opened waits for something else than the processor: the
/// next may open.
const OPENING: Duration = Duration::from_millis(300);
/// One with a living quorum has its turn for so long at most. Were it less than an election takes on a busy machine, thousands of
/// elections would run at once and time each other out for ever.
const ELECTING: Duration = Duration::from_secs(10);
/// How often one that has its turn is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// One that is elected goes to sleep within so long if nobody uses it; the awake ones are what a node can have only so many of.
const SETTLING: Duration = Duration::from_secs(1);

/// One replica to run.
#[derive(Clone)]
pub struct Assignment {
    /// Which partition it is of.
    pub placement: Placement,
    /// Its Raft group.
    pub group: GroupId,
    /// What it replicates: a log, or the groups of a coordinator shard.
    pub kind: Kind,
    /// This node's replica.
    pub replica: ReplicaId,
    /// All replicas of the first placement, while the group may be new; the first is the preferred leader and founds it.
    pub founders: Option<Vec<ReplicaId>>,
}

/// What the actor is told.
pub enum Message {
    /// Appends wait in the inbox.
    Work,
    /// A proposal is decided.
    Decided {
        /// What it held.
        bytes: usize,
        /// Since it was made.
        took: Duration,
        /// Bytes that waited then, before anybody was answered.
        waiting: usize,
    },
    /// Appends have waited for others for as long as is worth it.
    Lingered,
    /// A quorum answers again a leader that slept, or does not.
    Roused(Result<(), ProposeError>),
    /// The role may have changed.
    Role,
    /// Fail, to show that only this partition restarts (tests and fault drills).
    Panic,
    /// The topic is gone, or the replica was taken away: destroy it and its data.
    Destroy,
}

/// The actor; its arguments are the assignment.
pub struct Partition {
    /// What every actor needs.
    pub context: Arc<Context>,
    /// Where appends wait; it outlives this actor.
    pub inbox: Arc<Inbox>,
}

/// A running replica.
pub struct State {
    local: Arc<LocalPartition>,
    linger: Linger,
    /// `Lingered` is on its way.
    timed: bool,
    /// The raft slept, and is being woken; appends wait.
    rousing: bool,
    term: u64,
    /// End with the actor, however it ends.
    watches: JoinSet<()>,
}

impl Actor for Partition {
    type Msg = Message;
    type State = State;
    type Arguments = Assignment;

    async fn pre_start(&self, myself: ActorRef<Message>, assignment: Assignment) -> Result<State, ActorProcessingErr> {
        let turn = self.context.openings.clone().acquire_owned().await?;
        let raft = self.open(&assignment, turn).await?;
        let traffic = self.context.metrics.traffic_of(&assignment.placement.topic);
        let local = LocalPartition::new(assignment.placement, raft, self.inbox.clone(), traffic);
        let mut watches = JoinSet::new();
        let local = match assignment.kind {
            Kind::Coordinator => self.coordinate(local, &mut watches, myself.clone()),
            _ => Arc::new(local),
        };
        watches.spawn(watch_role(&local, self.context.router.clone(), myself.clone()));
        watches.spawn(watch_progress(&local));
        self.inbox.attach(Box::new(move || {
            let _stopping = myself.cast(Message::Work);
        }));
        self.context.router.insert(local.clone());
        Ok(State { local, linger: Linger::default(), timed: false, rousing: false, term: 0, watches })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Work => self.propose(&myself, state).await,
            Message::Decided { bytes, took, waiting } => {
                state.linger.decided(bytes, took, waiting, Instant::now());
                self.propose(&myself, state).await;
            }
            Message::Lingered => {
                state.timed = false;
                self.propose(&myself, state).await;
            }
            Message::Roused(outcome) => {
                state.rousing = false;
                if let Err(error) = outcome {
                    let leader = match error {
                        ProposeError::NotLeader { leader } | ProposeError::Lost { leader } => leader,
                        ProposeError::Busy | ProposeError::Closed(_) => None,
                    };
                    self.refuse(&Refused::NotLeader(leader));
                }
                self.propose(&myself, state).await;
            }
            Message::Role => {
                let raft = state.local.raft();
                if let Some(reason) = raft.quarantined() {
                    self.context.router.quarantine(raft.id(), reason);
                }
                super::check_runs(raft)?;
                self.role(state);
            }
            Message::Panic => panic!("a partition was told to fail"),
            Message::Destroy => {
                self.leave(state, "the replica was taken away from this node");
                let raft = state.local.raft();
                self.context.groups.destroy(raft.id(), raft.replica()).await?;
                self.context.metrics.raft.forget(state.local.group());
                myself.stop(Some(super::DESTROYED.to_owned()));
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        self.leave(state, "the node is stopping");
        // Not open any more if it was destroyed.
        let _closed = self.context.groups.close(state.local.group()).await;
        Ok(())
    }
}

impl Partition {
    /// Opens the raft; after a failure of this actor it may be open still, and begins anew.
    async fn open(&self, assignment: &Assignment, turn: OwnedSemaphorePermit) -> Result<raft::Group, raft::Error> {
        let group = assignment.group;
        let _not_open = self.context.groups.close(group).await;
        let founders = assignment.founders.clone();
        let opened = self.context.groups.open(group, assignment.kind, assignment.replica, founders).await;
        // One that somebody leads already needs no election.
        if let Ok(raft) = &opened
            && self.context.router.leader(group).node.is_none()
        {
            tokio::spawn(until_settled(self.context.router.clone(), raft.clone(), turn));
        }
        opened.inspect_err(|error| {
            let Placement { topic, index, .. } = &assignment.placement;
            if let raft::Error::Quarantined { reason, .. } = error {
                self.context.router.quarantine(group, reason.clone());
            }
            tracing::error!(group = group.0, %topic, %index, %error, "a replica cannot be opened");
        })
    }

    /// Puts the actor of a coordinator shard behind its replica: both fail together, and begin anew together.
    fn coordinate(
        &self,
        local: LocalPartition,
        watches: &mut JoinSet<()>,
        myself: ActorRef<Message>,
    ) -> Arc<LocalPartition> {
        let (desk, visits) = Desk::new();
        let local = Arc::new(local.with_desk(desk));
        let coordinator = Coordinator::new(self.context.clone(), local.clone());
        watches.spawn(async move {
            if AssertUnwindSafe(coordinator.run(visits)).catch_unwind().await.is_err() {
                let _stopping = myself.cast(Message::Panic);
            }
        });
        local
    }

    fn leave(&self, state: &mut State, why: &str) {
        state.watches.abort_all();
        self.context.router.remove(state.local.group());
        self.refuse(&Refused::Stopped(why.to_owned()));
    }

    /// Refuses all that waits.
    fn refuse(&self, why: &Refused) {
        for job in self.inbox.drain() {
            let _gone = job.reply.send(Err(why.clone()));
        }
    }

    /// Wakes a raft that slept, if appends wait for it; they wait until a quorum has answered it.
    fn rouse(&self, myself: &ActorRef<Message>, state: &mut State) {
        if self.inbox.is_empty() || std::mem::replace(&mut state.rousing, true) {
            return;
        }
        let (myself, raft) = (myself.clone(), state.local.raft().clone());
        tokio::spawn(async move {
            let outcome = raft.rouse().await;
            let _stopping = myself.cast(Message::Roused(outcome));
        });
    }

    fn role(&self, state: &mut State) {
        let role = state.local.role();
        let label = GroupLabel { group: state.local.group().0 };
        let metrics = &self.context.metrics.raft;
        if role.term != state.term {
            metrics.elections.inc();
            state.term = role.term;
        }
        metrics.term.get_or_create(&label).set(i64::try_from(role.term).unwrap_or(i64::MAX));
        metrics.leader.get_or_create(&label).set(role.leader.map_or(0, |node| i64::from(node.0)));
        metrics.is_leader.get_or_create(&label).set(i64::from(role.is_leader));
        if !role.leads {
            self.refuse(&Refused::NotLeader(role.leader));
        }
        state.local.pulse();
    }

    /// What waits for others is looked at again when these are late.
    fn linger(&self, myself: &ActorRef<Message>, state: &mut State) {
        let Some(until) = state.linger.until() else { return };
        if self.inbox.is_empty() || std::mem::replace(&mut state.timed, true) {
            return;
        }
        let myself = myself.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            let _stopping = myself.cast(Message::Lingered);
        });
    }

    /// Proposes what waits as soon as it is worth an entry.
    async fn propose(&self, myself: &ActorRef<Message>, state: &mut State) {
        loop {
            if state.local.role().leads && !state.local.raft().is_roused() {
                return self.rouse(myself, state);
            }
            if !self.inbox.has(state.linger.wanted(Instant::now())) {
                return self.linger(myself, state);
            }
            let jobs = self.inbox.take(TURN_BYTES, TURN_BATCHES);
            if jobs.is_empty() {
                return;
            }
            let bytes = jobs.iter().map(|job| job.bytes).sum();
            let permit = self.context.budget.take(bytes).await;
            let role = state.local.role();
            if !role.leads {
                for job in jobs {
                    let _gone = job.reply.send(Err(Refused::NotLeader(role.leader)));
                }
                continue;
            }
            let entries = pack(jobs, self.context.clock.wall_ms());
            let (payloads, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
            let decided = state.local.raft().propose(payloads);
            state.linger.proposed(bytes);
            let (myself, metrics, proposed_at) = (myself.clone(), self.context.metrics.clone(), Instant::now());
            let inbox = self.inbox.clone();
            tokio::spawn(async move {
                tokio::pin!(decided);
                let in_time = timeout(BUDGET_HELD_MAX, &mut decided).await;
                drop(permit);
                let outcomes = match in_time {
                    Ok(outcomes) => outcomes,
                    Err(_elapsed) => decided.await,
                };
                let (took, waiting) = (proposed_at.elapsed(), inbox.bytes());
                metrics.storage.commit_seconds.observe(took.as_secs_f64());
                for (jobs, outcome) in entries.into_iter().zip(outcomes) {
                    metrics.storage.batches_per_entry.observe(jobs.batches() as f64);
                    answer(jobs, outcome);
                }
                let _stopping = myself.cast(Message::Decided { bytes, took, waiting });
            });
        }
    }
}

/// Keeps the turn of a raft that opened until somebody leads it and it has gone to sleep again, or cannot. The leader that the disk
/// remembers is none until its node says so, unless it is this one.
async fn until_settled(router: Arc<Router>, raft: raft::Group, turn: OwnedSemaphorePermit) {
    let (mut status, opened, started) = (raft.status(), raft.mark().term, Instant::now());
    let led = |status: &raft::Status| {
        let elected = status.leader.is_some() && status.term > opened;
        status.is_leader || elected || router.is_led_elsewhere(raft.id())
    };
    let quorum_lives = |status: &raft::Status| {
        let living = status.voters.iter().filter(|voter| router.is_alive(voter.node())).count();
        living * 2 > status.voters.len()
    };
    while timeout(LOOK, status.wait_for(led)).await.is_err() {
        let hopeless = started.elapsed() >= OPENING && !quorum_lives(&status.borrow());
        if hopeless || started.elapsed() >= ELECTING {
            return drop(turn);
        }
    }
    let elected = Instant::now();
    while !raft.is_asleep() && elected.elapsed() < SETTLING {
        sleep(LOOK).await;
    }
    drop(turn);
}

/// Tells the node and the actor when role or members change.
fn watch_role(
    local: &Arc<LocalPartition>,
    router: Arc<Router>,
    myself: ActorRef<Message>,
) -> impl Future<Output = ()> + use<> {
    let mut status = local.raft().status();
    async move {
        while myself.cast(Message::Role).is_ok() && status.changed().await.is_ok() {
            router.role_changed();
        }
        router.role_changed();
    }
}

/// Wakes readers when something was applied.
fn watch_progress(local: &Arc<LocalPartition>) -> impl Future<Output = ()> + use<> {
    let (mut applied, local) = (local.raft().applied(), local.clone());
    async move {
        while applied.changed().await.is_ok() && !planted::is(Bug::LostWakeUp) {
            local.pulse();
        }
    }
}
