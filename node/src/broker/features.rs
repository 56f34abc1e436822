//! The features of the cluster and their levels, for operators. Kafka's UpdateFeatures changes the same.
use std::collections::BTreeMap;

use model::controller::{Command, FEATURES, FeatureUpdate, Outcome, UpdateFeatures};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Broker, Error, NotSet};

/// Something that is switched for the whole cluster.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct FeatureReport {
    /// As Kafka's tools name it.
    pub name: String,
    /// At which it is now; 0 is off.
    pub level: i16,
    /// The lowest that this version can work at.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

/// Levels to set, together or not at all.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureChange {
    /// By name; they may be lower than now.
    pub set: BTreeMap<String, i16>,
    /// Only check.
    pub dry_run: bool,
}

impl Broker {
    /// All features, by name.
    pub fn features(&self) -> Vec<FeatureReport> {
        let image = self.image();
        let report = |feature: model::controller::Feature| FeatureReport {
            name: feature.name.to_owned(),
            level: image.feature(feature),
            min: feature.min,
            max: feature.max,
        };
        FEATURES.into_iter().map(report).collect()
    }

    /// Sets levels, and tells what they are.
    ///
    /// # Errors
    /// A feature or a level is refused, or the controller cannot be reached; then nothing is changed.
    pub async fn change_features(&self, change: FeatureChange) -> Result<Vec<FeatureReport>, NotSet> {
        let update = |(name, level)| FeatureUpdate { name, level, may_lower: true };
        let updates = change.set.into_iter().map(update).collect();
        let command = Command::UpdateFeatures(UpdateFeatures { updates, validate_only: change.dry_run });
        let reply = self.control(command).await.map_err(NotSet::Broker)?;
        match reply.outcome {
            Outcome::Each(results) => match results.into_iter().find_map(Result::err) {
                Some(refused) => Err(NotSet::Refused(refused)),
                None => Ok(self.features()),
            },
            other => Err(NotSet::Broker(Error::Unavailable(format!("unexpected outcome {other:?}")))),
        }
    }
}
