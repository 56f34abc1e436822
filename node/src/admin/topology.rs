//! Virtual hosts, policies, exchanges, queues and bindings.

use axum::Json;
use axum::extract::State;
use model::controller::topology::DEFAULT_VHOST;
use serde::Deserialize;
use utoipa::ToSchema;

use super::operations::Nothing;
use super::problem::{InBody, InPath, Problem};
use crate::broker::{
    BindingReport, Broker, ExchangeDeclaration, ExchangeReport, PolicyDeclaration, PolicyReport, QueueDeclaration,
    QueueReport, VhostReport,
};

/// What else is said of something to be deleted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deletion {
    /// Its virtual host; `/` if none is named.
    vhost: Option<String>,
    /// Of an exchange: only if it has no bindings.
    if_unused: bool,
}

/// A virtual host to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVhost {
    /// Its name.
    name: String,
}

impl Deletion {
    fn vhost(&self) -> &str {
        self.vhost.as_deref().unwrap_or(DEFAULT_VHOST)
    }
}

/// The queues
#[utoipa::path(get, path = "/v1/queues", tag = "queues", responses((status = 200, description = "By name", body = Vec<QueueReport>)))]
pub async fn queues(State(broker): State<Broker>) -> Json<Vec<QueueReport>> {
    Json(broker.queue_reports().await)
}

/// Declares a queue; one that is there already and is the same is no problem
#[utoipa::path(post, path = "/v1/queues", tag = "queues", request_body = QueueDeclaration,
    responses((status = 200, description = "It is there", body = QueueReport),
        (status = "default", description = "It is refused, or is there with other arguments", body = Problem, content_type = "application/problem+json")))]
pub async fn declare_queue(
    State(broker): State<Broker>,
    InBody(wanted): InBody<QueueDeclaration>,
) -> Result<Json<QueueReport>, Problem> {
    Ok(Json(broker.declare_wanted_queue(wanted).await?))
}

/// Deletes a queue with its messages and bindings
#[utoipa::path(delete, path = "/v1/queues/{queue}", tag = "queues", params(("queue" = String, Path, description = "Its name")),
    request_body = Deletion,
    responses((status = 200, description = "It is gone", body = Nothing),
        (status = "default", description = "There is none", body = Problem, content_type = "application/problem+json")))]
pub async fn delete_queue(
    State(broker): State<Broker>,
    InPath(queue): InPath<String>,
    InBody(deletion): InBody<Deletion>,
) -> Result<Json<Nothing>, Problem> {
    broker.delete_queue(deletion.vhost(), &queue).await?;
    Ok(Json(Nothing {}))
}

/// The virtual hosts
#[utoipa::path(get, path = "/v1/vhosts", tag = "queues", responses((status = 200, description = "By name", body = Vec<VhostReport>)))]
pub async fn vhosts(State(broker): State<Broker>) -> Json<Vec<VhostReport>> {
    Json(broker.vhost_reports())
}

/// Makes a virtual host; that it is there already is no problem
#[utoipa::path(post, path = "/v1/vhosts", tag = "queues", request_body = NewVhost,
    responses((status = 200, description = "It is there", body = Nothing),
        (status = "default", description = "It is refused", body = Problem, content_type = "application/problem+json")))]
pub async fn add_vhost(
    State(broker): State<Broker>,
    InBody(wanted): InBody<NewVhost>,
) -> Result<Json<Nothing>, Problem> {
    broker.add_vhost(&wanted.name).await?;
    Ok(Json(Nothing {}))
}

/// Deletes a virtual host with its queues, their messages, and its exchanges
#[utoipa::path(delete, path = "/v1/vhosts/{vhost}", tag = "queues", params(("vhost" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is gone", body = Nothing),
        (status = "default", description = "There is none, or it is the default one", body = Problem, content_type = "application/problem+json")))]
pub async fn delete_vhost(
    State(broker): State<Broker>,
    InPath(vhost): InPath<String>,
) -> Result<Json<Nothing>, Problem> {
    broker.drop_vhost(&vhost).await?;
    Ok(Json(Nothing {}))
}

/// The policies
#[utoipa::path(get, path = "/v1/policies", tag = "queues", responses((status = 200, description = "By virtual host and name", body = Vec<PolicyReport>)))]
pub async fn policies(State(broker): State<Broker>) -> Json<Vec<PolicyReport>> {
    Json(broker.policy_reports())
}

