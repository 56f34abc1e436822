//! The HTTP listener: metrics, health, and JSON about the cluster and for its operators, on one port; all of it in an OpenAPI document.
//! Owns the connections of that port: `CONNECTIONS_MAX` at once, each at most `CONNECTION_LIFE` long.
//! Never decides anything, never reaches below the broker.

mod configs;
mod describe;
mod groups;
mod leaders;
mod listener;
mod management;
mod nodes;
mod operations;
mod problem;
mod queues;
mod topology;
mod views;

use std::io;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::time::Instant;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::broker::Broker;
use crate::broker::queues::QueueStanding;
use crate::metrics::{ApiLabel, ConsumerGroupLabel, GroupLabel, LagLabel, QueueRow};
use crate::seams::{Listener, Stop};
use management::Peer;
use problem::Problem;

/// Serves HTTP on `listener` until `stop`; returns once every connection is closed.
///
/// # Errors
/// The listener itself failed.
pub async fn serve(broker: Broker, listener: Box<dyn Listener>, stop: Stop) -> io::Result<()> {
    let connections = listener::Connections::new(listener, broker.metrics().clone());
    let signal = stop.clone();
    let pages = routes(broker).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(connections, pages).with_graceful_shutdown(async move { signal.stopped().await });
    let grace = async {
        stop.stopped().await;
        tokio::time::sleep(listener::GRACE).await;
    };
    tokio::select! {
        result = async { server.await } => result,
        () = grace => Ok(()),
    }
}

/// All there is in the document; also values of the metrics' label, beside those of `/api` and `other`.
const PAGES: [&str; 43] = [
    "/metrics",
    "/livez",
    "/readyz",
    "/v1/openapi.json",
    "/v1/cluster",
    "/v1/configs",
    "/v1/configs/changes",
    "/v1/features",
    "/v1/groups",
    "/v1/groups/{group}/rebalance",
    "/v1/nodes",
    "/v1/partitions",
    "/v1/rafts",
    "/v1/queues",
    "/v1/queues/{queue}",
    "/v1/queues/{queue}/messages",
    "/v1/queues/{queue}/purge",
    "/v1/queues/{queue}/redrive",
    "/v1/queues/{queue}/seek",
    "/v1/exchanges",
    "/v1/exchanges/{exchange}",
    "/v1/bindings",
    "/v1/topics",
    "/v1/quorum",
    "/v1/controller/leader",
    "/v1/topics/{topic}/partitions/{partition}/leader",
    "/v1/topics/{topic}/partitions/{partition}/replicas",
    "/v1/vhosts",
    "/v1/vhosts/{vhost}",
    "/v1/policies",
    "/v1/policies/{policy}",
    "/v1/nodes/{node}",
    "/v1/nodes/{node}/can-stop",
    "/v1/nodes/{node}/drain",
    "/v1/nodes/{node}/undrain",
    "/v1/nodes/{node}/decommission",
    "/v1/nodes/{node}/recommission",
    "/v1/rebalance",
    "/v1/rebalance/plan",
    "/v1/operations",
    "/v1/operations/{id}",
    "/v1/operations/{id}/events",
    "/v1/operations/{id}/{verb}",
];

/// What is the same of the whole document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Flotilla", description = "What operators and consoles ask of any node of a cluster."),
    // A type that only a path names is not found by itself.
    components(schemas(operations::Steering))
)]
struct Document;

/// Every page, with its description: what is served is what is documented.
fn documented() -> OpenApiRouter<Broker> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(metrics))
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(describe::cluster))
        .routes(routes!(configs::list, configs::change))
        .routes(routes!(configs::changes))
        .routes(routes!(configs::features, configs::change_features))
        .routes(routes!(groups::list))
        .routes(routes!(groups::rebalance))
        .routes(routes!(describe::nodes))
        .routes(routes!(describe::partitions))
        .routes(routes!(describe::rafts))
        .routes(routes!(describe::topics))
        .routes(routes!(topology::queues, topology::declare_queue))
        .routes(routes!(topology::delete_queue))
        .routes(routes!(queues::peek))
        .routes(routes!(queues::purge))
        .routes(routes!(queues::redrive))
        .routes(routes!(queues::seek))
        .routes(routes!(topology::vhosts, topology::add_vhost))
        .routes(routes!(topology::delete_vhost))
        .routes(routes!(topology::policies, topology::set_policy))
        .routes(routes!(topology::delete_policy))
        .routes(routes!(topology::exchanges, topology::declare_exchange))
        .routes(routes!(topology::delete_exchange))
        .routes(routes!(topology::bindings, topology::bind, topology::unbind))
        .routes(routes!(leaders::quorum))
        .routes(routes!(leaders::transfer_controller))
        .routes(routes!(leaders::transfer))
        .routes(routes!(operations::move_partition))
        .routes(routes!(nodes::remove))
        .routes(routes!(nodes::can_stop))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::decommission))
        .routes(routes!(nodes::recommission))
        .routes(routes!(operations::rebalance))
        .routes(routes!(operations::plan))
        .routes(routes!(operations::list))
        .routes(routes!(operations::get))
        .routes(routes!(operations::watch))
        .routes(routes!(operations::steer))
}

