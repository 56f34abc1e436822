//! The topology as operators read and write it: plain values, with the names that AMQP has for them.
use std::collections::BTreeMap;
use std::sync::Arc;

use model::controller::topology::{Arguments, DEFAULT_VHOST, Exchange, ExchangeSpec, Queue, QueueSpec, Vhost};
use model::exchange::{ArgValue, Args, Binding, Destination};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TopologyFailure;
use super::policies::definition;
use crate::broker::Broker;
use crate::broker::queues::{Policies, QueueStanding, Rules};

/// Arguments by name.
pub type Values = BTreeMap<String, Scalar>;

/// The value of an argument; what AMQP has beyond these is shown as text.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// No value.
    Void,
}

/// A virtual host.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct VhostReport {
    /// Its name.
    pub name: String,
    /// How many queues it has.
    pub queues: usize,
    /// How many exchanges it has; the default one is none of them.
    pub exchanges: usize,
}

/// A queue.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct QueueReport {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// The topic that it is.
    pub topic: String,
    /// The Raft group of the topic's one partition.
    pub group: u32,
    /// The node that leads it, if one does.
    pub leader: Option<u32>,
    /// As declared; every queue survives its nodes.
    pub durable: bool,
    /// It is one connection's, and ends with it.
    pub exclusive: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// The arguments that it was declared with.
    pub arguments: Values,
    /// The name of its policy, if it has one.
    pub policy: Option<String>,
    /// What that sets.
    pub policy_definition: Values,
    /// How it stands; none if its leader does not answer.
    pub standing: Option<QueueStanding>,
}

/// An exchange.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ExchangeReport {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// `direct`, `topic`, `fanout`, `headers`, `x-consistent-hash` or `x-delayed-message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As declared; every exchange survives its nodes.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// The arguments that are set.
    pub arguments: Values,
    /// Bindings that it has.
    pub bindings: usize,
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DestinationKind {
    /// A queue.
    #[default]
    Queue,
    /// An exchange.
    Exchange,
}

/// A binding, there or wanted.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BindingReport {
    /// Its virtual host; `/` if none is named.
    #[serde(default = "default_vhost")]
    pub vhost: String,
    /// The exchange that it is of.
    pub source: String,
    /// The queue or exchange that it leads to.
    pub destination: String,
    /// Which of both; a queue if nothing is said.
    #[serde(default)]
    pub destination_type: DestinationKind,
    /// The binding key.
    #[serde(default)]
    pub key: String,
    /// Arguments.
    #[serde(default)]
    pub arguments: Values,
}

/// A queue that is to be.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDeclaration {
    /// Its virtual host; `/` if none is named.
    #[serde(default = "default_vhost")]
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// As clients will declare it; true if nothing is said.
    #[serde(default = "default_durable")]
    pub durable: bool,
    /// It goes with its last consumer.
    #[serde(default)]
    pub auto_delete: bool,
    /// `x-message-ttl` and its like.
    #[serde(default)]
    pub arguments: Values,
}

/// An exchange that is to be.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeDeclaration {
    /// Its virtual host; `/` if none is named.
    #[serde(default = "default_vhost")]
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// See [`ExchangeReport`].
    #[serde(rename = "type")]
    pub kind: String,
    /// As clients will declare it; true if nothing is said.
    #[serde(default = "default_durable")]
    pub durable: bool,
    /// It goes with its last binding.
    #[serde(default)]
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    #[serde(default)]
    pub internal: bool,
    /// `alternate-exchange` and its like.
    #[serde(default)]
    pub arguments: Values,
}

pub(super) fn default_vhost() -> String {
    DEFAULT_VHOST.to_owned()
}

fn default_durable() -> bool {
    true
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Int(number) => number.fmt(f),
            Scalar::Float(number) => number.fmt(f),
            Scalar::Text(text) => text.fmt(f),
            Scalar::Void => f.write_str("void"),
        }
    }
}

