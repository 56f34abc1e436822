//! Policies: arguments for all queues of a virtual host whose names match. Kept as they are given; who matches is found by those who run
//! the queues, so that replicas agree though they have other versions of the regular expressions.
//! Invariant: a policy sets only what can change while a queue lives.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::check_name;
use super::{Arguments, EntityKind, QueueSpec, TopologyError, size_of};
use crate::controller::Image;
use crate::exchange::Args;
use crate::limits;

/// What cannot change while a queue lives.
const FIXED: [&str; 3] = ["max-priority", "single-active-consumer", "queue-type"];

/// Of which type of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppliesTo {
    /// Of all: policies of exchanges do not exist.
    All,
    /// Of all.
    Queues,
    /// Declared with this type.
    Classic,
    /// Declared with this type, or with none.
    Quorum,
    /// Declared with this type.
    Streams,
}

impl AppliesTo {
    const ALL: [(&'static str, AppliesTo); 5] = [
        ("all", AppliesTo::All),
        ("queues", AppliesTo::Queues),
        ("classic_queues", AppliesTo::Classic),
        ("quorum_queues", AppliesTo::Quorum),
        ("streams", AppliesTo::Streams),
    ];

    /// By RabbitMQ's name.
    ///
    /// # Errors
    /// There is no such name.
    pub fn named(name: &str) -> Result<Self, TopologyError> {
        let known = Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let words = || TopologyError::Precondition(format!("policies cannot apply to '{name}': only to queues"));
        known.ok_or_else(words)
    }

    /// RabbitMQ's name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The regular expression that a queue's name has to match somewhere.
    pub pattern: String,
    /// Which queues.
    pub applies_to: AppliesTo,
    /// A queue has one policy: the one of highest priority, of these the first by name.
    pub priority: i32,
    /// What it sets.
    pub definition: Arguments,
}

impl Policy {
    /// Whether queues like this may have it, if their names match.
    pub fn takes(&self, spec: &QueueSpec) -> bool {
        let kind = spec.arguments.queue_type.as_deref();
        match self.applies_to {
            AppliesTo::All | AppliesTo::Queues => true,
            AppliesTo::Classic => kind == Some("classic"),
            AppliesTo::Quorum => matches!(kind, None | Some("quorum")),
            AppliesTo::Streams => kind == Some("stream"),
        }
    }
}

impl Arguments {
    /// Reads the definition of a policy: arguments without their `x-`.
    ///
    /// # Errors
    /// As [`Arguments::parse`], and for what cannot change while a queue lives.
    pub fn of_policy(definition: &Args) -> Result<Self, TopologyError> {
        let refused = |why: String| TopologyError::Precondition(format!("invalid policy: {why}"));
        let mut args = Args::new();
        for (name, value) in definition {
            if FIXED.contains(&name.as_str()) || name.starts_with("x-") {
                return Err(refused(format!("'{name}' cannot be set by a policy")));
            }
            args.insert(format!("x-{name}"), value.clone());
        }
        Self::parse(&args).map_err(|error| refused(error.to_string().replace("'x-", "'")))
    }

    /// What is set, by name, as the definition of a policy.
    pub fn definition(&self) -> Args {
        let named = self.named().into_iter();
        named.map(|(name, value)| (name.strip_prefix("x-").unwrap_or(name).to_owned(), value)).collect()
    }

