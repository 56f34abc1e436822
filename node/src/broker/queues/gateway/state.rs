//! What a link to a queue remembers: consumers and what they hold, what became of messages, what waits to be published.
//! Invariant: a settlement is forgotten when it is reported committed, and not before; what is told twice is told in the same words. Who
//! leaves is known to leaders until then, or they would give to others what it has settled.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use model::NodeId;
use model::cursor::ackset::Verdict;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::consumer::UNREAD_MAX;
use crate::broker::queues::types::{
    CREDIT_MAX, ConsumeError, ConsumerSpec, Delivered, Message, PublishError, QueueEvent,
};
use crate::peer::queues::{Attachment, Attendant, Hold, Item, Settled, Unattended};

/// Bytes that wait to be published on one link.
const PUBLISH_BYTES_MAX: usize = 64 << 20;
/// Bytes and messages of one publish.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_MESSAGES: usize = 512;
/// Settlements of one request.
const SETTLED_MAX: usize = 4_096;

/// A message that is not confirmed.
pub(super) struct Waiting {
    pub(super) message: Message,
    pub(super) since: Instant,
    pub(super) told: oneshot::Sender<Result<(), PublishError>>,
}

/// What a get is told: a message and how many are left, or that there is none.
pub(super) type GotOne = Result<Option<(Delivered, u64)>, ConsumeError>;

/// What a consumer holds.
struct Held {
    failures: u32,
    /// Which delivery: the same message may come again before the last settlement of it is reported.
    serial: u64,
    settled: Option<Verdict>,
}

impl Held {
    /// Whether a leader that does not know of it must be told: not of what its consumer gave back as if it had never had it.
    fn is_claimed(&self) -> bool {
        !matches!(self.settled, Some(Verdict::Release { counted: false, .. }))
    }
}

/// A settlement, and which delivery it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) settled: Settled,
    serial: u64,
}

struct Consumer {
    credit: u32,
    priority: i32,
    exclusive: bool,
    max_rate: Option<u32>,
    gets: bool,
    held: BTreeMap<i64, Held>,
    paused: bool,
    unread: Arc<AtomicUsize>,
    events: mpsc::UnboundedSender<QueueEvent>,
    joined: Option<oneshot::Sender<Result<(), ConsumeError>>>,
}

/// What binds this node to a leader.
#[derive(Default)]
struct Tie {
    /// Which node, in which term.
    to: Option<(NodeId, u64)>,
    /// Which start of that node's process, if it was heard: one that leads on after a restart knows of no attachment.
    boot: Option<u64>,
    /// The latest term: it stays when the tie is cut.
    term: u64,
    /// How many there were.
    number: u64,
    /// The last push that came by this one.
    pushes: u64,
    /// A leader that did not listen may think of somebody who is gone by now: one has to hear who is there, if nobody.
    owed: bool,
}

/// See the file header.
#[derive(Default)]
pub(super) struct State {
    consumers: BTreeMap<u64, Consumer>,
    /// What those who left have settled, until it is reported committed.
    ghosts: BTreeMap<u64, BTreeMap<i64, Held>>,
    last_consumer: u64,
    last_serial: u64,
    /// Whom the leader has to be told of, and who is gone.
    changed: BTreeSet<u64>,
    gone: BTreeSet<u64>,
    settling: VecDeque<Pending>,
    /// Of the settlements that are not reported committed, those that give messages back: nobody gets one before.
    giving_back: usize,
    publishes: VecDeque<Waiting>,
    publish_bytes: usize,
    gets: VecDeque<(u64, oneshot::Sender<GotOne>)>,
    tie: Tie,
    /// Why there is nothing to come any more.
    over: Option<String>,
}

impl State {
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether anybody consumes or settles, or no leader may have heard that it went: then it has to know who leads.
    pub(super) fn is_needed(&self) -> bool {
        let nobody = self.consumers.is_empty() && self.ghosts.is_empty() && self.gone.is_empty();
        self.tie.owed || !nobody || !self.settling.is_empty() || !self.gets.is_empty()
    }

    /// Whether something waits to be told.
    pub(super) fn is_waiting(&self) -> bool {
        let told = self.changed.is_empty() && self.gone.is_empty() && self.settling.is_empty() && self.gets.is_empty();
        !told || !self.publishes.is_empty() || (self.tie.to.is_none() && !self.consumers.is_empty())
    }

