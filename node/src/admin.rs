//! The HTTP listener: metrics, health and read-only JSON about the cluster, on one port.
//! Owns the connections of that port: `CONNECTIONS_MAX` at once, each at most `CONNECTION_LIFE` long.
//! Never changes anything, never reaches below the broker.

mod listener;
mod views;

use std::io;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::metrics::{ApiLabel, GroupLabel};
use crate::seams::{Listener, Stop};

/// Serves HTTP on `listener` until `stop`; returns once every connection is closed.
///
/// # Errors
/// The listener itself failed.
pub async fn serve(broker: Broker, listener: Box<dyn Listener>, stop: Stop) -> io::Result<()> {
    let connections = listener::Connections::new(listener, broker.metrics().clone());
    let signal = stop.clone();
    let server = axum::serve(connections, routes(broker)).with_graceful_shutdown(async move { signal.stopped().await });
    let grace = async {
        stop.stopped().await;
        tokio::time::sleep(listener::GRACE).await;
    };
    tokio::select! {
        result = async { server.await } => result,
        () = grace => Ok(()),
    }
}

/// All there is; also the values of the metrics' label, and `other`.
const PAGES: [&str; 8] =
    ["/metrics", "/livez", "/readyz", "/v1/cluster", "/v1/nodes", "/v1/partitions", "/v1/rafts", "/v1/topics"];

fn routes(broker: Broker) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/cluster", get(async |State(broker): State<Broker>| Json(views::cluster(&broker))))
        .route("/v1/nodes", get(async |State(broker): State<Broker>| Json(broker.nodes())))
        .route("/v1/partitions", get(async |State(broker): State<Broker>| Json(broker.partitions())))
        .route("/v1/rafts", get(async |State(broker): State<Broker>| Json(broker.groups())))
        .route("/v1/topics", get(async |State(broker): State<Broker>| Json(views::topics(&broker))))
        .fallback(async || (StatusCode::NOT_FOUND, format!("no such page; there are {}\n", PAGES.join(" "))))
        .layer(from_fn_with_state(broker.clone(), timed))
        .with_state(broker)
}

/// Counts a request and its seconds, by page.
async fn timed(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let api = PAGES.into_iter().find(|page| *page == request.uri().path()).unwrap_or("other");
    let started = Instant::now();
    let response = next.run(request).await;
    let label = ApiLabel { protocol: "admin", api };
    broker.metrics().requests.get_or_create(&label).observe(started.elapsed().as_secs_f64());
    response
}

/// 200 once this node is caught up on every raft it holds a replica of; 503 with the reason otherwise.
async fn ready(State(broker): State<Broker>) -> (StatusCode, String) {
    let readiness = broker.readiness();
    match readiness.ready {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, readiness.reason + "\n"),
    }
}

async fn metrics(State(broker): State<Broker>) -> Response {
    refresh_groups(&broker);
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, broker.metrics().encode()).into_response()
}

/// Leader and term of each raft are read when asked for, so that a group that left leaves the page too.
fn refresh_groups(broker: &Broker) {
    let raft = &broker.metrics().raft;
    let (term, leader, is_leader) = (&raft.term, &raft.leader, &raft.is_leader);
    term.clear();
    leader.clear();
    is_leader.clear();
    for report in broker.groups() {
        let label = GroupLabel { group: report.group.0 };
        let leads = report.leader == Some(broker.node_id());
        term.get_or_create(&label).set(i64::try_from(report.term).unwrap_or(i64::MAX));
        leader.get_or_create(&label).set(report.leader.map_or(0, |node| node.0.into()));
        is_leader.get_or_create(&label).set(leads.into());
    }
}
