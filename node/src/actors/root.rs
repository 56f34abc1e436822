//! The root actor: keeps the controller actor and exactly the partition actors that the image places on this node.
//! Owns their inboxes, which outlive a failed actor, so that nothing that waits is lost by its restart.
//! Invariant: one failure restarts one actor, after a pause that grows with failures in a row.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::controller::Image;
use model::planted::{self, Bug};
use model::{GroupId, ReplicaId};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};
use tokio::time::{Instant, timeout};

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
    /// What a replica whose actor failed had on disk is gone.
    Destroyed(GroupId, ReplicaId),
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
    image: Arc<Image>,
    /// What the disk held at the start and nobody has asked for yet.
    strays: BTreeMap<GroupId, ReplicaId>,
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

impl Child {
    fn new(assignment: Assignment) -> Self {
        Child { assignment, inbox: Arc::default(), actor: None, started: Instant::now(), ending: false }
    }
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
        let on_disk = self.context.groups.on_disk()?;
        let strays = on_disk.into_iter().filter(|(group, _)| group.is_partition()).collect();
        let mut state = State { controller, image: Arc::default(), strays, partitions, running, failures };
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
            Message::Image(image) => {
                // An image from before this data folder was registered names replicas that were lost with the one before:
                // to open such a one anew would be to forget what it has acknowledged.
                if image.nodes.get(&self.context.node).is_none_or(|me| me.store != self.context.store) {
                    return Ok(());
                }
                state.image = image;
                self.limit_catch_up(&state.image);
                self.follow(&myself, state);
                self.sweep(state);
            }
            Message::Destroyed(group, replica) => {
                state.partitions.retain(|of, child| *of != group || child.assignment.replica != replica);
                self.follow(&myself, state);
            }
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
        // Who waits for its turn to open does not get it.
        self.context.openings.close();
        let partitions: Vec<_> = state.partitions.values().filter_map(|child| child.actor.as_ref()).collect();
        partitions.iter().for_each(|actor| actor.stop(None));
        myself.stop_children_and_wait(None, Some(STOP)).await;
        // That waits for nobody who was told to stop before.
        let _in_time_or_not = timeout(STOP, join_all(partitions.iter().map(|actor| actor.wait(None)))).await;
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

    /// Starts what is placed here and does not run, ends what runs and is placed here no longer. A replica that takes the
    /// place of an earlier one on this node is started when that one is gone.
    fn follow(&self, myself: &ActorRef<Message>, state: &mut State) {
        let image = state.image.clone();
        let mut gone: BTreeSet<GroupId> = state.partitions.keys().copied().collect();
        for (topic, index, partition) in image.groups_of_node(self.context.node) {
            let Some(replica) = partition.replica_on(self.context.node) else { continue };
            if planted::is(Bug::WipedBeforeFinished) && partition.removing.contains(&replica) {
                continue;
            }
            state.strays.remove(&partition.group);
            match state.partitions.get(&partition.group) {
                Some(child) if child.assignment.replica == replica => drop(gone.remove(&partition.group)),
                Some(_earlier) => {}
                None => {
                    let placement = Placement { topic: topic.name.as_str().into(), id: topic.id, index };
                    let (group, founders) = (partition.group, partition.founders());
                    let kind = if topic.is_internal() { raft::Kind::Coordinator } else { raft::Kind::Partition };
                    let child = Child::new(Assignment { placement, group, kind, replica, founders });
                    state.partitions.insert(group, child);
                    self.start_partition(myself, group, state);
                }
            }
        }
        for group in gone {
            let Some(child) = state.partitions.get_mut(&group).filter(|child| !child.ending) else { continue };
            child.ending = true;
            if let Some(actor) = &child.actor {
                let _ended = actor.cast(PartitionMessage::Destroy);
            }
        }
    }

    /// Kafka's tools set this for the time of a reassignment, and take it away at its end.
    fn limit_catch_up(&self, image: &Image) {
        let asked = image.broker_value("leader.replication.throttled.rate", Some(self.context.node)).parse();
        self.context.groups.limit_catch_up(asked.ok().filter(|rate| *rate < i64::MAX as u64).unwrap_or(0));
    }

    /// Removes what the disk holds of replicas that were taken away while this node was down. An image that is older than such a
    /// replica says nothing about it.
    fn sweep(&self, state: &mut State) {
        let image = state.image.clone();
        let is_over = |group: GroupId, replica: ReplicaId| match image.partition_of_group(group) {
            None => group < image.next_group,
            Some((topic, index)) => {
                topic.partition(index).is_some_and(|partition| replica.revision() <= partition.revision)
            }
        };
        let over = |(group, replica): (&GroupId, &ReplicaId)| is_over(*group, *replica).then_some((*group, *replica));
        for (group, replica) in state.strays.iter().filter_map(over).collect::<Vec<_>>() {
            state.strays.remove(&group);
            tracing::info!(group = group.0, %replica, "removing what is left of a replica that was taken away");
            let groups = self.context.groups.clone();
            tokio::spawn(async move { destroy(&groups, group, replica).await });
        }
    }

    fn start_partition(&self, myself: &ActorRef<Message>, group: GroupId, state: &mut State) {
        let Some(child) = state.partitions.get_mut(&group) else { return };
        if child.actor.is_some() {
            return;
        }
        if child.ending {
            return self.destroy(myself, group, child.assignment.replica);
        }
        let failures = state.failures.get(&group).unwrap_or(&0);
        let name = format!("n{}/b{}/p{group}/{failures}", self.context.node, self.context.boot);
        let actor = Partition { context: self.context.clone(), inbox: child.inbox.clone() };
        match ActorRuntime::spawn_linked_instant(Some(name), actor, child.assignment.clone(), myself.get_cell()) {
            Ok((actor, started)) => {
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
            return self.follow(myself, state);
        }
        if let Some(child) = state.partitions.get_mut(&group).filter(|child| child.ending) {
            child.actor = None;
            self.destroy(myself, group, child.assignment.replica);
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
    fn destroy(&self, myself: &ActorRef<Message>, group: GroupId, replica: ReplicaId) {
        let (context, root) = (self.context.clone(), myself.clone());
        tokio::spawn(async move {
            destroy(&context.groups, group, replica).await;
            context.router.remove(group);
            context.metrics.raft.forget(group);
            let _stopping = root.cast(Message::Destroyed(group, replica));
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

async fn destroy(groups: &raft::Groups, group: GroupId, replica: ReplicaId) {
    if let Err(error) = groups.destroy(group, replica).await {
        tracing::error!(group = group.0, %replica, %error, "what a replica left on disk stays there");
    }
}
