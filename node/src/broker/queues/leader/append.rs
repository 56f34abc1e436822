//! Messages and dead letters on the leader of their queue: bounded, stamped with what they say of themselves, and queued for the
//! partition in the order of the calls.
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use model::controller::topology::Overflow;
use model::cursor::{LetterNote, Note, Once};
use model::machine::AppendError;
use model::planted::{self, Bug};
use tokio::sync::oneshot;

use super::Handle;
use crate::broker::Broker;
use crate::peer::queues::{DeadLetter, Heard, Saying, Unpublished};
use crate::router::{AppendJob, Committed, Refused};

/// A message that is taken.
enum Taken {
    /// It came before, and is in the log.
    Known,
    /// It is queued for the partition.
    Queued {
        outcome: oneshot::Receiver<Result<Committed, Refused>>,
        bytes: usize,
        /// It goes to dead letters, and its publisher hears that the queue is full.
        surplus: bool,
    },
}

impl Handle {
    /// How many messages the queue takes now, if it refuses any. What is on its way is not counted: it may become a little longer.
    fn room(&self, now_ms: i64) -> u64 {
        let refuses = self.rules().overflow != Overflow::DropHead;
        let Some(max) = self.length_max().filter(|_| refuses) else { return u64::MAX };
        let held = self.cursor(|cursor| cursor.counts(now_ms).ready).unwrap_or_default();
        max.saturating_sub(held.saturating_sub(self.shown().taken))
    }

    /// Whether a message that the queue is too full for goes to dead letters.
    fn buries(&self, saying: &Saying) -> bool {
        let arguments = self.rules();
        let may = arguments.overflow == Overflow::RejectPublishDlx && arguments.dead_letter_exchange.is_some();
        may && !saying.is_kept
    }

    fn heeds_keys(&self) -> bool {
        self.rules().dedup_ms.is_some()
    }

    /// Whether the message came before: whoever leads now, it is committed.
    fn knows(&self, saying: &Saying, now_ms: i64) -> bool {
        let key = saying.key.filter(|_| self.heeds_keys());
        key.is_some_and(|key| self.local.raft().partition(|machine| machine.knows(key, now_ms)).unwrap_or_default())
    }

    /// What a message says of itself, by the rules of this queue at this time. Only what publishers send comes once: a dead letter that
    /// comes back is no repetition.
    fn note(&self, saying: &Saying, now_ms: i64, letter: Option<LetterNote>) -> Note {
        let arguments = self.rules();
        let priority = arguments.max_priority.and_then(|max| Some(saying.priority?.min(max)));
        let delay = saying.delay_ms.filter(|delay| *delay > 0);
        let ttl = arguments.message_ttl_ms.into_iter().chain(saying.ttl_ms).min();
        let ttl = ttl.map(|ttl| if planted::is(Bug::ExpiryEarly) { ttl / 2 } else { ttl });
        let not_before = delay.map(|delay| now_ms.saturating_add(delay));
        let expires_at = ttl.map(|ttl| not_before.unwrap_or(now_ms).saturating_add(ttl.max(0)));
        let window = arguments.dedup_ms.filter(|_| letter.is_none());
        let once = window.zip(saying.key).map(|(window, key)| Once { until: now_ms.saturating_add(window), key });
        Note { ordinal: 0, priority, not_before, expires_at, letter, once, surplus: false }
    }
}

