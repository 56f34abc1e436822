//! Bugs to plant, one at a time, to see whether the simulation finds them. Without the feature `planted` every `is` is a constant
//! false and nothing is left of it; with it, `sim --planted NAME` chooses one bug for the whole process.
//! Invariant: a hook is one expression at the place where the bug would really be made, and changes nothing by itself.

macro_rules! bugs {
    ($($name:ident = $text:literal,)*) => {
        /// A bug, and which incident or default it stands for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $(#[doc = $text] $name,)*
        }

        impl Bug {
            /// Every bug, in the order of the table.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];

            /// What it does, in words.
            pub const fn text(self) -> &'static str {
                match self { $(Bug::$name => $text,)* }
            }

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$name => stringify!($name),)* }
            }
        }
    };
}

bugs! {
    AcknowledgeBeforeSync = "log entries are confirmed before they are synced (the default of Kafka and of NATS JetStream)",
    LeaderRestore = "a restarted leader leads on in its old term (openraft's default; loses data with a lost unsynced tail)",
    DigestIgnored = "as LeaderRestore, and replicas do not compare the digests of their logs, so that nothing stops them",
    VotesUnkept = "a voter says yes to everybody and writes nothing down: two leaders in one term, and leaders with short logs",
    VoteNotSynced = "a vote counts before it is synced (hard state not synced: the classic mistake of Raft implementations)",
    CommitWithoutQuorum = "a follower that does not answer counts as one that did (Kafka 0.8: ISR shrinks to the leader)",
    HighWatermarkAhead = "followers take everything they are sent for committed and apply it",
    FailedSyncAcknowledged = "a failed sync is taken for a success (fsyncgate, PostgreSQL 2018)",
    DroppedTruncation = "what a new leader overrules stays on the follower's disk (KIP-101: logs diverge without truncation)",
    PurgeByDefault = "a partition purges its log as openraft does by default, whoever still reads it",
    TablesAheadOfApplied = "the applied id is stored less often than the tables, and nobody compares them at a start",
    ProducersNotRestored = "sequences of idempotent producers are not read back after a restart (Redpanda 21.10: duplicates)",
    EpochsNotStored = "leader epochs are not stored, so that a restarted replica answers OffsetForLeaderEpoch wrongly (KIP-279)",
    SkippedDedup = "a retried batch of an idempotent producer is appended again",
    DuplicateWrongOffset = "a retried batch is answered with the offset of the next one (Redpanda 21.10: inconsistent offsets)",
    ProducerIdsReused = "every node is given the same block of producer ids",
    GroupReused = "a new partition gets the Raft group of one that was deleted, and with it the old replica ids and logs",
    WipedDiskVotes = "a node with an empty disk is taken back under its old id, its votes and entries forgotten",
    EndBeforeOwnTerm = "a new leader says where the log ends before it has applied an entry of its own term",
    EndWithoutQuorum = "a leader says where the log ends without asking a quorum whether it still leads (stale lease read)",
    ImageNotAwaited = "a metadata command is answered before the answering node has applied it",
    CreationForgotten = "a creation repeated after a lost answer is reported as a topic that exists already",
    PurgePastReader = "a replica purges up to its newest checkpoint, whoever still reads below it (the log start is not asked)",
    SnapshotWithoutProducers = "the checkpoint that a new replica gets lacks the producers (retries are appended again after failover)",
    RetentionBoundary = "retention deletes one segment more than the limit allows (off by one at the boundary)",
    SessionForgetsChange = "a fetch session leaves out a partition whose high watermark the client knows, with the records it has not had",
    SessionKeepsOffset = "a fetch session goes on from the offset it began with, whatever the client asks for then",
    SleepUnasked = "a leader and its followers fall asleep whatever their logs hold, committed or not",
    DeathUnnoticed = "a sleeping replica does not notice that its leader's node has died or restarted",
    SleepThroughEntries = "entries and heartbeats do not wake a sleeping replica",
    PurgeBeforeMoved = "as soon as a compaction has begun, the log is purged as if all that lives had been moved",
    MoveKeepsOldest = "compaction keeps the oldest record of a key in place of the newest",
    CheckpointForgetsMoves = "the checkpoint that a new replica gets does not say how far compaction had come",
    LearnerNotCaughtUp = "a new replica votes before it holds anything (openraft's add_learner returns early; etcd before learners)",
    ChangeForgotten = "a change of replicas is attended to only by whoever led the partition when it was asked for (a stuck reassignment)",
    WipedBeforeFinished = "a replica is wiped when its removal is asked for, not when it is finished",
    ReplicaIdReused = "a replica that comes back to a node gets the id it had there before its disk was wiped (Raft ids are for ever)",
    OvertakenAwaited = "an operation waits for a move though somebody has moved the partition elsewhere, or deleted it (stuck for ever)",
    ZombieCommit = "a commit counts whatever generation its member is of (zombies move cursors)",
    DoubleOwner = "whoever asks before the leader has assigned is given what it had in the generation before",
    OwnerNotAwaited = "a partition is given to its next member before the last one has given it up (KIP-848)",
    LostRebalance = "a member that dies or leaves begins no rebalance: what it had has no owner",
    CommitUncommitted = "a commit of offsets is answered before it is committed",
    InstanceNotFenced = "a static member's older life may go on beside the new one (KIP-345 without fencing)",
    DeadLetterOnce = "a dead letter counts as sent when it was sent, arrived or not (at most once: the default of RabbitMQ's quorum queues)",
    DeadLetterAgain = "a queue takes a dead letter as often as it is sent (at least once, as brokers have it that republish)",
    PublishedAgain = "a message that shall come once is appended as often as it is published (RabbitMQ's queues)",
    UnackedOrphaned = "what a consumer had when it went is given to nobody else (RabbitMQ 15473: unacknowledged for ever)",
    FailuresForgotten = "how often a message failed is known to the leader only, and the next one begins at none",
    ConfirmBeforeQuorum = "a publish is confirmed when its leader has taken it, before a majority has it",
    SettledBeforeCommit = "a gateway forgets an acknowledgement when the leader has heard it, before it is committed",
    PriorityInverted = "messages of the lowest priority are delivered first",
    ExpiryEarly = "messages expire after half of their time",
    LostWakeUp = "readers that wait are not told of new records (liveness)",
}

impl Bug {
    /// The bug of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "planted")]
static CHOSEN: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Plants `bug` in this process; a second choice is ignored.
#[cfg(feature = "planted")]
pub fn plant(bug: Bug) {
    let _chosen_once = CHOSEN.set(bug);
}

/// Whether `bug` is planted.
#[cfg(feature = "planted")]
pub fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(&bug)
}

/// Whether `bug` is planted: never, without the feature.
#[cfg(not(feature = "planted"))]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_bugs() {
        assert!(Bug::ALL.iter().all(|bug| Bug::named(bug.name()) == Some(*bug) && !bug.text().is_empty()));
        assert_eq!(Bug::named("NoSuchBug"), None);
    }

    #[test]
    #[cfg(not(feature = "planted"))]
    fn nothing_is_planted_by_default() {
        assert!(!Bug::ALL.iter().any(|bug| is(*bug)));
    }
}
