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
/// Rafts urged at one look, so that the death of a node with thousands of leaders does not stop the others.
const URGED_PER_LOOK: usize = 128;
/// Handing over all leaderships takes no longer.
const LEAVE: Duration = Duration::from_millis(700);

/// Looks after the rafts for ever.
pub async fn run(router: Arc<Router>) {
    let mut urged: BTreeMap<GroupId, Instant> = BTreeMap::new();
    loop {
        sleep(LOOK).await;
        if !router.has_dead() {
            urged.clear();
            continue;
        }
        let mut left = URGED_PER_LOOK;
        for raft in rafts(&router) {
            let status = raft.status_now();
            let noticed = !(planted::is(Bug::DeathUnnoticed) && raft.is_asleep());
            let orphaned = noticed && status.leader.is_some_and(|leader| !router.is_alive(leader));
            if !orphaned {
                urged.remove(&raft.id());
            } else if left > 0
                && candidate(&router, raft.id(), &status) == Some(router.node())
                && urged.get(&raft.id()).is_none_or(|at| at.elapsed() >= URGE)
            {
                left -= 1;
                urged.insert(raft.id(), Instant::now());
                if let Err(error) = raft.elect().await {
                    tracing::debug!(group = raft.id().0, %error, "no campaign");
                }
            }
        }
    }
}

/// Hands every leadership of this node to a living voter, as far as that succeeds in time.
pub async fn leave(router: &Router) {
    let handing = rafts(router).into_iter().filter_map(|raft| {
        let status = raft.status_now();
        let to = candidate(router, raft.id(), &status).filter(|_| status.is_leader)?;
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

/// The living voter, other than the leader, whose turn it is: leaders of one dead node spread over the others.
fn candidate(router: &Router, group: GroupId, status: &raft::Status) -> Option<NodeId> {
    let voters = status.voters.iter().map(|replica| replica.node());
    let living: Vec<NodeId> = voters.filter(|node| Some(*node) != status.leader && router.is_alive(*node)).collect();
    living.get(group.0 as usize % living.len().max(1)).copied()
}