impl From<Scalar> for ArgValue {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Bool(value) => ArgValue::Bool(value),
            Scalar::Int(number) => ArgValue::Int(number),
            Scalar::Float(number) => ArgValue::Float(number.to_bits()),
            Scalar::Text(text) => ArgValue::text(&text),
            Scalar::Void => ArgValue::Void,
        }
    }
}

impl From<&ArgValue> for Scalar {
    fn from(value: &ArgValue) -> Self {
        match value {
            ArgValue::Void => Scalar::Void,
            ArgValue::Bool(value) => Scalar::Bool(*value),
            ArgValue::Int(number) => Scalar::Int(*number),
            ArgValue::Float(bits) => Scalar::Float(f64::from_bits(*bits)),
            other => Scalar::Text(other.to_string()),
        }
    }
}

pub(super) fn read(values: Values) -> Args {
    values.into_iter().map(|(name, value)| (name, value.into())).collect()
}

pub(super) fn shown<'a>(arguments: impl IntoIterator<Item = (impl Into<String>, &'a ArgValue)>) -> Values {
    arguments.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

impl From<BindingReport> for Binding {
    fn from(wanted: BindingReport) -> Self {
        let BindingReport { source, destination, destination_type, key, arguments, .. } = wanted;
        let destination = match destination_type {
            DestinationKind::Queue => Destination::Queue(destination),
            DestinationKind::Exchange => Destination::Exchange(destination),
        };
        Binding { source, destination, key, arguments: read(arguments) }
    }
}

impl BindingReport {
    fn of(vhost: &str, binding: Binding) -> Self {
        let (destination_type, destination) = match binding.destination {
            Destination::Queue(name) => (DestinationKind::Queue, name),
            Destination::Exchange(name) => (DestinationKind::Exchange, name),
        };
        let arguments = shown(binding.arguments.iter());
        let (vhost, source, key) = (vhost.to_owned(), binding.source, binding.key);
        BindingReport { vhost, source, destination, destination_type, key, arguments }
    }
}

impl ExchangeReport {
    fn of(vhost: &str, exchange: &Exchange) -> Self {
        let Exchange { name, spec, bindings } = exchange;
        ExchangeReport {
            vhost: vhost.to_owned(),
            name: name.clone(),
            kind: spec.type_name().to_owned(),
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            arguments: shown(spec.named().iter()),
            bindings: bindings.len(),
        }
    }
}

impl VhostReport {
    fn of(name: &str, vhost: &Vhost) -> Self {
        Self { name: name.to_owned(), queues: vhost.queues.len(), exchanges: vhost.exchanges.len() }
    }
}

impl Broker {
    /// All virtual hosts, by name.
    pub fn vhost_reports(&self) -> Vec<VhostReport> {
        let image = self.image();
        let (of, vhosts) = (VhostReport::of, image.topology.vhosts.iter());
        vhosts.map(|(name, vhost)| of(name, vhost)).collect()
    }

    /// All queues, by name.
    pub async fn queue_reports(&self) -> Vec<QueueReport> {
        let standings = self.queue_standings().await;
        let image = self.image();
        let policies = Policies::of(&image);
        let queues = image.topology.vhosts.values().flat_map(|vhost| vhost.queues.values());
        let row = |queue: &Arc<Queue>| {
            self.queue_row(queue, policies.rules(queue), standings.get(&queue.partition_group).copied())
        };
        queues.map(row).collect()
    }

    /// All queues but the exclusive ones, as they were declared.
    pub fn queue_declarations(&self) -> Vec<QueueDeclaration> {
        let image = self.image();
        let queues = image.topology.vhosts.values().flat_map(|vhost| vhost.queues.values());
        let declared = |queue: &Arc<Queue>| QueueDeclaration {
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            durable: queue.spec.durable,
            auto_delete: queue.spec.auto_delete,
            arguments: shown(queue.spec.arguments.named().iter().map(|(name, value)| (*name, value))),
        };
        queues.filter(|queue| queue.spec.exclusive.is_none()).map(declared).collect()
    }

    /// One queue.
    pub async fn queue_report(&self, queue: &Queue) -> QueueReport {
        self.queue_row(queue, self.rules(queue), self.queue_standing(queue).await)
    }

    fn queue_row(&self, queue: &Queue, rules: Rules, standing: Option<QueueStanding>) -> QueueReport {
        let (policy, policy_definition) = match rules.policy {
            Some((name, policy)) => (Some(name.to_string()), definition(&policy)),
            None => (None, Values::new()),
        };
        QueueReport {
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            topic: self.image().topic_by_id(queue.topic).map(|topic| topic.name.clone()).unwrap_or_default(),
            group: queue.partition_group.0,
            leader: self.0.router.leader(queue.partition_group).node.map(|node| node.0),
            durable: queue.spec.durable,
            exclusive: queue.spec.exclusive.is_some(),
            auto_delete: queue.spec.auto_delete,
            arguments: shown(queue.spec.arguments.named().iter().map(|(name, value)| (*name, value))),
            policy,
            policy_definition,
            standing,
        }
    }

    /// All exchanges but the default ones, by name.
    pub fn exchange_reports(&self) -> Vec<ExchangeReport> {
        let image = self.image();
        let of = |(vhost, exchange): (&str, &Exchange)| ExchangeReport::of(vhost, exchange);
        let vhosts = image.topology.vhosts.iter();
        vhosts.flat_map(|(name, vhost)| vhost.exchanges.values().map(move |one| (&**name, &**one))).map(of).collect()
    }

    /// All bindings but those of the default exchanges, by their exchange.
    pub fn binding_reports(&self) -> Vec<BindingReport> {
        let image = self.image();
        let vhosts = image.topology.vhosts.iter();
        vhosts.flat_map(|(name, vhost)| vhost.bindings().map(move |one| BindingReport::of(name, one))).collect()
    }

    /// Declares what an operator wants, and tells what there is.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn declare_wanted_queue(&self, wanted: QueueDeclaration) -> Result<QueueReport, TopologyFailure> {
        let queue = self.declare_queue_of(wanted).await?;
        Ok(self.queue_report(&queue).await)
    }

    /// Declares what an operator wants.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn declare_queue_of(&self, wanted: QueueDeclaration) -> Result<Arc<Queue>, TopologyFailure> {
        let QueueDeclaration { vhost, name, durable, auto_delete, arguments } = wanted;
        let arguments = Arguments::parse(&read(arguments))?;
        let spec = QueueSpec { durable, auto_delete, arguments, exclusive: None };
        self.declare_queue(&vhost, &name, spec).await
    }

    /// Declares what an operator wants, and tells what there is.
    ///
    /// # Errors
    /// Refused, or the controller cannot be reached.
    pub async fn declare_wanted_exchange(
        &self,
        wanted: ExchangeDeclaration,
    ) -> Result<ExchangeReport, TopologyFailure> {
        let ExchangeDeclaration { vhost, name, kind, durable, auto_delete, internal, arguments } = wanted;
        let spec = ExchangeSpec { durable, auto_delete, internal, ..ExchangeSpec::parse(&kind, &read(arguments))? };
        self.declare_exchange(&vhost, &name, spec).await?;
        let gone = || TopologyFailure::Unavailable("it was deleted while it was declared".to_owned());
        self.exchange(&vhost, &name).map(|exchange| ExchangeReport::of(&vhost, &exchange)).ok_or_else(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were_given() {
        let given = serde_json::json!({ "b": true, "f": 1.5, "n": -3, "t": "text", "v": null });
        let given: Values = serde_json::from_value(given).unwrap();
        let read = read(given.clone());
        assert_eq!(read["n"], ArgValue::Int(-3));
        assert_eq!(shown(read.iter()), given);
        let nested = serde_json::from_value::<Values>(serde_json::json!({ "a": [1] }));
        assert!(nested.is_err(), "{nested:?}");
    }
}
