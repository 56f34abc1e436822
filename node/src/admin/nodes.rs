//! Nodes: whether one can stop, and taking things from it.

use axum::Json;
use axum::extract::State;
use model::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::operations::{Begun, Nothing};
use super::problem::{InBody, InPath, Problem};
use super::views::{MoveView, RiskView};
use crate::broker::Broker;

/// Whether a node can stop.
#[derive(Debug, Serialize, ToSchema)]
pub struct CanStop {
    /// Every partition keeps a majority of replicas in sync.
    safe: bool,
    /// Those that would not.
    risks: Vec<RiskView>,
}

/// Whether to do it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What leaves a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct Leaving {
    /// The operation; none in a dry run.
    operation: Option<u64>,
    /// In a dry run the moves.
    moves: Vec<MoveView>,
}

/// Whether a node can stop without a partition losing its majority
#[utoipa::path(get, path = "/v1/nodes/{node}/can-stop", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    responses((status = 200, description = "And if not, why", body = CanStop),
        (status = "default", description = "There is none", body = Problem, content_type = "application/problem+json")))]
pub async fn can_stop(State(broker): State<Broker>, InPath(node): InPath<u32>) -> Result<Json<CanStop>, Problem> {
    let node = known(&broker, node)?;
    let risks: Vec<RiskView> = broker.stop_risks(node).await.into_iter().map(RiskView::from).collect();
    Ok(Json(CanStop { safe: risks.is_empty(), risks }))
}

/// Takes all leaderships from a node, before it is stopped
#[utoipa::path(post, path = "/v1/nodes/{node}/drain", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    request_body = Trial,
    responses((status = 200, description = "It is begun, or could be", body = Begun),
        (status = "default", description = "Partitions would lose their majority", body = Problem, content_type = "application/problem+json")))]
pub async fn drain(
    State(broker): State<Broker>,
    InPath(node): InPath<u32>,
    InBody(trial): InBody<Trial>,
) -> Result<Json<Begun>, Problem> {
    let node = known(&broker, node)?;
    Ok(Json(Begun::new(broker.drain(node, trial.dry_run).await?)))
}

/// Takes all replicas from a node, before it is removed
#[utoipa::path(post, path = "/v1/nodes/{node}/decommission", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    request_body = Trial,
    responses((status = 200, description = "It is begun, or could be", body = Leaving),
        (status = "default", description = "Its replicas have no other place", body = Problem, content_type = "application/problem+json")))]
pub async fn decommission(
    State(broker): State<Broker>,
    InPath(node): InPath<u32>,
    InBody(trial): InBody<Trial>,
) -> Result<Json<Leaving>, Problem> {
    let node = known(&broker, node)?;
    if !trial.dry_run {
        return Ok(Json(Leaving { operation: Some(broker.decommission(node).await?), moves: Vec::new() }));
    }
    let moves = broker.plan_leaving(node).await?.iter().map(MoveView::planned).collect();
    Ok(Json(Leaving { operation: None, moves }))
}

/// Takes a decommissioned node that is dead out of the cluster's books; its data folder may not come back
#[utoipa::path(delete, path = "/v1/nodes/{node}", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    request_body = Trial,
    responses((status = 200, description = "It is gone, or could be", body = Nothing),
        (status = "default", description = "It is still in use", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(
    State(broker): State<Broker>,
    InPath(node): InPath<u32>,
    InBody(trial): InBody<Trial>,
) -> Result<Json<Nothing>, Problem> {
    broker.remove_node(known(&broker, node)?, trial.dry_run).await?;
    Ok(Json(Nothing {}))
}

/// Lets a node lead again that was drained
#[utoipa::path(post, path = "/v1/nodes/{node}/undrain", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    request_body = Nothing,
    responses((status = 200, description = "It serves", body = Nothing),
        (status = "default", description = "It does already", body = Problem, content_type = "application/problem+json")))]
pub async fn undrain(
    State(broker): State<Broker>,
    InPath(node): InPath<u32>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Json<Nothing>, Problem> {
    restore(&broker, node).await
}

/// Lets a node hold replicas again that was decommissioned
#[utoipa::path(post, path = "/v1/nodes/{node}/recommission", tag = "nodes", params(("node" = u32, Path, description = "Its id")),
    request_body = Nothing,
    responses((status = 200, description = "It serves", body = Nothing),
        (status = "default", description = "It does already", body = Problem, content_type = "application/problem+json")))]
pub async fn recommission(
    State(broker): State<Broker>,
    InPath(node): InPath<u32>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Json<Nothing>, Problem> {
    restore(&broker, node).await
}

async fn restore(broker: &Broker, node: u32) -> Result<Json<Nothing>, Problem> {
    broker.restore(known(broker, node)?).await?;
    Ok(Json(Nothing {}))
}

fn known(broker: &Broker, node: u32) -> Result<NodeId, Problem> {
    let node = NodeId(node);
    match broker.image().nodes.contains_key(&node) {
        true => Ok(node),
        false => Err(Problem::not_found(format!("there is no node {node}"))),
    }
}
