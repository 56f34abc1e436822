//! What the leader of a queue knows beside the replicated cursor: gateways with their consumers, and who has which message.
//! Pure: time and cursor come in, orders go out. Bounded: deliveries by credit, what waits to be pushed by `OUTBOX_MAX`.
//! Invariant: a consumer that goes, however it goes, gives back at once what it held.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::NodeId;
use model::controller::topology::Arguments;
use model::cursor::ackset::{AckSet, ConsumerId, Delivery, Dispatch, OffsetSet, Ranges, Verdict};
use model::planted::{self, Bug};

use super::pace::Pace;
use super::shown::Shown;
use crate::broker::queues::types::CREDIT_MAX;
use crate::peer::queues::{Attachment, Attendant, Settled, Unattended};

/// Messages that were given to consumers and did not leave for their gateways yet.
const OUTBOX_MAX: usize = 1_024;
/// Messages of one push, at most.
const PUSH_MAX: usize = 256;
/// A gateway that was found dead so often in a row has no consumers any more.
const DEAD_LOOKS: u32 = 4;
/// Who settles messages that nobody has any more.
const NOBODY: ConsumerId = ConsumerId(0);

/// The time, by two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::broker::queues) struct Now {
    /// Milliseconds since 1970: when messages are due, and expire.
    pub(in crate::broker::queues) wall: i64,
    /// Milliseconds that never go back: how long a delivery lasts.
    pub(in crate::broker::queues) steady: i64,
}

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// As its gateway counts.
    pub(super) consumer: u64,
    pub(super) offset: i64,
    pub(super) failures: u32,
    pub(super) redelivered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Consumer {
    gateway: NodeId,
    number: u64,
    credit: usize,
    priority: i32,
    exclusive: bool,
    pace: Option<Pace>,
    gets: bool,
}

/// A node with consumers.
struct Gateway {
    attachment: Attachment,
    consumers: BTreeMap<u64, ConsumerId>,
    outbox: VecDeque<Outgoing>,
    /// A push is on its way.
    pushing: bool,
    pushes: u64,
    /// Which start of its process it is of, once that is known.
    boot: Option<u64>,
    dead_looks: u32,
}

/// One push to be made.
pub(super) struct Push {
    pub(super) to: NodeId,
    pub(super) attachment: Attachment,
    pub(super) number: u64,
    pub(super) items: Vec<Outgoing>,
}

/// See the file header.
pub(super) struct Soft {
    dispatch: Dispatch,
    gateways: BTreeMap<NodeId, Gateway>,
    /// The last attachment of each gateway that is gone: pushes were numbered under it, and it does not come back.
    ended: BTreeMap<NodeId, Attachment>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    last: u64,
    /// How many of them consume.
    consuming: u64,
    /// Delivered by this leader.
    seen: OffsetSet,
    /// Deliveries, and those of them that were marked.
    delivered: u64,
    redelivered: u64,
    /// Another leader may have delivered what is below.
    old_below: i64,
    /// All below was settled once: it comes again after a seek.
    settled_below: i64,
    /// One consumer gets everything, until it goes.
    single: bool,
    active: Option<ConsumerId>,
    /// Not all consumers may be served alike.
    mixed: bool,
    /// Of the whole queue.
    pace: Option<Pace>,
}

impl Soft {
    /// Nobody is here yet. An earlier leader may have delivered what is below `old_below`.
    pub(super) fn new(old_below: i64, rules: &Arguments) -> Self {
        Self {
            dispatch: Dispatch::default(),
            gateways: BTreeMap::new(),
            ended: BTreeMap::new(),
            consumers: BTreeMap::new(),
            last: NOBODY.0,
            consuming: 0,
            seen: OffsetSet::default(),
            delivered: 0,
            redelivered: 0,
            old_below,
            settled_below: 0,
            single: rules.single_active_consumer,
            active: None,
            mixed: false,
            pace: rules.max_rate.map(Pace::new),
        }
    }

    /// The rules that can change while the queue lives.
    pub(super) fn follow(&mut self, rules: &Arguments) {
        match (self.pace, rules.max_rate) {
            (Some(pace), Some(rate)) if pace.is(rate) => {}
            (_, rate) => self.pace = rate.map(Pace::new),
        }
    }

