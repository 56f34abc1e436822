//! Who leads: hands leaderships over on demand, whichever node is asked, and tells how far the members of a group are.
//! Never elects anybody who is not alive and in sync: a majority decides, so nothing that was acknowledged can be lost by it.
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::{GroupId, NodeId, ReplicaId};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::control::SPREAD;
use super::{Broker, PartitionRef};
use crate::peer::link::Failure;
use crate::peer::questions::{Answered, Member, Question, Quorum};
use crate::router::{Leadership, LocalPartition};

/// A leadership that is not handed over by then stays where it is, or goes where the members elect it.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How often it is looked whether this node knows of the new leader.
const LOOK: Duration = Duration::from_millis(10);

/// Why a leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// No such partition.
    #[error("no such topic or partition")]
    UnknownPartition,
    /// It is there already.
    #[error("node {0} leads it already")]
    NotNeeded(NodeId),
    /// Nobody leads, so nobody can hand anything over.
    #[error("it has no leader")]
    Leaderless,
    /// That node holds no replica that could lead now; the words say why.
    #[error("node {node} cannot lead it: {why}")]
    Ineligible {
        /// Who should have led.
        node: NodeId,
        /// In words.
        why: &'static str,
    },
    /// The leader did not answer, or refused in these words.
    #[error("it was not handed over: {0}")]
    Failed(String),
}

impl Broker {
    /// Makes the replica on `to` lead a partition, or its preferred leader if no node is given. Returns who leads once this
    /// node knows it.
    ///
    /// # Errors
    /// Why the leadership stays.
    pub async fn transfer(&self, partition: PartitionRef, to: Option<NodeId>) -> Result<NodeId, Unmoved> {
        let (group, to) = {
            let image = self.0.image.borrow();
            let topic = image.topic_by_id(partition.topic).ok_or(Unmoved::UnknownPartition)?;
            let placed = topic.partition(partition.index).ok_or(Unmoved::UnknownPartition)?;
            let preferred = || placed.wanted().next().map(ReplicaId::node);
            let to = to.or_else(preferred).ok_or(Unmoved::UnknownPartition)?;
            if !placed.wanted().any(|replica| replica.node() == to) {
                return Err(Unmoved::Ineligible { node: to, why: "it has no replica" });
            }
            (placed.group, to)
        };
        self.transfer_group(group, to).await?;
        Ok(to)
    }

