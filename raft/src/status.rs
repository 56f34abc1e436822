//! What a group says about itself: `Status` when its role changes, `Metrics` when it is asked.
//! Invariant: a leader that has not heard from a quorum for two election timeouts says so within a tick.
//! Must never wake for every entry: a status changes with the role, not with the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{GroupId, NodeId, ReplicaId};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::published::Published;
use crate::purge;
use crate::quiesce::{Member, Pact, Standing};
use crate::rest::Rest;
use crate::settings::QUORUM_CONTACT;
use crate::types::{Ballot, LogId, Position, Raft, SMALL_BYTES_MAX, TypeConfig};

/// How often a leader out of contact looks whether the quorum is back.
const CONTACT_TICK: Duration = Duration::from_millis(100);

type RaftMetrics = openraft::RaftMetrics<TypeConfig>;

/// The role of this replica and the members of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader, as far as this replica knows.
    pub leader: Option<NodeId>,
    /// The current Raft term: the leader epoch.
    pub term: u64,
    /// Whether this replica is the leader.
    pub is_leader: bool,
    /// Of a leader: whether a quorum answered within two election timeouts. Without it answer NOT_LEADER.
    pub quorum_contact: bool,
    /// Replicas that vote.
    pub voters: BTreeSet<ReplicaId>,
    /// Replicas that only receive.
    pub learners: BTreeSet<ReplicaId>,
    /// Why the group has stopped; it acknowledges nothing any more.
    pub stopped: Option<String>,
}

impl Status {
    /// Whether clients may be served as by a leader.
    pub fn leads(&self) -> bool {
        self.is_leader && self.quorum_contact && self.stopped.is_none()
    }
}

/// Where the logs of a group stand, from this replica's point of view. Indexes are of Raft entries; `None` is before
/// the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Role and members.
    pub status: Status,
    /// Last entry in the log, durable or not.
    pub last: Option<u64>,
    /// Last entry known to be on a majority.
    pub committed: Option<u64>,
    /// Last entry applied to the machine.
    pub applied: Option<u64>,
    /// Last entry of the snapshot.
    pub snapshot: Option<u64>,
    /// Last entry removed from the log's start.
    pub purged: Option<u64>,
    /// Of a leader: the last entry that each replica is known to hold.
    pub matched: BTreeMap<ReplicaId, Option<u64>>,
    /// Of a leader: time since each replica last answered; `None` if it never did.
    pub heard_ago: BTreeMap<ReplicaId, Option<Duration>>,
    /// Of a leader: time since a quorum last answered.
    pub quorum_acked_ago: Option<Duration>,
    /// Who votes: one set, or two while a change of members is under way.
    pub voter_sets: Vec<BTreeSet<ReplicaId>>,
}

/// What a replica is at one moment, cheap enough to be asked every millisecond. What is asked rarely is in [`Metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The current Raft term.
    pub term: u64,
    /// Whether this replica is the leader of that term.
    pub is_leader: bool,
    /// The leader, as far as this replica knows.
    pub leader: Option<ReplicaId>,
    /// Last entry known to be on a majority.
    pub committed: Option<u64>,
    /// Last entry applied to the machine.
    pub applied: Option<u64>,
    /// Entry that holds the members in force, committed or not.
    pub members: Option<u64>,
    /// Whether the group has stopped.
    pub stopped: bool,
    /// Of a sleeper: the leader and the term that it sleeps under.
    pub asleep: Option<(ReplicaId, u64)>,
}

/// The mark of a replica, now.
pub(crate) fn mark(raft: &Raft) -> Mark {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    Mark {
        term: metrics.current_term,
        is_leader: metrics.state == ServerState::Leader,
        leader: metrics.current_leader,
        committed: metrics.local_committed.as_ref().map(|id| id.index),
        applied: metrics.last_applied.as_ref().map(|id| id.index),
        members: metrics.membership_config.log_id().as_ref().map(|id| id.index),
        stopped: metrics.running_state.is_err(),
        asleep: None,
    }
}

/// Where a replica stands, and of a leader whose membership is settled the other members.
pub(crate) fn standing(raft: &Raft) -> (Standing, Vec<Member>) {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let membership = metrics.membership_config.membership();
    let settled = membership.get_joint_config().len() == 1
        && metrics.membership_config.log_id().as_ref() <= metrics.local_committed.as_ref();
    let running = metrics.running_state.is_ok() && settled;
    let position = |id: &Option<LogId>| id.as_ref().map(Position::from);
    let standing = Standing {
        term: metrics.current_term,
        leader: metrics.current_leader.filter(|_| running),
        last: metrics.last_log_index,
        committed: position(&metrics.local_committed),
        applied: position(&metrics.last_applied),
    };
    let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
    let votes = |id: &ReplicaId| membership.voter_ids().any(|voter| voter == *id);
    let members = others.map(|(id, at)| Member { replica: *id, votes: votes(id), matched: position(at) });
    (standing, members.collect())
}

/// The term of a stored vote ([`storage::RowKind::Vote`]): what a replica has promised. For whoever reads a disk.
///
/// # Errors
/// Not a vote.
pub fn voted_term(row: &[u8]) -> Result<u64, storage::Error> {
    storage::codec::decode::<Ballot>(row, SMALL_BYTES_MAX).map(|ballot| ballot.term)
}