    /// Whether this leader knows who is here, as far as can be told. `boot` is the start of its process, if it is heard.
    pub(super) fn is_attached(&self, leader: (NodeId, u64), boot: Option<u64>) -> bool {
        self.tie.to == Some(leader) && (boot.is_none() || boot == self.tie.boot)
    }

    /// Whether a leader of this term may be listened to. One of an earlier term was deposed and does not know it: it would deliver again
    /// what its successors know to be settled.
    pub(super) fn may_follow(&self, term: u64) -> bool {
        term >= self.tie.term
    }

    /// Begins a new attachment to this leader in this term: all that there is has to be told.
    pub(super) fn attach(&mut self, leader: (NodeId, u64), boot: Option<u64>) {
        (self.tie.to, self.tie.term, self.tie.boot) = (Some(leader), leader.1, boot);
        self.tie.number += 1;
        self.tie.pushes = 0;
        self.changed.clear();
        self.gone.clear();
    }

    /// The leader does not listen: it is told all anew, or another one is.
    pub(super) fn detach(&mut self, attachment: u64) {
        if self.tie.number == attachment {
            (self.tie.to, self.tie.owed) = (None, true);
        }
    }

    pub(super) fn attachment(&self, session: u64) -> Attachment {
        Attachment { session, number: self.tie.number }
    }

    /// A new consumer; its number.
    pub(super) fn join(
        &mut self,
        spec: &ConsumerSpec,
        events: mpsc::UnboundedSender<QueueEvent>,
        joined: oneshot::Sender<Result<(), ConsumeError>>,
    ) -> (u64, Arc<AtomicUsize>) {
        let number = self.add(spec, false, events, Some(joined));
        self.changed.insert(number);
        (number, self.consumers[&number].unread.clone())
    }

    /// Somebody asks for one message; who holds it.
    pub(super) fn get(&mut self, told: oneshot::Sender<GotOne>) -> u64 {
        let number = self.add(&ConsumerSpec::default(), true, mpsc::unbounded_channel().0, None);
        self.gets.push_back((number, told));
        number
    }

    fn add(
        &mut self,
        spec: &ConsumerSpec,
        gets: bool,
        events: mpsc::UnboundedSender<QueueEvent>,
        joined: Option<oneshot::Sender<Result<(), ConsumeError>>>,
    ) -> u64 {
        self.last_consumer += 1;
        let consumer = Consumer {
            credit: spec.credit.min(CREDIT_MAX),
            priority: spec.priority,
            exclusive: spec.exclusive,
            max_rate: spec.max_rate,
            gets,
            held: BTreeMap::new(),
            paused: false,
            unread: Arc::default(),
            events,
            joined,
        };
        self.consumers.insert(self.last_consumer, consumer);
        self.last_consumer
    }

