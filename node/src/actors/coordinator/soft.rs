//! What a coordinator knows of its groups and replicates nowhere: who waits, until when a member's session lasts, when a phase
//! of a rebalance ends. A new coordinator begins with full sessions and phases, as Kafka's does.
//! Invariant: whoever waits or has a session has an alarm, or is answered by the next change of its group.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::coordinator::{Phase, Who};
use tokio::time::Instant;

use crate::router::desk::{Joined, Synced, Told};

/// What is known of one group.
#[derive(Default)]
pub struct Soft {
    /// By member id.
    pub sessions: BTreeMap<String, Session>,
    /// Who waits for the generation, by member id.
    pub joins: BTreeMap<String, Waiting<Joined>>,
    /// Who waits for its assignment, by member id.
    pub syncs: BTreeMap<String, Waiting<Synced>>,
    /// Members of the consumer protocol that have to give partitions up, and until when.
    pub revoking: BTreeMap<String, Instant>,
    /// Members of the classic protocol in a group of the consumer protocol that were told to fetch their assignment, and until when.
    pub fetching: BTreeMap<String, Instant>,
    /// When the phase of a rebalance ends.
    pub turn: Option<Turn>,
}

/// How long a member may be silent.
pub struct Session {
    /// It is expired then.
    pub deadline: Instant,
    /// Its session timeout.
    pub timeout: Duration,
    /// It is no member yet: it was told this id and will come again (KIP-394).
    pub promised: bool,
}

/// A request that waits.
pub struct Waiting<T> {
    /// Who asked.
    pub who: Who,
    /// Where the answer goes.
    pub told: Told<T>,
}

/// The end of a phase.
pub struct Turn {
    /// The phase, and the generation in which it began.
    pub of: (Phase, i32),
    /// When it ends.
    pub due: Instant,
    /// A group that gathers members waits no longer than this, however many come.
    pub last: Instant,
    /// Members when the wait began, or was last prolonged.
    pub size: usize,
}

impl Soft {
    /// Whether a member waits for an answer, and its connection lives: then it need not beat.
    pub fn waits(&self, member: &str) -> bool {
        let joins = self.joins.get(member).is_some_and(|waiting| !waiting.told.is_closed());
        joins || self.syncs.get(member).is_some_and(|waiting| !waiting.told.is_closed())
    }
}

/// What may be due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A member's session.
    Session(String, String),
    /// A member that has to give partitions up.
    Revocation(String, String),
    /// A member that has to fetch its assignment.
    Fetch(String, String),
    /// A group's phase.
    Turn(String),
    /// Looking for offsets that nobody needs.
    Retention,
}

/// The alarms, soonest first. One that rings looks whether its reason is still there, so that none is ever taken back.
#[derive(Default)]
pub struct Alarms(BTreeSet<(Instant, Alarm)>);

impl Alarms {
    /// Rings at `at`.
    pub fn set(&mut self, at: Instant, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    /// When the next one rings.
    pub fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next one that is due.
    pub fn due(&mut self, now: Instant) -> Option<Alarm> {
        match self.next() {
            Some(at) if at <= now => self.0.pop_first().map(|(_, alarm)| alarm),
            _ => None,
        }
    }
}