    /// Makes the replica on `to` lead a group.
    ///
    /// # Errors
    /// Why the leadership stays.
    pub async fn transfer_group(&self, group: GroupId, to: NodeId) -> Result<(), Unmoved> {
        let before = self.0.router.leader(group);
        let leader = before.node.ok_or(Unmoved::Leaderless)?;
        if leader == to {
            return Err(Unmoved::NotNeeded(to));
        }
        if !self.is_alive(to) {
            return Err(Unmoved::Ineligible { node: to, why: "it is down" });
        }
        if self.behind(group).contains(&to) {
            return Err(Unmoved::Ineligible { node: to, why: "its replica is not in sync" });
        }
        let deadline = Instant::now() + HAND_OVER;
        let late = |_elapsed| Unmoved::Failed("not in time".to_owned());
        let asked = timeout_at(deadline, self.ask(leader, Question::HandOver { group, to })).await.map_err(late)?;
        asked.map_err(Unmoved::Failed)?;
        loop {
            let Leadership { node, term } = self.0.router.leader(group);
            match node {
                Some(now) if now == to => return Ok(()),
                Some(now) if now != leader && term > before.term => {
                    return Err(Unmoved::Failed(format!("node {now} was elected")));
                }
                _ if Instant::now() >= deadline => return Err(Unmoved::Failed("nobody else was elected".to_owned())),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// The members of a group, as its leader sees them; of the controller's group the node's own view if nobody leads.
    ///
    /// # Errors
    /// Nobody leads, or the leader does not answer; in words.
    pub async fn quorum(&self, group: GroupId) -> Result<Quorum, String> {
        let leader = self.0.router.leader(group).node.ok_or_else(|| Unmoved::Leaderless.to_string())?;
        match self.ask(leader, Question::Quorum(group)).await? {
            Answered::Quorum(quorum) => Ok(quorum),
            other => Err(format!("unexpected answer {other:?}")),
        }
    }

    pub(super) async fn ask(&self, node: NodeId, question: Question) -> Result<Answered, String> {
        if node == self.node_id() {
            return Box::pin(self.serve_question(question)).await;
        }
        match self.0.peers.ask(node, question.encode()).await {
            Ok(answer) => Answered::decode(&answer).map_err(|error| error.to_string()),
            Err(Failure::Unreachable(why) | Failure::Broken(why) | Failure::Refused(why)) => Err(why),
        }
    }

    /// Asks every node that lives, this one too; those that do not answer in time are left out.
    pub(super) async fn ask_all(&self, question: Question, within: Duration) -> Vec<Answered> {
        let nodes: Vec<NodeId> = self.image().nodes.keys().copied().filter(|node| self.is_alive(*node)).collect();
        let asked = nodes.into_iter().map(async |node| {
            let answer = timeout(within, self.ask(node, question.clone())).await;
            answer.map_err(|_elapsed| "not in time".to_owned()).flatten().map_err(|why| (node, why))
        });
        let answers = join_all(asked).await.into_iter();
        answers
            .filter_map(|answer| {
                answer.inspect_err(|(node, why)| tracing::info!(%node, why, ?question, "a node does not answer")).ok()
            })
            .collect()
    }

    /// Answers another member.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn serve_question(&self, question: Question) -> Result<Answered, String> {
        let raft = |group| self.raft(group).ok_or_else(|| format!("no replica of group {group} runs here"));
        match question {
            Question::HandOver { group, to } => {
                raft(group)?.transfer_leader(to).await.map_err(|error| error.to_string())?;
                Ok(Answered::HandedOver)
            }
            Question::Quorum(group) => members(&raft(group)?, self.node_id()).map(Answered::Quorum),
            Question::Sizes => {
                let size = |local: &Arc<LocalPartition>| (local.group(), self.0.reader.group_bytes(local.group()));
                Ok(Answered::Sizes(self.0.router.locals().iter().map(size).collect()))
            }
            Question::Places(asked) => Ok(Answered::Places(self.places(&asked).await)),
            Question::ConsumerGroups => Ok(Answered::ConsumerGroups(self.groups_coordinated_here().await)),
            Question::Connections => Ok(Answered::Connections(self.connections_here())),
            Question::Image(version) => {
                self.catch_up(version, Instant::now() + SPREAD).await.map_err(|error| error.to_string())?;
                Ok(Answered::Image)
            }
            Question::CloseConnection { name, why } => Ok(Answered::Closed(self.close_connection_here(&name, &why))),
            Question::Queues(of) => {
                let led = self.queues_led_here(of).into_iter();
                Ok(Answered::Queues(led.map(|(queue, standing)| (queue.partition_group, standing)).collect()))
            }
            Question::Rebalance { group, dry_run } => {
                self.rebalance_here(&group, dry_run).await.map(Answered::Rebalance).map_err(|denied| denied.to_string())
            }
        }
    }

    fn raft(&self, group: GroupId) -> Option<raft::Group> {
        match group {
            GroupId::CONTROLLER => self.0.router.controller(),
            _ => self.0.router.local(group).map(|local| local.raft().clone()),
        }
    }
}

/// What the leader on `me` knows of the members of its group.
fn members(raft: &raft::Group, me: NodeId) -> Result<Quorum, String> {
    let metrics = raft.metrics();
    let status = &metrics.status;
    if !status.leads() {
        return Err(format!("node {me} does not lead group {}", raft.id()));
    }
    let member = |votes| {
        let (metrics, own) = (&metrics, raft.replica());
        move |replica: &ReplicaId| {
            let is_own = *replica == own;
            let matched = if is_own { metrics.last } else { metrics.matched.get(replica).copied().flatten() };
            let heard = if is_own { Some(Duration::ZERO) } else { metrics.heard_ago.get(replica).copied().flatten() };
            let heard_ms_ago = heard.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            Member { node: replica.node(), votes, matched, heard_ms_ago, is_caught_up: matched == metrics.last }
        }
    };
    let voters = status.voters.iter().map(member(true));
    let members = voters.chain(status.learners.iter().map(member(false))).collect();
    Ok(Quorum { leader: me, term: status.term, committed: metrics.committed.unwrap_or(0), members })
}
