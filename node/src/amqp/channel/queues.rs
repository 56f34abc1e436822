//! Methods of class queue. An exclusive queue is its connection's alone: whoever else names it is refused with 405.

use std::sync::Arc;

use model::controller::topology::{Arguments, Queue, QueueSpec};
use model::exchange::{Binding, Destination};
use wire::amqp::method::queue::{self, Method};
use wire::amqp::{ShortStr, Table};

use super::{Channel, arguments, fine_if_gone, refused, replies, text};
use crate::amqp::failure::{Failure, Result, failure};
use crate::broker::queues::{ConsumeError, QueueCounts};

impl Channel {
    pub(super) async fn queue(&mut self, method: Method) -> Result<()> {
        self.all_arrived().await;
        match method {
            Method::Declare(declare) => self.declare_queue(&declare).await,
            Method::Delete(delete) => self.delete_queue(&delete).await,
            Method::Purge(purge) => {
                let queue = self.named(&purge.queue)?;
                let purged = self.session.broker().purge(&queue).await;
                let message_count = purged.map_err(|error| unanswered(&queue, error))?;
                self.answer(queue::PurgeOk { message_count: clamp(message_count) }, purge.no_wait);
                Ok(())
            }
            Method::Bind(bind) => {
                let binding = self.queue_binding(&bind.queue, (&bind.exchange, &bind.routing_key), &bind.arguments)?;
                self.session.broker().bind(&self.session.vhost, binding).await.map_err(refused)?;
                self.answer(queue::BindOk {}, bind.no_wait);
                Ok(())
            }
            Method::Unbind(unbind) => {
                let ends = (&unbind.exchange, &unbind.routing_key);
                let binding = self.queue_binding(&unbind.queue, ends, &unbind.arguments)?;
                self.session.broker().unbind(&self.session.vhost, binding).await.map_err(refused)?;
                self.put(queue::UnbindOk {});
                Ok(())
            }
            other => Err(failure!(CommandInvalid, "{} is not for a server", other.name())),
        }
    }

    async fn declare_queue(&mut self, declare: &queue::Declare) -> Result<()> {
        if replies::is_meant(&declare.queue) {
            return self.declare_replies(declare).await;
        }
        let (broker, vhost) = (self.session.broker().clone(), self.session.vhost.clone());
        let queue = if declare.passive {
            self.named(&declare.queue)?
        } else {
            let name = text(&declare.queue)?;
            let parsed = Arguments::parse(&arguments(&declare.arguments)?);
            let arguments = parsed.map_err(|error| refused(error.into()))?;
            let exclusive = declare.exclusive.then_some(self.session.owner);
            let (durable, auto_delete) = (declare.durable, declare.auto_delete);
            let spec = QueueSpec { durable, exclusive, auto_delete, arguments };
            if let Some(queue) = broker.queue(&vhost, name) {
                self.check_owner(&queue)?;
            }
            broker.declare_queue(&vhost, name, spec).await.map_err(refused)?
        };
        if queue.spec.exclusive == Some(self.session.owner) {
            self.session.own(&queue);
        }
        self.last_queue.clone_from(&queue.name);
        if !declare.no_wait {
            // A queue whose leader is not elected yet is declared all the same.
            let counts = broker.counts(&queue).await.unwrap_or_default();
            let QueueCounts { ready, consumers, .. } = counts;
            let (message_count, consumer_count) = (clamp(ready), clamp(consumers));
            self.put(queue::DeclareOk { queue: ShortStr::shortened(&queue.name), message_count, consumer_count });
        }
        Ok(())
    }

    /// That there is none of this name is no failure, as in RabbitMQ.
    async fn delete_queue(&mut self, delete: &queue::Delete) -> Result<()> {
        let mut message_count = 0;
        let name = self.name_or_last(&delete.queue)?.to_owned();
        if let Some(queue) = self.session.broker().queue(&self.session.vhost, &name) {
            self.check_owner(&queue)?;
            let counts = self.counts(&queue).await?;
            let vhost = &self.session.vhost;
            if delete.if_unused && counts.consumers > 0 {
                return Err(failure!(PreconditionFailed, "queue '{name}' in vhost '{vhost}' in use"));
            }
            if delete.if_empty && counts.ready > 0 {
                return Err(failure!(PreconditionFailed, "queue '{name}' in vhost '{vhost}' is not empty"));
            }
            message_count = counts.ready;
            let deleted = self.session.broker().delete_this_queue(&queue).await;
            deleted.or_else(fine_if_gone).map_err(refused)?;
        }
        self.answer(queue::DeleteOk { message_count: clamp(message_count) }, delete.no_wait);
        Ok(())
    }

    async fn counts(&mut self, queue: &Arc<Queue>) -> Result<QueueCounts> {
        self.session.broker().counts(queue).await.map_err(|error| unanswered(queue, error))
    }

    fn queue_binding(
        &self,
        queue: &ShortStr,
        (exchange, key): (&ShortStr, &ShortStr),
        given: &Table,
    ) -> Result<Binding> {
        let name = self.named(queue)?.name.clone();
        // Without a queue and without a key, the key is the queue that an empty name stands for.
        let key = if queue.is_empty() && key.is_empty() { name.clone() } else { text(key)?.to_owned() };
        let (source, arguments) = (text(exchange)?.to_owned(), arguments(given)?);
        Ok(Binding { source, destination: Destination::Queue(name), key, arguments })
    }

    /// The queue of this name, if this connection may use it; without a name the last one declared on this channel.
    pub(super) fn named(&self, name: &ShortStr) -> Result<Arc<Queue>> {
        let (name, vhost) = (self.name_or_last(name)?, &self.session.vhost);
        let queue = self.session.broker().queue(vhost, name);
        let queue = queue.ok_or_else(|| failure!(NotFound, "no queue '{name}' in vhost '{vhost}'"))?;
        self.check_owner(&queue)?;
        Ok(queue)
    }

    fn name_or_last<'a>(&'a self, name: &'a ShortStr) -> Result<&'a str> {
        match text(name)? {
            "" if self.last_queue.is_empty() => Err(failure!(NotFound, "no previously declared queue")),
            "" => Ok(&self.last_queue),
            name => Ok(name),
        }
    }

    fn check_owner(&self, queue: &Queue) -> Result<()> {
        if queue.spec.exclusive.is_none_or(|owner| owner == self.session.owner) {
            return Ok(());
        }
        let Queue { name, vhost, .. } = queue;
        Err(failure!(ResourceLocked, "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'"))
    }
}

/// Why a queue does not answer.
pub(super) fn unanswered(queue: &Queue, error: ConsumeError) -> Failure {
    let Queue { name, vhost, .. } = queue;
    match error {
        ConsumeError::NotFound => failure!(NotFound, "no queue '{name}' in vhost '{vhost}'"),
        ConsumeError::Exclusive => failure!(AccessRefused, "queue '{name}' in vhost '{vhost}' in exclusive use"),
        ConsumeError::Unavailable(why) => {
            failure!(NotFound, "queue '{name}' in vhost '{vhost}' does not answer: {why}")
        }
    }
}

/// The protocol counts messages in 32 bits.
pub(super) fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
