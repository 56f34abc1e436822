//! Fast failover and gentle leaving, for all rafts of the node at once.
//! A node that stopped beating is replaced sooner than each raft's own timeout would: one of the living voters, the same
//! in everybody's eyes, asks for votes. A node that leaves hands its leaderships over first.
//! Never decides an election: votes, logs and leases do.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::planted::{self, Bug};
use model::{GroupId, NodeId};
use tokio::time::{Instant, sleep, timeout};

use crate::router::Router;

/// How often the leaders' lives are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// One raft is not urged again before this: voters refuse until the lease of the dead leader is over.
const URGE: Duration = Duration::from_millis(100);
/// From the death of a leader until its lease is over: nobody gets votes before. The lease counts from the last entry or group
/// heartbeat, the death from the last heartbeat of the node, after which it counts as dead.
const LEASE_LEFT: Duration = Duration::from_millis(500);
/// Then every living voter has its turn for so long: one whose log is shorter than another's asks in vain.
const TURN: Duration = Duration::from_millis(250);
/// Rafts urged at one look, so that the death of a node with thousands of leaders does not stop the others.
const URGED_PER_LOOK: usize = 128;
/// Handing over all leaderships takes no longer.
const LEAVE: Duration = Duration::from_millis(700);

/// Looks after the rafts for ever.
pub async fn run(router: Arc<Router>) {
    let mut orphans: BTreeMap<GroupId, Orphan> = BTreeMap::new();
    loop {
        sleep(LOOK).await;
        if !router.has_dead() {
            orphans.clear();
            continue;
        }
        let mut left = URGED_PER_LOOK;
        for raft in rafts(&router) {
            let status = raft.status_now();
            let noticed = !(planted::is(Bug::DeathUnnoticed) && raft.is_asleep());
            let orphaned = noticed && status.leader.is_some_and(|leader| !router.is_alive(leader));
            if !orphaned {
                orphans.remove(&raft.id());
                continue;
            }
            let orphan = orphans.entry(raft.id()).or_insert(Orphan { since: Instant::now(), urged: None });
            if left > 0
                && candidate(&router, raft.id(), &status, orphan.turn()) == Some(router.node())
                && orphan.urged.is_none_or(|at| at.elapsed() >= URGE)
            {
                left -= 1;
                orphan.urged = Some(Instant::now());
                if let Err(error) = raft.elect().await {
                    tracing::debug!(group = raft.id().0, %error, "no campaign");
                }
            }
        }
    }
}

/// A raft whose leader's node is dead.
struct Orphan {
    since: Instant,
    urged: Option<Instant>,
}

impl Orphan {
    fn turn(&self) -> usize {
        (self.since.elapsed().saturating_sub(LEASE_LEFT).as_millis() / TURN.as_millis()) as usize
    }
}

/// Hands every leadership of this node to a living voter, as far as that succeeds in time.
pub async fn leave(router: &Router) {
    let handing = rafts(router).into_iter().filter_map(|raft| {
        let status = raft.status_now();
        let to = candidate(router, raft.id(), &status, 0).filter(|_| status.is_leader)?;
        Some(async move {
            if let Err(error) = raft.transfer_leader(to).await {
                tracing::debug!(group = raft.id().0, %error, "the leadership was not handed over");
            }
        })
    });
    let _in_time_or_not = timeout(LEAVE, join_all(handing)).await;
}

fn rafts(router: &Router) -> Vec<raft::Group> {
    let partitions = router.locals().into_iter().map(|local| local.raft().clone());
    router.controller().into_iter().chain(partitions).collect()
}

/// The voter that lives and stays, other than the leader, whose turn it is: leaders of one dead node spread over the others.
fn candidate(router: &Router, group: GroupId, status: &raft::Status, turn: usize) -> Option<NodeId> {
    let voters = status.voters.iter().map(|replica| replica.node());
    let living: Vec<NodeId> = voters.filter(|node| Some(*node) != status.leader && router.stays(*node)).collect();
    living.get((group.0 as usize + turn) % living.len().max(1)).copied()
}
