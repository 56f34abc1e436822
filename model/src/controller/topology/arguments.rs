//! The arguments of a queue: read from what a client sent, compared when a queue is declared again.
//! Invariant: an argument that begins with `x-` and means nothing here is refused by name, never forgotten in silence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TopologyError;
use crate::cursor::ackset::{Backoff, Config};
use crate::exchange::{ArgValue, Args};
use crate::limits::QUEUE_MS_MAX;

/// `x-delivery-limit`, if nobody says: as of RabbitMQ's quorum queues.
const DELIVERY_LIMIT: i32 = 20;
/// Of a backoff that names no longest wait, ms.
const RETRY_MS_MAX: i64 = 60 * 60 * 1_000;

/// Where RabbitMQ keeps and moves its replicas, and how it stores them: there is nothing like it here, and they change nothing that a
/// client can see.
const WITHOUT_MEANING: [&str; 11] = [
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-initial-cluster-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-dead-letter-strategy",
    "x-cancel-on-ha-failover",
];

/// What happens at the greatest length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The oldest message goes.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// It is refused, and goes to dead letters.
    RejectPublishDlx,
}

impl Overflow {
    const ALL: [(&'static str, Overflow); 3] = [
        ("drop-head", Overflow::DropHead),
        ("reject-publish", Overflow::RejectPublish),
        ("reject-publish-dlx", Overflow::RejectPublishDlx),
    ];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// All arguments of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments {
    /// `x-message-ttl`: a message lives so long.
    pub message_ttl_ms: Option<i64>,
    /// `x-expires`: the queue goes when nobody used it for so long.
    pub expires_ms: Option<i64>,
    /// `x-max-length`: messages that are ready, at most.
    pub max_length: Option<i64>,
    /// `x-max-length-bytes`: bytes that are ready, at most.
    pub max_length_bytes: Option<i64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<String>,
    /// `x-max-priority`: higher ones count as this; none: priorities mean nothing.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-queue-type`, as given: `classic`, `quorum` or `stream`. All are the same here.
    pub queue_type: Option<String>,
    /// `x-delivery-limit`, as given; -1 is none. See [`Arguments::failures_max`].
    pub delivery_limit: Option<i32>,
    /// `x-consumer-timeout`: a delivery is the consumer's so long.
    pub consumer_timeout_ms: Option<i64>,
    /// `x-delayed-retry-min` and `-max`: how long a message waits that failed.
    pub retry: Option<Backoff>,
    /// `x-max-rate`: messages that are delivered in a second, at most.
    pub max_rate: Option<u32>,
    /// `x-dedup-window`: a message whose key came so long ago at most is the same again, ms.
    pub dedup_ms: Option<i64>,
}

impl Arguments {
    /// Reads what a client sent. What does not begin with `x-` is the client's own, and not kept.
    ///
    /// # Errors
    /// An argument that is not known, has a value of another kind or out of range, or lacks another one.
    pub fn parse(args: &Args) -> Result<Self, TopologyError> {
        let mut read = Arguments::default();
        let mut retry = (None, None);
        for (name, value) in args.iter().filter(|(name, _)| name.starts_with("x-")) {
            match name.as_str() {
                "x-message-ttl" => read.message_ttl_ms = Some(number(name, value, 0, QUEUE_MS_MAX)?),
                "x-expires" => read.expires_ms = Some(number(name, value, 1, QUEUE_MS_MAX)?),
                "x-max-length" => read.max_length = Some(number(name, value, 0, i64::MAX)?),
                "x-max-length-bytes" => read.max_length_bytes = Some(number(name, value, 0, i64::MAX)?),
                "x-overflow" => read.overflow = one_of(name, value, &Overflow::ALL)?,
                "x-dead-letter-exchange" => read.dead_letter_exchange = Some(text(name, value)?.to_owned()),
                "x-dead-letter-routing-key" => read.dead_letter_routing_key = Some(text(name, value)?.to_owned()),
                "x-max-priority" => read.max_priority = Some(number(name, value, 0, 255)? as u8),
                "x-single-active-consumer" => read.single_active_consumer = truth(name, value)?,
                "x-queue-type" => {
                    let types = ["classic", "quorum", "stream"].map(|kind| (kind, kind));
                    read.queue_type = Some(one_of(name, value, &types)?.to_owned());
                }
                "x-delivery-limit" => read.delivery_limit = Some(number(name, value, -1, i32::MAX.into())? as i32),
                "x-consumer-timeout" => read.consumer_timeout_ms = Some(number(name, value, 1, QUEUE_MS_MAX)?),
                "x-max-rate" => read.max_rate = Some(max_rate(name, value)?),
                "x-dedup-window" => read.dedup_ms = Some(number(name, value, 1, QUEUE_MS_MAX)?),
                "x-delayed-retry-min" => retry.0 = Some(number(name, value, 0, QUEUE_MS_MAX)?),
                "x-delayed-retry-max" => retry.1 = Some(number(name, value, 0, QUEUE_MS_MAX)?),
                known if WITHOUT_MEANING.contains(&known) => {}
                _ => return Err(refused(name, "is not known")),
            }
        }
        read.retry = backoff(retry)?;
        if read.dead_letter_routing_key.is_some() && read.dead_letter_exchange.is_none() {
            return Err(refused("x-dead-letter-routing-key", "is given without x-dead-letter-exchange"));
        }
        Ok(read)
    }