/// The last entry that a stored purge mark ([`storage::RowKind::Purged`]) says is removed. For whoever reads a disk.
///
/// # Errors
/// Not a purge mark.
pub fn purged_index(row: &[u8]) -> Result<u64, storage::Error> {
    storage::codec::decode::<Position>(row, SMALL_BYTES_MAX).map(|position| position.index)
}

fn acked_ago(metrics: &RaftMetrics) -> Option<Duration> {
    metrics.last_quorum_acked.map(|at| at.elapsed())
}

fn status(metrics: &RaftMetrics, contact: bool) -> Status {
    let membership = metrics.membership_config.membership();
    Status {
        leader: metrics.current_leader.map(ReplicaId::node),
        term: metrics.current_term,
        is_leader: metrics.state == ServerState::Leader,
        quorum_contact: contact,
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}

/// Overwrites the role by what the watch that woke us says: openraft sends the full metrics after it, so they may still
/// be those from before the change, and nothing else would wake us for them.
fn take_role(now: &mut Status, raft: &Raft) {
    let receiver = raft.server_metrics();
    let roles = receiver.borrow_watched();
    let membership = roles.membership_config.membership();
    now.leader = roles.current_leader.map(ReplicaId::node);
    now.term = now.term.max(roles.vote.leader_id.term);
    now.is_leader = roles.state == ServerState::Leader;
    now.voters = membership.voter_ids().collect();
    now.learners = membership.learner_ids().collect();
}

/// The full picture, now.
pub(crate) fn metrics(raft: &Raft, known: Status) -> Metrics {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let heard = metrics.heartbeat.iter().flatten();
    let index = |id: &Option<crate::types::LogId>| id.as_ref().map(|id| id.index);
    Metrics {
        status: status(&metrics, known.quorum_contact),
        last: metrics.last_log_index,
        committed: index(&metrics.local_committed),
        applied: index(&metrics.last_applied),
        snapshot: index(&metrics.snapshot),
        purged: index(&metrics.purged),
        matched: metrics.replication.iter().flatten().map(|(id, log_id)| (*id, index(log_id))).collect(),
        heard_ago: heard.map(|(id, at)| (*id, at.as_ref().map(|at| at.elapsed()))).collect(),
        quorum_acked_ago: acked_ago(&metrics),
        voter_sets: metrics.membership_config.membership().get_joint_config().clone(),
    }
}

/// Keeps a group's status current until the group ends, and asks for the snapshots that are due.
pub(crate) async fn watch(
    group: GroupId,
    raft: Raft,
    (published, rest): (Arc<Published>, Arc<Rest>),
    sender: watch::Sender<Status>,
) {
    let mut roles = raft.server_metrics();
    let mut led_since = None;
    loop {
        let (now, next) = look(&raft, &rest, &mut led_since);
        let sleeps_well = |pact: Pact| (pact.term, Some(pact.leader.node())) == (now.term, now.leader);
        if rest.pact().is_some_and(|pact| !sleeps_well(pact)) {
            rest.wake(&raft);
        }
        sender.send_if_modified(|status| {
            let changed = *status != now;
            if now.is_leader && !status.is_leader {
                tracing::info!(%group, term = now.term, "leads");
            }
            *status = now;
            changed
        });
        tokio::select! {
            biased;
            changed = roles.changed() => if changed.is_err() { break },
            () = published.snapshot_due.notified() => {
                tokio::spawn(purge::snapshot(group, raft.clone(), published.clone()));
            }
            () = rest.changed.notified() => {}
            () = sleep_until(next) => {}
        }
    }
    rest.wake(&raft);
    let end = raft.metrics().borrow_watched().running_state.clone();
    let ended = || end.err().map_or_else(|| "closed".to_owned(), |fatal| fatal.to_string());
    let why = published.verdict().map_or_else(ended, |verdict| format!("quarantined: {verdict}"));
    sender.send_modify(|status| {
        status.is_leader = false;
        status.leader = None;
        status.quorum_contact = false;
        status.stopped = Some(why);
    });
}

/// The status now, and when to look again without being told: only a leader needs to.
fn look(raft: &Raft, rest: &Rest, led_since: &mut Option<(u64, Instant)>) -> (Status, Option<Instant>) {
    let receiver = raft.metrics();
    let metrics = receiver.borrow_watched();
    let mut now = status(&metrics, true);
    take_role(&mut now, raft);
    if !now.is_leader {
        *led_since = None;
        now.quorum_contact = now.leader.is_some();
        return (now, None);
    }
    let since = match *led_since {
        Some((term, since)) if term == now.term => since,
        _ => Instant::now(),
    };
    *led_since = Some((now.term, since));
    // While it sleeps, the heartbeats between nodes say whether a quorum is there.
    if now.voters.len() <= 1 || rest.pact().is_some() {
        return (now, None);
    }
    let since = rest.woken().map_or(since, |woken| since.max(woken));
    // An election is a quorum's word too; who resumed has none yet.
    let unheard = if rest.is_resumed(now.term) { QUORUM_CONTACT } else { since.elapsed() };
    let silent = acked_ago(&metrics).map_or(unheard, |ago| ago.min(since.elapsed()));
    let left = QUORUM_CONTACT.saturating_sub(silent);
    now.quorum_contact = left > Duration::ZERO;
    (now, Some(Instant::now() + left.max(CONTACT_TICK)))
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
