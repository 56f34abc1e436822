//! AMQP connections of all nodes: listed, and ended.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::listing::Paging;
use super::{Refusal, node_name};
use crate::broker::{Broker, ConnectionReport};

/// All of them.
pub async fn list(State(broker): State<Broker>, Query(paging): Query<Paging>) -> Result<Json<Value>, Refusal> {
    paging.of(broker.connections().await.iter().map(view).collect())
}

/// One.
pub async fn one(State(broker): State<Broker>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let all = broker.connections().await;
    let found = all.iter().find(|connection| connection.name == name);
    found.map(|connection| Json(view(connection))).ok_or_else(Refusal::not_found)
}

/// Ends one; the header `X-Reason` says to its client why.
pub async fn close(
    State(broker): State<Broker>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let why = headers.get("x-reason").and_then(|why| why.to_str().ok());
    let closed = broker.close_connection(&name, why.unwrap_or("closed by an operator")).await;
    if closed { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::not_found()) }
}

fn view(connection: &ConnectionReport) -> Value {
    let ConnectionReport { name, node, user, vhost, peer_host, peer_port, host, port, connected_ms, client, channels } =
        connection;
    json!({
        "name": name, "node": node_name(*node), "user": user, "vhost": vhost, "peer_host": peer_host, "peer_port": peer_port,
        "host": host, "port": port, "connected_at": connected_ms, "client_properties": client, "channels": channels,
        "user_provided_name": client.get("connection_name"), "protocol": "AMQP 0-9-1", "type": "network",
        "state": "running", "ssl": false,
    })
}
