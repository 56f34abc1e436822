//! What operators do with the messages of a queue: look at them, forget them, send dead letters back, go on from elsewhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use model::controller::topology::{DEFAULT_VHOST, Queue};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::problem::{InBody, InPath, InQuery, Problem};
use crate::broker::Broker;
use crate::broker::queues::{ConsumeError, MessageReport, QueueChange, Redriven, SeekTo};

/// Messages of one look, if nobody says how many.
const PEEK_DEFAULT: usize = 10;
/// Dead letters that go back, if nobody says how many.
const REDRIVE_DEFAULT: u64 = 1_000;

/// Which messages to look at.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Look {
    /// Its virtual host; `/` if none is named.
    vhost: Option<String>,
    /// The first offset; the first message that there is if none is named.
    from: i64,
    /// How many, 1,000 at most; 10 if nothing is said.
    limit: Option<usize>,
    /// With their bodies.
    body: bool,
}

/// Which queue a change is of.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Purge {
    /// Its virtual host; `/` if none is named.
    vhost: Option<String>,
}

/// Where a queue shall go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Seek {
    /// Its virtual host; `/` if none is named.
    #[serde(default)]
    vhost: Option<String>,
    /// With which message.
    to: SeekTo,
}

/// Which dead letters go where.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redrive {
    /// The virtual host of both queues; `/` if none is named.
    vhost: Option<String>,
    /// The queue that gets them; if none is named, each goes to the one that it died in.
    to: Option<String>,
    /// How many at most; 1,000 if nothing is said.
    limit: Option<u64>,
}

fn find(broker: &Broker, vhost: Option<&str>, name: &str) -> Result<Arc<Queue>, Problem> {
    let found = broker.queue(vhost.unwrap_or(DEFAULT_VHOST), name);
    found.ok_or_else(|| Problem::not_found(format!("there is no queue {name}")))
}

/// Messages of a queue, taken from nobody
#[utoipa::path(get, path = "/v1/queues/{queue}/messages", tag = "queues", params(("queue" = String, Path, description = "Its name"), Look),
    responses((status = 200, description = "In the order of the log", body = Vec<MessageReport>),
        (status = "default", description = "There is none, or its leader does not answer", body = Problem, content_type = "application/problem+json")))]
pub async fn peek(
    State(broker): State<Broker>,
    InPath(queue): InPath<String>,
    InQuery(look): InQuery<Look>,
) -> Result<Json<Vec<MessageReport>>, Problem> {
    let queue = find(&broker, look.vhost.as_deref(), &queue)?;
    Ok(Json(broker.peek(&queue, look.from, look.limit.unwrap_or(PEEK_DEFAULT), look.body).await?))
}

/// Forgets the messages of a queue that no consumer has
#[utoipa::path(post, path = "/v1/queues/{queue}/purge", tag = "queues", params(("queue" = String, Path, description = "Its name")),
    request_body = Purge,
    responses((status = 200, description = "They are forgotten", body = QueueChange),
        (status = "default", description = "There is none, or its leader does not answer", body = Problem, content_type = "application/problem+json")))]
pub async fn purge(
    State(broker): State<Broker>,
    InPath(queue): InPath<String>,
    InBody(purge): InBody<Purge>,
) -> Result<Json<QueueChange>, Problem> {
    let queue = find(&broker, purge.vhost.as_deref(), &queue)?;
    Ok(Json(broker.purge_and_tell(&queue).await?))
}

/// Lets a queue go on from elsewhere: what was acknowledged behind it is delivered again
#[utoipa::path(post, path = "/v1/queues/{queue}/seek", tag = "queues", params(("queue" = String, Path, description = "Its name")),
    request_body = Seek,
    responses((status = 200, description = "It goes on from there", body = QueueChange),
        (status = "default", description = "There is none, or its leader does not answer", body = Problem, content_type = "application/problem+json")))]
pub async fn seek(
    State(broker): State<Broker>,
    InPath(queue): InPath<String>,
    InBody(seek): InBody<Seek>,
) -> Result<Json<QueueChange>, Problem> {
    let queue = find(&broker, seek.vhost.as_deref(), &queue)?;
    Ok(Json(broker.seek(&queue, seek.to).await?))
}

/// Sends the dead letters in a queue back to where they died, or to another queue
#[utoipa::path(post, path = "/v1/queues/{queue}/redrive", tag = "queues", params(("queue" = String, Path, description = "Where they are")),
    request_body = Redrive,
    responses((status = 200, description = "What became of them; there may be more", body = Redriven),
        (status = "default", description = "There is none, or somebody consumes exclusively", body = Problem, content_type = "application/problem+json")))]
pub async fn redrive(
    State(broker): State<Broker>,
    InPath(queue): InPath<String>,
    InBody(redrive): InBody<Redrive>,
) -> Result<Json<Redriven>, Problem> {
    let find = |name: &str| find(&broker, redrive.vhost.as_deref(), name);
    let from = find(&queue)?;
    let to = redrive.to.as_deref().map(find).transpose()?;
    Ok(Json(broker.redrive(&from, to.as_ref(), redrive.limit.unwrap_or(REDRIVE_DEFAULT)).await?))
}

impl From<ConsumeError> for Problem {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::NotFound => Self::not_found(error.to_string()),
            ConsumeError::Exclusive => Self::conflict(error.to_string()),
            ConsumeError::Unavailable(_) => Self::unavailable(error.to_string()),
        }
    }
}
