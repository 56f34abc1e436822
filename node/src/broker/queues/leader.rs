//! The leader of one queue: opens its cursor, gives messages to consumers, and orders what became of them, all that waits in one turn
//! as one entry. Keeps time: expiry, due messages, deliveries that nobody settles. Lives as long as the replica; acts while that leads.
//! Bounded: visits by `VISITS_MAX`, deliveries by credit. Never decides what a message is: that is the replicated cursor's to say.
pub(super) mod append;
mod handle;
mod letters;
mod orders;
mod pace;
mod peek;
mod push;
mod roll;
mod shown;
mod soft;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::NodeId;
use model::controller::topology::{Arguments, Overflow};
use model::cursor::CursorCommand;
use model::cursor::ackset::{AckSet, Command, Config, Place, Reason, Verdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub(super) use self::handle::{CURSOR, Handle, Visit};
use self::handle::{Teller, VISITS_MAX};
use self::letters::Round;
use self::orders::{Change, Decided, Flight, Orders};
use self::push::Pushed;
use self::roll::Roll;
pub(super) use self::soft::Now;
use self::soft::Soft;
use super::keeper::STRAY;
use crate::broker::Broker;
use crate::peer::queues::{Heard, Settled};

/// How often the lives of other gateways are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Messages that one turn sends to dead letters or releases.
const TURN_MAX: usize = 4_096;
/// A delivery is its consumer's so long, if the queue says nothing: RabbitMQ's time.
const CONSUMER_TIMEOUT_MS: i64 = 30 * 60 * 1_000;
/// After a proposal that failed.
const AGAIN: Duration = Duration::from_millis(50);
/// Before what the cursor has no room for is proposed again: letters have to leave first.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// How often sources of dead letters are looked at, and how long one must be gone to be forgotten: what it sent has arrived by then.
const FORGET: Duration = Duration::from_secs(60);
/// Between two rounds of dead letters that did not arrive.
const LETTERS_PAUSE: Duration = Duration::from_millis(200);

/// The loop.
pub(super) struct Leader {
    broker: Broker,
    handle: Arc<Handle>,
    /// The Raft term that `soft` is of.
    term: u64,
    /// Leads in that term now, and knows all that was committed.
    leads: bool,
    soft: Soft,
    moments: Moments,
    roll: Roll,
    orders: Orders,
    flight: Option<Flight>,
    pushes: FuturesUnordered<BoxFuture<'static, Pushed>>,
    letters: Option<BoxFuture<'static, Round>>,
    /// It had consumers in this term.
    had_consumers: bool,
    /// It is being deleted.
    ending: bool,
}

/// When something was done, or is to be done.
struct Moments {
    /// Nothing is proposed, and no letter is sent, before.
    propose_at: Instant,
    letters_at: Instant,
    /// When the lives of gateways were looked at.
    looked: Instant,
    /// When sources of dead letters were.
    sources: Instant,
    /// When somebody used the queue.
    used: Instant,
}

/// What woke the loop.
enum Woken {
    Turn,
    Ended,
}

impl Leader {
    /// The leader behind `handle`.
    pub(super) fn new(broker: Broker, handle: Arc<Handle>) -> Self {
        let now = Instant::now();
        Self {
            broker,
            handle,
            term: 0,
            leads: false,
            soft: Soft::new(0, &Arguments::default()),
            moments: Moments { propose_at: now, letters_at: now, looked: now, sources: now, used: now },
            roll: Roll::over(),
            orders: Orders::default(),
            flight: None,
            pushes: FuturesUnordered::new(),
            letters: None,
            had_consumers: false,
            ending: false,
        }
    }

    /// Serves until the raft is gone.
    pub(super) async fn run(mut self, mut visits: mpsc::Receiver<Visit>) {
        let raft = self.handle.local.raft().clone();
        let (mut status, mut applied) = (raft.status(), raft.applied());
        let mut rules = self.handle.watch_rules();
        loop {
            self.follow_role();
            // One time for both: what comes due between two looks at the clock would wake nobody.
            let now = self.now();
            self.turn(now);
            let next = self.next(now);
            let woken = tokio::select! {
                biased;
                changed = status.changed() => if changed.is_err() { Woken::Ended } else { Woken::Turn },
                decided = orders::decided(&mut self.flight) => { self.decided(decided); Woken::Turn }
                Some(pushed) = self.pushes.next() => { self.pushed(pushed); Woken::Turn }
                round = letters::ended(&mut self.letters) => { self.sent(round); Woken::Turn }
                Some(()) = self.roll.answered() => Woken::Turn,
                Ok(()) = rules.changed() => { self.soft.follow(&self.handle.rules()); Woken::Turn }
                visit = visits.recv() => match visit {
                    Some(visit) => { self.welcome(visit, &mut visits); Woken::Turn }
                    None => Woken::Ended,
                },
                changed = applied.changed(), if self.handle.local.role().leads => if changed.is_err() { Woken::Ended } else { Woken::Turn },
                () = sleep_until(next.unwrap_or(self.moments.used)), if next.is_some() => Woken::Turn,
            };
            if matches!(woken, Woken::Ended) {
                return self.let_go();
            }
        }
    }

    fn now(&self) -> Now {
        self.broker.queue_now()
    }

    fn deadline(&self, now: Now) -> i64 {
        now.steady.saturating_add(self.timeout_ms())
    }

    fn timeout_ms(&self) -> i64 {
        self.handle.rules().consumer_timeout_ms.unwrap_or(CONSUMER_TIMEOUT_MS)
    }

    /// Writes down what only this loop knows.
    fn show(&self) {
        *self.handle.shown() = self.soft.shown(self.timeout_ms());
    }

    fn is_open(&self) -> bool {
        self.handle.open.load(Ordering::Relaxed)
    }

    /// Takes over when this node leads and knows all that was committed. What it knew stays while the term does.
    fn follow_role(&mut self) {
        let raft = self.handle.local.raft();
        let leads = raft.knows_end();
        let term = raft.status_now().term;
        if leads && term != self.term {
            self.let_go();
            (self.term, self.leads) = (term, true);
            self.take_over();
        }
        self.leads = leads && term == self.term;
        if !self.leads {
            self.handle.open.store(false, Ordering::Release);
            self.orders.dismiss();
        } else if !self.is_open() && self.flight.is_none() && self.orders.is_empty() {
            self.open();
        }
    }

    fn take_over(&mut self) {
        let old_below = self.handle.local.raft().partition(|machine| machine.high_watermark()).unwrap_or(0);
        self.soft = Soft::new(old_below, &self.handle.rules());
        let now = Instant::now();
        (self.moments.looked, self.moments.used) = (now, now);
        let has_old = self.handle.cursor(|cursor| self.soft.has_old(cursor)) == Some(true);
        self.roll = if has_old { Roll::call(&self.broker, self.handle.local.group()) } else { Roll::over() };
        (self.had_consumers, self.ending) = (false, false);
    }

    /// Opens the cursor, unless it is open and has these rules.
    fn open(&mut self) {
        match self.other_config() {
            None => self.handle.open.store(true, Ordering::Release),
            Some(config) => self.orders.open(config),
        }
    }

    /// The rules that the cursor is to have, if it has others or is not open.
    fn other_config(&self) -> Option<Config> {
        let config = self.handle.rules().cursor();
        let same = self.handle.cursor(|cursor| *cursor.config() == config) == Some(true);
        (!same).then_some(config)
    }

    /// Sends away all who wait.
    fn let_go(&mut self) {
        self.handle.open.store(false, Ordering::Release);
        std::mem::take(&mut self.orders).dismiss();
        if let Some(flight) = self.flight.take() {
            flight.refuse();
        }
        (self.pushes, self.letters) = (FuturesUnordered::new(), None);
    }

    /// Takes a visit and those behind it.
    fn welcome(&mut self, first: Visit, visits: &mut mpsc::Receiver<Visit>) {
        self.take(first);
        for _ in 0..VISITS_MAX {
            let Ok(next) = visits.try_recv() else { return };
            self.take(next);
        }
    }

    fn take(&mut self, visit: Visit) {
        if !self.leads || !self.is_open() {
            return visit.refuse();
        }
        let (now, handle) = (self.now(), self.handle.clone());
        let deadline = self.deadline(now);
        if !matches!(visit, Visit::Peek { .. } | Visit::Missing(_)) {
            self.moments.used = Instant::now();
        }
        match visit {
            Visit::Attend { from, attachment, consumers, gone, told } => {
                let soft = &mut self.soft;
                // Who goes makes room for who comes: one of them may be exclusive.
                if soft.attachment(from) == Some(attachment.0) {
                    soft.gone(from, gone);
                }
                let attended = handle.cursor(|cursor| soft.attend(cursor, from, attachment, &consumers, deadline));
                if attachment.1 && matches!(attended, Some(Some(_))) {
                    self.roll.attended(from);
                }
                soft.is_of(from, self.broker.0.router.hears(from));
                let _gone = told.send(attended.flatten().map_or(Heard::NotHere, Heard::Attended));
            }
            Visit::Settle { from, settled, told } => self.settle(from, &settled, now, told),
            Visit::Get { told, .. } | Visit::Purge(told) if self.holds_back() => drop(told.send(Heard::NotHere)),
            Visit::Get { from, attachment, consumer, told } => {
                let soft = &mut self.soft;
                let got = handle.cursor(|cursor| {
                    let got = soft.get(cursor, from, (attachment, consumer), (now, deadline))?;
                    Some(got.map(|outgoing| (push::item(&outgoing, 0), soft.ready(cursor, now.wall))))
                });
                let _gone = told.send(got.flatten().map_or(Heard::NotHere, Heard::Got));
            }
            Visit::Missing(offsets) => {
                offsets.into_iter().for_each(|offset| self.orders.settle(offset, Verdict::Accept))
            }
            Visit::Purge(told) => self.orders.change(Change::Purge, told),
            Visit::Count(told) => {
                self.show();
                let counts = handle.cursor(|cursor| handle.shown().counts(cursor, now)).unwrap_or_default();
                let _gone = told.send(Heard::Counted(counts));
            }
            Visit::Peek { from, count, told } => {
                let peeked = handle.cursor(|cursor| self.soft.peek(cursor, from, count, now));
                let _gone = told.send(peeked.map_or(Heard::NotHere, Heard::Peeked));
            }
            Visit::Seek { to, told } => self.orders.change(Change::Seek(to), told),
        }
    }

    fn settle(&mut self, from: NodeId, settled: &[Settled], now: Now, told: Teller) {
        let (soft, orders, handle) = (&mut self.soft, &mut self.orders, &self.handle);
        handle.cursor(|cursor| {
            for one in settled {
                if let Some(verdict) = soft.settle(cursor, from, one, now) {
                    orders.settle(one.offset, verdict);
                }
            }
        });
        // What was told before may wait, or be on its way: who tells it again waits for that too.
        match &mut self.flight {
            Some(flight) if self.orders.settlements() == 0 => flight.tell(told),
            _ => self.orders.tell(told),
        }
    }

    /// What an earlier leader delivered may be with consumers that did not say so yet.
    fn holds_back(&self) -> bool {
        !self.roll.is_over() && self.handle.cursor(|cursor| self.soft.has_old(cursor)) == Some(true)
    }

    /// Does what follows from the cursor and the time.
    fn turn(&mut self, now: Now) {
        if self.leads && self.is_open() {
            self.look();
            if !self.holds_back() {
                self.keep_rules(now);
            }
            self.push();
            self.send_letters();
            self.forget_sources();
            self.show();
        }
        self.propose();
    }

    /// What follows from the rules of the queue, once it is known who holds what: that neither expires nor is one too many.
    fn keep_rules(&mut self, now: Now) {
        let handle = self.handle.clone();
        handle.cursor(|cursor| self.keep_time(cursor, now));
        if let Some(max) = handle.length_max()
            && handle.rules().overflow == Overflow::DropHead
        {
            handle.cursor(|cursor| self.keep_length(cursor, now, max));
        }
        if !self.gives_back() {
            let deadline = self.deadline(now);
            handle.cursor(|cursor| self.soft.deliver(cursor, now, deadline));
        }
    }

    fn keep_time(&mut self, cursor: &AckSet, now: Now) {
        let late: Vec<i64> = orders::offsets(&self.soft.overdue(now, TURN_MAX));
        let again = Verdict::Release { counted: true, delay_ms: None };
        late.into_iter().for_each(|offset| self.orders.settle(offset, again));
        if cursor.next_expiry().is_some_and(|time| time <= now.wall)
            && !self.is_settling(|verdict| verdict == Verdict::Expire)
        {
            let over = self.soft.dispatch().expired(cursor, now.wall, TURN_MAX);
            orders::offsets(&over).into_iter().for_each(|offset| self.orders.settle(offset, Verdict::Expire));
        }
    }

    fn is_settling(&self, verdict: impl Fn(Verdict) -> bool + Copy) -> bool {
        self.orders.settles(verdict) || self.flight.as_ref().is_some_and(|flight| flight.settles(verdict))
    }

    /// Messages are on their way back to their places: nothing behind them may overtake them. Where they wait after a failure, it may.
    fn gives_back(&self) -> bool {
        let waits = self.handle.rules().retry.is_some();
        !waits && self.is_settling(|verdict| matches!(verdict, Verdict::Release { delay_ms: None, .. }))
    }

    /// Rejects what is more than `max`.
    fn keep_length(&mut self, cursor: &AckSet, now: Now, max: u64) {
        let over = self.soft.ready(cursor, now.wall).saturating_sub(max);
        let count = usize::try_from(over).unwrap_or(usize::MAX).min(TURN_MAX);
        if count > 0 {
            let surplus = orders::offsets(&self.soft.dispatch().surplus(cursor, now.wall, count));
            surplus.into_iter().for_each(|offset| self.orders.settle(offset, Verdict::Reject(Reason::Overflow)));
        }
    }

    fn push(&mut self) {
        for push in self.soft.pushes() {
            self.pushes.push(Box::pin(push::run(self.broker.clone(), self.handle.clone(), push)));
        }
    }

    fn pushed(&mut self, pushed: Pushed) {
        let Pushed { to, attachment, missing, left, outcome } = pushed;
        missing.into_iter().for_each(|offset| self.orders.settle(offset, Verdict::Accept));
        match outcome {
            push::Outcome::Taken => self.soft.pushed(to, attachment, left),
            push::Outcome::Stale => self.soft.is_stale(to, attachment),
            push::Outcome::Lost(push) if self.soft.attachment(to) == Some(attachment) => {
                let (broker, handle) = (self.broker.clone(), self.handle.clone());
                self.pushes.push(Box::pin(push::again(broker, handle, push)));
            }
            push::Outcome::Lost(_) => {}
        }
    }

    /// Looks who lives, and whether anybody uses the queue.
    fn look(&mut self) {
        self.had_consumers |= self.soft.has_consumers();
        if self.soft.has_remote(self.broker.node_id()) && self.moments.looked.elapsed() >= LOOK {
            self.moments.looked = Instant::now();
            let (me, router) = (self.broker.node_id(), &self.broker.0.router);
            self.soft.look(|node| if node == me { Some(0) } else { router.hears(node) });
        }
        if self.soft.has_consumers() {
            self.moments.used = Instant::now();
        }
        let spec = &self.handle.queue.spec;
        let unused = spec.auto_delete && self.had_consumers && !self.soft.has_consumers();
        let expired = self.expires_at().is_some_and(|time| time <= Instant::now());
        if (unused || expired) && !std::mem::replace(&mut self.ending, true) {
            self.broker.end_queue(self.handle.queue.clone());
        }
    }

    fn expires_at(&self) -> Option<Instant> {
        let expires = u64::try_from(self.handle.rules().expires_ms?).ok()?;
        Some(self.moments.used + Duration::from_millis(expires))
    }

    fn propose(&mut self) {
        if self.flight.is_some() || !self.leads || Instant::now() < self.moments.propose_at {
            return;
        }
        // Its policy may have changed while it was open.
        if let Some(config) = self.other_config().filter(|_| self.is_open()) {
            self.orders.open(config);
        }
        if self.orders.is_empty() {
            return;
        }
        let end = self.handle.local.raft().partition(|machine| machine.high_watermark()).unwrap_or(0);
        let keep = self.soft.dispatch().taken();
        let orders = std::mem::take(&mut self.orders);
        let (flight, rest) = orders.propose(self.handle.local.raft(), self.broker.clock().wall_ms(), (end, keep));
        (self.flight, self.orders) = (Some(flight), rest);
    }

    fn decided(&mut self, decided: Decided) {
        self.flight = None;
        match decided {
            Decided::Committed { ranges, rewind, refused, strained } => {
                if strained {
                    self.moments.letters_at = Instant::now() + LETTERS_PAUSE;
                }
                if !refused.is_empty() {
                    self.orders.put_back(refused);
                    self.moments.propose_at = Instant::now() + FULL_PAUSE;
                }
                self.soft.dispatch().applied(ranges);
                rewind.into_iter().for_each(|to| self.soft.dispatch().rewind(to));
            }
            Decided::Failed(orders, why) => {
                self.orders.put_back(orders);
                self.moments.propose_at = Instant::now() + AGAIN;
                tracing::debug!(group = self.handle.local.group().0, why, "what became of messages is not committed");
            }
        }
    }

    /// When something is to be done without being asked.
    fn next(&mut self, now: Now) -> Option<Instant> {
        if !self.leads || !self.is_open() {
            return self.next_proposal();
        }
        let here = Instant::now();
        let until = |at: i64, now: i64| here + Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(1));
        let times = self.handle.cursor(|cursor| (cursor.due_after(now.wall), cursor.expiry_after(now.wall)));
        let (due, expiry) = times.unwrap_or_default();
        let due = due.filter(|_| self.soft.has_consumers() || self.handle.length_max().is_some());
        let walls = [due, expiry].into_iter().flatten().map(|at| until(at, now.wall));
        let soft = [self.soft.next_deadline(), self.soft.again_at(now)].into_iter().flatten();
        let steady = soft.map(|at| until(at, now.steady)).min();
        let remote = self.soft.has_remote(self.broker.node_id()).then_some(self.moments.looked + LOOK);
        let grace = self.holds_back().then_some(self.roll.until);
        let letters = self.may_send_letters().then_some(self.moments.letters_at.max(here));
        let expires = self.expires_at().filter(|_| !self.ending && !self.soft.has_consumers());
        walls.chain([steady, remote, grace, letters, expires, self.next_proposal()].into_iter().flatten()).min()
    }

    /// When the next entry is proposed: the end of the one before wakes the loop by itself.
    fn next_proposal(&self) -> Option<Instant> {
        (self.leads && self.flight.is_none() && !self.orders.is_empty()).then_some(self.moments.propose_at)
    }

    /// Whether there are letters to be sent. A round waits until what the last one found is committed: it would find the same again.
    fn may_send_letters(&self) -> bool {
        let idle = self.letters.is_none() && self.flight.is_none() && self.orders.is_empty();
        idle && self.handle.cursor(|cursor| cursor.counts(0).dead_pending > 0) == Some(true)
    }

    fn send_letters(&mut self) {
        if self.moments.letters_at <= Instant::now() && self.may_send_letters() {
            self.letters = Some(Box::pin(letters::round(self.broker.clone(), self.handle.clone())));
        }
    }

    /// Forgets sources of dead letters that are no more: their groups are never given out again.
    fn forget_sources(&mut self) {
        if self.moments.sources.elapsed() < FORGET {
            return;
        }
        self.moments.sources = Instant::now();
        let (image, handle) = (self.broker.image(), &self.handle);
        let is_gone = |source: &Place| {
            let is_missing = source.group < image.next_group && image.partition_of_group(source.group).is_none();
            handle.is_missing_for(FORGET, *source, is_missing)
        };
        let raft = handle.local.raft();
        let gone =
            raft.partition(|machine| machine.inbox().sources().map(|(source, _)| source).filter(is_gone).collect());
        let gone: Vec<Place> = gone.unwrap_or_default();
        gone.into_iter().take(TURN_MAX).for_each(|source| self.orders.add(CursorCommand::ForgetSource(source)));
    }

    fn sent(&mut self, round: Round) {
        self.letters = None;
        if round.failed {
            self.moments.letters_at = Instant::now() + LETTERS_PAUSE;
        }
        let run = |command: Command| CursorCommand::Run { cursor: CURSOR, command };
        round.commands.into_iter().for_each(|command| self.orders.add(run(command)));
    }
}
