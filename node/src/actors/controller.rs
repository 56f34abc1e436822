//! The controller actor: runs this node's replica of the controller's raft and publishes its image.
//! On the leader it also takes registered nodes in: as learners first, then as voters while there are few.
//! Never decides metadata: that is `model::controller`.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::controller::{Duty, Image};
use model::{GroupId, NodeId, ReplicaId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use raft::{Goal, Kind, Step};
use tokio::task::JoinSet;

use super::{Context, ControllerStart};
use crate::router::Router;

/// Voters that the controller grows to by itself.
const VOTERS: usize = 3;
/// How often the leader looks for nodes to take in.
const RECRUIT: Duration = Duration::from_millis(300);

/// What the actor is told.
pub enum Message {
    /// Look for nodes to take in.
    Recruit,
}

/// The actor; its arguments say how the raft begins.
pub struct Controller {
    /// What every actor needs.
    pub context: Arc<Context>,
}

/// The running replica.
pub struct State {
    group: raft::Group,
    /// What was committed at the last look.
    committed: u64,
    /// End with the actor, however it ends.
    watches: JoinSet<()>,
}

impl Actor for Controller {
    type Msg = Message;
    type State = State;
    type Arguments = ControllerStart;

    async fn pre_start(&self, myself: ActorRef<Message>, start: ControllerStart) -> Result<State, ActorProcessingErr> {
        let groups = &self.context.groups;
        let _not_open = groups.close(GroupId::CONTROLLER).await;
        let group = groups.open(GroupId::CONTROLLER, Kind::Controller, start.replica, start.founders).await?;
        let mut watches = JoinSet::new();
        watches.spawn(publish(&group, &self.context));
        watches.spawn(tick(myself));
        self.context.router.set_controller(Some(group.clone()));
        Ok(State { group, committed: 0, watches })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Recruit = message;
        super::check_runs(&state.group)?;
        if state.group.status_now().leads()
            && let Err(error) = recruit(&state.group, &self.context.router, &mut state.committed).await
        {
            tracing::info!(%error, "the controller's members did not change");
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.watches.abort_all();
        self.context.router.set_controller(None);
        self.context.groups.close(GroupId::CONTROLLER).await?;
        Ok(())
    }
}

async fn tick(myself: ActorRef<Message>) {
    while myself.cast(Message::Recruit).is_ok() {
        tokio::time::sleep(RECRUIT).await;
    }
}

/// Publishes each new version of the image.
fn publish(group: &raft::Group, context: &Arc<Context>) -> impl Future<Output = ()> + use<> {
    let (group, context) = (group.clone(), context.clone());
    let mut applied = group.applied();
    async move {
        loop {
            applied.borrow_and_update();
            let image = group.image().unwrap_or_default();
            let version = image.version;
            let newer = |published: &mut Arc<Image>| {
                let newer = published.version < version;
                if newer {
                    *published = image;
                }
                newer
            };
            if context.image.send_if_modified(newer) {
                context.metrics.raft.image_version.set(i64::try_from(version).unwrap_or(i64::MAX));
            }
            if applied.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Who should be a member: every registered node, with the replica of its present data folder. Those who vote go on, learners
/// that have caught up are added while there are few, or in the place of who leaves.
fn goal(image: &Image, status: &raft::Status, is_caught_up: impl Fn(ReplicaId) -> bool) -> Goal {
    let present: BTreeMap<NodeId, ReplicaId> = image.nodes.values().map(|node| (node.id, node.controller())).collect();
    let now = |voter: &ReplicaId| present.get(&voter.node()).copied().unwrap_or(*voter);
    let mut voters: BTreeSet<ReplicaId> = status.voters.iter().map(now).collect();
    let ripe = status.learners.iter().filter(|learner| present.get(&learner.node()) == Some(learner));
    let leaves = |replica: &ReplicaId| image.duty(replica.node()) == Some(Duty::Leaving);
    let ripe: Vec<ReplicaId> = ripe.copied().filter(|learner| !voters.contains(learner) && !leaves(learner)).collect();
    let next = ripe.into_iter().find(|learner| is_caught_up(*learner));
    let leaving = voters.iter().copied().find(leaves).filter(|_| voters.len() > 1);
    if let Some(leaving) = leaving {
        voters.remove(&leaving);
    }
    voters.extend(next.filter(|_| voters.len() < VOTERS));
    let learners = present.into_values().filter(|replica| !voters.contains(replica)).collect();
    Goal { voters, learners }
}

/// Takes one step towards the members that there should be.
async fn recruit(group: &raft::Group, router: &Router, committed: &mut u64) -> Result<(), raft::Error> {
    let image = group.image().unwrap_or_default();
    let goal = goal(&image, &group.status_now(), |replica| group.is_caught_up(replica).unwrap_or(false));
    let step = group.plan(&goal, *committed, |node| router.is_alive(node))?;
    *committed = group.metrics().committed.unwrap_or(0);
    if !matches!(step, Step::Done | Step::Wait(_)) {
        tracing::info!(?step, "the controller's members change");
    }
    group.take(step).await
}

#[cfg(test)]
mod tests {
    use model::StoreId;
    use model::controller::Node;

    use super::*;

    fn image(incarnations: &[u32]) -> Image {
        let node = |(id, incarnation): (u32, &u32)| {
            let (id, store, incarnation) = (NodeId(id), StoreId(u64::from(id)), *incarnation);
            let node = Node { id, store, listeners: BTreeMap::new(), rack: None, epoch: 1, incarnation };
            (id, Arc::new(node))
        };
        let mut image = Image::default();
        image.nodes = (1..).zip(incarnations).map(node).collect();
        image
    }

    fn replicas(ids: &[(u32, u32)]) -> BTreeSet<ReplicaId> {
        ids.iter().map(|(node, incarnation)| ReplicaId::new(NodeId(*node), *incarnation)).collect()
    }

    /// (Node, incarnation) of those who vote, and of those who do not.
    type Members<'a> = (&'a [(u32, u32)], &'a [(u32, u32)]);

    fn check(incarnations: &[u32], (voters, learners): Members<'_>, goal_is: Members<'_>) {
        let status = raft::Status { voters: replicas(voters), learners: replicas(learners), ..raft::Status::default() };
        let found = goal(&image(incarnations), &status, |replica| replica.node() != NodeId(9));
        assert_eq!((found.voters, found.learners), (replicas(goal_is.0), replicas(goal_is.1)));
    }

    #[test]
    fn every_node_is_a_member_and_the_first_vote() {
        check(&[], (&[(1, 1), (2, 1)], &[]), (&[(1, 1), (2, 1)], &[]));
        check(&[1, 1, 1, 1], (&[(1, 1)], &[]), (&[(1, 1)], &[(2, 1), (3, 1), (4, 1)]));
        check(&[1, 1, 1], (&[(1, 1)], &[(2, 1), (3, 1)]), (&[(1, 1), (2, 1)], &[(3, 1)]));
        check(&[1, 1, 1, 1], (&[(1, 1), (2, 1), (3, 1)], &[(4, 1)]), (&[(1, 1), (2, 1), (3, 1)], &[(4, 1)]));
    }

    #[test]
    fn who_leaves_makes_room_for_another_voter() {
        let mut image = image(&[1, 1, 1, 1]);
        image.duties.insert(NodeId(2), Duty::Leaving);
        let voters = |voters: &[(u32, u32)], learners: &[(u32, u32)]| {
            let (voters, learners) = (replicas(voters), replicas(learners));
            goal(&image, &raft::Status { voters, learners, ..raft::Status::default() }, |_| true).voters
        };
        let three = [(1, 1), (2, 1), (3, 1)];
        assert_eq!(voters(&three, &[(4, 1)]), replicas(&[(1, 1), (3, 1), (4, 1)]));
        assert_eq!(
            voters(&three, &[]),
            replicas(&[(1, 1), (3, 1)]),
            "two voters lose no more than three with one gone"
        );
        assert_eq!(voters(&[(1, 1), (3, 1)], &[(2, 1)]), replicas(&[(1, 1), (3, 1)]));
        assert_eq!(voters(&[(2, 1)], &[]), replicas(&[(2, 1)]), "the last stays");
    }

    #[test]
    fn a_node_with_a_new_folder_is_another_member() {
        check(&[1, 2, 1], (&[(1, 1), (2, 1), (3, 1)], &[]), (&[(1, 1), (2, 2), (3, 1)], &[]));
        check(&[1, 1, 1, 2], (&[(1, 1), (2, 1), (3, 1)], &[(4, 1)]), (&[(1, 1), (2, 1), (3, 1)], &[(4, 2)]));
    }
}
