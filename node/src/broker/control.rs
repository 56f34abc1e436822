//! Controller commands: proposed here if this node leads the controller, else sent to the node that does.
//! Owns blocks of producer ids. Invariant: what a caller is told is in this node's image already.
use std::time::Duration;

use bytes::Bytes;
use model::command::{Payload, Tag};
use model::controller::topology::TopologyChange;
use model::controller::{self, AllocateProducerIds, Command, Image, Outcome, Placing, Terms};
use model::machine::Reply;
use model::planted::{self, Bug};
use model::{GroupId, limits};
use raft::ProposeError;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Broker, Error};
use crate::peer::link::Failure;
use crate::peer::questions::Question;

/// How long a command may take, election of a controller included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a change of the topology waits for other nodes to know it.
pub(super) const SPREAD: Duration = Duration::from_millis(500);
/// Between two attempts to find the controller's leader.
const RETRY: Duration = Duration::from_millis(50);
/// An encoded reply, at most.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// What a node answers that does not lead the controller.
const NOT_LEADER: &str = "this node does not lead the controller";

/// How an attempt ended.
enum Attempt {
    /// Nothing was done: try again.
    Again,
    /// It may have been done.
    Unknown(String),
}

impl Broker {
    /// Runs a controller command on the controller's leader, wherever it is, and waits until this node's image has it.
    /// A command that may be repeated is, when its outcome was lost with a leader.
    ///
    /// # Errors
    /// No leader within the deadline, or the outcome is unknown. A refusal is in the reply.
    pub async fn control(&self, command: Command) -> Result<controller::Reply, Error> {
        let deadline = Instant::now() + DEADLINE;
        let encoded = storage::codec::encode(&command);
        loop {
            let attempt = timeout_at(deadline, self.attempt(encoded.clone())).await;
            match attempt.map_err(|_| Error::Timeout)? {
                Ok(reply) => {
                    self.catch_up(reply.version, deadline).await?;
                    return Ok(reply);
                }
                Err(Attempt::Again) => {}
                Err(Attempt::Unknown(why)) => {
                    tracing::info!(why, "the outcome of a controller command is unknown");
                    if !may_repeat(&command) {
                        return Err(Error::Timeout);
                    }
                }
            }
            if Instant::now() + RETRY >= deadline {
                return Err(Error::Timeout);
            }
            sleep(RETRY).await;
        }
    }

    async fn attempt(&self, encoded: Bytes) -> Result<controller::Reply, Attempt> {
        let leader = self.controller().ok_or(Attempt::Again)?;
        if leader == self.node_id() {
            return self.propose(encoded).await;
        }
        match self.0.peers.control(leader, encoded).await {
            Ok(reply) => storage::codec::decode(&reply, REPLY_BYTES_MAX).map_err(|e| Attempt::Unknown(e.to_string())),
            Err(Failure::Refused(words)) if words == NOT_LEADER => Err(Attempt::Again),
            Err(Failure::Unreachable(_)) => Err(Attempt::Again),
            Err(Failure::Refused(why) | Failure::Broken(why)) => Err(Attempt::Unknown(why)),
        }
    }

    /// The leader's side of a forwarded command: the encoded reply, or why not in words.
    ///
    /// # Errors
    /// Not the leader (then nothing was done), or the outcome is unknown.
    pub async fn serve_control(&self, encoded: Bytes) -> Result<Bytes, String> {
        match self.propose(encoded).await {
            Ok(reply) => Ok(storage::codec::encode(&reply)),
            Err(Attempt::Again) => Err(NOT_LEADER.to_owned()),
            Err(Attempt::Unknown(why)) => Err(why),
        }
    }