/// Makes a policy, or changes it
#[utoipa::path(post, path = "/v1/policies", tag = "queues", request_body = PolicyDeclaration,
    responses((status = 200, description = "It is there", body = Nothing),
        (status = "default", description = "It is refused", body = Problem, content_type = "application/problem+json")))]
pub async fn set_policy(
    State(broker): State<Broker>,
    InBody(wanted): InBody<PolicyDeclaration>,
) -> Result<Json<Nothing>, Problem> {
    broker.set_policy(wanted).await?;
    Ok(Json(Nothing {}))
}

/// Deletes a policy
#[utoipa::path(delete, path = "/v1/policies/{policy}", tag = "queues", params(("policy" = String, Path, description = "Its name")),
    request_body = Deletion,
    responses((status = 200, description = "It is gone", body = Nothing),
        (status = "default", description = "There is none", body = Problem, content_type = "application/problem+json")))]
pub async fn delete_policy(
    State(broker): State<Broker>,
    InPath(policy): InPath<String>,
    InBody(deletion): InBody<Deletion>,
) -> Result<Json<Nothing>, Problem> {
    broker.drop_policy(deletion.vhost(), &policy).await?;
    Ok(Json(Nothing {}))
}

/// The exchanges
#[utoipa::path(get, path = "/v1/exchanges", tag = "queues", responses((status = 200, description = "By name", body = Vec<ExchangeReport>)))]
pub async fn exchanges(State(broker): State<Broker>) -> Json<Vec<ExchangeReport>> {
    Json(broker.exchange_reports())
}

/// Declares an exchange; one that is there already and is the same is no problem
#[utoipa::path(post, path = "/v1/exchanges", tag = "queues", request_body = ExchangeDeclaration,
    responses((status = 200, description = "It is there", body = ExchangeReport),
        (status = "default", description = "It is refused, or is there with other arguments", body = Problem, content_type = "application/problem+json")))]
pub async fn declare_exchange(
    State(broker): State<Broker>,
    InBody(wanted): InBody<ExchangeDeclaration>,
) -> Result<Json<ExchangeReport>, Problem> {
    Ok(Json(broker.declare_wanted_exchange(wanted).await?))
}

/// Deletes an exchange with its bindings
#[utoipa::path(delete, path = "/v1/exchanges/{exchange}", tag = "queues", params(("exchange" = String, Path, description = "Its name")),
    request_body = Deletion,
    responses((status = 200, description = "It is gone", body = Nothing),
        (status = "default", description = "There is none, or it is in use", body = Problem, content_type = "application/problem+json")))]
pub async fn delete_exchange(
    State(broker): State<Broker>,
    InPath(exchange): InPath<String>,
    InBody(deletion): InBody<Deletion>,
) -> Result<Json<Nothing>, Problem> {
    broker.delete_exchange(deletion.vhost(), &exchange, deletion.if_unused).await?;
    Ok(Json(Nothing {}))
}

/// The bindings
#[utoipa::path(get, path = "/v1/bindings", tag = "queues", responses((status = 200, description = "By exchange and key", body = Vec<BindingReport>)))]
pub async fn bindings(State(broker): State<Broker>) -> Json<Vec<BindingReport>> {
    Json(broker.binding_reports())
}

/// Binds a queue or an exchange to an exchange
#[utoipa::path(post, path = "/v1/bindings", tag = "queues", request_body = BindingReport,
    responses((status = 200, description = "It is bound", body = Nothing),
        (status = "default", description = "One of both is not there", body = Problem, content_type = "application/problem+json")))]
pub async fn bind(
    State(broker): State<Broker>,
    InBody(wanted): InBody<BindingReport>,
) -> Result<Json<Nothing>, Problem> {
    let vhost = wanted.vhost.clone();
    broker.bind(&vhost, wanted.into()).await?;
    Ok(Json(Nothing {}))
}

/// Removes a binding; that it is not there is no problem
#[utoipa::path(delete, path = "/v1/bindings", tag = "queues", request_body = BindingReport,
    responses((status = 200, description = "It is not bound", body = Nothing),
        (status = "default", description = "It is refused", body = Problem, content_type = "application/problem+json")))]
pub async fn unbind(
    State(broker): State<Broker>,
    InBody(wanted): InBody<BindingReport>,
) -> Result<Json<Nothing>, Problem> {
    let vhost = wanted.vhost.clone();
    broker.unbind(&vhost, wanted.into()).await?;
    Ok(Json(Nothing {}))
}