impl Broker {
    /// Appends messages to the queue that is led here; they are queued when this returns.
    pub(in crate::broker::queues) fn publish_here(
        &self,
        handle: &Arc<Handle>,
        sayings: &[Saying],
        batches: Vec<Bytes>,
    ) -> BoxFuture<'static, Heard> {
        let now_ms = self.0.clock.wall_ms();
        let mut room = handle.room(now_ms);
        let mut keys = BTreeSet::new();
        let mut comes_again = false;
        let outcomes = sayings.iter().zip(batches).map(|(saying, batch)| {
            if handle.knows(saying, now_ms) {
                return Ok(Taken::Known);
            }
            // One that is a repetition of one before it here needs no room: whoever applies it leaves it out.
            let is_again = saying.key.is_some_and(|key| keys.contains(&key)) && handle.heeds_keys();
            let surplus = room == 0 && !is_again;
            if !surplus && !is_again {
                room -= 1;
                keys.extend(saying.key);
            }
            if surplus && !handle.buries(saying) {
                return Err(Unpublished::Full);
            }
            // Those behind one that is sent again come again too, in their order.
            if comes_again {
                return Err(Unpublished::NotHere);
            }
            let note = handle.note(saying, now_ms, None);
            let note = if surplus { Note { once: note.once, surplus, ..Note::default() } } else { note };
            let queued = self.queue_up(handle, batch, note);
            comes_again = matches!(queued, Err(Unpublished::NotHere));
            queued
        });
        published(handle, outcomes.collect())
    }

    /// The same with dead letters of other queues, which a full queue takes too: they have nowhere else to go.
    pub(in crate::broker::queues) fn take_letters(
        &self,
        handle: &Arc<Handle>,
        letters: &[DeadLetter],
        batches: Vec<Bytes>,
    ) -> BoxFuture<'static, Heard> {
        let outcomes = letters.iter().zip(batches).map(|(letter, batch)| {
            let DeadLetter { source, number, lowest, saying } = *letter;
            let note = handle.note(&saying, self.0.clock.wall_ms(), Some(LetterNote { source, number, lowest }));
            self.queue_up(handle, batch, note)
        });
        published(handle, outcomes.collect())
    }

    fn queue_up(&self, handle: &Arc<Handle>, batch: Bytes, note: Note) -> Result<Taken, Unpublished> {
        if !handle.is_open() {
            return Err(Unpublished::NotHere);
        }
        if self.is_disk_full() {
            return Err(Unpublished::Failed("the disk of the leader is full".to_owned()));
        }
        let image = self.image();
        let topic = image.topic_by_id(handle.queue.topic);
        let stamp = topic.is_some_and(|topic| image.is_log_append_time(topic, Some(self.node_id())));
        let bytes = batch.len();
        let admission = self.0.budget.admit(bytes).ok_or(Unpublished::NotHere)?;
        let (reply, outcome) = oneshot::channel();
        let surplus = note.surplus;
        let note = (note != Note::default()).then_some(note);
        handle.local.inbox().push(AppendJob { batches: vec![batch], note, stamp, bytes, admission, reply });
        Ok(Taken::Queued { outcome, bytes, surplus })
    }
}

fn published(handle: &Arc<Handle>, outcomes: Vec<Result<Taken, Unpublished>>) -> BoxFuture<'static, Heard> {
    let handle = handle.clone();
    Box::pin(async move {
        let each = outcomes.into_iter().map(async |taken| {
            let Taken::Queued { outcome, bytes, surplus } = taken? else { return Ok(()) };
            if planted::is(Bug::ConfirmBeforeQuorum) {
                return Ok(());
            }
            let is_new = judge(outcome.await.unwrap_or(Err(Refused::Unknown(None))))?;
            if surplus && is_new {
                return Err(Unpublished::Full);
            }
            if is_new {
                handle.local.traffic().produced_bytes.inc_by(bytes as u64);
                handle.local.traffic().produced_records.inc();
            }
            Ok(())
        });
        Heard::Published(join_all(each).await)
    })
}

/// What a message's gateway is told; else whether the message was appended, or was in the log.
fn judge(outcome: Result<Committed, Refused>) -> Result<bool, Unpublished> {
    match outcome {
        Ok(committed) => Ok(committed.base_offset >= 0),
        Err(Refused::NotLeader(_) | Refused::Busy) => Err(Unpublished::NotHere),
        Err(Refused::Rejected(AppendError::EarlyLetter)) => Err(Unpublished::Early),
        Err(Refused::Rejected(AppendError::QueueFull)) => Err(Unpublished::Full),
        Err(Refused::Rejected(error)) => Err(Unpublished::Failed(error.to_string())),
        Err(Refused::Unknown(_)) => Err(Unpublished::Failed("its leader went while it was appended".to_owned())),
        Err(Refused::Stopped(why)) => Err(Unpublished::Failed(why)),
    }
}
