//! Consumer groups, asked by their protocol: finds the shard that coordinates a group, and its replica if that leads here.
//! Reads look at the replicated machine behind a proof of leadership; the rest goes to the shard's actor.
use std::sync::Arc;
use std::time::Duration;

use model::controller::internal::CONSUMER_OFFSETS;
use model::controller::{Command as Control, CreateTopics, NewTopic};
use model::coordinator::{Beaten, Code, Command, CoordinatorMachine, Group, Kind, Reply, Sync, Who};
use model::{GroupId, NodeId};
use tokio::time::{Instant, sleep, timeout};

use super::{Broker, GroupStanding, Rebalanced, random_topic_id};
use crate::peer::questions::{Answered, Question};
use crate::router::LocalPartition;
use crate::router::desk::{Beating, Denied, Joined, Joining, Synced, Visit};

/// How long making the shards, and finding their leaders, may take before the client is told to ask again.
const MAKING: Duration = Duration::from_secs(5);
/// Between two looks at whether a shard is led.
const LOOK: Duration = Duration::from_millis(10);
/// How long a quorum may take to confirm the leader that is read from.
const PROOF: Duration = Duration::from_secs(2);

/// Why a group was not made to rebalance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRebalanced {
    /// There is none.
    #[error("there is no such group")]
    Unknown,
    /// Nobody would notice.
    #[error("the group has no members: nobody could share its partitions anew")]
    Empty,
    /// The coordinator cannot be asked, or not now; in words.
    #[error("the group was not made to rebalance: {0}")]
    Failed(String),
}

impl Broker {
    /// The node that coordinates a group. The first to ask makes the shards.
    ///
    /// # Errors
    /// `Unavailable`: there are no shards yet, or nobody leads this one.
    pub async fn coordinator(&self, group: &str) -> Result<NodeId, Denied> {
        let deadline = Instant::now() + MAKING;
        if self.shard(group).is_none() {
            let _late = timeout(MAKING, self.make_shards()).await;
        }
        loop {
            let leader = self.shard(group).and_then(|shard| self.leader(shard).node);
            match leader {
                Some(leader) => return Ok(leader),
                None if Instant::now() >= deadline || self.shard(group).is_none() => return Err(Denied::Unavailable),
                None => sleep(LOOK).await,
            }
        }
    }

    /// Several may ask at once: one topic is made, and the others find it.
    async fn make_shards(&self) {
        let _one = self.0.groups.making.lock().await;
        if self.image().topic(CONSUMER_OFFSETS).is_some() {
            return;
        }
        let topics = vec![NewTopic::named(CONSUMER_OFFSETS, random_topic_id())];
        let create = Control::CreateTopics(CreateTopics { topics, validate_only: false, auto: false });
        if let Err(error) = self.control(create).await {
            tracing::info!(%error, "the coordinator shards are not made yet");
        }
    }

    fn shard(&self, group: &str) -> Option<GroupId> {
        let image = self.0.image.borrow();
        let (topic, index) = image.shard_of(group)?;
        Some(image.topic_by_id(topic)?.partition(index)?.group)
    }

    fn coordinated(&self, group: &str) -> Result<Arc<LocalPartition>, Denied> {
        let shard = self.shard(group).ok_or(Denied::NotCoordinator)?;
        self.0.router.local(shard).filter(|local| local.role().is_leader).ok_or(Denied::NotCoordinator)
    }

    /// A member joins; waits for the generation.
    ///
    /// # Errors
    /// As [`Denied`] says.
    pub async fn join_group(&self, joining: Joining) -> Result<Joined, Denied> {
        let local = self.coordinated(&joining.join.who.group)?;
        let desk = local.desk().ok_or(Denied::NotCoordinator)?;
        desk.visit(|told| Visit::Join(joining, told)).await
    }

    /// A member asks for its assignment, or brings everybody's; waits for it.
    ///
    /// # Errors
    /// As [`Denied`] says.
    pub async fn sync_group(&self, sync: Sync) -> Result<Synced, Denied> {
        let local = self.coordinated(&sync.who.group)?;
        let desk = local.desk().ok_or(Denied::NotCoordinator)?;
        desk.visit(|told| Visit::Sync(sync, told)).await
    }

    /// A member lives.
    ///
    /// # Errors
    /// As [`Denied`] says.
    pub async fn group_heartbeat(&self, who: Who) -> Result<(), Denied> {
        let local = self.coordinated(&who.group)?;
        let desk = local.desk().ok_or(Denied::NotCoordinator)?;
        desk.visit(|told| Visit::Heartbeat(who, told)).await
    }