    pub(super) fn set_credit(&mut self, number: u64, credit: u32) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            consumer.credit = credit.min(CREDIT_MAX);
            self.changed.insert(number);
        }
    }

    /// It gets nothing more and counts as nobody; what it holds it still settles.
    pub(super) fn retire(&mut self, number: u64) {
        if let Some(consumer) = self.consumers.get_mut(&number) {
            (consumer.credit, consumer.exclusive, consumer.gets) = (0, false, true);
            self.changed.insert(number);
        }
    }

    /// It has room again.
    pub(super) fn resume(&mut self, number: u64) {
        if let Some(consumer) = self.consumers.get_mut(&number)
            && std::mem::replace(&mut consumer.paused, false)
        {
            self.changed.insert(number);
        }
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.changed.remove(&number);
        if let Some(mut consumer) = self.consumers.remove(&number).filter(|_| !self.is_over()) {
            self.gone.insert(number);
            consumer.held.retain(|_, held| held.settled.is_some());
            if !consumer.held.is_empty() {
                self.ghosts.insert(number, consumer.held);
                self.changed.insert(number);
            }
        }
        self.gets.retain(|(consumer, _)| *consumer != number);
    }

    pub(super) fn settle(&mut self, number: u64, offset: i64, verdict: Verdict) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let Some(held) = consumer.held.get_mut(&offset).filter(|held| held.settled.is_none()) else { return };
        held.settled = Some(verdict);
        let settled = Settled { consumer: number, offset, failures: held.failures, verdict };
        if self.over.is_none() {
            self.giving_back += usize::from(gives_back(verdict));
            self.settling.push_back(Pending { settled, serial: held.serial });
        }
    }

    /// Queues a message.
    pub(super) fn publish(&mut self, waiting: Waiting) -> Result<(), PublishError> {
        if self.is_over() {
            return Err(PublishError::NotFound);
        }
        let bytes = waiting.message.batch.len();
        if self.publish_bytes > 0 && self.publish_bytes + bytes > PUBLISH_BYTES_MAX {
            return Err(PublishError::Unavailable("too much waits to be published to this queue".to_owned()));
        }
        self.publish_bytes += bytes;
        self.publishes.push_back(waiting);
        Ok(())
    }

    /// Messages that wait for longer than `max`: they are the first.
    pub(super) fn take_expired(&mut self, now: Instant, max: std::time::Duration) -> Vec<Waiting> {
        let late = self.publishes.iter().take_while(|waiting| now.duration_since(waiting.since) >= max).count();
        let late: Vec<Waiting> = self.publishes.drain(..late).collect();
        self.publish_bytes -= late.iter().map(|waiting| waiting.message.batch.len()).sum::<usize>();
        late
    }

    /// The next messages to publish.
    pub(super) fn take_publishes(&mut self) -> Vec<Waiting> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.publishes.front() {
            bytes += next.message.batch.len();
            if !taken.is_empty() && (bytes > BATCH_BYTES || taken.len() >= BATCH_MESSAGES) {
                break;
            }
            taken.extend(self.publishes.pop_front());
        }
        self.publish_bytes -= taken.iter().map(|waiting| waiting.message.batch.len()).sum::<usize>();
        taken
    }

    /// These were not appended: they come first again, in their order.
    pub(super) fn publish_again(&mut self, again: Vec<Waiting>) {
        for waiting in again.into_iter().rev() {
            self.publish_bytes += waiting.message.batch.len();
            self.publishes.push_front(waiting);
        }
    }

    /// The next settlements to tell.
    pub(super) fn take_settlements(&mut self) -> Vec<Pending> {
        let count = self.settling.len().min(SETTLED_MAX);
        self.settling.drain(..count).collect()
    }

    /// These may not be committed: told again, before the others.
    pub(super) fn settle_again(&mut self, again: Vec<Pending>) {
        again.into_iter().rev().for_each(|pending| self.settling.push_front(pending));
    }

    /// These are committed.
    pub(super) fn settled(&mut self, done: &[Pending]) {
        for Pending { settled, serial } in done {
            self.giving_back = self.giving_back.saturating_sub(usize::from(gives_back(settled.verdict)));
            let consumer = self.consumers.get_mut(&settled.consumer).map(|consumer| &mut consumer.held);
            if let Some(held) = consumer.or_else(|| self.ghosts.get_mut(&settled.consumer))
                && held.get(&settled.offset).is_some_and(|held| held.serial == *serial)
            {
                held.remove(&settled.offset);
            }
        }
        self.gone.extend(self.ghosts.extract_if(.., |_, held| held.is_empty()).map(|(number, _)| number));
    }

    /// Who asks for a message; nobody while messages are on their way back to their places.
    pub(super) fn take_gets(&mut self) -> Vec<(u64, oneshot::Sender<GotOne>)> {
        if self.giving_back > 0 { Vec::new() } else { self.gets.drain(..).collect() }
    }

    pub(super) fn get_again(&mut self, number: u64, told: oneshot::Sender<GotOne>) {
        if self.consumers.contains_key(&number) {
            self.gets.push_back((number, told));
        }
    }

    /// Everybody, with what they hold.
    pub(super) fn everybody(&self) -> Vec<Attendant> {
        let consumers = self.consumers.iter().map(|(number, consumer)| consumer.attendant(*number, true));
        consumers.chain(self.ghosts.iter().map(|(number, held)| ghost(*number, holds(held)))).collect()
    }

    /// Who has changed, and who is gone: once all that it settled is committed. A leader that did not hear of it (another one may have been
    /// told) would give that to others.
    pub(super) fn take_changes(&mut self) -> (Vec<Attendant>, Vec<u64>) {
        let changed = std::mem::take(&mut self.changed);
        let ghost = |number| self.ghosts.contains_key(&number).then(|| ghost(number, Vec::new()));
        let attendant = |number| match self.consumers.get(&number) {
            Some(consumer) => Some(consumer.attendant(number, false)),
            None => ghost(number),
        };
        let gone = self.gone.extract_if(.., |number| !self.ghosts.contains_key(number)).collect();
        (changed.into_iter().filter_map(attendant).collect(), gone)
    }

    /// The leader has heard of these, but for the refused: if this attachment is its own, of all that was told before.
    pub(super) fn attended(&mut self, attachment: u64, told: &[u64], refused: &[(u64, Unattended)]) {
        if self.tie.to.is_some() && self.tie.number == attachment {
            self.tie.owed = false;
        }
        for (number, Unattended::Exclusive) in refused {
            if let Some(mut consumer) = self.consumers.remove(number) {
                consumer.tell(Err(ConsumeError::Exclusive));
                let _gone = consumer.events.send(QueueEvent::Cancelled("another consumer is exclusive".to_owned()));
            }
        }
        for number in told {
            if let Some(consumer) = self.consumers.get_mut(number) {
                consumer.tell(Ok(()));
            }
        }
    }

    /// A push of the leader: whether it is of this attachment.
    pub(super) fn deliver(&mut self, attachment: Attachment, push: u64, items: &[Item], parts: &[Bytes]) -> bool {
        if self.tie.to.is_none() || attachment.number != self.tie.number || self.is_over() {
            return false;
        }
        if push <= self.tie.pushes {
            return true;
        }
        self.tie.pushes = push;
        let mut events: BTreeMap<u64, Vec<Delivered>> = BTreeMap::new();
        for item in items {
            if let Some(delivered) = parts.get(item.part as usize).and_then(|record| self.hold(item, record)) {
                events.entry(item.consumer).or_default().push(delivered);
            }
        }
        for (number, delivered) in events {
            let Some(consumer) = self.consumers.get_mut(&number) else { continue };
            let bytes: usize = delivered.iter().map(|message| message.record.len()).sum();
            let unread = consumer.unread.fetch_add(bytes, Ordering::AcqRel) + bytes;
            let _gone = consumer.events.send(QueueEvent::Delivered(delivered));
            if unread > UNREAD_MAX && !std::mem::replace(&mut consumer.paused, true) {
                self.changed.insert(number);
            }
        }
        true
    }

    /// A consumer has a message now.
    pub(super) fn hold(&mut self, item: &Item, record: &Bytes) -> Option<Delivered> {
        let consumer = self.consumers.get_mut(&item.consumer)?;
        self.last_serial += 1;
        let held = Held { failures: item.failures, serial: self.last_serial, settled: None };
        consumer.held.insert(item.offset, held);
        let Item { offset, failures, redelivered, .. } = *item;
        Some(Delivered { offset, failures, redelivered, record: record.clone() })
    }

    /// The queue is gone: everybody is told, and nothing is done any more.
    pub(super) fn end(&mut self, why: &str) {
        self.over = Some(why.to_owned());
        for consumer in self.consumers.values_mut() {
            consumer.tell(Err(ConsumeError::NotFound));
            let _gone = consumer.events.send(QueueEvent::Cancelled(why.to_owned()));
        }
        for waiting in self.publishes.drain(..) {
            let _gone = waiting.told.send(Err(PublishError::NotFound));
        }
        for (_, told) in self.gets.drain(..) {
            let _gone = told.send(Err(ConsumeError::NotFound));
        }
        self.settling.clear();
        self.ghosts.clear();
        self.giving_back = 0;
    }
}

