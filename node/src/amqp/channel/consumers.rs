//! Consumers of one channel: messages come from their subscriptions and go out as basic.deliver, in turn.
//! Bound: what a subscription was given credit for; a client that does not read gets nothing more once the outbox is full.
//! Invariant: a cancelled consumer gets nothing; what it was on its way to get goes back to the queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use model::controller::topology::Queue;
use model::cursor::ackset::{Reason, Verdict};
use tokio::sync::mpsc;
use wire::amqp::method::basic;
use wire::amqp::{Properties, RawProperties, ShortStr, TableBuilder, Value};

use super::Channel;
use super::acknowledge::{GIVEN_BACK, Held};
use crate::amqp::outbox::{self, Outbox};
use crate::broker::Broker;
use crate::broker::queues::message::Content;
use crate::broker::queues::{CREDIT_MAX, Delivered, QueueEvent, Subscription};
use crate::broker::trace::{Operation, Traced, age_ms};

/// Credit of a consumer that acknowledges nothing: what it has not been sent comes soon enough.
const UNACKNOWLEDGED_CREDIT: u32 = 1000;

/// A consumer.
pub(super) struct Consumer {
    pub queue: Arc<Queue>,
    pub subscription: Arc<Subscription>,
    pub events: mpsc::Receiver<QueueEvent>,
    /// What came and is not delivered.
    pub backlog: VecDeque<Delivered>,
    /// Deliveries count as acknowledged.
    pub no_ack: bool,
}

impl Consumer {
    fn give_back_backlog(&mut self) {
        self.backlog.drain(..).for_each(|message| self.subscription.settle(message.offset, GIVEN_BACK));
    }

    /// Gives back what comes to one that is cancelled; whether it still holds deliveries.
    fn is_held(&mut self, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(Some(event)) = self.events.poll_recv(context) {
            if let QueueEvent::Delivered(messages) = event {
                self.backlog.extend(messages);
            }
        }
        self.give_back_backlog();
        Arc::strong_count(&self.subscription) > 1
    }
}

/// Something for a consumer.
pub(super) enum ConsumerEvent {
    Delivery(ShortStr, Delivered),
    /// Why it gets nothing more.
    Cancelled(ShortStr, String),
}

/// Those of one channel, by tag.
#[derive(Default)]
pub(super) struct Consumers {
    by_tag: BTreeMap<ShortStr, Consumer>,
    /// Cancelled ones whose deliveries are not settled.
    retired: Vec<Consumer>,
    /// The one that was served last.
    served: ShortStr,
    /// The credit that a new one gets; 0: no limit.
    pub prefetch: u16,
}

/// Messages that a consumer may hold, given its own limit and its channel's; 0 is none.
pub(super) fn credit(no_ack: bool, own: u16, of_channel: u16) -> u32 {
    let limits = [own, of_channel].into_iter().filter(|limit| *limit > 0).map(u32::from);
    if no_ack { UNACKNOWLEDGED_CREDIT } else { limits.min().unwrap_or(CREDIT_MAX) }
}

impl Consumers {
    pub(super) fn has(&self, tag: &ShortStr) -> bool {
        self.by_tag.contains_key(tag)
    }

    pub(super) fn insert(&mut self, tag: ShortStr, consumer: Consumer) {
        self.by_tag.insert(tag, consumer);
    }

    /// Cancels one: it gets nothing more, what it has may still be settled.
    pub(super) fn retire(&mut self, tag: &ShortStr) {
        if let Some(mut consumer) = self.by_tag.remove(tag) {
            consumer.subscription.retire();
            consumer.give_back_backlog();
            self.retired.push(consumer);
        }
    }

    /// Gives all of them the credit that holds now.
    pub(super) fn set_credit(&self, of_channel: u16) {
        for consumer in self.by_tag.values() {
            consumer.subscription.set_credit(credit(consumer.no_ack, self.prefetch, of_channel));
        }
    }

