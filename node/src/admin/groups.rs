//! Consumer groups: who reads what and how far behind it is; making one share its partitions anew.

use axum::Json;
use axum::extract::State;

use super::nodes::Trial;
use super::problem::{InBody, InPath, Problem};
use crate::broker::{Broker, ConsumerGroup, Rebalanced};

/// The consumer groups, with the lag of each in records and seconds
#[utoipa::path(get, path = "/v1/groups", tag = "groups", responses((status = 200, description = "By id, of all nodes", body = Vec<ConsumerGroup>)))]
pub async fn list(State(broker): State<Broker>) -> Json<Vec<ConsumerGroup>> {
    Json(broker.consumer_groups().await)
}

/// Makes a consumer group rebalance, though nothing has changed in it
#[utoipa::path(post, path = "/v1/groups/{group}/rebalance", tag = "groups", params(("group" = String, Path, description = "Its id")),
    request_body = Trial,
    responses((status = 200, description = "It is begun, or could be", body = Rebalanced),
        (status = "default", description = "There is no such group, or it has no members", body = Problem, content_type = "application/problem+json")))]
pub async fn rebalance(
    State(broker): State<Broker>,
    InPath(group): InPath<String>,
    InBody(trial): InBody<Trial>,
) -> Result<Json<Rebalanced>, Problem> {
    Ok(Json(broker.rebalance_group(&group, trial.dry_run).await?))
}