fn gives_back(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Release { .. })
}

/// Who has left, as a leader is told: it gets nothing more and counts as nobody.
fn ghost(consumer: u64, holds: Vec<Hold>) -> Attendant {
    Attendant { consumer, credit: 0, priority: 0, exclusive: false, max_rate: None, gets: true, holds }
}

/// As a leader is told.
fn holds(all: &BTreeMap<i64, Held>) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for (offset, Held { failures, .. }) in all.iter().filter(|(_, held)| held.is_claimed()) {
        match holds.last_mut() {
            Some(hold) if (hold.end, hold.failures) == (*offset, *failures) => hold.end += 1,
            _ => holds.push(Hold { first: *offset, end: *offset + 1, failures: *failures }),
        }
    }
    holds
}

impl Consumer {
    fn attendant(&self, consumer: u64, with_holds: bool) -> Attendant {
        let credit = if self.paused { 0 } else { self.credit };
        let Self { priority, exclusive, max_rate, gets, .. } = *self;
        let holds = if with_holds { holds(&self.held) } else { Vec::new() };
        Attendant { consumer, credit, priority, exclusive, max_rate, gets, holds }
    }

    fn tell(&mut self, joined: Result<(), ConsumeError>) {
        if let Some(told) = self.joined.take() {
            let _gone = told.send(joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state with a consumer that holds offset 7.
    fn holding() -> (State, u64) {
        let mut state = State::default();
        state.attach((NodeId(1), 1), None);
        let spec = ConsumerSpec { credit: 1, ..ConsumerSpec::default() };
        let (number, _unread) = state.join(&spec, mpsc::unbounded_channel().0, oneshot::channel().0);
        assert_eq!(state.take_changes().0.len(), 1);
        let item = Item { consumer: number, offset: 7, failures: 0, redelivered: false, part: 0 };
        assert!(state.hold(&item, &Bytes::new()).is_some());
        (state, number)
    }

    #[test]
    fn who_settles_and_goes_is_gone_when_that_is_committed() {
        let (mut state, number) = holding();
        state.settle(number, 7, Verdict::Accept);
        let settling = state.take_settlements();
        state.attach((NodeId(2), 2), None);
        state.leave(number);
        let (changed, gone) = state.take_changes();
        assert_eq!(changed.iter().map(|who| (who.consumer, who.credit)).collect::<Vec<_>>(), [(number, 0)]);
        assert!(gone.is_empty(), "the leader of before was told");
        state.settled(&settling);
        assert_eq!(state.take_changes().1, [number]);
    }

    #[test]
    fn leaders_know_who_has_left_until_what_it_settled_is_committed() {
        let (mut state, number) = holding();
        state.settle(number, 7, Verdict::Accept);
        state.leave(number);
        let settling = state.take_settlements();
        state.attach((NodeId(2), 2), None);
        let [Attendant { consumer, credit: 0, gets: true, holds, .. }] = &state.everybody()[..] else { panic!() };
        assert_eq!((*consumer, &holds[..]), (number, &[Hold { first: 7, end: 8, failures: 0 }][..]));
        assert!(state.is_needed());
        state.settled(&settling);
        assert!(state.everybody().is_empty());
        assert_eq!(state.take_changes().1, [number]);
        assert!(!state.is_needed());
    }

    #[test]
    fn a_leader_that_did_not_listen_hears_that_nobody_is_left() {
        let (mut state, number) = holding();
        state.leave(number);
        assert_eq!(state.take_changes().1, [number]);
        assert!(!state.is_needed());
        state.detach(1);
        assert!(state.is_needed(), "it may think that the consumer is there");
        state.attach((NodeId(1), 1), None);
        state.attended(1, &[], &[]);
        assert!(state.is_needed(), "an answer of before says nothing");
        state.attended(2, &[], &[]);
        assert!(!state.is_needed());
    }

    #[test]
    fn a_leader_of_an_earlier_term_is_not_followed_even_if_the_later_one_is_gone() {
        let (mut state, _number) = holding();
        state.attach((NodeId(2), 2), None);
        state.detach(2);
        assert!(!state.may_follow(1));
        assert!(state.may_follow(2) && state.may_follow(3));
    }

    #[test]
    fn what_is_given_back_uncounted_is_claimed_of_no_leader() {
        let (mut state, number) = holding();
        assert_eq!(state.everybody()[0].holds.len(), 1);
        state.settle(number, 7, Verdict::Release { counted: false, delay_ms: None });
        assert!(state.everybody()[0].holds.is_empty());
    }
}
