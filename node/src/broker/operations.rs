//! Operations: long work that the controller's leader carries out, step by step, from what the image says; another leader goes on
//! where it finds things. Verbs to plan, begin, steer and watch them.
//! Bounded: `MOVES_AT_ONCE` partitions change at a time. Never decides where replicas may be: that is `model`.
use std::collections::BTreeSet;
use std::time::Duration;

use model::balance::{self, Move, Risk, Stay, Why};
use model::controller::operations::Standing;
use model::controller::{
    AlterReplicas, Command, Image, Operate, Operation, OperationKind, OperationState, Outcome, Placing, Progress,
    ReplicaChange, Terms, Wanted,
};
use model::planted::{self, Bug};
use model::{GroupId, NodeId, PartitionIndex, limits};
use tokio::time::{sleep, timeout};

use super::{Broker, Error};

/// Between two looks at the operations.
const LOOK: Duration = Duration::from_millis(250);
/// A leader that does not tell how far it is by then is not waited for.
const ANSWER: Duration = Duration::from_millis(500);
/// Partitions that change at a time, of all operations.
const MOVES_AT_ONCE: usize = 8;

/// Why an operation was not begun.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotBegun {
    /// Partitions would lose their majority.
    #[error("{} partition(s) would have no majority of replicas in sync", .0.len())]
    Quorum(Vec<Risk>),
    /// Replicas have no other place.
    #[error("{} replica(s) have no other place", .0.len())]
    NoPlace(Vec<Stay>),
    /// The node is still in use, in these ways.
    #[error("node {0} cannot be removed")]
    InUse(NodeId, Vec<String>),
    /// The controller refused it in these words.
    #[error("{0}")]
    Refused(String),
    /// No controller, or not in time.
    #[error(transparent)]
    Broker(#[from] Error),
}

impl Broker {
    /// Begins to level what nodes carry; nothing is begun if there is nothing to do.
    ///
    /// # Errors
    /// Why not.
    pub async fn rebalance(&self, leaders_only: bool) -> Result<Option<u64>, NotBegun> {
        let mut moves = self.plan_rebalance(leaders_only).await.moves;
        moves.truncate(limits::OPERATION_MOVES_MAX);
        match moves.is_empty() {
            true => Ok(None),
            false => self.begin(OperationKind::Rebalance, moves, 0).await.map(Some),
        }
    }

    /// Begins to move the replicas of one partition.
    ///
    /// # Errors
    /// Why not.
    pub async fn move_partition(&self, topic: &str, index: PartitionIndex, to: Vec<NodeId>) -> Result<u64, NotBegun> {
        let fleet = self.fleet().await;
        let piece = fleet.pieces.iter().find(|piece| piece.topic == topic && piece.index == index);
        let piece = piece.ok_or(Error::UnknownPartition)?;
        let copies = to.iter().filter(|node| !piece.replicas.contains(node)).count() as u64;
        let (from, bytes) = (piece.replicas.clone(), piece.bytes * copies);
        self.check_targets(&to)?;
        let one = Move { topic: topic.to_owned(), index, from, to, bytes };
        self.begin(OperationKind::Move, vec![one], 0).await
    }

    /// Takes all leaderships from a node, and gives it none until it is restored. With `dry_run` only checks.
    ///
    /// # Errors
    /// Why not: above all when its stop would cost a majority.
    pub async fn drain(&self, node: NodeId, dry_run: bool) -> Result<Option<u64>, NotBegun> {
        let risks = self.stop_risks(node).await;
        if !risks.is_empty() {
            return Err(NotBegun::Quorum(risks));
        }
        match dry_run {
            true => Ok(None),
            false => self.begin(OperationKind::Drain(node), Vec::new(), self.led_by(node)).await.map(Some),
        }
    }

