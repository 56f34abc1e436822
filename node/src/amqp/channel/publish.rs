//! basic.publish: checks what a message says of itself, routes it, sends it to each of its queues.
//! Invariant: a message without a queue comes back if it is mandatory, before it is confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{FutureExt, join, join_all};
use model::controller::topology::Queue;
use model::exchange::{ArgValue, Headers, Routed};
use model::limits::QUEUE_MS_MAX;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use wire::amqp::method::basic;
use wire::amqp::{Properties, ReplyCode, ShortStr, TableBuilder, Value};

use super::confirms::Sent;
use super::{Channel, Mode, argument, replies, text};
use crate::amqp::assembly::{self, BODY_BYTES_MAX};
use crate::amqp::failure::{Result, failure};
use crate::amqp::outbox;
use crate::broker::queues::message::Content;
use crate::broker::queues::replies::Replied;
use crate::broker::queues::{Message, Saying};
use crate::broker::trace::Operation;
use crate::listening::Taken;

/// A message that is checked, and not sent.
pub(super) struct Publication {
    content: Content,
    /// Its own key and those of CC and BCC.
    keys: Vec<ShortStr>,
    mandatory: bool,
    priority: Option<u8>,
    ttl_ms: Option<i64>,
    said: Said,
    held: Taken,
}

/// What a message says of itself, for routing.
struct Said(Properties);

impl Headers for Said {
    fn get(&self, name: &str) -> Option<ArgValue> {
        self.0.headers.as_ref()?.get(name).map(|value| argument(&value))
    }

    fn property(&self, name: &str) -> Option<String> {
        let text = |value: &Option<ShortStr>| value.as_ref()?.to_str().map(str::to_owned);
        match name {
            "message_id" => text(&self.0.message_id),
            "correlation_id" => text(&self.0.correlation_id),
            "timestamp" => self.0.timestamp.map(|seconds| seconds.to_string()),
            _ => None,
        }
    }
}

impl Publication {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.content.body.len() + self.content.properties.as_bytes().len()
    }

    /// Milliseconds to wait, if it comes through an exchange that heeds that.
    fn delay_ms(&self) -> Option<i64> {
        self.said.0.headers.as_ref()?.get("x-delay")?.as_integer().filter(|delay| *delay > 0)
    }

    /// A digest of what the message is known by: its header `x-dedup-key`, type and value, else its id as a text. Nothing and an empty
    /// text are none. Two keys of one digest (SHA-256, half of it) do not happen.
    fn key(&self) -> Option<u128> {
        let is_some = |key: &ArgValue| *key != ArgValue::Void && *key != ArgValue::Bytes(Vec::new());
        let id = || Some(ArgValue::Bytes(self.said.0.message_id.as_ref()?.to_vec()));
        let key = self.said.get("x-dedup-key").filter(is_some).or_else(id).filter(is_some)?;
        let digest: [u8; 32] = Sha256::digest(storage::codec::encode(&key)).into();
        digest.first_chunk().map(|half| u128::from_be_bytes(*half))
    }
}

impl Channel {
    pub(super) fn publish(&mut self, publish: &basic::Publish, content: Option<assembly::Content>) -> Result<()> {
        let content = content.ok_or_else(|| failure!(UnexpectedFrame, "a message without content"))?;
        let publication = self.check(publish, content)?;
        let number = match &mut self.mode {
            Mode::Transacting(transaction) => return transaction.publish(publication),
            Mode::Confirming => Some(self.confirms.number()),
            Mode::Plain => None,
        };
        self.send(publication, number)
    }

