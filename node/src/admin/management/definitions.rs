//! Definitions: what is declared, as one document, and taken in from one, RabbitMQ's own too. Importing twice is importing once.
//! Users and permissions are configured (`amqp.users`), so those of a document are passed over; what would change how messages are
//! treated and is not there (policies of exchanges, parameters of plugins) refuses the document before anything is done.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::{self, PolicyBody};
use super::topology::{binding_view, exchange_view};
use super::{Refusal, read};
use crate::broker::{
    BindingReport, Broker, DestinationKind, ExchangeDeclaration, PolicyDeclaration, QueueDeclaration, TopologyFailure,
    Values,
};

/// Declarations under way at a time.
const AT_ONCE: usize = 32;

/// A document, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Definitions {
    vhosts: Vec<Named>,
    queues: Vec<QueueDefinition>,
    exchanges: Vec<ExchangeDefinition>,
    bindings: Vec<BindingDefinition>,
    policies: Vec<PolicyDefinition>,
    parameters: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct PolicyDefinition {
    vhost: Option<String>,
    name: String,
    #[serde(flatten)]
    policy: PolicyBody,
}

#[derive(Debug, Deserialize)]
struct QueueDefinition {
    vhost: Option<String>,
    name: String,
    durable: bool,
    auto_delete: bool,
    #[serde(default)]
    arguments: Values,
}

#[derive(Debug, Deserialize)]
struct ExchangeDefinition {
    vhost: Option<String>,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Values,
}

#[derive(Debug, Deserialize)]
struct BindingDefinition {
    vhost: Option<String>,
    source: String,
    destination: String,
    destination_type: DestinationKind,
    routing_key: String,
    #[serde(default)]
    arguments: Values,
}

/// All that is declared and outlives its connection.
pub async fn export(State(broker): State<Broker>) -> Json<Value> {
    Json(document(&broker, |_| true))
}

/// The same of one virtual host.
pub async fn export_vhost(State(broker): State<Broker>, Path(vhost): Path<String>) -> Result<Json<Value>, Refusal> {
    if !broker.has_vhost(&vhost) {
        return Err(Refusal::not_found());
    }
    Ok(Json(document(&broker, |of| of == vhost)))
}

fn document(broker: &Broker, wanted: impl Fn(&str) -> bool) -> Value {
    let queues = broker.queue_declarations();
    let exchanges = broker.exchange_reports();
    let bindings = broker.binding_reports();
    // An exclusive queue ends with its connection, and its bindings with it.
    let is_kept = |binding: &BindingReport| {
        let named = |queue: &QueueDeclaration| queue.vhost == binding.vhost && queue.name == binding.destination;
        binding.destination_type == DestinationKind::Exchange || queues.iter().any(named)
    };
    let vhosts = broker.vhosts();
    json!({
        "product_name": "Flotilla", "product_version": env!("CARGO_PKG_VERSION"),
        "vhosts": vhosts.iter().filter(|name| wanted(name)).map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "policies": policies::views(broker, |policy| wanted(&policy.vhost)),
        "queues": queues.iter().filter(|queue| wanted(&queue.vhost)).collect::<Vec<_>>(),
        "exchanges": exchanges.iter().filter(|one| wanted(&one.vhost) && !is_given(&one.name)).map(exchange_view).collect::<Vec<_>>(),
        "bindings": bindings.iter().filter(|one| wanted(&one.vhost) && is_kept(one)).map(binding_view).collect::<Vec<_>>(),
    })
}

/// Exchanges that are there from the first day.
fn is_given(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with("amq.")
}

/// Declares what is in the document.
pub async fn import(State(broker): State<Broker>, body: Bytes) -> Result<StatusCode, Refusal> {
    let Definitions { vhosts, queues, exchanges, bindings, policies, parameters } = read(&body)?;
    let declared = |PolicyDefinition { vhost, name, policy }| policy.named(vhost.unwrap_or_else(default_vhost), name);
    let policies: Vec<PolicyDeclaration> = policies.into_iter().map(declared).collect();
    check(&policies, &parameters)?;
    for vhost in vhosts {
        broker.add_vhost(&vhost.name).await?;
    }
    // Before the queues: none of them begins without its policy.
    for policy in policies {
        broker.set_policy(policy).await?;
    }
    let queues = queues.into_iter().map(async |queue| {
        let QueueDefinition { vhost, name, durable, auto_delete, arguments } = queue;
        let vhost = vhost.unwrap_or_else(default_vhost);
        let wanted = QueueDeclaration { vhost, name, durable, auto_delete, arguments };
        broker.declare_queue_of(wanted).await.map(drop).map_err(Refusal::from)
    });
    stream::iter(queues).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    for exchange in exchanges.into_iter().filter(|exchange| !is_given(&exchange.name)) {
        let ExchangeDefinition { vhost, name, kind, durable, auto_delete, internal, arguments } = exchange;
        let vhost = vhost.unwrap_or_else(default_vhost);
        let wanted = ExchangeDeclaration { vhost, name, kind, durable, auto_delete, internal, arguments };
        broker.declare_wanted_exchange(wanted).await?;
    }
    // The exchange without a name has its bindings by itself.
    let bindings = bindings.into_iter().filter(|binding| !binding.source.is_empty()).map(async |binding| {
        let BindingDefinition { vhost, source, destination, destination_type, routing_key: key, arguments } = binding;
        let vhost = vhost.unwrap_or_else(default_vhost);
        let report = BindingReport { vhost: vhost.clone(), source, destination, destination_type, key, arguments };
        broker.bind(&vhost, report.into()).await.map_err(Refusal::from)
    });
    stream::iter(bindings).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses what would change how messages are treated, and cannot.
fn check(policies: &[PolicyDeclaration], parameters: &[Value]) -> Result<(), Refusal> {
    if !parameters.is_empty() {
        return Err(Refusal::bad_request("there are no parameters of plugins"));
    }
    policies.iter().try_for_each(|policy| policy.policy().map(drop)).map_err(TopologyFailure::from)?;
    Ok(())
}

fn default_vhost() -> String {
    model::controller::topology::DEFAULT_VHOST.to_owned()
}