    /// The next event, of each consumer in turn; deliveries only if there may be one and the client reads. Cancel safe.
    pub(super) async fn next(&mut self, outbox: &Outbox, may_deliver: bool) -> ConsumerEvent {
        let mut room = std::pin::pin!(outbox.room_for_deliveries());
        let mut has_room = false;
        std::future::poll_fn(|context| {
            self.retired.retain_mut(|consumer| consumer.is_held(context));
            has_room = has_room || room.as_mut().poll(context).is_ready();
            if has_room { self.poll(context, may_deliver) } else { Poll::Pending }
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>, may_deliver: bool) -> Poll<ConsumerEvent> {
        let served = self.served.clone();
        let behind = (std::ops::Bound::Excluded(&served), std::ops::Bound::Unbounded);
        let mut found = self.by_tag.range_mut(behind).find_map(|(tag, one)| one.poll(tag, context, may_deliver));
        if found.is_none() {
            found = self.by_tag.range_mut(..=&served).find_map(|(tag, one)| one.poll(tag, context, may_deliver));
        }
        match found {
            Some(event) => {
                if let ConsumerEvent::Delivery(tag, _) = &event {
                    self.served = tag.clone();
                }
                Poll::Ready(event)
            }
            None => Poll::Pending,
        }
    }
}

impl Consumer {
    fn poll(&mut self, tag: &ShortStr, context: &mut Context<'_>, may_deliver: bool) -> Option<ConsumerEvent> {
        while self.backlog.is_empty() {
            match self.events.poll_recv(context) {
                Poll::Ready(Some(QueueEvent::Delivered(messages))) => self.backlog.extend(messages),
                Poll::Ready(Some(QueueEvent::Cancelled(why))) => {
                    return Some(ConsumerEvent::Cancelled(tag.clone(), why));
                }
                Poll::Ready(None) => {
                    return Some(ConsumerEvent::Cancelled(tag.clone(), "the subscription ended".to_owned()));
                }
                Poll::Pending => return None,
            }
        }
        may_deliver.then(|| self.backlog.pop_front().map(|message| ConsumerEvent::Delivery(tag.clone(), message)))?
    }
}

impl Channel {
    pub(super) fn consumer_event(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Delivery(tag, message) => self.deliver(tag, message),
            ConsumerEvent::Cancelled(consumer_tag, why) => {
                self.consumers.retire(&consumer_tag);
                tracing::debug!(consumer = ?consumer_tag, why, "a consumer is cancelled");
                if self.session.cancels_notified {
                    self.put(basic::Cancel { consumer_tag, no_wait: true });
                }
            }
        }
    }

    fn deliver(&mut self, consumer_tag: ShortStr, message: Delivered) {
        let Some(consumer) = self.consumers.by_tag.get(&consumer_tag) else { return };
        let traced = traced(self.session.broker(), &consumer.queue, &message);
        let held = Held { subscription: consumer.subscription.clone(), offset: message.offset, traced };
        let Some((content, properties)) = readable(&message, &consumer.queue) else {
            return held.settle(Verdict::Reject(Reason::Failed));
        };
        let (delivery_tag, no_ack) = (self.unacked.next_tag(), consumer.no_ack);
        let Content { exchange, routing_key, body, .. } = content;
        let redelivered = message.redelivered;
        let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
        let whole = outbox::Content { properties: &properties, body: &body };
        if !self.session.outbox.put_content(self.number, deliver, &whole) {
            tracing::warn!(
                offset = message.offset,
                "the properties of a message do not fit into a frame of this client"
            );
            held.settle(Verdict::Reject(Reason::Failed));
        } else if no_ack {
            held.settle(Verdict::Accept);
        } else {
            self.unacked.hold(delivery_tag, held);
        }
    }
}

/// The delivery, if it is traced; logged as one.
pub(super) fn traced(broker: &Broker, queue: &Queue, message: &Delivered) -> Option<Box<Traced>> {
    let content = || Content::from_batch(&message.record, message.offset, &queue.name);
    let traced = broker.traced(queue, || content().map(|content| content.properties.read()).unwrap_or_default())?;
    let result = if message.redelivered { "delivered again" } else { "delivered" };
    let age_ms = age_ms(&message.record, broker.clock().wall_ms());
    traced.log_after(Operation { op: "deliver", offset: Some(message.offset), result }, age_ms);
    Some(Box::new(traced))
}

/// The message, and the properties that this delivery has.
pub(super) fn readable(message: &Delivered, queue: &Queue) -> Option<(Content, RawProperties)> {
    let content = Content::from_batch(&message.record, message.offset, &queue.name);
    if content.is_none() {
        tracing::warn!(queue = queue.name, offset = message.offset, "a record that cannot be read is dead");
    }
    let content = content?;
    let properties = match message.failures {
        0 => content.properties.clone(),
        failures => counted(&content.properties.read(), failures),
    };
    Some((content, properties))
}

/// With the header that says how often a message failed.
fn counted(properties: &Properties, failures: u32) -> RawProperties {
    let headers = properties.headers.clone().unwrap_or_default();
    let kept = headers.iter().filter(|(name, _)| **name != *b"x-delivery-count");
    let kept = kept.fold(TableBuilder::default(), |table, (name, value)| table.put(&*name, &value));
    let headers = kept.put("x-delivery-count", &Value::I64(failures.into())).build().unwrap_or(headers);
    Properties { headers: Some(headers), ..properties.clone() }.to_raw()
}
