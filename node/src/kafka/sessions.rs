//! The fetch sessions of a node (KIP-227): which request goes on with which session, and how many there may be.
//! Bounds: sessions and partitions of all sessions together. When they are met, a new session takes the place of one that
//! was not used for `EVICT_AFTER`, or of a smaller one that has lived for so long; else its client does without, which
//! costs both sides only the listing of all partitions in every request and answer.
//! Invariant: the epoch of a session is raised when a request is accepted, so that none is answered twice.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wire::kafka::ErrorCode;
use wire::kafka::fetch_writer::FetchedPartition;
use wire::kafka::messages::FetchRequest;

use crate::metrics::{FetchKind, Sessions as Gauges};

mod session;
#[cfg(test)]
mod tests;

use session::Session;
pub use session::{Key, Wanted};

/// Kafka's `min.incremental.fetch.session.eviction.ms`.
const EVICT_AFTER: Duration = Duration::from_secs(120);
/// "No session": the id of requests and answers without one.
const NONE: i32 = 0;
/// Asks for a session; ends the one it names.
const EPOCH_NEW: i32 = 0;
/// Asks for none; ends the one it names.
const EPOCH_FINAL: i32 = -1;
/// The epoch of the first request that goes on with a session.
const EPOCH_FIRST: i32 = 1;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sessions.
    pub sessions: usize,
    /// Partitions of all of them together.
    pub partitions: usize,
}

/// All sessions of a node.
pub struct Sessions {
    bounds: Bounds,
    gauges: Gauges,
    cache: Mutex<Cache>,
}

/// A request that was accepted.
#[derive(Debug)]
pub struct Accepted {
    course: Course,
    /// What to read, in this order.
    pub wanted: Vec<Wanted>,
}

/// What comes of the session in the answer.
#[derive(Debug)]
enum Course {
    /// There is none.
    Without,
    /// One is made of this.
    Begin { session: Session, by_id: bool },
    /// It goes on.
    GoOn(i32),
}

/// A session and its book-keeping.
struct Entry {
    session: Session,
    epoch: i32,
    by_id: bool,
    created: Instant,
    used: Instant,
    /// Its partitions, as counted in the cache.
    size: usize,
}

#[derive(Default)]
struct Cache {
    entries: BTreeMap<i32, Entry>,
    /// Least recently used first.
    by_use: BTreeSet<(Instant, i32)>,
    /// Those that have lived for `EVICT_AFTER` when they were last used, smallest first.
    by_size: BTreeSet<(usize, i32)>,
    partitions: usize,
}

impl Sessions {
    /// None so far.
    pub fn new(bounds: Bounds, gauges: Gauges) -> Self {
        Self { bounds, gauges, cache: Mutex::default() }
    }

    /// Accepts a request; `by_id` where topics are named by id.
    ///
    /// # Errors
    /// The session is not there (any more), the request is not its next one, or it names topics in the other way.
    pub fn accept(&self, request: &FetchRequest, by_id: bool) -> Result<Accepted, ErrorCode> {
        let mut cache = self.lock();
        let accepted = match request.session_epoch {
            EPOCH_NEW | EPOCH_FINAL => Ok(cache.begin(request, by_id)),
            _ => cache.go_on(request, by_id, self.bounds, Instant::now()),
        };
        self.gauges.show(cache.entries.len(), cache.partitions);
        let accepted = accepted?;
        self.gauges.accepted(match accepted.course {
            Course::Without => FetchKind::Sessionless,
            Course::Begin { .. } => FetchKind::Full,
            Course::GoOn(_) => FetchKind::Incremental,
        });
        Ok(accepted)
    }

    /// Turns what was read, one answer for each partition wanted and in that order, into what is told: the session id and
    /// the partitions that the client must hear of.
    pub fn answer(&self, accepted: Accepted, read: Vec<FetchedPartition>) -> (i32, Vec<(Key, FetchedPartition)>) {
        let keys = accepted.wanted.into_iter().map(|wanted| wanted.key);
        let mut answers: Vec<_> = keys.zip(read).collect();
        let id = match accepted.course {
            Course::Without => NONE,
            Course::Begin { mut session, by_id } => {
                for (key, answer) in &answers {
                    session.tell(key, answer);
                }
                self.keep(session, by_id)
            }
            Course::GoOn(id) => {
                let mut cache = self.lock();
                // One that ended meanwhile tells everything; its next request is refused.
                if let Some(entry) = cache.entries.get_mut(&id) {
                    answers.retain(|(key, answer)| entry.session.tell(key, answer));
                }
                id
            }
        };
        (id, answers)
    }

