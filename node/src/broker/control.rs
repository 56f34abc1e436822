//! Controller commands: proposed here if this node leads the controller, else sent to the node that does.
//! Owns blocks of producer ids. Invariant: what a caller is told is in this node's image already.
use std::time::Duration;

use bytes::Bytes;
use model::command::{Payload, Tag};
use model::controller::{self, AllocateProducerIds, Command, CreatedTopic, Image, Outcome};
use model::machine::Reply;
use model::{GroupId, limits};
use raft::ProposeError;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Broker, Error};
use crate::peer::link::Failure;
use crate::router::Router;
use crate::seams::Clock;

/// How long a command may take, election of a controller included.
const DEADLINE: Duration = Duration::from_secs(10);
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
        let mut repeated = false;
        loop {
            let attempt = timeout_at(deadline, self.attempt(encoded.clone())).await;
            match attempt.map_err(|_| Error::Timeout)? {
                Ok(mut reply) => {
                    self.catch_up(reply.version, deadline).await?;
                    if repeated {
                        own_creations(&self.image(), &command, &mut reply.outcome);
                    }
                    return Ok(reply);
                }
                Err(Attempt::Again) => {}
                Err(Attempt::Unknown(why)) => {
                    tracing::info!(why, "the outcome of a controller command is unknown");
                    if !may_repeat(&command) {
                        return Err(Error::Timeout);
                    }
                    repeated = true;
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
            return propose(&self.0.router, self.0.clock.as_ref(), encoded).await;
        }
        match self.0.peers.control(leader, encoded).await {
            Ok(reply) => storage::codec::decode(&reply, REPLY_BYTES_MAX).map_err(|e| Attempt::Unknown(e.to_string())),
            Err(Failure::Refused(words)) if words == NOT_LEADER => Err(Attempt::Again),
            Err(Failure::Unreachable(_)) => Err(Attempt::Again),
            Err(Failure::Refused(why) | Failure::Broken(why)) => Err(Attempt::Unknown(why)),
        }
    }

    async fn catch_up(&self, version: u64, deadline: Instant) -> Result<(), Error> {
        let mut image = self.image_watch();
        let reached = image.wait_for(|image| image.version >= version);
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
        Command::Found { .. }
        | Command::RegisterNode(_)
        | Command::UpdateNode(_)
        | Command::CreateTopics(_)
        | Command::AlterConfigs(_)
        | Command::AllocateProducerIds(_) => true,
        Command::DeleteTopics(_) | Command::CreatePartitions(_) | Command::IncrementalAlterConfigs(_) => false,
    }
}

/// A topic that exists already under the very id that the repeated command carries was created by its first attempt.
fn own_creations(image: &Image, command: &Command, outcome: &mut Outcome) {
    let (Command::CreateTopics(create), Outcome::Created(results)) = (command, outcome) else { return };
    for (wanted, result) in create.topics.iter().zip(results) {
        let Some(topic) = image.topic_by_id(wanted.id).filter(|_| result.is_err()) else { continue };
        let replication = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        *result = Ok(CreatedTopic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            replication: i16::try_from(replication).unwrap_or(i16::MAX),
        });
    }
}

fn stopping() -> Error {
    Error::Unavailable("the node is stopping".to_owned())
}

/// The leader's side of a forwarded command: the encoded reply, or why not in words.
///
/// # Errors
/// Not the leader (then nothing was done), or the outcome is unknown.
pub async fn serve(router: &Router, clock: &dyn Clock, encoded: Bytes) -> Result<Bytes, String> {
    match propose(router, clock, encoded).await {
        Ok(reply) => Ok(storage::codec::encode(&reply)),
        Err(Attempt::Again) => Err(NOT_LEADER.to_owned()),
        Err(Attempt::Unknown(why)) => Err(why),
    }
}

async fn propose(router: &Router, clock: &dyn Clock, encoded: Bytes) -> Result<controller::Reply, Attempt> {
    let group = router.controller().ok_or(Attempt::Again)?;
    let payload = Payload::command(Tag::Controller, clock.wall_ms(), encoded);
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
