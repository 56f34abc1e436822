//! UpdateFeatures (57): raises or lowers what the cluster has made final (KIP-584); all that is asked for or nothing.
use model::controller::{Command, FeatureUpdate, Outcome, UpdateFeatures};
use wire::kafka::messages::update_features::{FeatureUpdateKey, UpdatableFeatureResult};
use wire::kafka::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use wire::kafka::{ErrorCode, Str};

use super::control::{self, patience, refuse_twice};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let names: Vec<Str> = request.feature_updates.iter().map(|update| update.feature.clone()).collect();
    let (validate_only, version) = (request.validate_only, call.version);
    let asked: Vec<(String, FeatureUpdateKey)> =
        request.feature_updates.into_iter().map(|update| (update.feature.as_str().to_owned(), update)).collect();
    let items = refuse_twice(asked, |name| format!("Feature '{name}' is there twice."));
    let items: Vec<_> = items.into_iter().map(|item| item.and_then(|(_, update)| wanted(&update, version))).collect();
    let command = |updates| Command::UpdateFeatures(UpdateFeatures { updates, validate_only });
    let results = match items.iter().find_map(|item| item.as_ref().err().cloned()) {
        Some(refusal) => names.iter().map(|_| Err(refusal.clone())).collect(),
        None => {
            control::each(&call, patience(request.timeout_ms), items, command, |outcome| match outcome {
                Outcome::Each(results) => Some(results),
                _ => None,
            })
            .await
        }
    };
    response(version, names.into_iter().zip(results.into_iter().map(Result::err)).collect())
}

/// What is asked of one feature. Version 0 has a flag where later ones have a type.
fn wanted(update: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, Refusal> {
    let may_lower = match (version, update.upgrade_type) {
        (0, _) => update.allow_downgrade,
        (_, UPGRADE) => false,
        (_, SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) => true,
        (_, other) => {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown upgrade type {other}.")));
        }
    };
    Ok(FeatureUpdate { name: update.feature.as_str().to_owned(), level: update.max_version_level, may_lower })
}

/// Version 2 tells only of the first that was refused; those before it of each.
fn response(version: i16, results: Vec<(Str, Option<Refusal>)>) -> UpdateFeaturesResponse {
    if version >= 2 {
        let first = results.into_iter().find_map(|(_, refusal)| refusal);
        return UpdateFeaturesResponse {
            error_code: Refusal::code_of(first.as_ref()),
            error_message: first.as_ref().and_then(Refusal::text),
            ..Default::default()
        };
    }
    let result = |(feature, refusal): (Str, Option<Refusal>)| UpdatableFeatureResult {
        feature,
        error_code: Refusal::code_of(refusal.as_ref()),
        error_message: refusal.as_ref().and_then(Refusal::text),
        ..Default::default()
    };
    UpdateFeaturesResponse { results: results.into_iter().map(result).collect(), ..Default::default() }
}