    fn check(&self, publish: &basic::Publish, content: assembly::Content) -> Result<Publication> {
        let assembly::Content { properties: raw, body_bytes, body, held } = content;
        if body_bytes > BODY_BYTES_MAX {
            let text = format!("message size {body_bytes} is larger than configured max size {BODY_BYTES_MAX}");
            return Err(failure!(PreconditionFailed, "{text}"));
        }
        if publish.immediate {
            return Err(failure!(NotImplemented, "immediate=true"));
        }
        self.check_exchange(text(&publish.exchange)?)?;
        text(&publish.routing_key)?;
        let mut properties = raw.read();
        if let Some(user) = properties.user_id.as_ref().filter(|user| ***user != *self.session.user.as_bytes()) {
            let (claimed, actual) = (user.escape_ascii(), &self.session.user);
            return Err(failure!(
                PreconditionFailed,
                "user_id property set to '{claimed}' but authenticated user was '{actual}'"
            ));
        }
        let ttl_ms = properties.expiration.as_ref().map(expiration).transpose()?;
        let (exchange, routing_key) = (publish.exchange.clone(), publish.routing_key.clone());
        let mut content = Content { exchange, routing_key, properties: raw, body };
        let keys = content.routing_keys();
        let (is_changed, asks) = (without_blind_copies(&mut properties), self.ask_for_reply(&mut properties)?);
        if is_changed || asks {
            content.properties = properties.to_raw();
        }
        let (mandatory, priority) = (publish.mandatory, properties.priority);
        Ok(Publication { content, keys, mandatory, priority, ttl_ms, said: Said(properties), held })
    }

