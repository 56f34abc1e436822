//! Whether one replica sleeps, and the switch of its ticks. Owns the switch: ticks change with the state, under its lock, so that
//! nobody who is awake can be without them. The decisions are `quiesce`'s.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{GroupId, ReplicaId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::quiesce::{self, Around, Eyes, Pact};
use crate::types::{Position, Raft};

/// Who woke stays awake for so long at least: a round of heartbeats, and no hot loop where somebody refuses to sleep.
const AWAKE_MIN: Duration = Duration::from_millis(500);
/// A leader without a quorum tells the others to be awake so often.
const ALARM: Duration = Duration::from_secs(1);

/// The state of one replica.
#[derive(Default)]
pub(crate) struct Rest {
    inner: Mutex<Inner>,
    /// Told when it falls asleep or wakes.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// A leader's last entry, and since when there is no newer one.
    idle: Option<(Position, Instant)>,
    /// The lease of a leader that slept is over: its next entry needs a round of heartbeats first.
    stale: bool,
    woken: Option<Instant>,
    alarmed: Option<Instant>,
}

#[derive(Default)]
enum State {
    #[default]
    Awake,
    /// A leader without ticks that waits for the others to say that they sleep.
    Asking(Pact),
    Asleep(Sleep),
}

struct Sleep {
    pact: Pact,
    eyes: Eyes,
    /// Whether what is around was looked at since it fell asleep.
    checked: bool,
    /// Since when something is not as it was.
    disturbed: Option<Instant>,
}

impl Sleep {
    fn new(pact: Pact, eyes: Eyes) -> State {
        State::Asleep(Sleep { pact, eyes, checked: false, disturbed: None })
    }
}

impl Rest {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_awake(&self) -> bool {
        matches!(self.inner().state, State::Awake)
    }

    /// Awake, and not since a moment ago: an entry may be proposed without asking a quorum first.
    pub(crate) fn is_roused(&self) -> bool {
        let inner = self.inner();
        matches!(inner.state, State::Awake) && !inner.stale
    }

    /// The pact of one that sleeps or is about to.
    pub(crate) fn pact(&self) -> Option<Pact> {
        match &self.inner().state {
            State::Awake => None,
            State::Asking(pact) | State::Asleep(Sleep { pact, .. }) => Some(*pact),
        }
    }

    /// The pact of one that sleeps.
    pub(crate) fn asleep(&self) -> Option<Pact> {
        match &self.inner().state {
            State::Asleep(sleep) => Some(sleep.pact),
            State::Awake | State::Asking(_) => None,
        }
    }

    /// When it woke last.
    pub(crate) fn woken(&self) -> Option<Instant> {
        self.inner().woken
    }

    /// Switches the ticks on, if they are off. Whether they were.
    pub(crate) fn wake(&self, raft: &Raft) -> bool {
        let mut inner = self.inner();
        if matches!(inner.state, State::Awake) {
            return false;
        }
        inner.state = State::Awake;
        inner.woken = Some(Instant::now());
        raft.runtime_config().tick(true);
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// A quorum has answered its leader since it woke.
    pub(crate) fn refreshed(&self) {
        let mut inner = self.inner();
        inner.stale &= !matches!(inner.state, State::Awake);
    }

    /// Whether the leader's last entry is `last` for as long as `after`.
    pub(crate) fn is_idle(&self, last: Position, after: Duration) -> bool {
        let mut inner = self.inner();
        let since = match inner.idle {
            Some((seen, since)) if seen == last => since,
            _ => Instant::now(),
        };
        inner.idle = Some((last, since));
        let rested = inner.woken.is_none_or(|woken| woken.elapsed() >= AWAKE_MIN);
        matches!(inner.state, State::Awake) && rested && since.elapsed() >= after
    }

    /// The leader switches its ticks off and asks the others. False if it is not awake.
    pub(crate) fn ask(&self, raft: &Raft, pact: Pact) -> bool {
        let mut inner = self.inner();
        let awake = matches!(inner.state, State::Awake);
        if awake {
            inner.state = State::Asking(pact);
            inner.stale = true;
            raft.runtime_config().tick(false);
        }
        awake
    }

    /// All others sleep under the pact that was asked for. False if something has happened since.
    pub(crate) fn agreed(&self, pact: Pact, eyes: Eyes) -> bool {
        let mut inner = self.inner();
        let asking = matches!(inner.state, State::Asking(asked) if asked == pact);
        if asking {
            inner.state = Sleep::new(pact, eyes);
        }
        drop(inner);
        self.changed.notify_one();
        asking
    }

    /// A follower sleeps.
    pub(crate) fn follow(&self, raft: &Raft, pact: Pact, eyes: Eyes) {
        let mut inner = self.inner();
        inner.state = Sleep::new(pact, eyes);
        inner.stale = true;
        raft.runtime_config().tick(false);
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether a sleeper has to wake for what is `around` it, which has `changed` or not; a follower whose leader is gone waits for
    /// its `turn` first.
    pub(crate) fn has_to_wake(
        &self,
        (group, me): (GroupId, ReplicaId),
        (around, changed): (&Around, bool),
        turn: impl FnOnce(ReplicaId) -> Duration,
    ) -> bool {
        let mut inner = self.inner();
        let State::Asleep(sleep) = &mut inner.state else { return false };
        let known = std::mem::replace(&mut sleep.checked, true);
        if known && !changed && sleep.disturbed.is_none() {
            return false;
        }
        if !quiesce::disturbed(group, me, &sleep.pact, &sleep.eyes, around) {
            sleep.disturbed = None;
            return false;
        }
        let since = *sleep.disturbed.get_or_insert_with(Instant::now);
        sleep.pact.leader == me || since.elapsed() >= turn(sleep.pact.leader)
    }

    /// Whether the others have not been told lately that this leader has lost its quorum; they are told now.
    pub(crate) fn alarms(&self) -> bool {
        let mut inner = self.inner();
        let due = inner.alarmed.is_none_or(|at| at.elapsed() >= ALARM);
        if due {
            inner.alarmed = Some(Instant::now());
        }
        due
    }
}