    /// The id under which the session is kept, or none.
    fn keep(&self, session: Session, by_id: bool) -> i32 {
        let (size, now) = (session.len(), Instant::now());
        let mut cache = self.lock();
        let before = cache.entries.len();
        let fits = size > 0 && cache.make_room(size, self.bounds, now);
        self.gauges.evicted(before - cache.entries.len());
        let id = if fits { cache.insert(session, by_id, now) } else { NONE };
        self.gauges.show(cache.entries.len(), cache.partitions);
        id
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// A request that lists everything: whatever session it names is over.
    fn begin(&mut self, request: &FetchRequest, by_id: bool) -> Accepted {
        self.remove(request.session_id);
        let wanted = Wanted::all(request);
        if request.session_epoch == EPOCH_FINAL {
            return Accepted { course: Course::Without, wanted };
        }
        let mut session = Session::default();
        session.update(request);
        // One that lists a partition twice is answered once.
        Accepted { wanted: session.wanted(), course: Course::Begin { session, by_id } }
    }

    /// A request that lists changes only.
    fn go_on(
        &mut self,
        request: &FetchRequest,
        by_id: bool,
        bounds: Bounds,
        now: Instant,
    ) -> Result<Accepted, ErrorCode> {
        let id = request.session_id;
        let entry = self.entries.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if entry.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if entry.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        entry.session.update(request);
        if entry.session.len() == 0 {
            self.remove(id);
            return Ok(Accepted { course: Course::Without, wanted: Wanted::all(request) });
        }
        entry.epoch = entry.epoch.checked_add(1).unwrap_or(EPOCH_FIRST);
        let wanted = entry.session.wanted();
        if self.partitions - entry.size + wanted.len() > bounds.partitions {
            // It has outgrown the bound: its client begins anew, and gets a session if there is room for one.
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.touch(id, now);
        Ok(Accepted { course: Course::GoOn(id), wanted })
    }

    /// Notes a use of the session, and its size.
    fn touch(&mut self, id: i32, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.by_use.remove(&(entry.used, id));
        self.by_size.remove(&(entry.size, id));
        self.partitions -= entry.size;
        (entry.used, entry.size) = (now, entry.session.len());
        self.partitions += entry.size;
        self.by_use.insert((now, id));
        if now - entry.created > EVICT_AFTER {
            self.by_size.insert((entry.size, id));
        }
    }

    fn insert(&mut self, session: Session, by_id: bool, now: Instant) -> i32 {
        // Random, so that a client of an earlier life of this node never meets a session that is not its own.
        let drawn = std::iter::repeat_with(|| rand::random::<i32>() & i32::MAX);
        let fresh = |id: &i32| *id != NONE && !self.entries.contains_key(id);
        let id = drawn.into_iter().find(fresh).unwrap_or(NONE);
        let entry = Entry { session, epoch: EPOCH_FIRST, by_id, created: now, used: now, size: 0 };
        self.entries.insert(id, entry);
        self.touch(id, now);
        id
    }

    fn remove(&mut self, id: i32) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.by_use.remove(&(entry.used, id));
        self.by_size.remove(&(entry.size, id));
        self.partitions -= entry.size;
    }

    /// Evicts until one more session of `size` partitions fits. Returns whether it does.
    fn make_room(&mut self, size: usize, bounds: Bounds, now: Instant) -> bool {
        while self.entries.len() >= bounds.sessions || self.partitions + size > bounds.partitions {
            match self.evictable(size, now) {
                Some(id) if size <= bounds.partitions => self.remove(id),
                _ => return false,
            }
        }
        true
    }

    /// Whom a new session of `size` partitions may replace, as in Kafka.
    fn evictable(&self, size: usize, now: Instant) -> Option<i32> {
        let (used, oldest) = *self.by_use.first()?;
        if now - used > EVICT_AFTER {
            return Some(oldest);
        }
        self.by_size.first().filter(|(least, _)| *least <= size).map(|(_, id)| *id)
    }
}
