//! The front of a coordinator shard: whoever speaks for a member of a group queues here, and the shard's actor answers.
//! Bounded by `VISITS_MAX`; the bytes are those of client requests, which the listener's budget bounds until they are answered.
//! Reads need no visit: they look at the replicated machine themselves.
use model::assign::Assignor;
use model::coordinator::{Beat, Beaten, Code, Command, Join, Reply, Share, Sync, Who};
use tokio::sync::{mpsc, oneshot};

/// Visits that wait for the actor's next turn.
const VISITS_MAX: usize = 4096;

/// Why a group's request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Another node coordinates the group; what was asked may have been done by a leader that is none any more.
    #[error("this node does not coordinate the group")]
    NotCoordinator,
    /// This node has just become the coordinator and learns what was committed.
    #[error("the coordinator is loading")]
    Loading,
    /// Nobody can, at this moment.
    #[error("the coordinator is not available")]
    Unavailable,
    /// The member is to come again under this id (KIP-394).
    #[error("the member needs an id")]
    MemberIdRequired(String),
    /// The expression of topic names is none, in words.
    #[error("{0}")]
    BadPattern(String),
    /// The group refuses.
    #[error(transparent)]
    Refused(#[from] Code),
}

/// Where an answer goes.
pub type Told<T> = oneshot::Sender<Result<T, Denied>>;

/// A member that wants to join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What it says. Its id is empty if it has none yet; whether it is new is for the actor to find out.
    pub join: Join,
    /// Whether a new member without an instance id is told its id first, and joins with that.
    pub comes_again: bool,
}

/// A heartbeat of the consumer protocol as it came: what the member subscribes to is for the actor to look up.
#[derive(Clone, Debug)]
pub struct Beating {
    /// What it says, without subscription and topics. A member that has no id yet gets one.
    pub beat: Beat,
    /// Topic names; `None`: as before.
    pub names: Option<Vec<String>>,
    /// A regular expression of topic names; empty: none any more; `None`: as before.
    pub pattern: Option<String>,
    /// How the group should assign; `None`: as before.
    pub assignor: Option<Assignor>,
}

/// A member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// Such as `consumer`.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: String,
    /// The leader need not assign (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member: String,
    /// For the leader: everybody's id, instance id and metadata.
    pub members: Vec<(String, Option<String>, Vec<u8>)>,
}

/// A member's part of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Such as `consumer`.
    pub protocol_type: Option<String>,
    /// The protocol that was chosen.
    pub protocol: Option<String>,
    /// What it may read.
    pub share: Share,
}

/// What is asked.
pub enum Visit {
    /// JoinGroup: answered when the generation is made.
    Join(Joining, Told<Joined>),
    /// SyncGroup: answered when the leader has assigned.
    Sync(Sync, Told<Synced>),
    /// Heartbeat: answered at once.
    Heartbeat(Who, Told<()>),
    /// ConsumerGroupHeartbeat: answered as soon as it is committed, at once if it changes nothing. With the member's id.
    Beat(Beating, Told<(String, Beaten)>),
    /// Anything that is answered as soon as it is committed.
    Run(Command, Told<Reply>),
}

/// The queue's front end; cheap to clone.
#[derive(Clone)]
pub struct Desk(mpsc::Sender<Visit>);

impl Desk {
    /// A desk, and the queue that its actor takes visits from.
    pub fn new() -> (Self, mpsc::Receiver<Visit>) {
        let (sender, visits) = mpsc::channel(VISITS_MAX);
        (Self(sender), visits)
    }

    /// Queues a visit and waits for its answer.
    ///
    /// # Errors
    /// As the actor answers; `Unavailable` when the queue is full or the actor is gone.
    pub async fn visit<T>(&self, visit: impl FnOnce(Told<T>) -> Visit) -> Result<T, Denied> {
        let (told, answer) = oneshot::channel();
        self.0.try_send(visit(told)).map_err(|_| Denied::Unavailable)?;
        answer.await.unwrap_or(Err(Denied::Unavailable))
    }
}
