//! The cluster's settings: told, changed, and what was changed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::controller::Code;

use super::problem::{InBody, Problem};
use crate::broker::{Broker, NotSet, Setting, SettingChanged, SettingsChange};

/// The settings of the cluster
#[utoipa::path(get, path = "/v1/configs", tag = "cluster", responses((status = 200, description = "By key", body = Vec<Setting>)))]
pub async fn list(State(broker): State<Broker>) -> Json<Vec<Setting>> {
    Json(broker.settings())
}

/// Changes settings of the cluster, or of one node
#[utoipa::path(post, path = "/v1/configs", tag = "cluster", request_body = SettingsChange,
    responses((status = 200, description = "Those that are not what they were", body = Vec<SettingChanged>),
        (status = "default", description = "A key or a value is refused; nothing is changed", body = Problem, content_type = "application/problem+json")))]
pub async fn change(
    State(broker): State<Broker>,
    InBody(change): InBody<SettingsChange>,
) -> Result<Json<Vec<SettingChanged>>, Problem> {
    broker.change_settings(change).await.map(Json).map_err(|why| match why {
        NotSet::Broker(error) => error.into(),
        NotSet::Refused(refused) => {
            let unknown = refused.code == Code::NodeNotRegistered;
            let status = if unknown { StatusCode::NOT_FOUND } else { StatusCode::UNPROCESSABLE_ENTITY };
            Problem::new(status, refused.message)
        }
    })
}

/// The last changes of settings, of topics too
#[utoipa::path(get, path = "/v1/configs/changes", tag = "cluster", responses((status = 200, description = "The latest first", body = Vec<SettingChanged>)))]
pub async fn changes(State(broker): State<Broker>) -> Json<Vec<SettingChanged>> {
    Json(broker.settings_changes())
}