    /// What leaves a node when it is decommissioned.
    ///
    /// # Errors
    /// The replicas that have no other place.
    pub async fn plan_leaving(&self, node: NodeId) -> Result<Vec<Move>, NotBegun> {
        let mut fleet = self.fleet().await;
        if let Some(carrier) = fleet.nodes.get_mut(&node) {
            (carrier.leaves, carrier.leads) = (true, false);
        }
        let plan = balance::plan_leaving(&fleet);
        let of_node = |stay: &Stay| {
            let piece = fleet.pieces.iter().find(|piece| (&piece.topic, piece.index) == (&stay.topic, stay.index));
            piece.is_some_and(|piece| piece.replicas.contains(&node)) && !matches!(stay.why, Why::Down(_))
        };
        let stays: Vec<Stay> = plan.stays.into_iter().filter(of_node).collect();
        if stays.is_empty() { Ok(plan.moves) } else { Err(NotBegun::NoPlace(stays)) }
    }

    /// Takes all replicas from a node.
    ///
    /// # Errors
    /// Why not.
    pub async fn decommission(&self, node: NodeId) -> Result<u64, NotBegun> {
        let mut moves = self.plan_leaving(node).await?;
        moves.truncate(limits::OPERATION_MOVES_MAX);
        self.begin(OperationKind::Decommission(node), moves, 0).await
    }

    /// Takes a decommissioned node out of the books that is dead and votes no more. With `dry_run` only checks.
    ///
    /// # Errors
    /// What stands against it, or no controller.
    pub async fn remove_node(&self, node: NodeId, dry_run: bool) -> Result<(), NotBegun> {
        let quorum = self.quorum(GroupId::CONTROLLER).await.map_err(Error::Unavailable)?;
        let mut against = self.image().stands_against_removal(node, self.0.router.is_given_up(node));
        // Who is decommissioned gets no vote again: what holds now holds when the controller decides.
        if quorum.members.iter().any(|member| member.node == node && member.votes) {
            against.push("it votes in the controller's group".to_owned());
        }
        if !against.is_empty() {
            return Err(NotBegun::InUse(node, against));
        }
        if dry_run {
            return Ok(());
        }
        let remove = Command::Place { terms: Terms::default(), what: Placing::RemoveNode(node) };
        match self.control(remove).await?.outcome {
            Outcome::Node(Ok(_)) => Ok(()),
            Outcome::Node(Err(refusal)) => Err(NotBegun::Refused(refusal.to_string())),
            other => Err(NotBegun::Refused(format!("unexpected outcome {other:?}"))),
        }
    }

    /// Lets a node serve again that was drained or decommissioned.
    ///
    /// # Errors
    /// It serves already, or no controller.
    pub async fn restore(&self, node: NodeId) -> Result<(), NotBegun> {
        self.operate(Operate::Restore(node)).await.map(drop)
    }

    /// Pauses, resumes or cancels an operation. What a cancelled one is copying goes back to where it was.
    ///
    /// # Errors
    /// There is none, it has ended, or no controller.
    pub async fn steer(&self, id: u64, to: OperationState) -> Result<(), NotBegun> {
        let before = self.image().operations.get(&id).cloned();
        let note = if to.is_end() { "on demand" } else { "" };
        self.operate(Operate::Steer { id, to, note: note.to_owned() }).await?;
        let (Some(operation), OperationState::Cancelled) = (before, to) else { return Ok(()) };
        let image = self.image();
        let copying = operation.left().filter(|(_, one)| image.standing(one) == Standing::Copying);
        let back = copying.map(|(_, one)| change(&image, one, Wanted::Before)).collect();
        drop(self.alter(back).await?);
        Ok(())
    }

    /// What the controller would refuse, said before anything is begun.
    fn check_targets(&self, to: &[NodeId]) -> Result<(), NotBegun> {
        let refuse = |words: String| Err(NotBegun::Refused(words));
        let image = self.image();
        let distinct: BTreeSet<&NodeId> = to.iter().collect();
        if to.is_empty() || distinct.len() < to.len() {
            return refuse("name each node once, and at least one".to_owned());
        }
        match to.iter().find(|node| !image.nodes.contains_key(node) || !self.is_alive(**node)) {
            Some(node) => refuse(format!("node {node} is not registered, or down")),
            None => Ok(()),
        }
    }

