//! Policies: arguments for all queues of a virtual host whose names match.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::controller::topology::TopologyError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refusal, read};
use crate::broker::{Broker, PolicyDeclaration, PolicyReport, TopologyFailure, Values};

/// A policy as it is sent, and as definitions have it.
#[derive(Debug, Deserialize)]
pub struct PolicyBody {
    pattern: String,
    definition: Values,
    #[serde(default)]
    priority: i32,
    #[serde(default, rename = "apply-to")]
    apply_to: Option<String>,
}

impl PolicyBody {
    /// The policy of this name.
    pub fn named(self, vhost: String, name: String) -> PolicyDeclaration {
        let Self { pattern, definition, priority, apply_to } = self;
        let apply_to = apply_to.unwrap_or_else(|| "all".to_owned());
        PolicyDeclaration { vhost, name, pattern, apply_to, priority, definition }
    }
}

/// All policies.
pub async fn all(State(broker): State<Broker>) -> Json<Value> {
    Json(views(&broker, |_| true).into())
}

/// Those of a virtual host.
pub async fn of_vhost(State(broker): State<Broker>, Path(vhost): Path<String>) -> Result<Json<Value>, Refusal> {
    let found = broker.has_vhost(&vhost).then(|| views(&broker, |policy| policy.vhost == vhost));
    found.map(|found| Json(found.into())).ok_or_else(Refusal::not_found)
}

/// One policy.
pub async fn one(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let found = views(&broker, |policy| policy.vhost == vhost && policy.name == name);
    found.into_iter().next().map(Json).ok_or_else(Refusal::not_found)
}

/// Makes one, or changes it.
pub async fn set(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let body: PolicyBody = read(&body)?;
    let is_there = broker.image().topology.vhost(&vhost).ok_or_else(Refusal::not_found)?.policies.contains_key(&*name);
    broker.set_policy(body.named(vhost, name)).await?;
    Ok(if is_there { StatusCode::NO_CONTENT } else { StatusCode::CREATED })
}

/// Deletes one.
pub async fn delete(
    State(broker): State<Broker>,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    match broker.drop_policy(&vhost, &name).await {
        Err(TopologyFailure::Refused(TopologyError::NotFound { .. })) => Err(Refusal::not_found()),
        dropped => Ok(dropped.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// Policies; also what definitions have of them.
pub fn views(broker: &Broker, wanted: impl Fn(&PolicyDeclaration) -> bool) -> Vec<Value> {
    let wanted = broker.policy_reports().into_iter().filter(|report| wanted(&report.policy));
    let view = |PolicyReport { policy, .. }: PolicyReport| json!(policy);
    wanted.map(view).collect()
}
