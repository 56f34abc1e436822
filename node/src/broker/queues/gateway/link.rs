//! The link of this node to one queue: finds its leader, tells it what waits, and tells it all again when another one leads.
//! Bounded: one publish on its way, of what gathered meanwhile; `SETTLES_MAX` settlements; bytes by `state`.
//! Invariant: what is told to one leader leaves in order. Never decides what becomes of a message.
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::NodeId;
use model::controller::topology::Queue;
use model::cursor::ackset::Verdict;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::PATIENCE;
use super::consumer::{Subscription, pump};
use super::state::{GotOne, Pending, State, Waiting};
use crate::broker::Broker;
use crate::broker::queues::types::{ConsumeError, ConsumerSpec, Events, Message, PublishError};
use crate::peer::link::Failure;
use crate::peer::queues::{Attachment, Heard, Item, Told, Unpublished};

/// Between two attempts to find a leader that listens.
pub(super) const AGAIN: Duration = Duration::from_millis(30);
/// How often a link with consumers looks who leads.
const LOOK: Duration = Duration::from_millis(200);
/// How often the leader is told again who is there: it may have given up this node for a while.
const REMIND: Duration = Duration::from_secs(5);
/// Settlements that wait for their commit at a time, in requests; more gather meanwhile.
const SETTLES_MAX: usize = 16;

type Answer = Result<(Heard, Vec<Bytes>), Failure>;

/// See the file header.
pub(in crate::broker::queues) struct Link {
    broker: Broker,
    queue: Arc<Queue>,
    session: u64,
    state: Mutex<State>,
    wake: Notify,
}

/// An answer that came, or did not.
enum Landed {
    Published(Vec<Waiting>, Answer),
    Attended(u64, Vec<u64>, Answer),
    Settled(u64, Vec<Pending>, Answer),
    Got(u64, (u64, oneshot::Sender<GotOne>), Answer),
}

/// What the loop has on its way.
struct Flights {
    all: FuturesUnordered<BoxFuture<'static, Landed>>,
    publishing: bool,
    settles: usize,
    /// Nothing is told before.
    again_at: Instant,
    reminded: Instant,
}

