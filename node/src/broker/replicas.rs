//! Changes of replicas, carried out by the partition's leader: step by step towards what the image wants, from whatever members it
//! finds, so that a leader that dies leaves nothing to tidy up. `raft` decides the steps, `model::controller` what is wanted.
//! Invariants: a leader acts on no image older than its own election, else it could undo what an earlier one has finished; nothing is
//! wiped here: that follows from the image once the controller knows that the change is finished.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::controller::{
    AlterReplicas, Command, Image, Partition, Placing, ReplicaChange, ReportReplicas, Terms, Wanted,
};
use model::planted::{self, Bug};
use model::{GroupId, NodeId, ReplicaId};
use raft::{Goal, Step};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Broker, Error};
use crate::router::LocalPartition;

/// Between two looks at a change that is under way.
const TICK: Duration = Duration::from_millis(100);
/// How often quarantined replicas are looked for, and how many are replaced at a time.
const RENEW: Duration = Duration::from_secs(2);
const RENEWED_AT_ONCE: usize = 16;
/// A step that is not committed by then is looked at anew.
const STEP_MAX: Duration = Duration::from_secs(5);

impl Broker {
    /// Carries out the changes of all partitions that this node leads, for ever.
    pub async fn change_replicas(&self) {
        let mut image = self.image_watch();
        let mut known: BTreeMap<GroupId, u32> = BTreeMap::new();
        let mut attended: BTreeMap<GroupId, AbortHandle> = BTreeMap::new();
        let mut running = JoinSet::new();
        loop {
            let changing = changing(&image.borrow_and_update());
            for (group, revision) in &changing {
                let is_old = known.get(group) == Some(revision) && planted::is(Bug::ChangeForgotten);
                if !is_old && self.leads(*group) && !attended.contains_key(group) {
                    let (broker, group) = (self.clone(), *group);
                    attended.insert(group, running.spawn(async move { broker.attend(group).await }));
                }
            }
            known = changing;
            tokio::select! {
                Some(_ended) = running.join_next() => attended.retain(|_, attending| !attending.is_finished()),
                changed = image.changed() => if changed.is_err() { return },
                () = sleep(TICK), if !known.is_empty() => {}
            }
        }
    }

    /// Asks for a new replica in the place of each quarantined one of this node, for ever: while all others are well, since what
    /// a quarantined replica holds may be the last resort.
    pub async fn renew_replicas(&self) {
        loop {
            sleep(RENEW).await;
            let changes = self.renewable();
            if changes.is_empty() {
                continue;
            }
            tracing::warn!(replicas = changes.len(), "quarantined replicas are replaced by new ones from their peers");
            let what = Placing::AlterReplicas(AlterReplicas { changes, may_change_count: false });
            if let Err(error) = self.control(Command::Place { terms: Terms::default(), what }).await {
                tracing::info!(%error, "quarantined replicas are not replaced yet");
            }
        }
    }

    fn renewable(&self) -> Vec<ReplicaChange> {
        let (image, me, router) = (self.image(), self.node_id(), &self.0.router);
        let change = |group| {
            let (topic, index) = image.partition_of_group(group)?;
            let partition = topic.partition(index).filter(|partition| partition.is_on(me) && !partition.is_changing)?;
            let others = || partition.nodes().into_iter().filter(|node| *node != me);
            let well = |node: NodeId| router.is_alive(node) && !router.behind(group).contains(&node);
            let replaceable = router.leader(group).node.is_some() && others().all(well);
            let (topic, revision) = (topic.name.clone(), Some(partition.revision));
            replaceable.then_some(ReplicaChange { topic, index, revision, to: Wanted::Renewed(me) })
        };
        router.all_quarantined().into_iter().filter_map(change).take(RENEWED_AT_ONCE).collect()
    }

    fn leads(&self, group: GroupId) -> bool {
        self.0.router.local(group).is_some_and(|local| local.role().leads)
    }

    /// Carries out the change of one partition, until it is finished or another node leads.
    async fn attend(&self, group: GroupId) {
        let (mut confirmed, mut committed) = (None, 0);
        while let Some((local, partition)) = self.led_change(group) {
            let raft = local.raft();
            let term = raft.status_now().term;
            if confirmed != Some(term) {
                // Nobody is finished by that, but the image is new enough afterwards.
                if self.report(&partition, BTreeSet::new()).await.is_ok() {
                    confirmed = Some(term);
                }
                sleep(TICK).await;
                continue;
            }
            let goal = Goal { voters: partition.wanted().collect(), learners: BTreeSet::new() };
            match raft.plan(&goal, committed, |node| self.0.router.is_alive(node)) {
                Ok(Step::Done) => drop(self.report(&partition, goal.voters).await),
                Ok(Step::Wait(why)) => tracing::debug!(group = group.0, why, "a change of replicas waits"),
                Ok(step) => self.take(&local, &partition, step).await,
                Err(_deposed) => return,
            }
            committed = raft.metrics().committed.unwrap_or(0);
            sleep(TICK).await;
        }
    }

    /// The partition, while its replicas change and this node leads it.
    fn led_change(&self, group: GroupId) -> Option<(Arc<LocalPartition>, Partition)> {
        let local = self.0.router.local(group).filter(|local| local.role().leads)?;
        let image = self.0.image.borrow();
        let (topic, index) = image.partition_of_group(group)?;
        let partition = topic.partition(index).filter(|partition| partition.is_changing)?;
        Some((local, partition.clone()))
    }

    async fn take(&self, local: &LocalPartition, partition: &Partition, step: Step) {
        let (group, revision) = (partition.group.0, partition.revision);
        let (topic, index) = (&local.placement().topic, local.placement().index);
        match timeout(STEP_MAX, local.raft().take(step.clone())).await {
            Ok(Ok(())) => tracing::info!(group, %topic, %index, revision, ?step, "replicas change"),
            Ok(Err(error)) => {
                tracing::info!(group, %topic, %index, revision, ?step, %error, "replicas do not change yet")
            }
            Err(_elapsed) => tracing::info!(group, %topic, %index, revision, ?step, "replicas do not change in time"),
        }
    }

    async fn report(&self, partition: &Partition, voters: BTreeSet<ReplicaId>) -> Result<(), Error> {
        let Partition { group, revision, .. } = *partition;
        self.control(Command::ReportReplicas(ReportReplicas { group, revision, voters })).await.map(drop)
    }
}

/// The partitions whose replicas are being changed, and for which revision.
fn changing(image: &Image) -> BTreeMap<GroupId, u32> {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.is_changing).map(|p| (p.group, p.revision)).collect()
}
