//! Methods of class basic, but for what messages go through: `publish`, `acknowledge`, `consumers`.

use std::collections::VecDeque;
use std::sync::Arc;

use model::controller::topology::max_rate;
use model::cursor::ackset::{Reason, Verdict};
use tokio::sync::mpsc;
use wire::amqp::ShortStr;
use wire::amqp::method::basic::{self, Method};

use super::acknowledge::Held;
use super::consumers::{Consumer, credit, readable, traced};
use super::queues::{clamp, unanswered};
use super::replies::PSEUDO_QUEUE;
use super::{Channel, argument, text};
use crate::amqp::assembly::Content;
use crate::amqp::failure::{Result, failure};
use crate::amqp::outbox;
use crate::broker::queues::{ConsumeError, ConsumerSpec, Got};

/// Events of a consumer that wait to be looked at; each is a few messages.
const EVENTS: usize = 4;

impl Channel {
    pub(super) async fn basic(&mut self, method: Method, content: Option<Content>) -> Result<()> {
        match method {
            Method::Publish(publish) => self.publish(&publish, content),
            Method::Ack(ack) => self.acknowledge(&ack),
            Method::Nack(nack) => self.nack(&nack),
            Method::Reject(reject) => self.reject(&reject),
            Method::Qos(qos) => self.qos(&qos),
            Method::Consume(consume) => self.consume(consume).await,
            Method::Cancel(cancel) => {
                self.consumers.retire(&cancel.consumer_tag);
                self.replies.take_if(|replies| replies.tag == cancel.consumer_tag);
                self.answer(basic::CancelOk { consumer_tag: cancel.consumer_tag }, cancel.no_wait);
                Ok(())
            }
            Method::CancelOk(_) => Ok(()),
            Method::Get(get) => self.get(&get).await,
            Method::RecoverAsync(recover) => self.recover(recover.requeue),
            Method::Recover(recover) => {
                self.recover(recover.requeue)?;
                self.put(basic::RecoverOk {});
                Ok(())
            }
            other => Err(failure!(CommandInvalid, "{} is not for a server", other.name())),
        }
    }

    /// Takes effect at once, for consumers that there are, too.
    fn qos(&mut self, qos: &basic::Qos) -> Result<()> {
        if qos.prefetch_size != 0 {
            return Err(failure!(NotImplemented, "prefetch_size!=0 ({})", qos.prefetch_size));
        }
        if qos.global {
            self.unacked.prefetch = qos.prefetch_count;
        } else {
            self.consumers.prefetch = qos.prefetch_count;
        }
        self.consumers.set_credit(self.unacked.prefetch);
        self.put(basic::QosOk {});
        Ok(())
    }

    async fn consume(&mut self, consume: basic::Consume) -> Result<()> {
        let tag = match text(&consume.consumer_tag)? {
            "" => {
                ShortStr::shortened(&format!("amq.ctag-{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>()))
            }
            _ => consume.consumer_tag,
        };
        if self.consumers.has(&tag) || self.replies.as_ref().is_some_and(|replies| replies.tag == tag) {
            return Err(failure!(NotAllowed, "attempt to reuse consumer tag '{}'", tag.escape_ascii()));
        }
        if *consume.queue == *PSEUDO_QUEUE.as_bytes() {
            return self.consume_replies(tag, consume.no_ack, consume.no_wait);
        }
        let queue = self.named(&consume.queue)?;
        let priority = consume.arguments.get("x-priority").and_then(|value| value.as_integer()).unwrap_or(0);
        let max_rate = consume.arguments.get("x-max-rate").map(|value| max_rate("x-max-rate", &argument(&value)));
        let spec = ConsumerSpec {
            credit: credit(consume.no_ack, self.consumers.prefetch, self.unacked.prefetch),
            priority: i32::try_from(priority).unwrap_or(0),
            exclusive: consume.exclusive,
            max_rate: max_rate.transpose().map_err(|error| failure!(PreconditionFailed, "{error}"))?,
            tag_for_humans: tag.escape_ascii().to_string(),
        };
        let (events, inbox) = mpsc::channel(EVENTS);
        let subscribed = self.session.broker().consume(&queue, spec, events).await;
        let subscription = Arc::new(subscribed.map_err(|error| unanswered(&queue, error))?);
        let (backlog, no_ack) = (VecDeque::new(), consume.no_ack);
        self.answer(basic::ConsumeOk { consumer_tag: tag.clone() }, consume.no_wait);
        self.consumers.insert(tag, Consumer { queue, subscription, events: inbox, backlog, no_ack });
        Ok(())
    }

    async fn get(&mut self, get: &basic::Get) -> Result<()> {
        let queue = self.named(&get.queue)?;
        self.all_arrived().await;
        loop {
            let got = self.session.broker().get(&queue).await;
            let got = got.map_err(|error: ConsumeError| unanswered(&queue, error))?;
            let Some(Got { delivered, remaining, subscription }) = got else {
                self.put(basic::GetEmpty {});
                return Ok(());
            };
            let traced = traced(self.session.broker(), &queue, &delivered);
            let held = Held { subscription: Arc::new(subscription), offset: delivered.offset, traced };
            let Some((content, properties)) = readable(&delivered, &queue) else {
                held.settle(Verdict::Reject(Reason::Failed));
                continue;
            };
            let (delivery_tag, message_count) = (self.unacked.next_tag(), clamp(remaining));
            let (redelivered, exchange, routing_key) = (delivered.redelivered, content.exchange, content.routing_key);
            let ok = basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count };
            let whole = outbox::Content { properties: &properties, body: &content.body };
            if !self.session.outbox.put_content(self.number, ok, &whole) {
                held.settle(Verdict::Reject(Reason::Failed));
                continue;
            }
            if get.no_ack {
                held.settle(Verdict::Accept);
            } else {
                self.unacked.hold(delivery_tag, held);
            }
            return Ok(());
        }
    }
}