fn routes(broker: Broker) -> Router {
    let (pages, document) = documented().split_for_parts();
    pages
        .route("/v1/openapi.json", get(async move || Json(document)))
        .merge(management::routes(broker.clone()))
        .fallback(async || Problem::not_found(format!("no such page; there are {}", PAGES.join(" "))))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the page answers to another method")
        })
        .layer(from_fn_with_state(broker.clone(), timed))
        .with_state(broker)
}

/// Counts a request and its seconds, by page.
async fn timed(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let api = PAGES.into_iter().chain(management::PAGES).find(|page| Some(*page) == matched).unwrap_or("other");
    let started = Instant::now();
    let response = next.run(request).await;
    let label = ApiLabel { protocol: "admin", api };
    broker.metrics().requests.get_or_create(&label).observe(started.elapsed().as_secs_f64());
    response
}

/// Whether the process runs
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
async fn live() -> &'static str {
    "ok\n"
}

/// Whether this node serves: it is caught up on every raft it holds a replica of
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
    (status = 503, description = "What is missing", body = String, content_type = "text/plain")))]
async fn ready(State(broker): State<Broker>) -> (StatusCode, String) {
    let readiness = broker.readiness();
    match readiness.ready {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, readiness.reason + "\n"),
    }
}

/// Metrics, in the text format of OpenMetrics
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, description = "All of this node", body = String,
    content_type = "application/openmetrics-text")))]
async fn metrics(State(broker): State<Broker>) -> Response {
    refresh_rafts(&broker);
    refresh_lags(&broker).await;
    refresh_queues(&broker);
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, broker.metrics().encode()).into_response()
}

/// Lags are looked up when asked for, by the node that coordinates the group, so that those of all nodes together are each group's once.
async fn refresh_lags(broker: &Broker) {
    let groups = broker.groups_coordinated_here().await;
    let lags = &broker.metrics().lags;
    lags.records.clear();
    lags.seconds.clear();
    lags.members.clear();
    for group in groups {
        let label = ConsumerGroupLabel { group: group.group.clone() };
        lags.members.get_or_create(&label).set(i64::try_from(group.members.len()).unwrap_or(i64::MAX));
        for row in group.partitions {
            let (Some(lag), Some(seconds)) = (row.lag, row.lag_seconds) else { continue };
            let label = LagLabel { group: group.group.clone(), topic: row.topic, partition: row.partition };
            lags.records.get_or_create(&label).set(lag);
            lags.seconds.get_or_create(&label).set(seconds);
        }
    }
}

/// Queues are looked at when asked for, by the node that leads them.
fn refresh_queues(broker: &Broker) {
    let row = |standing: QueueStanding| {
        let QueueStanding { counts, dead, traffic } = standing;
        QueueRow {
            ready: counts.ready,
            unacked: counts.unacked,
            delayed: counts.delayed,
            consumers: counts.consumers,
            oldest_unacked_seconds: counts.oldest_unacked_ms.unwrap_or(0) as f64 / 1_000.0,
            published: traffic.published,
            delivered: traffic.delivered,
            redelivered: traffic.redelivered,
            dead: dead.by_reason(),
        }
    };
    let led = broker.queues_led_here(None).into_iter();
    broker
        .metrics()
        .queues
        .show(led.map(|(queue, standing)| ((queue.vhost.clone(), queue.name.clone()), row(standing))).collect());
}

/// Leader and term of each raft are read when asked for, so that a group that left leaves the page too.
fn refresh_rafts(broker: &Broker) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_in_the_document_and_has_a_label() {
        let document = documented().split_for_parts().1;
        let mut described: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
        described.push("/v1/openapi.json");
        described.sort_unstable();
        let mut labelled = PAGES;
        labelled.sort_unstable();
        assert_eq!(described, labelled);
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(json["info"]["title"], "Flotilla");
        let text = json.to_string();
        let named: Vec<&str> = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() > 10, "{named:?}");
        for name in named {
            assert!(json.pointer(name).is_some(), "{name} is nowhere in the document");
        }
    }
}
