//! Whether one replica sleeps, and the switch of its ticks. Owns the switch: ticks change with the state, under its lock, so that
//! nobody who is awake can be without them. The decisions are `quiesce`'s.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{GroupId, ReplicaId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::quiesce::{self, Around, Eyes, Pact};
use crate::types::{Position, Raft};

/// Who woke stays awake for so long at least: a round of heartbeats, and no hot loop where somebody refuses to sleep.
const AWAKE_MIN: Duration = Duration::from_millis(500);
/// How long a leader stays awake that nobody asks for anything.
const UNUSED: Duration = Duration::from_millis(200);
/// A leader without a quorum tells the others to be awake so often.
const ALARM: Duration = Duration::from_secs(1);

/// The replicas of a node that somebody has to look at again: who sleeps well is not among them.
#[derive(Default)]
pub(crate) struct Restless(Mutex<BTreeSet<GroupId>>);

impl Restless {
    fn groups(&self) -> MutexGuard<'_, BTreeSet<GroupId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, group: GroupId) {
        self.groups().insert(group);
    }

    /// All of them, for somebody who looks now, and puts back who stays restless.
    pub(crate) fn take(&self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.groups())
    }
}

/// The state of one replica.
pub(crate) struct Rest {
    group: GroupId,
    restless: Arc<Restless>,
    resumed: Option<u64>,
    inner: Mutex<Inner>,
    /// Told when it falls asleep or wakes.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// A leader's last entry, and since when there is no newer one.
    idle: Option<(Position, Instant)>,
    /// Something was proposed in the term of that entry.
    used: bool,
    /// When it was asked for an entry last.
    asked: Option<Instant>,
    /// The lease of a leader that slept is over: its next entry needs a round of heartbeats first.
    stale: bool,
    woken: Option<Instant>,
    /// The last entry that has arrived from a leader.
    seen: Option<Position>,
    alarmed: Option<Instant>,
    /// The term in which this leader handed its place over: it is silent from then on, so the others must not sleep for it.
    handed_over: Option<u64>,
}

#[derive(Default)]
enum State {
    #[default]
    Awake,
    /// A leader without ticks that waits for the others to say that they sleep.
    Asking(Pact),
    Asleep(Sleep),
}

/// How a replica sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleeps {
    /// It does not.
    No,
    /// Until something changes.
    Well,
    /// Something has changed, and its turn is not yet.
    Badly,
    /// It has to wake.
    Up,
}

struct Sleep {
    pact: Pact,
    eyes: Eyes,
    /// Since when something is not as it was.
    disturbed: Option<Instant>,
}

impl State {
    fn asleep(pact: Pact, eyes: Eyes) -> Self {
        State::Asleep(Sleep { pact, eyes, disturbed: None })
    }
}

impl Rest {
    /// Of a replica that is awake. One that led in the term `resumed` before its node restarted goes on in it, and may have been
    /// deposed meanwhile: it has to hear from a quorum first, as if it had slept.
    pub(crate) fn new(group: GroupId, restless: Arc<Restless>, resumed: Option<u64>) -> Self {
        restless.insert(group);
        let inner = Mutex::new(Inner { stale: resumed.is_some(), ..Inner::default() });
        Self { group, restless, resumed, inner, changed: Notify::new() }
    }

    /// Whether the leader of `term` was not elected since its node started: no quorum has said so far that it leads.
    pub(crate) fn is_resumed(&self, term: u64) -> bool {
        self.resumed == Some(term)
    }

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
        self.restless.insert(self.group);
        self.changed.notify_one();
        true
    }

    /// A quorum has answered its leader since it woke.
    pub(crate) fn refreshed(&self) {
        let mut inner = self.inner();
        inner.stale &= !matches!(inner.state, State::Awake);
    }

    /// The leader of `term` hands its place over.
    pub(crate) fn hands_over(&self, term: u64) {
        self.inner().handed_over = Some(term);
    }

    /// Whether the leader of `term` has handed its place over, and nobody has taken it yet.
    pub(crate) fn has_handed_over(&self, term: u64) -> bool {
        self.inner().handed_over == Some(term)
    }

    /// The leader is asked for an entry: it does not fall asleep before its raft has seen it. Whether it may propose at once.
    pub(crate) fn proposes(&self) -> bool {
        let mut inner = self.inner();
        inner.used = true;
        inner.asked = Some(Instant::now());
        matches!(inner.state, State::Awake) && !inner.stale
    }

    /// Whether the leader's last entry is `last` for as long as `after`. Nobody needs to be waited for who has not asked for anything
    /// in this term: thousands that were elected at once go to sleep again at once.
    pub(crate) fn is_idle(&self, last: Position, after: Duration) -> bool {
        let mut inner = self.inner();
        let since = match inner.idle {
            Some((seen, since)) if seen == last => since,
            Some((seen, _)) if seen.term == last.term => Instant::now(),
            _ => {
                inner.used = false;
                Instant::now()
            }
        };
        inner.idle = Some((last, since));
        let after = if inner.used { after } else { after.min(UNUSED) };
        let rested = inner.woken.is_none_or(|woken| woken.elapsed() >= AWAKE_MIN);
        matches!(inner.state, State::Awake) && rested && since.elapsed() >= after
    }

    /// The leader switches its ticks off and asks the others. False if it is not awake, or was asked for an entry a moment ago.
    pub(crate) fn ask(&self, raft: &Raft, pact: Pact) -> bool {
        let mut inner = self.inner();
        let unasked = inner.asked.is_none_or(|asked| asked.elapsed() >= AWAKE_MIN);
        let awake = matches!(inner.state, State::Awake) && unasked;
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
            inner.state = State::asleep(pact, eyes);
        }
        drop(inner);
        self.changed.notify_one();
        asking
    }

    /// An entry has arrived, and the raft may not have looked at it yet.
    pub(crate) fn saw(&self, last: Position) {
        let mut inner = self.inner();
        inner.seen = inner.seen.max(Some(last));
    }

    /// A follower sleeps. False if an entry that the pact does not know of has arrived.
    pub(crate) fn follow(&self, raft: &Raft, pact: Pact, eyes: Eyes) -> bool {
        let mut inner = self.inner();
        if inner.seen > Some(pact.last) {
            return false;
        }
        inner.state = State::asleep(pact, eyes);
        inner.stale = true;
        raft.runtime_config().tick(false);
        drop(inner);
        self.restless.insert(self.group);
        self.changed.notify_one();
        true
    }

    /// What becomes of a sleeper by what is `around` it; a follower whose leader is gone waits for its `turn` first.
    pub(crate) fn sleeps(&self, me: ReplicaId, around: &Around, turn: impl FnOnce(ReplicaId) -> Duration) -> Sleeps {
        let mut inner = self.inner();
        let State::Asleep(sleep) = &mut inner.state else { return Sleeps::No };
        if !quiesce::disturbed(self.group, me, &sleep.pact, &sleep.eyes, around) {
            sleep.disturbed = None;
            return Sleeps::Well;
        }
        let since = *sleep.disturbed.get_or_insert_with(Instant::now);
        if sleep.pact.leader == me || since.elapsed() >= turn(sleep.pact.leader) { Sleeps::Up } else { Sleeps::Badly }
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
