//! The pages that only tell.

use axum::Json;
use axum::extract::State;

use super::views;
use crate::broker::{Broker, GroupReport, NodeReport, PartitionReport};

/// The cluster in one object
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, description = "As this node sees it", body = views::Cluster)))]
pub async fn cluster(State(broker): State<Broker>) -> Json<views::Cluster> {
    Json(views::cluster(&broker))
}

/// The nodes
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses((status = 200, description = "By id", body = Vec<NodeReport>)))]
pub async fn nodes(State(broker): State<Broker>) -> Json<Vec<NodeReport>> {
    Json(broker.nodes())
}

/// The replicas of partitions on this node
#[utoipa::path(get, path = "/v1/partitions", tag = "topics", responses((status = 200, description = "What they hold, and why", body = Vec<PartitionReport>)))]
pub async fn partitions(State(broker): State<Broker>) -> Json<Vec<PartitionReport>> {
    Json(broker.partitions())
}

/// The Raft groups of this node
#[utoipa::path(get, path = "/v1/rafts", tag = "nodes", responses((status = 200, description = "The controller's first", body = Vec<GroupReport>)))]
pub async fn rafts(State(broker): State<Broker>) -> Json<Vec<GroupReport>> {
    Json(broker.groups())
}

/// The topics, with the leader of each partition
#[utoipa::path(get, path = "/v1/topics", tag = "topics", responses((status = 200, description = "By name", body = Vec<views::TopicView>)))]
pub async fn topics(State(broker): State<Broker>) -> Json<Vec<views::TopicView>> {
    Json(views::topics(&broker))
}