    /// These and those of a policy: of bounds the lower one, as in RabbitMQ; of all else what the queue was declared with, if it was.
    #[must_use]
    pub fn with(&self, policy: &Arguments) -> Arguments {
        let own = self.clone();
        Arguments {
            message_ttl_ms: lower(own.message_ttl_ms, policy.message_ttl_ms),
            expires_ms: lower(own.expires_ms, policy.expires_ms),
            max_length: lower(own.max_length, policy.max_length),
            max_length_bytes: lower(own.max_length_bytes, policy.max_length_bytes),
            overflow: if own.overflow == Default::default() { policy.overflow } else { own.overflow },
            dead_letter_exchange: own.dead_letter_exchange.or_else(|| policy.dead_letter_exchange.clone()),
            dead_letter_routing_key: own.dead_letter_routing_key.or_else(|| policy.dead_letter_routing_key.clone()),
            max_priority: own.max_priority,
            single_active_consumer: own.single_active_consumer,
            queue_type: own.queue_type,
            delivery_limit: match (own.delivery_limit, policy.delivery_limit) {
                // A bound wins over none, which is below zero.
                (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
                (one, other) => lower(one, other),
            },
            consumer_timeout_ms: lower(own.consumer_timeout_ms, policy.consumer_timeout_ms),
            retry: own.retry.or(policy.retry),
            max_rate: lower(own.max_rate, policy.max_rate),
            dedup_ms: own.dedup_ms.or(policy.dedup_ms),
        }
    }
}

fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

impl Image {
    pub(super) fn set_policy(&mut self, vhost: &str, name: &str, policy: Policy) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        if known.policies.get(name).is_some_and(|same| **same == policy) {
            return Ok(false);
        }
        check_name(name)?;
        check_name(&policy.pattern)?;
        if name.is_empty() {
            return Err(TopologyError::Precondition("a policy needs a name".to_owned()));
        }
        if size_of(&policy.definition.definition()) > limits::ARGUMENT_BYTES_MAX {
            return Err(TopologyError::Limit(format!("a definition above {} bytes", limits::ARGUMENT_BYTES_MAX)));
        }
        if known.policies.len() >= limits::POLICIES_MAX && !known.policies.contains_key(name) {
            return Err(TopologyError::Limit(format!("the vhost has {} policies", limits::POLICIES_MAX)));
        }
        known.policies.insert(Arc::from(name), Arc::new(policy));
        Ok(true)
    }

    pub(super) fn drop_policy(&mut self, vhost: &str, name: &str) -> Result<bool, TopologyError> {
        let known = Arc::make_mut(&mut self.topology).vhost_mut(vhost)?;
        let gone = known.policies.remove(name);
        gone.map(|_| true).ok_or_else(|| TopologyError::none(EntityKind::Policy, name, vhost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::topology::Overflow;
    use crate::exchange::ArgValue;

    fn policy(args: &[(&str, ArgValue)]) -> Result<Arguments, String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Arguments::of_policy(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_lowers_bounds_and_gives_what_was_not_declared() {
        let given = [
            ("max-length", ArgValue::Int(10)),
            ("message-ttl", ArgValue::Int(500)),
            ("overflow", ArgValue::text("reject-publish")),
            ("dead-letter-exchange", ArgValue::text("dlx")),
            ("delivery-limit", ArgValue::Int(-1)),
        ];
        let policy = policy(&given).unwrap();
        assert_eq!(policy.definition(), given.map(|(name, value)| (name.to_owned(), value)).into());
        let bare = Arguments::default();
        assert_eq!(bare.with(&policy), policy);
        assert_eq!(bare.with(&policy).failures_max(), 0);
        let own = Arguments {
            max_length: Some(5),
            message_ttl_ms: Some(900),
            overflow: Overflow::RejectPublishDlx,
            dead_letter_exchange: Some("mine".to_owned()),
            delivery_limit: Some(3),
            ..Arguments::default()
        };
        let both = Arguments { message_ttl_ms: Some(500), ..own.clone() };
        assert_eq!(own.with(&policy), both, "the lower bounds, and a bound rather than none");
        assert_eq!(own.with(&bare), own);
    }

    #[test]
    fn what_no_policy_can_set_is_refused_by_name() {
        let refused = |name: &str, value| policy(&[(name, value)]).unwrap_err();
        assert_eq!(
            refused("max-priority", ArgValue::Int(3)),
            "invalid policy: 'max-priority' cannot be set by a policy"
        );
        assert_eq!(refused("x-expires", ArgValue::Int(3)), "invalid policy: 'x-expires' cannot be set by a policy");
        assert_eq!(refused("max-lenght", ArgValue::Int(3)), "invalid policy: invalid arg 'max-lenght': is not known");
        assert!(refused("expires", ArgValue::Int(0)).contains("0 is not from 1"));
        assert!(AppliesTo::named("exchanges").is_err());
    }
}