    /// The arguments that are set, by name, as a client would give them.
    pub fn named(&self) -> BTreeMap<&'static str, ArgValue> {
        let int = |number: Option<i64>| number.map(ArgValue::Int);
        let text = |text: &Option<String>| text.as_deref().map(ArgValue::text);
        let overflow = (self.overflow != Overflow::default()).then(|| ArgValue::text(self.overflow.name()));
        let all = [
            ("x-message-ttl", int(self.message_ttl_ms)),
            ("x-expires", int(self.expires_ms)),
            ("x-max-length", int(self.max_length)),
            ("x-max-length-bytes", int(self.max_length_bytes)),
            ("x-overflow", overflow),
            ("x-dead-letter-exchange", text(&self.dead_letter_exchange)),
            ("x-dead-letter-routing-key", text(&self.dead_letter_routing_key)),
            ("x-max-priority", int(self.max_priority.map(i64::from))),
            ("x-single-active-consumer", self.single_active_consumer.then_some(ArgValue::Bool(true))),
            ("x-queue-type", text(&self.queue_type)),
            ("x-delivery-limit", int(self.delivery_limit.map(i64::from))),
            ("x-consumer-timeout", int(self.consumer_timeout_ms)),
            ("x-delayed-retry-min", int(self.retry.map(|retry| retry.first_ms))),
            ("x-delayed-retry-max", int(self.retry.map(|retry| retry.max_ms))),
            ("x-max-rate", int(self.max_rate.map(i64::from))),
            ("x-dedup-window", int(self.dedup_ms)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The failure that a message dies of, counted from 1: one more than the limit, which counts deliveries behind the first;
    /// 0 if it never does.
    pub fn failures_max(&self) -> u32 {
        u32::try_from(self.delivery_limit.unwrap_or(DELIVERY_LIMIT)).map_or(0, |limit| limit + 1)
    }

    /// The rules of the cursor of a queue with these arguments.
    pub fn cursor(&self) -> Config {
        Config {
            priority: 0,
            failures_max: self.failures_max(),
            backoff: self.retry,
            dead_letters: self.dead_letter_exchange.is_some(),
        }
    }
}

/// Reads `x-max-rate`, of a queue or of a consumer: messages a second.
///
/// # Errors
/// It is no number, or not from 1 to a million.
pub fn max_rate(name: &str, value: &ArgValue) -> Result<u32, TopologyError> {
    number(name, value, 1, 1_000_000).map(|rate| rate as u32)
}

fn refused(name: &str, why: impl std::fmt::Display) -> TopologyError {
    TopologyError::Precondition(format!("invalid arg '{name}': {why}"))
}

fn number(name: &str, value: &ArgValue, min: i64, max: i64) -> Result<i64, TopologyError> {
    match value {
        ArgValue::Int(number) if (min..=max).contains(number) => Ok(*number),
        ArgValue::Int(number) => Err(refused(name, format!("{number} is not from {min} to {max}"))),
        other => Err(refused(name, format!("a number is expected, not '{other}'"))),
    }
}

fn text<'a>(name: &str, value: &'a ArgValue) -> Result<&'a str, TopologyError> {
    let text = value.as_text().filter(|text| text.len() <= crate::limits::NAME_BYTES_MAX);
    text.ok_or_else(|| refused(name, "a short text is expected"))
}

fn truth(name: &str, value: &ArgValue) -> Result<bool, TopologyError> {
    match value {
        ArgValue::Bool(value) => Ok(*value),
        other => Err(refused(name, format!("a truth value is expected, not '{other}'"))),
    }
}

fn one_of<T: Copy>(name: &str, value: &ArgValue, all: &[(&str, T)]) -> Result<T, TopologyError> {
    let given = text(name, value)?;
    let known = all.iter().find(|(known, _)| *known == given).map(|(_, value)| *value);
    known.ok_or_else(|| refused(name, format!("'{given}' is none of its values")))
}

fn backoff(given: (Option<i64>, Option<i64>)) -> Result<Option<Backoff>, TopologyError> {
    match given {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refused("x-delayed-retry-max", "is given without x-delayed-retry-min")),
        (Some(first_ms), max_ms) => {
            let max_ms = max_ms.unwrap_or(RETRY_MS_MAX.max(first_ms));
            let max = (max_ms >= first_ms).then_some(Backoff { first_ms, max_ms });
            max.map(Some).ok_or_else(|| refused("x-delayed-retry-max", "is less than x-delayed-retry-min"))
        }
    }
}
