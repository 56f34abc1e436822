//! What goes wrong, as problem details (RFC 9457); and extractors that say so in the same form.
//! Invariant: every answer that is no success has the media type of a problem, a status and words for a person.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::balance::Risk;
use model::controller::{Code, TopologyError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::broker::{self, NotBegun, NotRebalanced, NotSet, TopologyFailure, Unmoved};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The partitions that are the cause, or what else is, one a line, where some are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), causes: Vec::new() }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Who would have to do it does not answer.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// It cannot be done as things stand.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        response
    }
}

impl From<Unmoved> for Problem {
    fn from(unmoved: Unmoved) -> Self {
        let status = match &unmoved {
            Unmoved::UnknownPartition => StatusCode::NOT_FOUND,
            Unmoved::NotNeeded(_) | Unmoved::Ineligible { .. } => StatusCode::CONFLICT,
            Unmoved::Leaderless | Unmoved::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, unmoved.to_string())
    }
}

impl From<NotRebalanced> for Problem {
    fn from(why: NotRebalanced) -> Self {
        let status = match &why {
            NotRebalanced::Unknown => StatusCode::NOT_FOUND,
            NotRebalanced::Empty => StatusCode::CONFLICT,
            NotRebalanced::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, why.to_string())
    }
}

impl From<NotBegun> for Problem {
    fn from(why: NotBegun) -> Self {
        let words = why.to_string();
        let causes = match why {
            NotBegun::Broker(error) => return error.into(),
            NotBegun::Quorum(risks) => risks.iter().map(cause).collect(),
            NotBegun::NoPlace(stays) => {
                stays.iter().map(|stay| format!("{}-{}: {}", stay.topic, stay.index, stay.why)).collect()
            }
            NotBegun::InUse(_, against) => against,
            NotBegun::Refused(_) => Vec::new(),
        };
        Self { causes, ..Self::conflict(words) }
    }
}

fn cause(risk: &Risk) -> String {
    let Risk { topic, index, left, needed } = risk;
    format!("{topic}-{index}: {left} replica(s) in sync would be left, {needed} are needed")
}

impl From<broker::Error> for Problem {
    fn from(error: broker::Error) -> Self {
        let status = match &error {
            broker::Error::UnknownPartition => StatusCode::NOT_FOUND,
            broker::Error::Busy => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<NotSet> for Problem {
    fn from(why: NotSet) -> Self {
        match why {
            NotSet::Broker(error) => error.into(),
            NotSet::Refused(refused) if refused.code == Code::NodeNotRegistered => Self::not_found(refused.message),
            NotSet::Refused(refused) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, refused.message),
        }
    }
}

impl From<TopologyError> for Problem {
    fn from(error: TopologyError) -> Self {
        let status = match &error {
            TopologyError::NotFound { .. } => StatusCode::NOT_FOUND,
            TopologyError::AccessRefused(_) => StatusCode::FORBIDDEN,
            TopologyError::Precondition(_) => StatusCode::UNPROCESSABLE_ENTITY,
            TopologyError::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            TopologyError::NotEqual { .. }
            | TopologyError::InUse { .. }
            | TopologyError::Locked { .. }
            | TopologyError::Limit(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<TopologyFailure> for Problem {
    fn from(failure: TopologyFailure) -> Self {
        match failure {
            TopologyFailure::Refused(error) => error.into(),
            TopologyFailure::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, failure.to_string()),
        }
    }
}

/// What stands in the path.
pub struct InPath<T>(pub T);

impl<T, S> FromRequestParts<S> for InPath<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(found)) => Ok(Self(found)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// What stands behind the question mark.
pub struct InQuery<T>(pub T);

impl<T, S> FromRequestParts<S> for InQuery<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(found)) => Ok(Self(found)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// A JSON body. Every change wants one, if only `{}`: a web page cannot make a browser send it to another site unasked.
pub struct InBody<T>(pub T);

impl<T, S> FromRequest<S> for InBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}