    fn check_exchange(&self, name: &str) -> Result<()> {
        let vhost = &self.session.vhost;
        if name.is_empty() {
            return Ok(());
        }
        match self.session.broker().exchange(vhost, name) {
            None => Err(failure!(NotFound, "no exchange '{name}' in vhost '{vhost}'")),
            Some(exchange) if exchange.spec.internal => {
                Err(failure!(AccessRefused, "cannot publish to internal exchange '{name}' in vhost '{vhost}'"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Routes it and sends it to its queues and requesters; `number` is to be confirmed.
    pub(super) fn send(&mut self, publication: Publication, number: Option<u64>) -> Result<()> {
        let (queues, delayed) = self.route(&publication)?;
        let addresses: BTreeSet<_> = match publication.content.exchange.is_empty() {
            true => publication.keys.iter().filter_map(replies::address).collect(),
            false => BTreeSet::new(),
        };
        let (since, bytes) = (Instant::now(), publication.bytes());
        let (broker, metrics) = (self.session.broker(), self.session.shared.metrics.clone());
        if queues.is_empty() && addresses.is_empty() {
            metrics.queues.unroutable.inc();
            if publication.mandatory {
                self.give_back(&publication.content);
            }
            let sent = async move { Sent { number, bytes, since, is_safe: true, returned: None } };
            self.confirms.push(bytes, sent.boxed());
            return Ok(());
        }
        let batch = publication.content.to_batch(broker.clock().wall_ms());
        let batch = batch.map_err(|error| failure!(PreconditionFailed, "{error}"))?;
        let delay_ms = publication.delay_ms().filter(|_| delayed);
        let heeds_keys = broker.may_heed_keys(&queues);
        let key = if heeds_keys { publication.key() } else { None };
        let traced: Vec<_> = queues.iter().map(|queue| broker.traced(queue, || publication.said.0.clone())).collect();
        let Publication { content, mandatory, priority, ttl_ms, held, .. } = publication;
        let message =
            Message { batch: batch.clone(), saying: Saying { priority, delay_ms, ttl_ms, key, is_kept: false } };
        let sending = join_all(queues.iter().map(|queue| broker.publish(queue, message.clone())));
        let replying = join_all(addresses.iter().map(|address| broker.reply(*address, Some(batch.clone()))));
        let returnable = (mandatory && queues.is_empty()).then_some(content);
        let sent = async move {
            let (sent, replied) = join(sending, replying).await;
            drop(held);
            for (traced, sent) in traced.into_iter().zip(&sent) {
                let Some(traced) = traced else { continue };
                let result = sent.as_ref().err().map_or("ok".to_owned(), ToString::to_string);
                traced.log(Operation { op: "publish", offset: None, result: &result });
            }
            let is_safe = sent.iter().all(std::result::Result::is_ok) && !replied.contains(&Replied::Full);
            let is_unroutable = sent.is_empty() && replied.iter().all(|replied| *replied == Replied::Gone);
            if is_unroutable {
                metrics.queues.unroutable.inc();
            }
            Sent { number, bytes, since, is_safe, returned: returnable.filter(|_| is_unroutable) }
        };
        self.confirms.push(bytes, sent.boxed());
        Ok(())
    }

    /// Its queues, each once, and whether an exchange on the way heeds delays.
    fn route(&self, publication: &Publication) -> Result<(Vec<Arc<Queue>>, bool)> {
        let (vhost, exchange) = (&self.session.vhost, text(&publication.content.exchange)?);
        let (mut queues, mut delayed) = (BTreeMap::new(), false);
        for key in publication.keys.iter().filter_map(ShortStr::to_str) {
            let routed = self.session.broker().route(vhost, exchange, &Routed { key, headers: &publication.said });
            let route = routed.map_err(|_| failure!(NotFound, "no exchange '{exchange}' in vhost '{vhost}'"))?;
            delayed |= route.delayed;
            queues.extend(route.queues.into_iter().map(|queue| (queue.topic, queue)));
        }
        Ok((queues.into_values().collect(), delayed))
    }

    pub(super) fn give_back(&self, content: &Content) {
        let code = ReplyCode::NoRoute;
        let (reply_code, reply_text) = (code.code(), ShortStr::shortened(code.name()));
        let (exchange, routing_key) = (content.exchange.clone(), content.routing_key.clone());
        let returned = basic::Return { reply_code, reply_text, exchange, routing_key };
        let whole = outbox::Content { properties: &content.properties, body: &content.body };
        // What came in one frame of this client goes back in one.
        let _fits = self.session.outbox.put_content(self.number, returned, &whole);
    }
}

/// Milliseconds in decimal digits.
fn expiration(text: &ShortStr) -> Result<i64> {
    let number = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let ms = number.and_then(|text| text.parse().ok()).filter(|ms| *ms <= QUEUE_MS_MAX);
    ms.ok_or_else(|| failure!(PreconditionFailed, "invalid expiration '{}'", text.escape_ascii()))
}

/// Takes off the header BCC, which no receiver may see; whether there was one.
fn without_blind_copies(properties: &mut Properties) -> bool {
    let Some(headers) = properties.headers.as_ref().filter(|headers| headers.get("BCC").is_some()) else {
        return false;
    };
    let kept = headers.iter().filter(|(name, _)| **name != *b"BCC");
    let kept = kept.fold(TableBuilder::default(), |table, (name, value): (ShortStr, Value)| table.put(&*name, &value));
    // Fewer entries of a table that was in its bounds.
    properties.headers = kept.build().ok();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_is_digits() {
        let read = |text| expiration(&ShortStr::shortened(text));
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("60000"), Ok(60_000));
        assert_eq!(read("315360000000"), Ok(QUEUE_MS_MAX));
        for bad in ["", "-1", "+1", "1.5", "soon", "99999999999999999999", "315360000001"] {
            assert_eq!(read(bad).map_err(|failure| failure.code), Err(ReplyCode::PreconditionFailed), "{bad}");
        }
    }

    #[test]
    fn blind_copies_are_taken_off() {
        let headers = TableBuilder::default().put("BCC", &Value::Void).put("CC", &Value::Void);
        let mut properties = Properties { headers: headers.build().ok(), ..Properties::default() };
        assert!(without_blind_copies(&mut properties));
        let headers = properties.headers.clone().expect("headers");
        assert_eq!(headers.iter().count(), 1);
        assert!(headers.get("CC").is_some());
        assert!(!without_blind_copies(&mut properties));
    }
}