    /// How much of the log the new replicas of a move hold, if its leader tells.
    pub async fn copied_percent(&self, image: &Image, one: &Move) -> Option<u8> {
        let group = image.topic(&one.topic)?.partition(one.index)?.group;
        let quorum = timeout(ANSWER, self.quorum(group)).await.ok()?.ok()?;
        let new = quorum.members.iter().filter(|member| !one.from.contains(&member.node));
        let held = new.map(|member| member.matched.unwrap_or(0)).min().unwrap_or(0).min(quorum.committed);
        u8::try_from(held * 100 / quorum.committed.max(1)).ok()
    }

    async fn begin(&self, kind: OperationKind, moves: Vec<Move>, total: u32) -> Result<u64, NotBegun> {
        self.operate(Operate::Start { token: rand::random(), kind, moves, total }).await
    }

    async fn operate(&self, operate: Operate) -> Result<u64, NotBegun> {
        match self.control(Command::Operate(operate)).await?.outcome {
            Outcome::Operation(Ok(id)) => Ok(id),
            Outcome::Operation(Err(refusal)) => Err(NotBegun::Refused(refusal.to_string())),
            other => Err(NotBegun::Refused(format!("unexpected outcome {other:?}"))),
        }
    }

    /// Carries operations out while this node leads the controller, for ever.
    pub async fn run_operations(&self) {
        loop {
            sleep(LOOK).await;
            if self.controller() != Some(self.node_id()) {
                continue;
            }
            let image = self.image();
            let running = || image.open_operations().filter(|operation| operation.state == OperationState::Running);
            let copying = |operation: &Operation| {
                operation.left().filter(|(_, one)| image.standing(one) == Standing::Copying).count()
            };
            let mut free = MOVES_AT_ONCE.saturating_sub(running().map(|operation| copying(operation)).sum::<usize>());
            for operation in running() {
                let advanced = match operation.kind {
                    OperationKind::Drain(node) => self.advance_drain(operation, node).await,
                    _ => self.advance(&image, operation, &mut free).await,
                };
                if let Err(error) = advanced {
                    tracing::info!(operation = operation.id, %error, "an operation does not advance");
                }
            }
        }
    }

    /// A node that is drained hands its leaderships over itself; here they are only counted.
    async fn advance_drain(&self, operation: &Operation, node: NodeId) -> Result<(), NotBegun> {
        let left = self.led_by(node);
        if left == 0 || !self.is_alive(node) {
            return self.finish(operation, "it leads nothing".to_owned()).await;
        }
        let handed_over = Some(operation.total.saturating_sub(left));
        let note = format!("{left} leadership(s) left");
        self.record(operation, Progress { handed_over, note, ..Progress::default() }).await
    }

    async fn advance(&self, image: &Image, operation: &Operation, free: &mut usize) -> Result<(), NotBegun> {
        let mut progress = Progress::default();
        let mut begun = Vec::new();
        for (place, one) in operation.left() {
            match image.standing(one) {
                Standing::Done => drop(progress.done.insert(place)),
                Standing::Overtaken if planted::is(Bug::OvertakenAwaited) => {}
                Standing::Overtaken => {
                    progress.note = format!("{}-{} is left to another change", one.topic, one.index);
                    progress.done.insert(place);
                }
                Standing::Waiting | Standing::Copying if self.is_lost(one) => {
                    let fleet = self.fleet().await;
                    match balance::replace(&fleet, one, |node| !self.is_alive(node)) {
                        Some(to) => {
                            let moved = Move { to: to.clone(), ..one.clone() };
                            begun.push((place, change(image, &moved, Wanted::On(to.clone()))));
                            progress.changed.insert(place, to);
                        }
                        None => progress.note = format!("no living node could take {}-{}", one.topic, one.index),
                    }
                }
                Standing::Waiting if *free > 0 => {
                    *free -= 1;
                    begun.push((place, change(image, one, Wanted::On(one.to.clone()))));
                }
                Standing::Waiting | Standing::Copying => {}
            }
        }
        let (places, changes): (Vec<u32>, Vec<ReplicaChange>) = begun.into_iter().unzip();
        for (place, refused) in places.into_iter().zip(self.alter(changes).await?) {
            if let Some(words) = refused {
                progress.note = words;
                progress.changed.remove(&place);
            }
        }
        self.lead_as_wanted(operation, &progress.done).await;
        if operation.finished as usize + progress.done.len() < operation.total as usize {
            return self.record(operation, progress).await;
        }
        self.conclude(operation, progress).await
    }

