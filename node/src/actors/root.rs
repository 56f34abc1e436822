//! The root actor: keeps the controller actor and exactly the partition actors that the image places on this node.
//! Owns their inboxes, which outlive a failed actor, so that nothing that waits is lost by its restart.
//! Invariant: one failure restarts one actor, after a pause that grows with failures in a row.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::controller::Image;
use model::{GroupId, ReplicaId};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::time::Instant;

use super::controller::Controller;
use super::partition::{Assignment, Message as PartitionMessage, Partition};
use super::{Context, ControllerStart, DESTROYED, RESTART};
use crate::router::Inbox;
use crate::router::partition::Placement;

/// An actor that ran for so long had recovered from its last failure.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long the actors may take to close their rafts.
const STOP: Duration = Duration::from_secs(5);

/// What the root is told.
pub enum Message {
    /// The image changed.
    Image(Arc<Image>),
    /// The pause after a failure is over.
    Restart(GroupId),
    /// An actor failed before it ran.
    NotStarted(ActorId),
    /// Make this partition's actor fail.
    Panic(GroupId),
}

/// The actor; its arguments say how the controller's raft begins.
pub struct Root {
    /// What every actor needs.
    pub context: Arc<Context>,
}

/// The children.
pub struct State {
    controller: ControllerStart,
    partitions: BTreeMap<GroupId, Child>,
    running: BTreeMap<ActorId, GroupId>,
    failures: BTreeMap<GroupId, u32>,
}

struct Child {
    assignment: Assignment,
    inbox: Arc<Inbox>,
    actor: Option<ActorRef<PartitionMessage>>,
    started: Instant,
    ending: bool,
}

impl Actor for Root {
    type Msg = Message;
    type State = State;
    type Arguments = ControllerStart;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        controller: ControllerStart,
    ) -> Result<State, ActorProcessingErr> {
        let (partitions, running, failures) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut state = State { controller, partitions, running, failures };
        self.start_controller(&myself, &mut state).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Image(image) => self.follow(&myself, &image, state),
            Message::Restart(GroupId::CONTROLLER) => {
                if let Err(error) = self.start_controller(&myself, state).await {
                    tracing::error!(%error, "the controller's replica cannot be opened");
                    self.restart_later(&myself, GroupId::CONTROLLER, state);
                }
            }
            Message::Restart(group) => self.start_partition(&myself, group, state),
            Message::NotStarted(id) => self.ended(&myself, id, "it failed while it started", state),
            Message::Panic(group) => {
                if let Some(actor) = state.partitions.get(&group).and_then(|child| child.actor.as_ref()) {
                    let _stopping = actor.cast(PartitionMessage::Panic);
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason) = match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => (cell, reason.unwrap_or_default()),
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            _ => return Ok(()),
        };
        self.ended(&myself, cell.get_id(), &reason, state);
        Ok(())
    }

    async fn post_stop(&self, myself: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        for actor in state.partitions.values().filter_map(|child| child.actor.as_ref()) {
            actor.stop(None);
        }
        myself.stop_children_and_wait(None, Some(STOP)).await;
        Ok(())
    }
}

impl Root {
    async fn start_controller(&self, myself: &ActorRef<Message>, state: &mut State) -> Result<(), ractor::SpawnErr> {
        let failures = state.failures.get(&GroupId::CONTROLLER).unwrap_or(&0);
        let name = format!("n{}/b{}/controller/{failures}", self.context.node, self.context.boot);
        let actor = Controller { context: self.context.clone() };
        let start = state.controller.clone();
        let (actor, _) = Actor::spawn_linked(Some(name), actor, start, myself.get_cell()).await?;
        state.running.insert(actor.get_id(), GroupId::CONTROLLER);
        Ok(())
    }

