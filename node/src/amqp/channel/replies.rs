//! Direct reply-to: a requester consumes from a queue that is none, its requests carry its address, and what is published to that
//! address comes to it past every queue: at most once, and only while its channel is open.

use wire::amqp::method::{basic, queue};
use wire::amqp::{Properties, ShortStr};

use super::Channel;
use crate::amqp::failure::{Result, failure};
use crate::amqp::outbox::{self, Outbox};
use crate::broker::queues::message::Content;
use crate::broker::queues::replies::{Address, Mailbox, Replied, Reply};

/// What a requester consumes from and names in `reply_to`.
pub(super) const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";
/// What addresses begin with.
const PREFIX: &str = "amq.rabbitmq.reply-to.";

/// The consumer of a channel's replies.
pub(super) struct Replies {
    pub tag: ShortStr,
    mailbox: Mailbox,
}

/// Whether a queue of this name is none.
pub(super) fn is_meant(name: &ShortStr) -> bool {
    **name == *PSEUDO_QUEUE.as_bytes() || name.starts_with(PREFIX.as_bytes())
}

/// Where a message with this key goes by the default exchange, if it is a reply.
pub(super) fn address(key: &ShortStr) -> Option<Address> {
    key.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// The next reply, if the client reads. Cancel safe.
pub(super) async fn next(replies: &mut Option<Replies>, outbox: &Outbox) -> Reply {
    let Some(replies) = replies else { return std::future::pending().await };
    outbox.room_for_deliveries().await;
    match replies.mailbox.inbox.recv().await {
        Some(reply) => reply,
        None => std::future::pending().await,
    }
}

impl Channel {
    pub(super) fn consume_replies(&mut self, tag: ShortStr, no_ack: bool, no_wait: bool) -> Result<()> {
        if !no_ack {
            return Err(failure!(PreconditionFailed, "reply consumer cannot acknowledge"));
        }
        if self.replies.is_some() {
            return Err(failure!(PreconditionFailed, "reply consumer already set"));
        }
        self.answer(basic::ConsumeOk { consumer_tag: tag.clone() }, no_wait);
        self.replies = Some(Replies { tag, mailbox: self.session.broker().open_mailbox() });
        Ok(())
    }

    /// Nothing is declared: tells whether the requester is there.
    pub(super) async fn declare_replies(&mut self, declare: &queue::Declare) -> Result<()> {
        let name = declare.queue.clone();
        let address = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let is_there = match address.map(str::parse) {
            Some(Ok(address)) => self.session.broker().reply(address, None).await == Replied::Taken,
            Some(Err(())) => false,
            None => true,
        };
        if !is_there {
            let vhost = &self.session.vhost;
            return Err(failure!(NotFound, "no queue '{}' in vhost '{vhost}'", name.escape_ascii()));
        }
        self.answer(queue::DeclareOk { queue: name, message_count: 0, consumer_count: 1 }, declare.no_wait);
        Ok(())
    }

    /// Puts this channel's address to a message that asks for direct replies; whether it does.
    pub(super) fn ask_for_reply(&self, properties: &mut Properties) -> Result<bool> {
        if properties.reply_to.as_ref().is_none_or(|to| **to != *PSEUDO_QUEUE.as_bytes()) {
            return Ok(false);
        }
        let Some(replies) = &self.replies else {
            return Err(failure!(PreconditionFailed, "fast reply consumer does not exist"));
        };
        properties.reply_to = Some(ShortStr::shortened(&format!("{PREFIX}{}", replies.mailbox.address)));
        Ok(true)
    }

    pub(super) fn deliver_reply(&mut self, reply: &Reply) {
        let Some(replies) = &self.replies else { return };
        let Some(content) = Content::from_batch(&reply.batch, 0, PSEUDO_QUEUE) else { return };
        let (consumer_tag, delivery_tag) = (replies.tag.clone(), self.unacked.next_tag());
        let Content { exchange, routing_key, properties, body } = content;
        let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered: false, exchange, routing_key };
        if !self.session.outbox.put_content(
            self.number,
            deliver,
            &outbox::Content { properties: &properties, body: &body },
        ) {
            tracing::warn!("the properties of a reply do not fit into a frame of this client");
        }
    }
}