    async fn propose(&self, encoded: Bytes) -> Result<controller::Reply, Attempt> {
        let group = self.0.router.controller().ok_or(Attempt::Again)?;
        let command = storage::codec::decode::<Command>(&encoded, limits::ENTRY_BYTES_MAX);
        let command = command.map_err(|error| Attempt::Unknown(error.to_string()))?;
        let command = command.on(self.terms(&group.image().unwrap_or_default()));
        let body = storage::codec::encode(&command);
        let payload = Payload::command(Tag::Controller, self.0.clock.wall_ms(), body);
        match group.propose(vec![payload]).await.into_iter().next() {
            Some(Ok(proposed)) => match proposed.reply {
                Reply::Controller(reply) => Ok(reply),
                other => Err(Attempt::Unknown(format!("unexpected reply {other:?}"))),
            },
            Some(Err(ProposeError::NotLeader { .. } | ProposeError::Busy)) => Err(Attempt::Again),
            Some(Err(error)) => Err(Attempt::Unknown(error.to_string())),
            None => Err(Attempt::Unknown(format!("group {} gave no outcome", GroupId::CONTROLLER))),
        }
    }

    /// What this node, as the controller's leader, adds to a command that places replicas.
    fn terms(&self, image: &Image) -> Terms {
        let dead = image.nodes.keys().copied().filter(|node| self.0.router.is_given_up(*node)).collect();
        let replicas_per_node_max = u32::try_from(self.0.config.limits.partitions_max).unwrap_or(u32::MAX);
        Terms { dead, replicas_per_node_max }
    }

    /// Waits until the image of every node that lives has this version, but for nodes that do not answer within `SPREAD`. Who hears of a
    /// change from its maker may be a client of any node.
    pub(super) async fn spread(&self, version: u64) {
        let _known = self.ask_all(Question::Image(version), SPREAD).await;
    }

    pub(super) async fn catch_up(&self, version: u64, deadline: Instant) -> Result<(), Error> {
        let mut image = self.image_watch();
        let reached = image.wait_for(|image| image.version >= version || planted::is(Bug::ImageNotAwaited));
        timeout_at(deadline, reached).await.map_err(|_| Error::Timeout)?.map_err(|_| stopping())?;
        Ok(())
    }

    /// A fresh producer id with epoch 0.
    ///
    /// # Errors
    /// The controller cannot be reached for a new block.
    pub async fn producer_id(&self) -> Result<(i64, i16), Error> {
        let mut block = self.0.producer_ids.lock().await;
        if block.is_empty() {
            let allocate = AllocateProducerIds { node: self.node_id(), count: limits::PRODUCER_ID_BLOCK };
            let reply = self.control(Command::AllocateProducerIds(allocate)).await?;
            match reply.outcome {
                Outcome::ProducerIds(Ok(given)) => *block = given.first..given.first + given.count,
                Outcome::ProducerIds(Err(error)) => return Err(Error::Unavailable(error.to_string())),
                other => return Err(Error::Unavailable(format!("unexpected outcome {other:?}"))),
            }
        }
        block.next().map(|id| (id, 0)).ok_or_else(|| Error::Unavailable("an empty block of producer ids".to_owned()))
    }
}

/// Whether doing it twice is as good as once.
fn may_repeat(command: &Command) -> bool {
    match command {
        // What was deleted may be there again by then.
        Command::Topology(command) => !matches!(
            command.change,
            TopologyChange::DeleteQueue { topic: None, .. }
                | TopologyChange::DeleteExchange { .. }
                | TopologyChange::DropVhost
        ),
        Command::Found { .. }
        | Command::RegisterNode(_)
        | Command::UpdateNode(_)
        | Command::CreateTopics(_)
        | Command::AlterConfigs(_)
        | Command::AllocateProducerIds(_)
        | Command::ReportReplicas(_)
        | Command::UpdateFeatures(_)
        | Command::Operate(_)
        | Command::Place { what: Placing::AlterReplicas(_) | Placing::ReplaceStore(_), .. } => true,
        Command::DeleteTopics(_)
        | Command::CreatePartitions(_)
        | Command::IncrementalAlterConfigs(_)
        | Command::Place { .. } => false,
    }
}

fn stopping() -> Error {
    Error::Unavailable("the node is stopping".to_owned())
}