    /// The deliveries.
    pub(super) fn dispatch(&mut self) -> &mut Dispatch {
        &mut self.dispatch
    }

    /// Whether an earlier leader may have delivered what is not settled yet.
    pub(super) fn has_old(&self, cursor: &AckSet) -> bool {
        cursor.state().floor < self.old_below
    }

    /// Whether somebody consumes.
    pub(super) fn has_consumers(&self) -> bool {
        self.consuming > 0
    }

    /// Whether any other node has consumers.
    pub(super) fn has_remote(&self, me: NodeId) -> bool {
        self.gateways.keys().any(|node| *node != me)
    }

    /// How many messages nobody has that may be delivered.
    pub(super) fn ready(&self, cursor: &AckSet, now_ms: i64) -> u64 {
        cursor.counts(now_ms).ready.saturating_sub(self.dispatch.taken_count())
    }

    /// What only this knows, where each delivery lasts `timeout_ms` at most.
    pub(super) fn shown(&self, timeout_ms: i64) -> Shown {
        Shown {
            taken: self.dispatch.taken_count(),
            unacked: self.dispatch.in_flight() as u64,
            consumers: self.consuming,
            oldest_since: self.dispatch.next_deadline().map(|deadline| deadline.saturating_sub(timeout_ms)),
            delivered: self.delivered,
            redelivered: self.redelivered,
        }
    }

    /// A gateway says who is there; who of them is not taken. `None`: that attachment is over, it has to begin another.
    pub(super) fn attend(
        &mut self,
        cursor: &AckSet,
        from: NodeId,
        (attachment, all): (Attachment, bool),
        attendants: &[Attendant],
        deadline: i64,
    ) -> Option<Vec<(u64, Unattended)>> {
        let known = self.gateways.get(&from).map(|gateway| gateway.attachment);
        let is_over = |by: &Attachment, from: u64| by.session == attachment.session && by.number >= from;
        let overtaken = known.is_some_and(|known| is_over(&known, attachment.number + 1));
        let ended = known.is_none() && self.ended.get(&from).is_some_and(|ended| is_over(ended, attachment.number));
        if overtaken || ended {
            return None;
        }
        if known != Some(attachment) {
            self.leave(from);
            self.open(from, attachment);
        }
        let mut refused = Vec::new();
        for attendant in attendants {
            if let Err(why) = self.welcome(cursor, from, attendant, deadline) {
                refused.push((attendant.consumer, why));
            }
        }
        if all {
            let named: BTreeSet<u64> = attendants.iter().map(|attendant| attendant.consumer).collect();
            let gateway = self.gateways.get(&from).into_iter();
            let others: Vec<u64> = gateway.flat_map(|gateway| gateway.consumers.keys().copied()).collect();
            self.gone(from, others.into_iter().filter(|consumer| !named.contains(consumer)));
        }
        self.look_over();
        Some(refused)
    }

    fn open(&mut self, node: NodeId, attachment: Attachment) {
        let (consumers, outbox) = (BTreeMap::new(), VecDeque::new());
        let gateway = Gateway { attachment, consumers, outbox, pushing: false, pushes: 0, boot: None, dead_looks: 0 };
        self.gateways.insert(node, gateway);
    }

    fn welcome(
        &mut self,
        cursor: &AckSet,
        from: NodeId,
        attendant: &Attendant,
        deadline: i64,
    ) -> Result<(), Unattended> {
        let Attendant { consumer: number, priority, exclusive, max_rate, gets, .. } = *attendant;
        let credit = attendant.credit.min(CREDIT_MAX) as usize;
        if let Some(id) = self.id(from, number) {
            self.set_credit(id, credit);
            if let Some(known) = self.consumers.get_mut(&id) {
                (known.exclusive, known.gets) = (exclusive, gets);
            }
            return Ok(());
        }
        let mut others = self.consumers.values().filter(|other| !other.gets && !gets);
        if others.any(|other| other.exclusive || exclusive) {
            return Err(Unattended::Exclusive);
        }
        let pace = max_rate.map(Pace::new);
        let id = self.add(Consumer { gateway: from, number, credit, priority, exclusive, pace, gets });
        let held = attendant.holds.iter().flat_map(|hold| (hold.first..hold.end).map(|offset| (offset, hold.failures)));
        let is_held = |(offset, failures): &(i64, u32)| {
            cursor.is_live(*offset) && cursor.exception(*offset).failures == *failures
        };
        for (offset, _) in held.take(CREDIT_MAX as usize).filter(is_held) {
            self.dispatch.claim(id, offset, deadline);
        }
        Ok(())
    }

