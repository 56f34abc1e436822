//! The cluster in one object, its nodes and virtual hosts, and who asks.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use model::controller::topology::TopologyError;
use serde_json::{Value, json};

use super::auth::User;
use super::queues::stats;
use super::{Refusal, node_name};
use crate::broker::queues::{QueueCounts, QueueStanding, QueueTraffic};
use crate::broker::{Broker, NodeReport, TopologyFailure};

/// Types of exchanges that may be declared.
const EXCHANGE_TYPES: [&str; 6] = ["direct", "topic", "fanout", "headers", "x-consistent-hash", "x-delayed-message"];

/// The cluster.
pub async fn overview(State(broker): State<Broker>) -> Json<Value> {
    let (standings, connections) = (broker.queue_standings().await, broker.connections().await);
    let (mut counts, mut traffic) = (QueueCounts::default(), QueueTraffic::default());
    for QueueStanding { counts: of_queue, traffic: through, .. } in standings.values() {
        counts.ready += of_queue.ready;
        counts.unacked += of_queue.unacked;
        counts.consumers += of_queue.consumers;
        traffic.published += through.published;
        traffic.publish_rate += through.publish_rate;
        traffic.delivered += through.delivered;
        traffic.deliver_rate += through.deliver_rate;
        traffic.redelivered += through.redelivered;
    }
    let image = broker.image();
    let queues: usize = image.topology.vhosts.values().map(|vhost| vhost.queues.len()).sum();
    let exchanges = broker.exchange_reports().len() + image.topology.vhosts.len();
    let channels: usize = connections.iter().map(|connection| connection.channels).sum();
    Json(json!({
        "product_name": "Flotilla", "product_version": env!("CARGO_PKG_VERSION"),
        "cluster_name": broker.cluster_id(), "node": node_name(broker.node_id()),
        "exchange_types": EXCHANGE_TYPES.map(|name| json!({ "name": name, "enabled": true })),
        "object_totals": {
            "queues": queues, "exchanges": exchanges, "connections": connections.len(), "channels": channels,
            "consumers": counts.consumers,
        },
        "queue_totals": {
            "messages": counts.ready + counts.unacked, "messages_ready": counts.ready,
            "messages_unacknowledged": counts.unacked,
        },
        "message_stats": stats(&traffic),
    }))
}

/// Who asks. Every user may do everything.
pub async fn whoami(Extension(User(name)): Extension<User>) -> Json<Value> {
    Json(json!({ "name": name, "tags": ["administrator"] }))
}

/// The virtual hosts.
pub async fn vhosts(State(broker): State<Broker>) -> Json<Value> {
    Json(broker.vhosts().into_iter().map(|name| json!({ "name": name })).collect())
}

/// One virtual host.
pub async fn vhost(State(broker): State<Broker>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    broker.has_vhost(&name).then(|| Json(json!({ "name": name }))).ok_or_else(Refusal::not_found)
}

/// Makes one. What else RabbitMQ says of it (a description, tags, a default type of queues) means nothing here.
pub async fn add_vhost(State(broker): State<Broker>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    let status = if broker.has_vhost(&name) { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    broker.add_vhost(&name).await?;
    Ok(status)
}

/// Deletes one with all that is in it.
pub async fn delete_vhost(State(broker): State<Broker>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    match broker.drop_vhost(&name).await {
        Err(TopologyFailure::Refused(TopologyError::NotFound { .. })) => Err(Refusal::not_found()),
        dropped => Ok(dropped.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// The nodes.
pub async fn nodes(State(broker): State<Broker>) -> Json<Value> {
    Json(views(&broker).into())
}

/// One node.
pub async fn node(State(broker): State<Broker>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let found = views(&broker).into_iter().find(|node| node["name"] == *name);
    found.map(Json).ok_or_else(Refusal::not_found)
}

fn views(broker: &Broker) -> Vec<Value> {
    let alarms = broker.disk_alarms();
    let view = |node: NodeReport| {
        json!({
            "name": node_name(node.id), "type": "disc", "running": node.alive, "disk_free_alarm": alarms.contains(&node.id),
            "being_drained": node.duty != "serving",
        })
    };
    broker.nodes().into_iter().map(view).collect()
}
