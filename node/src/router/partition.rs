//! One replica of a topic partition that runs on this node: its raft, its queue of appends, who waits for news of it.
//! Owns the read cursors: where in the log recent readers stopped, so that the next read need not search.
//! Never appends, never reads the log itself.
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{GroupId, NodeId, PartitionIndex, TopicId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cursors::Cursors;
use super::desk::Desk;
use super::inbox::Inbox;
use super::lag::Lag;
use crate::metrics::TopicTraffic;

/// Which partition a replica is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Topic name.
    pub topic: Arc<str>,
    /// Topic id.
    pub id: TopicId,
    /// Partition number.
    pub index: PartitionIndex,
}

/// What a replica is to its group, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The Raft term: the leader epoch.
    pub term: u64,
    /// Whether it is the leader.
    pub is_leader: bool,
    /// Whether it may serve clients as the leader: a quorum answers it.
    pub leads: bool,
}

impl Role {
    /// The short form of a status.
    pub fn of(status: &raft::Status) -> Self {
        Self { leader: status.leader, term: status.term, is_leader: status.is_leader, leads: status.leads() }
    }
}

/// A running replica.
pub struct LocalPartition {
    placement: Placement,
    raft: raft::Group,
    status: watch::Receiver<raft::Status>,
    traffic: TopicTraffic,
    inbox: Arc<Inbox>,
    desk: Option<Desk>,
    pulse: watch::Sender<u64>,
    cursors: Mutex<Cursors>,
    lag: Mutex<(Lag, BTreeSet<NodeId>)>,
}

impl LocalPartition {
    /// The replica of `placement` behind `raft`, fed through `inbox`.
    pub fn new(placement: Placement, raft: raft::Group, inbox: Arc<Inbox>, traffic: TopicTraffic) -> Self {
        let status = raft.status();
        let (pulse, cursors, lag) = (watch::Sender::new(0), Mutex::default(), Mutex::default());
        Self { placement, raft, status, traffic, inbox, desk: None, pulse, cursors, lag }
    }

    /// It is a coordinator shard, asked through this desk.
    pub fn with_desk(self, desk: Desk) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// Its Raft group.
    pub fn group(&self) -> GroupId {
        self.raft.id()
    }

    /// Which partition it is of.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Its raft.
    pub fn raft(&self) -> &raft::Group {
        &self.raft
    }

    /// The counters of its topic.
    pub fn traffic(&self) -> &TopicTraffic {
        &self.traffic
    }

    /// Where appends wait for it.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Where a coordinator shard is asked; `None` of a log.
    pub fn desk(&self) -> Option<&Desk> {
        self.desk.as_ref()
    }

    /// Its role now.
    pub fn role(&self) -> Role {
        Role::of(&self.status.borrow())
    }

    /// Looks which replicas were not at the end of this leader's log for longer than `max`; whether they are others than before.
    pub fn look_at_lag(&self, max: Duration) -> bool {
        let mut lag = self.lag();
        let before = lag.1.clone();
        // Who sleeps has said that it holds all that its leader has; its answers are not counted meanwhile.
        lag.1 = match self.role().is_leader && !self.raft.is_asleep() {
            true => lag.0.look(&self.raft.metrics(), Instant::now(), max),
            false => {
                lag.0 = Lag::default();
                BTreeSet::new()
            }
        };
        lag.1 != before
    }

    /// Nodes whose replica was not in sync at the last look, if this node led then as it does now.
    pub fn behind(&self) -> BTreeSet<NodeId> {
        let term = self.role().term;
        let lag = self.lag();
        if lag.0.is_of(term) { lag.1.clone() } else { BTreeSet::new() }
    }

    fn lag(&self) -> MutexGuard<'_, (Lag, BTreeSet<NodeId>)> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all that wait for news: new records, a new leader, the end of the replica.
    pub fn pulse(&self) {
        self.pulse.send_modify(|count| *count += 1);
    }

    /// Follows the news.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Remembers that the entry at `index` begins with `offset`.
    pub fn remember(&self, offset: i64, index: u64) {
        self.cursors().remember(offset, index);
    }

    /// The nearest remembered (offset, index) at or below `offset`.
    pub fn recall(&self, offset: i64) -> Option<(i64, u64)> {
        self.cursors().recall(offset)
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
