//! The cluster's settings and features: told, changed, and what was changed.

use axum::Json;
use axum::extract::State;

use super::problem::{InBody, Problem};
use crate::broker::{Broker, FeatureChange, FeatureReport, Setting, SettingChanged, SettingsChange};

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
    Ok(Json(broker.change_settings(change).await?))
}

/// The last changes of settings, of topics too
#[utoipa::path(get, path = "/v1/configs/changes", tag = "cluster", responses((status = 200, description = "The latest first", body = Vec<SettingChanged>)))]
pub async fn changes(State(broker): State<Broker>) -> Json<Vec<SettingChanged>> {
    Json(broker.settings_changes())
}

/// The features of the cluster, with their levels
#[utoipa::path(get, path = "/v1/features", tag = "cluster", responses((status = 200, description = "By name", body = Vec<FeatureReport>)))]
pub async fn features(State(broker): State<Broker>) -> Json<Vec<FeatureReport>> {
    Json(broker.features())
}

/// Raises or lowers features
#[utoipa::path(post, path = "/v1/features", tag = "cluster", request_body = FeatureChange,
    responses((status = 200, description = "What they are now", body = Vec<FeatureReport>),
        (status = "default", description = "A level is refused; nothing is changed", body = Problem, content_type = "application/problem+json")))]
pub async fn change_features(
    State(broker): State<Broker>,
    InBody(change): InBody<FeatureChange>,
) -> Result<Json<Vec<FeatureReport>>, Problem> {
    Ok(Json(broker.change_features(change).await?))
}