    /// A member of the consumer protocol lives, joins, leaves or has given partitions up. Gives its id too.
    ///
    /// # Errors
    /// As [`Denied`] says.
    pub async fn consumer_heartbeat(&self, beating: Beating) -> Result<(String, Beaten), Denied> {
        let local = self.coordinated(&beating.beat.who.group)?;
        let desk = local.desk().ok_or(Denied::NotCoordinator)?;
        desk.visit(|told| Visit::Beat(beating, told)).await
    }

    /// Runs a command of a group and waits until it is committed.
    ///
    /// # Errors
    /// As [`Denied`] says, but for the group's own refusal, which is in the reply.
    pub async fn group_command(&self, group: &str, command: Command) -> Result<Reply, Denied> {
        let local = self.coordinated(group)?;
        let desk = local.desk().ok_or(Denied::NotCoordinator)?;
        desk.visit(|told| Visit::Run(command, told)).await
    }

    /// Makes a group rebalance, whichever node coordinates it. With `dry_run` only says how it stands.
    ///
    /// # Errors
    /// Why not.
    pub async fn rebalance_group(&self, group: &str, dry_run: bool) -> Result<Rebalanced, NotRebalanced> {
        let shard = self.shard(group).ok_or(NotRebalanced::Unknown)?;
        let late = || NotRebalanced::Failed("its coordinator is not known, or does not answer in time".to_owned());
        let coordinator = self.leader(shard).node.ok_or_else(late)?;
        let question = Question::Rebalance { group: group.to_owned(), dry_run };
        let asked = timeout(MAKING, self.ask(coordinator, question)).await.map_err(|_elapsed| late())?;
        match asked.map_err(NotRebalanced::Failed)? {
            Answered::Rebalance(Ok(rebalanced)) => Ok(rebalanced),
            Answered::Rebalance(Err(Code::GroupIdNotFound)) => Err(NotRebalanced::Unknown),
            Answered::Rebalance(Err(Code::UnknownMemberId)) => Err(NotRebalanced::Empty),
            other => Err(NotRebalanced::Failed(format!("unexpected answer {other:?}"))),
        }
    }

    /// The same of a group that is coordinated here; inside, the group's own refusal.
    pub(super) async fn rebalance_here(&self, group: &str, dry_run: bool) -> Result<Result<Rebalanced, Code>, Denied> {
        let before = match self.read_group(group, |group| group.map(standing)).await? {
            None => return Ok(Err(Code::GroupIdNotFound)),
            Some(before) if before.members == 0 => return Ok(Err(Code::UnknownMemberId)),
            Some(before) => before,
        };
        if dry_run {
            return Ok(Ok(Rebalanced { after: before.clone(), before }));
        }
        if let Reply::Done(Err(code)) = self.group_command(group, Command::Rebalance(group.to_owned())).await? {
            return Ok(Err(code));
        }
        let after = self.read_group(group, |group| group.map(standing)).await?;
        Ok(after.map(|after| Rebalanced { before, after }).ok_or(Code::GroupIdNotFound))
    }

    /// Reads a group, if it exists, as of everything that was committed before.
    ///
    /// # Errors
    /// `NotCoordinator`, `Loading`, `Unavailable`.
    pub async fn read_group<R>(&self, group: &str, read: impl FnOnce(Option<&Group>) -> R) -> Result<R, Denied> {
        let local = self.coordinated(group)?;
        confirm(&local).await?;
        local.raft().coordinator(|machine| read(machine.group(group))).ok_or(Denied::NotCoordinator)
    }

    /// Reads every shard that this node leads.
    ///
    /// # Errors
    /// `Loading`, `Unavailable`: of one of them.
    pub async fn read_shards<R>(&self, mut read: impl FnMut(&CoordinatorMachine) -> R) -> Result<Vec<R>, Denied> {
        let mut all = Vec::new();
        for local in self.0.router.locals() {
            if local.desk().is_none() || !local.role().is_leader {
                continue;
            }
            confirm(&local).await?;
            all.extend(local.raft().coordinator(&mut read));
        }
        Ok(all)
    }
}

fn standing(group: &Group) -> GroupStanding {
    let (generation, members) = match &group.kind {
        Kind::Classic(classic) => (classic.generation, classic.members.len()),
        Kind::Consumer(consumer) => (consumer.epoch, consumer.members.len()),
    };
    GroupStanding { state: group.kind.state().to_owned(), generation, members }
}

/// Whether the replica leads, by the word of a quorum, and knows all that was committed.
async fn confirm(local: &LocalPartition) -> Result<(), Denied> {
    if !local.raft().knows_end() {
        return Err(Denied::Loading);
    }
    match timeout(PROOF, local.raft().linearize()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(raft::ProposeError::NotLeader { .. } | raft::ProposeError::Lost { .. })) => Err(Denied::NotCoordinator),
        Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
    }
}
