//! `/api`: as much of RabbitMQ's management API as scalers, health checks and rabbitmqadmin ask for, under the same names. Fields that
//! Flotilla has nothing to say in are left out. Every page wants the name and password of an AMQP user.
mod auth;
mod connections;
mod definitions;
mod health;
mod listing;
mod overview;
mod policies;
mod queues;
mod topology;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::NodeId;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::broker::{Broker, TopologyFailure};

pub use auth::Peer;

/// Bytes of definitions that are imported.
const DEFINITIONS_BYTES_MAX: usize = 16 << 20;

/// Every page: also the values of the metrics' label.
pub const PAGES: [&str; 27] = [
    "/api/overview",
    "/api/whoami",
    "/api/vhosts",
    "/api/vhosts/{name}",
    "/api/nodes",
    "/api/nodes/{name}",
    "/api/queues",
    "/api/queues/{vhost}",
    "/api/queues/{vhost}/{name}",
    "/api/exchanges",
    "/api/exchanges/{vhost}",
    "/api/exchanges/{vhost}/{name}",
    "/api/bindings",
    "/api/bindings/{vhost}",
    "/api/queues/{vhost}/{name}/bindings",
    "/api/policies",
    "/api/policies/{vhost}",
    "/api/policies/{vhost}/{name}",
    "/api/connections",
    "/api/connections/{name}",
    "/api/definitions",
    "/api/definitions/{vhost}",
    "/api/health/checks/alarms",
    "/api/health/checks/local-alarms",
    "/api/health/checks/virtual-hosts",
    "/api/health/checks/node-is-quorum-critical",
    "/api/health/checks/ready-to-serve-clients",
];

/// All of them.
pub fn routes(broker: Broker) -> Router<Broker> {
    let import = get(definitions::export).post(definitions::import);
    Router::new()
        .route("/api/overview", get(overview::overview))
        .route("/api/whoami", get(overview::whoami))
        .route("/api/vhosts", get(overview::vhosts))
        .route("/api/vhosts/{name}", get(overview::vhost).put(overview::add_vhost).delete(overview::delete_vhost))
        .route("/api/nodes", get(overview::nodes))
        .route("/api/nodes/{name}", get(overview::node))
        .route("/api/queues", get(queues::all))
        .route("/api/queues/{vhost}", get(queues::of_vhost))
        .route("/api/queues/{vhost}/{name}", get(queues::one))
        .route("/api/queues/{vhost}/{name}/bindings", get(topology::bindings_of_queue))
        .route("/api/exchanges", get(topology::exchanges))
        .route("/api/exchanges/{vhost}", get(topology::exchanges_of_vhost))
        .route("/api/exchanges/{vhost}/{name}", get(topology::exchange))
        .route("/api/bindings", get(topology::bindings))
        .route("/api/bindings/{vhost}", get(topology::bindings_of_vhost))
        .route("/api/policies", get(policies::all))
        .route("/api/policies/{vhost}", get(policies::of_vhost))
        .route("/api/policies/{vhost}/{name}", get(policies::one).put(policies::set).delete(policies::delete))
        .route("/api/connections", get(connections::list))
        .route("/api/connections/{name}", get(connections::one).delete(connections::close))
        .route("/api/definitions", import.layer(DefaultBodyLimit::max(DEFINITIONS_BYTES_MAX)))
        .route("/api/definitions/{vhost}", get(definitions::export_vhost))
        .route("/api/health/checks/alarms", get(health::alarms))
        .route("/api/health/checks/local-alarms", get(health::local_alarms))
        .route("/api/health/checks/virtual-hosts", get(health::virtual_hosts))
        .route("/api/health/checks/node-is-quorum-critical", get(health::quorum_critical))
        .route("/api/health/checks/ready-to-serve-clients", get(health::ready))
        .route_layer(from_fn_with_state(broker, auth::check))
}

/// A node's name.
fn node_name(node: NodeId) -> String {
    format!("flotilla@{node}")
}

/// Why a request is not answered, in RabbitMQ's form.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: &'static str,
    reason: String,
}

impl Refusal {
    fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, error: "Object Not Found", reason: "Not Found".to_owned() }
    }

    fn bad_request(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "bad_request", reason: reason.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "reason": self.reason }))).into_response()
    }
}

/// What was sent, whatever its sender calls it: as RabbitMQ, that takes all for JSON.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    Json::from_bytes(body).map(|Json(read)| read).map_err(|rejection| Refusal::bad_request(rejection.body_text()))
}

impl From<TopologyFailure> for Refusal {
    fn from(failure: TopologyFailure) -> Self {
        match failure {
            TopologyFailure::Refused(error) => Self::bad_request(error.to_string()),
            TopologyFailure::Unavailable(why) => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, error: "unavailable", reason: why }
            }
        }
    }
}
