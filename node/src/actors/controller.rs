//! The controller actor: runs this node's replica of the controller's raft and publishes its image.
//! On the leader it also takes registered nodes in: as learners first, then as voters while there are few.
//! Never decides metadata: that is `model::controller`.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::controller::Image;
use model::{GroupId, NodeId, ReplicaId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use raft::Kind;
use tokio::task::JoinSet;

use super::{Context, ControllerStart};

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
        Ok(State { group, watches })
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
            && let Err(error) = recruit(&state.group).await
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

/// Takes one step: a registered stranger becomes a learner, or a learner that caught up becomes a voter.
async fn recruit(group: &raft::Group) -> Result<(), raft::Error> {
    let status = group.status_now();
    let members: BTreeSet<NodeId> =
        status.voters.iter().chain(&status.learners).map(|replica| replica.node()).collect();
    let image = group.image().unwrap_or_default();
    if let Some(stranger) = image.nodes.keys().find(|node| !members.contains(node)) {
        tracing::info!(node = stranger.0, "the controller takes a node in as a learner");
        return group.add_learner(ReplicaId::new(*stranger, 1)).await;
    }
    if status.voters.len() >= VOTERS {
        return Ok(());
    }
    for learner in &status.learners {
        if group.is_caught_up(*learner).await? {
            tracing::info!(node = learner.node().0, "the controller takes a learner in as a voter");
            return group.change_voters(status.voters.iter().chain([learner]).copied().collect()).await;
        }
    }
    Ok(())
}