impl Link {
    /// A link to `queue`, nothing on it; [`Link::run`] works for it.
    pub(super) fn new(broker: Broker, queue: Arc<Queue>, session: u64) -> Arc<Self> {
        Arc::new(Self { broker, queue, session, state: Mutex::default(), wake: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let changed = change(&mut self.state());
        self.wake.notify_one();
        changed
    }

    pub(super) fn publish(
        &self,
        message: Message,
    ) -> Result<oneshot::Receiver<Result<(), PublishError>>, PublishError> {
        let (told, outcome) = oneshot::channel();
        let waiting = Waiting { message, since: Instant::now(), told };
        self.change(|state| state.publish(waiting)).map(|()| outcome)
    }

    pub(super) fn join(
        self: &Arc<Self>,
        spec: &ConsumerSpec,
        events: Events,
    ) -> Result<(Subscription, oneshot::Receiver<Result<(), ConsumeError>>), ConsumeError> {
        let (waiting, taken) = mpsc::unbounded_channel();
        let (told, joined) = oneshot::channel();
        let (consumer, unread) = self.change(|state| {
            if state.is_over() { Err(ConsumeError::NotFound) } else { Ok(state.join(spec, waiting, told)) }
        })?;
        let back = (Arc::downgrade(self), consumer);
        self.broker.0.queues.work(Box::pin(pump(taken, events, unread, back)));
        Ok((Subscription::new(self.clone(), consumer), joined))
    }

    pub(super) fn get(self: &Arc<Self>) -> Result<(Subscription, oneshot::Receiver<GotOne>), ConsumeError> {
        let (told, got) = oneshot::channel();
        let consumer =
            self.change(|state| if state.is_over() { Err(ConsumeError::NotFound) } else { Ok(state.get(told)) })?;
        Ok((Subscription::new(self.clone(), consumer), got))
    }

    pub(super) fn settle(&self, consumer: u64, offset: i64, verdict: Verdict) {
        self.change(|state| state.settle(consumer, offset, verdict));
    }

    pub(super) fn set_credit(&self, consumer: u64, credit: u32) {
        self.change(|state| state.set_credit(consumer, credit));
    }

    pub(super) fn retire(&self, consumer: u64) {
        self.change(|state| state.retire(consumer));
    }

    pub(super) fn resume(&self, consumer: u64) {
        self.change(|state| state.resume(consumer));
    }

    pub(super) fn leave(&self, consumer: u64) {
        self.change(|state| state.leave(consumer));
    }

    /// The queue is gone.
    pub(in crate::broker::queues) fn end(&self, why: &str) {
        self.change(|state| state.end(why));
    }

    /// What it is a link to.
    pub(in crate::broker::queues) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Messages from the leader.
    pub(in crate::broker::queues) fn deliver(
        &self,
        attachment: Attachment,
        push: u64,
        items: &[Item],
        parts: &[Bytes],
    ) -> Heard {
        let ours = attachment.session == self.session;
        let taken = ours && self.change(|state| state.deliver(attachment, push, items, parts));
        if taken { Heard::Done } else { Heard::NotHere }
    }

    /// Whether nobody consumes or settles here. Else whoever leads now is looked for at once.
    pub(in crate::broker::queues) fn is_idle(&self) -> bool {
        self.change(|state| !state.is_needed())
    }

    /// Works until the queue is gone.
    pub(super) async fn run(self: Arc<Self>) {
        let now = Instant::now();
        let all = FuturesUnordered::new();
        let mut flights = Flights { all, publishing: false, settles: 0, again_at: now, reminded: now };
        while !self.state().is_over() {
            let next = self.step(&mut flights);
            tokio::select! {
                biased;
                Some(landed) = flights.all.next() => self.landed(landed, &mut flights),
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            }
        }
    }

    /// Tells the leader what waits; when to look again without being woken.
    fn step(&self, flights: &mut Flights) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        self.expire(&mut state, now);
        if !state.is_waiting() && !state.is_needed() {
            return None;
        }
        if now < flights.again_at {
            return Some(flights.again_at);
        }
        let leadership = self.broker.0.router.leader(self.queue.partition_group);
        let Some(leader) = leadership.node.filter(|_| state.may_follow(leadership.term)) else {
            return Some(now + AGAIN);
        };
        if state.is_needed() {
            // A new leader is told first who is there; one that knows hears of settlements before it hears who is gone.
            if state.is_attached((leader, leadership.term), self.boot_of(leader)) {
                self.settle_all(&mut state, leader, flights);
            }
            self.attend(&mut state, (leader, leadership.term), flights, now);
            self.settle_all(&mut state, leader, flights);
            self.get_all(&mut state, leader, flights);
        }
        self.publish_all(&mut state, leader, flights);
        state.is_needed().then_some(now + LOOK)
    }

    /// Messages that wait for too long are given up.
    fn expire(&self, state: &mut State, now: Instant) {
        let waiting = state.take_expired(now, PATIENCE);
        for one in waiting {
            let words = "nobody leads the queue".to_owned();
            let _gone = one.told.send(Err(PublishError::Unavailable(words)));
        }
    }

    /// The start of a leader's process, if it is heard.
    fn boot_of(&self, leader: NodeId) -> Option<u64> {
        self.broker.0.router.hears(leader)
    }

    fn tell(&self, to: NodeId, told: Told, parts: Vec<Bytes>) -> BoxFuture<'static, Answer> {
        self.broker.tell_queue(to, self.queue.partition_group, told, parts)
    }

    /// Tells the leader who is there: all of them if it is another one than before, or if it was not reminded for long.
    fn attend(&self, state: &mut State, leader: (NodeId, u64), flights: &mut Flights, now: Instant) {
        let boot = self.boot_of(leader.0);
        let other = !state.is_attached(leader, boot);
        if other {
            state.attach(leader, boot);
        }
        let all = other || now >= flights.reminded + REMIND;
        let (changed, gone) = state.take_changes();
        let consumers = if all { state.everybody() } else { changed };
        if !all && consumers.is_empty() && gone.is_empty() {
            return;
        }
        if all {
            flights.reminded = now;
        }
        let attachment = state.attachment(self.session);
        let numbers: Vec<u64> = consumers.iter().map(|attendant| attendant.consumer).collect();
        let answer = self.tell(leader.0, Told::Attend { attachment, all, consumers, gone }, Vec::new());
        flights.all.push(Box::pin(async move { Landed::Attended(attachment.number, numbers, answer.await) }));
    }