    /// Starts what is placed here and does not run, ends what runs and is placed here no longer.
    fn follow(&self, myself: &ActorRef<Message>, image: &Image, state: &mut State) {
        let mut gone: BTreeMap<GroupId, ()> = state.partitions.keys().map(|group| (*group, ())).collect();
        for (topic, index, partition) in image.groups_of_node(self.context.node) {
            if gone.remove(&partition.group).is_some() {
                continue;
            }
            let replica = |node| ReplicaId::new(node, partition.revision);
            let assignment = Assignment {
                placement: Placement { topic: topic.name.as_str().into(), id: topic.id, index },
                group: partition.group,
                replica: replica(self.context.node),
                founders: partition.replicas.iter().copied().map(replica).collect(),
            };
            let child =
                Child { assignment, inbox: Arc::default(), actor: None, started: Instant::now(), ending: false };
            state.partitions.insert(partition.group, child);
            self.start_partition(myself, partition.group, state);
        }
        for group in gone.into_keys() {
            let Some(child) = state.partitions.get_mut(&group).filter(|child| !child.ending) else { continue };
            child.ending = true;
            if let Some(actor) = &child.actor {
                let _ended = actor.cast(PartitionMessage::Destroy);
            }
        }
    }

    fn start_partition(&self, myself: &ActorRef<Message>, group: GroupId, state: &mut State) {
        let Some(child) = state.partitions.get_mut(&group) else { return };
        let failures = state.failures.get(&group).unwrap_or(&0);
        let name = format!("n{}/b{}/p{group}/{failures}", self.context.node, self.context.boot);
        let actor = Partition { context: self.context.clone(), inbox: child.inbox.clone() };
        match ActorRuntime::spawn_linked_instant(Some(name), actor, child.assignment.clone(), myself.get_cell()) {
            Ok((actor, started)) => {
                if child.ending {
                    let _ended = actor.cast(PartitionMessage::Destroy);
                }
                state.running.insert(actor.get_id(), group);
                let (root, id) = (myself.clone(), actor.get_id());
                tokio::spawn(async move {
                    if !matches!(started.await, Ok(Ok(_))) {
                        let _stopping = root.cast(Message::NotStarted(id));
                    }
                });
                child.actor = Some(actor);
                child.started = Instant::now();
            }
            Err(error) => {
                tracing::error!(group = group.0, %error, "a partition actor cannot be started");
                self.restart_later(myself, group, state);
            }
        }
    }

    fn ended(&self, myself: &ActorRef<Message>, id: ActorId, reason: &str, state: &mut State) {
        let Some(group) = state.running.remove(&id) else { return };
        if reason == DESTROYED {
            state.partitions.remove(&group);
            return;
        }
        if state.partitions.get(&group).is_some_and(|child| child.ending) {
            state.partitions.remove(&group);
            self.destroy(group);
            return;
        }
        if let Some(child) = state.partitions.get_mut(&group) {
            child.actor = None;
            if child.started.elapsed() > HEALTHY {
                state.failures.remove(&group);
            }
            self.context.router.remove(group);
        }
        tracing::error!(group = group.0, reason, "an actor failed and starts again");
        self.restart_later(myself, group, state);
    }

    /// Removes what a replica has on disk whose actor failed before it could: it may be quarantined.
    fn destroy(&self, group: GroupId) {
        let context = self.context.clone();
        tokio::spawn(async move {
            if let Err(error) = context.groups.destroy(group).await {
                tracing::error!(group = group.0, %error, "what a deleted topic left on disk stays there");
            }
            context.router.remove(group);
            context.metrics.raft.forget(group);
        });
    }

    fn restart_later(&self, myself: &ActorRef<Message>, group: GroupId, state: &mut State) {
        let failures = state.failures.entry(group).or_default();
        let pause: Duration = RESTART.0.saturating_mul(1 << (*failures).min(16));
        *failures += 1;
        self.context.metrics.raft.actor_restarts.inc();
        myself.send_after(pause.min(RESTART.1), move || Message::Restart(group));
    }
}