    fn add(&mut self, consumer: Consumer) -> ConsumerId {
        self.last += 1;
        let id = ConsumerId(self.last);
        if let Some(gateway) = self.gateways.get_mut(&consumer.gateway) {
            gateway.consumers.insert(consumer.number, id);
        }
        self.dispatch.set_credit(id, consumer.credit);
        self.consumers.insert(id, consumer);
        id
    }

    fn id(&self, from: NodeId, number: u64) -> Option<ConsumerId> {
        self.gateways.get(&from)?.consumers.get(&number).copied()
    }

    /// What did not leave yet and is more than the consumer may have now goes back.
    fn set_credit(&mut self, id: ConsumerId, credit: usize) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let less = std::mem::replace(&mut consumer.credit, credit) > credit;
        self.dispatch.set_credit(id, credit);
        if less && let Some(gateway) = self.gateways.get_mut(&consumer.gateway) {
            let number = consumer.number;
            let (back, stays) = gateway.outbox.drain(..).partition(|outgoing| outgoing.consumer == number);
            gateway.outbox = stays;
            let back: VecDeque<Outgoing> = back;
            // Another consumer may have done one of them meanwhile.
            let is_held = |outgoing: &&Outgoing| self.dispatch.holder(outgoing.offset) == Some(id);
            let back: Vec<i64> = back.iter().filter(is_held).map(|outgoing| outgoing.offset).collect();
            self.dispatch.applied(back.into_iter().map(|offset| (offset, offset + 1)));
        }
    }

    /// Consumers are gone.
    pub(super) fn gone(&mut self, from: NodeId, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let Some(gateway) = self.gateways.get_mut(&from) else { return };
            let Some(id) = gateway.consumers.remove(&number) else { continue };
            gateway.outbox.retain(|outgoing| outgoing.consumer != number);
            self.forget(id);
        }
        self.look_over();
    }

    /// A gateway is gone.
    pub(super) fn leave(&mut self, node: NodeId) {
        let Some(gateway) = self.gateways.remove(&node) else { return };
        self.ended.insert(node, gateway.attachment);
        gateway.consumers.into_values().for_each(|id| self.forget(id));
        self.look_over();
    }

    fn forget(&mut self, id: ConsumerId) {
        self.consumers.remove(&id);
        let held = if planted::is(Bug::UnackedOrphaned) { Vec::new() } else { self.dispatch.held(id) };
        self.dispatch.remove(id);
        self.dispatch.applied(held.into_iter().map(|offset| (offset, offset + 1)));
    }

    /// Chooses the active one of single active consumers: who holds messages, then who is it already, then the highest priority, then
    /// who came first.
    fn look_over(&mut self) {
        let consuming = self.consumers.values().filter(|consumer| !consumer.gets);
        self.consuming = consuming.clone().count() as u64;
        let mut levels = consuming.map(|consumer| consumer.priority);
        let first = levels.next();
        self.mixed = self.single || levels.any(|level| Some(level) != first);
        self.mixed |= self.consumers.values().any(|consumer| consumer.pace.is_some());
        if !self.single {
            return;
        }
        let candidates = self.consumers.iter().filter(|(_, consumer)| !consumer.gets);
        let rank = |(id, consumer): &(&ConsumerId, &Consumer)| {
            let works = !self.dispatch.held(**id).is_empty();
            (works, self.active == Some(**id), consumer.priority, std::cmp::Reverse(id.0))
        };
        self.active = candidates.max_by_key(rank).map(|(id, _)| *id);
    }

    /// A gateway is of this start of its process, as heartbeats say.
    pub(super) fn is_of(&mut self, node: NodeId, boot: Option<u64>) {
        if let Some(gateway) = self.gateways.get_mut(&node) {
            gateway.boot = gateway.boot.or(boot);
        }
    }

    /// Who of the other nodes is dead, or has another process by now: their messages are given back. `boot` is the one that is heard.
    pub(super) fn look(&mut self, boot: impl Fn(NodeId) -> Option<u64>) {
        let mut dead = Vec::new();
        for (node, gateway) in &mut self.gateways {
            let heard = boot(*node);
            gateway.dead_looks = if heard.is_some() { 0 } else { gateway.dead_looks + 1 };
            let restarted = heard.is_some() && gateway.boot.is_some_and(|known| heard != Some(known));
            gateway.boot = gateway.boot.or(heard);
            dead.extend((restarted || gateway.dead_looks >= DEAD_LOOKS).then_some(*node));
        }
        dead.into_iter().for_each(|node| self.leave(node));
    }

    /// Whether somebody has the message, or has settled it.
    pub(super) fn is_taken(&self, offset: i64) -> bool {
        self.dispatch.is_taken(offset)
    }

    /// Gives messages to consumers: to those of the highest priority first.
    pub(super) fn deliver(&mut self, cursor: &AckSet, now: Now, deadline: i64) {
        let waiting: usize = self.gateways.values().map(|gateway| gateway.outbox.len()).sum();
        let paced = self.pace.map_or(usize::MAX, |pace| pace.room(now.steady));
        let mut room = OUTBOX_MAX.saturating_sub(waiting).min(paced);
        if !self.mixed {
            self.deliver_alike(cursor, now, deadline, room);
            return;
        }
        let consuming = self.consumers.values().filter(|consumer| !consumer.gets);
        let levels: BTreeSet<i32> = consuming.map(|consumer| consumer.priority).collect();
        for level in levels.into_iter().rev() {
            for (id, consumer) in &self.consumers {
                let turn = consumer.priority == level && (!self.single || self.active == Some(*id));
                let more = consumer.pace.map_or(usize::MAX, |pace| pace.room(now.steady));
                let credit = consumer.credit.min(self.dispatch.count_of(*id).saturating_add(more));
                self.dispatch.set_credit(*id, if turn && !consumer.gets { credit } else { 0 });
            }
            room -= self.deliver_alike(cursor, now, deadline, room);
        }
        // They may be served alike again before anybody names their credit.
        for (id, consumer) in &self.consumers {
            self.dispatch.set_credit(*id, consumer.credit);
        }
    }

    fn deliver_alike(&mut self, cursor: &AckSet, now: Now, deadline: i64, count_max: usize) -> usize {
        self.settled_below = self.settled_below.max(cursor.state().floor);
        let deliveries = self.dispatch.deliver(cursor, now.wall, deadline, count_max);
        for delivery in &deliveries {
            let Some(consumer) = self.consumers.get_mut(&delivery.consumer) else { continue };
            consumer.pace.iter_mut().for_each(|pace| pace.spend(now.steady));
            let Consumer { gateway, number, .. } = *consumer;
            let outgoing = self.outgoing(delivery, number, now);
            if let Some(gateway) = self.gateways.get_mut(&gateway) {
                gateway.outbox.push_back(outgoing);
            }
        }
        if !deliveries.is_empty() {
            self.seen.remove(0, cursor.state().floor);
        }
        deliveries.len()
    }

    /// Notes a delivery to the consumer that its gateway calls `number`.
    fn outgoing(&mut self, delivery: &Delivery, number: u64, now: Now) -> Outgoing {
        let Delivery { offset, failures, .. } = *delivery;
        let again = self.seen.insert(offset, offset + 1) == 0;
        let redelivered = again || failures > 0 || offset < self.old_below.max(self.settled_below);
        let forgets = planted::is(Bug::FailuresForgotten) && offset < self.old_below;
        self.pace.iter_mut().for_each(|pace| pace.spend(now.steady));
        self.delivered += 1;
        self.redelivered += u64::from(redelivered);
        Outgoing { consumer: number, offset, failures: if forgets { 0 } else { failures }, redelivered }
    }

    /// One message for one consumer, the same again if it has one. `None`: the attachment is not known.
    pub(super) fn get(
        &mut self,
        cursor: &AckSet,
        from: NodeId,
        (attachment, number): (Attachment, u64),
        (now, deadline): (Now, i64),
    ) -> Option<Option<Outgoing>> {
        self.gateways.get(&from).filter(|gateway| gateway.attachment == attachment)?;
        let id = self.id(from, number).unwrap_or_else(|| {
            let (credit, priority) = (0, 0);
            self.add(Consumer { gateway: from, number, credit, priority, exclusive: false, pace: None, gets: true })
        });
        if let Some(offset) = self.dispatch.held(id).first().copied() {
            let failures = cursor.exception(offset).failures;
            return Some(Some(Outgoing { consumer: number, offset, failures, redelivered: true }));
        }
        self.settled_below = self.settled_below.max(cursor.state().floor);
        self.seen.remove(0, cursor.state().floor);
        let delivery = self.dispatch.deliver_to(id, cursor, now.wall, deadline);
        Some(delivery.map(|delivery| self.outgoing(&delivery, number, now)))
    }

    /// What is to be ordered for a settlement; nothing if it comes too late to mean anything.
    pub(super) fn settle(&mut self, cursor: &AckSet, from: NodeId, settled: &Settled, now: Now) -> Option<Verdict> {
        let Settled { consumer, offset, failures, verdict } = *settled;
        let sender = self.id(from, consumer);
        let holder = self.dispatch.holder(offset);
        if !cursor.is_live(offset) {
            if holder.is_some() && holder == sender {
                self.dispatch.applied([(offset, offset + 1)]);
            }
            return None;
        }
        match holder {
            Some(holder) if Some(holder) == sender && cursor.exception(offset).failures == failures => {
                self.dispatch.settle(holder, offset);
            }
            // It was done, whoever is about to do it again.
            Some(holder) if verdict == Verdict::Accept => drop_flight(&mut self.dispatch, holder, offset),
            Some(_) => return None,
            None if self.dispatch.is_taken(offset) => return None,
            None if verdict != Verdict::Accept && cursor.exception(offset).failures != failures => return None,
            None => {
                self.dispatch.claim(NOBODY, offset, now.steady);
                drop_flight(&mut self.dispatch, NOBODY, offset);
            }
        }
        Some(verdict)
    }

    /// Pushes that can be made now.
    pub(super) fn pushes(&mut self) -> Vec<Push> {
        let push = |(node, gateway): (&NodeId, &mut Gateway)| {
            if gateway.pushing || gateway.outbox.is_empty() {
                return None;
            }
            gateway.pushing = true;
            gateway.pushes += 1;
            let count = gateway.outbox.len().min(PUSH_MAX);
            let items = gateway.outbox.drain(..count).collect();
            Some(Push { to: *node, attachment: gateway.attachment, number: gateway.pushes, items })
        };
        self.gateways.iter_mut().filter_map(push).collect()
    }

    /// A push has arrived, but for `left`, which there was no room for.
    pub(super) fn pushed(&mut self, to: NodeId, attachment: Attachment, left: Vec<Outgoing>) {
        let current = |gateway: &&mut Gateway| gateway.attachment == attachment;
        let Some(gateway) = self.gateways.get_mut(&to).filter(current) else { return };
        gateway.pushing = false;
        for outgoing in left.into_iter().rev().filter(|outgoing| gateway.consumers.contains_key(&outgoing.consumer)) {
            gateway.outbox.push_front(outgoing);
        }
    }

    /// The gateway does not know the attachment any more: it has no consumers until it says so anew.
    pub(super) fn is_stale(&mut self, to: NodeId, attachment: Attachment) {
        if self.gateways.get(&to).is_some_and(|gateway| gateway.attachment == attachment) {
            self.leave(to);
        }
    }

    /// Whether a push of this attachment still has somebody to go to.
    pub(super) fn attachment(&self, node: NodeId) -> Option<Attachment> {
        self.gateways.get(&node).map(|gateway| gateway.attachment)
    }

    /// When the first delivery is late, by the steady clock.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.dispatch.next_deadline()
    }

    /// When somebody may have a message again who has had enough for now, by the steady clock.
    pub(super) fn again_at(&self, now: Now) -> Option<i64> {
        let paces = self.pace.into_iter().chain(self.consumers.values().filter_map(|consumer| consumer.pace));
        paces.filter_map(|pace| pace.again_at(now.steady)).min()
    }

    /// Deliveries that nobody settled in time.
    pub(super) fn overdue(&mut self, now: Now, count_max: usize) -> Ranges {
        self.dispatch.overdue(now.steady, count_max)
    }
}

fn drop_flight(dispatch: &mut Dispatch, holder: ConsumerId, offset: i64) {
    let held = dispatch.settle(holder, offset);
    debug_assert!(held, "{offset} is not with {holder:?}");
}