    fn settle_all(&self, state: &mut State, leader: NodeId, flights: &mut Flights) {
        while flights.settles < SETTLES_MAX {
            let pending = state.take_settlements();
            if pending.is_empty() {
                return;
            }
            flights.settles += 1;
            let attachment = state.attachment(self.session).number;
            let told = Told::Settle(pending.iter().map(|pending| pending.settled).collect());
            let answer = self.tell(leader, told, Vec::new());
            flights.all.push(Box::pin(async move { Landed::Settled(attachment, pending, answer.await) }));
        }
    }

    fn get_all(&self, state: &mut State, leader: NodeId, flights: &mut Flights) {
        let attachment = state.attachment(self.session);
        for (consumer, told) in state.take_gets() {
            let answer = self.tell(leader, Told::Get { attachment, consumer }, Vec::new());
            flights.all.push(Box::pin(async move { Landed::Got(attachment.number, (consumer, told), answer.await) }));
        }
    }

    fn publish_all(&self, state: &mut State, leader: NodeId, flights: &mut Flights) {
        if flights.publishing {
            return;
        }
        let waiting = state.take_publishes();
        if waiting.is_empty() {
            return;
        }
        flights.publishing = true;
        let told = Told::Publish(waiting.iter().map(|waiting| waiting.message.saying).collect());
        let parts = waiting.iter().map(|waiting| waiting.message.batch.clone()).collect();
        let answer = self.tell(leader, told, parts);
        flights.all.push(Box::pin(async move {
            let late = || Failure::Broken("its leader does not answer in time".to_owned());
            let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_elapsed| Err(late()));
            Landed::Published(waiting, answer)
        }));
    }

    fn landed(&self, landed: Landed, flights: &mut Flights) {
        let mut state = self.state();
        let again_at = Instant::now() + AGAIN;
        match landed {
            Landed::Published(waiting, answer) => {
                flights.publishing = false;
                let again = published(waiting, answer);
                if !again.is_empty() {
                    flights.again_at = again_at;
                }
                state.publish_again(again);
            }
            Landed::Attended(attachment, numbers, Ok((Heard::Attended(refused), _))) => {
                state.attended(attachment, &numbers, &refused);
            }
            Landed::Attended(attachment, ..) => {
                state.detach(attachment);
                flights.again_at = again_at;
            }
            Landed::Settled(_, pending, Ok((Heard::Done, _))) => {
                flights.settles -= 1;
                state.settled(&pending);
            }
            Landed::Settled(attachment, pending, _) => {
                flights.settles -= 1;
                state.settle_again(pending);
                state.detach(attachment);
                flights.again_at = again_at;
            }
            Landed::Got(_, (_, told), Ok((Heard::Got(None), _))) => drop(told.send(Ok(None))),
            Landed::Got(attachment, (number, told), Ok((Heard::Got(Some((item, remaining))), parts))) => {
                // When an attachment ends its leader takes back what nobody said to hold.
                let current = state.attachment(self.session).number == attachment;
                let record = parts.first().filter(|_| current);
                let got = record.and_then(|record| state.hold(&item, record));
                match got {
                    Some(delivered) => drop(told.send(Ok(Some((delivered, remaining))))),
                    None => state.get_again(number, told),
                }
            }
            Landed::Got(attachment, (number, told), _) => {
                state.get_again(number, told);
                state.detach(attachment);
                flights.again_at = again_at;
            }
        }
    }
}

/// Tells the outcome of each; those that were surely not appended come back.
fn published(waiting: Vec<Waiting>, answer: Answer) -> Vec<Waiting> {
    let outcomes = match answer {
        Ok((Heard::Published(outcomes), _)) => outcomes,
        Ok(_) | Err(Failure::Unreachable(_)) => return waiting,
        Err(Failure::Broken(why) | Failure::Refused(why)) => vec![Err(Unpublished::Failed(why)); waiting.len()],
    };
    let mut again = Vec::new();
    let silent = || Err(Unpublished::Failed("its leader says nothing of it".to_owned()));
    let outcomes = outcomes.into_iter().chain(std::iter::repeat_with(silent));
    for (one, outcome) in waiting.into_iter().zip(outcomes) {
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(Unpublished::NotHere | Unpublished::Early) => {
                again.push(one);
                continue;
            }
            Err(Unpublished::Full) => Err(PublishError::Rejected),
            Err(Unpublished::Failed(why)) => Err(PublishError::Unavailable(why)),
        };
        let _gone = one.told.send(outcome);
    }
    again
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Link({})", self.queue.name)
    }
}
