//! Who leads, and handing leaderships over.

use axum::Json;
use axum::extract::State;
use model::{GroupId, NodeId, PartitionIndex};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{InBody, InPath, Problem};
use crate::broker::{Broker, PartitionRef, Quorum, Unmoved};

/// Who shall lead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Successor {
    /// Its node; of a partition the preferred leader if there is none.
    #[schema(value_type = Option<u32>)]
    node: Option<NodeId>,
}

/// Who leads now.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedBy {
    /// Its node.
    #[schema(value_type = u32)]
    node: NodeId,
}

/// Hands a partition over to another of its replicas
#[utoipa::path(post, path = "/v1/topics/{topic}/partitions/{partition}/leader", tag = "leaders",
    params(("topic" = String, Path, description = "Its name"), ("partition" = i32, Path, description = "From 0")),
    request_body = Successor,
    responses((status = 200, description = "That node leads", body = LedBy),
        (status = "default", description = "The leadership stays where it is", body = Problem, content_type = "application/problem+json")))]
pub async fn transfer(
    State(broker): State<Broker>,
    InPath((topic, partition)): InPath<(String, i32)>,
    InBody(to): InBody<Successor>,
) -> Result<Json<LedBy>, Problem> {
    let topic = broker.image().topic(&topic).map(|topic| topic.id).ok_or(Unmoved::UnknownPartition)?;
    let partition = PartitionRef { topic, index: PartitionIndex(partition) };
    led_by(broker.transfer(partition, to.node).await)
}

/// Hands the controller over to another of its voters
#[utoipa::path(post, path = "/v1/controller/leader", tag = "leaders", request_body = Successor,
    responses((status = 200, description = "That node leads", body = LedBy),
        (status = "default", description = "The leadership stays where it is", body = Problem, content_type = "application/problem+json")))]
pub async fn transfer_controller(
    State(broker): State<Broker>,
    InBody(to): InBody<Successor>,
) -> Result<Json<LedBy>, Problem> {
    let Some(node) = to.node else {
        return Err(Problem::conflict("the controller has no preferred leader: name a node"));
    };
    led_by(broker.transfer_group(GroupId::CONTROLLER, node).await.map(|()| node))
}

/// Who leads already need not be given anything: that is no failure.
fn led_by(moved: Result<NodeId, Unmoved>) -> Result<Json<LedBy>, Problem> {
    match moved {
        Ok(node) | Err(Unmoved::NotNeeded(node)) => Ok(Json(LedBy { node })),
        Err(unmoved) => Err(unmoved.into()),
    }
}

/// The members of the controller's group, as its leader sees them
#[utoipa::path(get, path = "/v1/quorum", tag = "leaders",
    responses((status = 200, description = "Voters first", body = Quorum),
        (status = "default", description = "Nobody leads it", body = Problem, content_type = "application/problem+json")))]
pub async fn quorum(State(broker): State<Broker>) -> Result<Json<Quorum>, Problem> {
    let quorum = broker.quorum(GroupId::CONTROLLER).await;
    quorum.map(Json).map_err(|why| Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, why))
}