    /// All that was planned is done: is that all there is?
    async fn conclude(&self, operation: &Operation, mut progress: Progress) -> Result<(), NotBegun> {
        if let OperationKind::Decommission(node) = operation.kind
            && self.image().is_used(node)
        {
            match self.plan_leaving(node).await {
                Ok(more) => progress.more = more,
                Err(why) => progress.note = why.to_string(),
            }
            return self.record(operation, progress).await;
        }
        self.record(operation, progress).await?;
        self.finish(operation, String::new()).await
    }

    /// Moves that are done are handed to their preferred leaders, as far as that succeeds.
    async fn lead_as_wanted(&self, operation: &Operation, done: &BTreeSet<u32>) {
        let image = self.image();
        let preferred = |place: &u32| {
            let one = operation.moves.get(*place as usize)?;
            let partition = image.topic(&one.topic)?.partition(one.index)?;
            Some((partition.group, partition.wanted().next()?.node()))
        };
        self.hand_over(done.iter().filter_map(preferred).collect::<Vec<_>>()).await;
    }

    /// Whether a node that shall get a replica has died.
    fn is_lost(&self, one: &Move) -> bool {
        one.to.iter().any(|node| !one.from.contains(node) && self.0.router.is_given_up(*node))
    }

    fn led_by(&self, node: NodeId) -> u32 {
        let led = self.nodes().into_iter().find(|report| report.id == node);
        led.map_or(0, |report| u32::try_from(report.leads).unwrap_or(u32::MAX) + u32::from(report.controller))
    }

    async fn record(&self, operation: &Operation, progress: Progress) -> Result<(), NotBegun> {
        let Progress { done, changed, more, handed_over, note, .. } = &progress;
        let counted = handed_over.is_some_and(|count| count != operation.finished);
        let is_news = !done.is_empty() || !changed.is_empty() || !more.is_empty() || counted || *note != operation.note;
        if is_news {
            self.operate(Operate::Progress(Progress { id: operation.id, ..progress })).await?;
        }
        Ok(())
    }

    async fn finish(&self, operation: &Operation, note: String) -> Result<(), NotBegun> {
        let (id, to) = (operation.id, OperationState::Finished);
        self.operate(Operate::Steer { id, to, note }).await.map(drop)
    }

    /// Asks for changes of replicas; of each the words of its refusal.
    async fn alter(&self, changes: Vec<ReplicaChange>) -> Result<Vec<Option<String>>, NotBegun> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let what = Placing::AlterReplicas(AlterReplicas { changes, may_change_count: true });
        match self.control(Command::Place { terms: Terms::default(), what }).await?.outcome {
            Outcome::Each(results) => Ok(results.into_iter().map(|one| one.err().map(|e| e.to_string())).collect()),
            other => Err(NotBegun::Refused(format!("unexpected outcome {other:?}"))),
        }
    }
}

/// A change that holds only if nobody has changed the placement since.
fn change(image: &Image, one: &Move, to: Wanted) -> ReplicaChange {
    let partition = image.topic(&one.topic).and_then(|topic| topic.partition(one.index));
    let revision = partition.map(|partition| partition.revision);
    ReplicaChange { topic: one.topic.clone(), index: one.index, revision, to }
}
