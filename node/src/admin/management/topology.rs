//! Exchanges and bindings. The default exchange, which has no name, is among them, bound to every queue by its name.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::Refusal;
use super::listing::Paging;
use crate::broker::{BindingReport, Broker, DestinationKind, ExchangeReport};

/// All exchanges.
pub async fn exchanges(State(broker): State<Broker>, Query(paging): Query<Paging>) -> Result<Json<Value>, Refusal> {
    let vhosts = broker.vhosts();
    paging.of(vhosts.iter().flat_map(|vhost| exchange_views(&broker, vhost)).collect())
}

/// Those of a virtual host.
pub async fn exchanges_of_vhost(
    State(broker): State<Broker>,
    Path(vhost): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, Refusal> {
    check(&broker, &vhost)?;
    paging.of(exchange_views(&broker, &vhost))
}

/// One exchange; `amq.default` is the one without a name.
pub async fn exchange(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let name = if name == "amq.default" { String::new() } else { name };
    let found = exchange_views(&broker, &vhost).into_iter().find(|exchange| exchange["name"] == *name);
    found.filter(|_| broker.has_vhost(&vhost)).map(Json).ok_or_else(Refusal::not_found)
}

/// All bindings.
pub async fn bindings(State(broker): State<Broker>) -> Json<Value> {
    let vhosts = broker.vhosts();
    Json(vhosts.iter().flat_map(|vhost| binding_views(&broker, vhost)).collect())
}

/// Those of a virtual host.
pub async fn bindings_of_vhost(
    State(broker): State<Broker>,
    Path(vhost): Path<String>,
) -> Result<Json<Value>, Refusal> {
    check(&broker, &vhost)?;
    Ok(Json(binding_views(&broker, &vhost).into()))
}

/// Those that lead to a queue.
pub async fn bindings_of_queue(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    broker.queue(&vhost, &name).ok_or_else(Refusal::not_found)?;
    let leads_there = |binding: &Value| binding["destination_type"] == "queue" && binding["destination"] == *name;
    Ok(Json(binding_views(&broker, &vhost).into_iter().filter(leads_there).collect()))
}

fn check(broker: &Broker, vhost: &str) -> Result<(), Refusal> {
    if broker.has_vhost(vhost) { Ok(()) } else { Err(Refusal::not_found()) }
}

fn exchange_views(broker: &Broker, vhost: &str) -> Vec<Value> {
    let default = json!({
        "name": "", "vhost": vhost, "type": "direct", "durable": true, "auto_delete": false, "internal": false, "arguments": {},
    });
    let named = broker.exchange_reports().into_iter().filter(|exchange| exchange.vhost == vhost);
    std::iter::once(default).chain(named.map(|exchange| exchange_view(&exchange))).collect()
}

/// An exchange; also what definitions have of it.
pub fn exchange_view(exchange: &ExchangeReport) -> Value {
    let ExchangeReport { vhost, name, kind, durable, auto_delete, internal, arguments, bindings: _ } = exchange;
    json!({
        "name": name, "vhost": vhost, "type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal,
        "arguments": arguments,
    })
}

fn binding_views(broker: &Broker, vhost: &str) -> Vec<Value> {
    let by_name = |queue: String| {
        let arguments = Default::default();
        let (key, destination_type) = (queue.clone(), DestinationKind::Queue);
        let (vhost, source) = (vhost.to_owned(), String::new());
        BindingReport { vhost, source, destination: queue, destination_type, key, arguments }
    };
    let image = broker.image();
    let queues = image.topology.vhost(vhost).into_iter().flat_map(|vhost| vhost.queues.keys());
    let by_name = queues.map(|queue| by_name(queue.to_string()));
    let made = broker.binding_reports().into_iter().filter(|binding| binding.vhost == vhost);
    by_name.chain(made).map(|binding| binding_view(&binding)).collect()
}

/// A binding; also what definitions have of it.
pub fn binding_view(binding: &BindingReport) -> Value {
    let BindingReport { vhost, source, destination, destination_type, key, arguments } = binding;
    json!({
        "source": source, "vhost": vhost, "destination": destination, "destination_type": destination_type,
        "routing_key": key, "arguments": arguments,
    })
}
