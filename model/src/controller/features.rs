//! UpdateFeatures (KIP-584): which features of the cluster are final, and at which level.
//! Invariant: a level is one that this table has; what nobody has set is at the level that every cluster was founded with, which never changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::controller::{Code, Error, Image};

/// Something that is switched for the whole cluster, since nodes or clients must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// As Kafka's tools name it.
    pub name: &'static str,
    /// The lowest level that this version of Flotilla can work at; 0 is off.
    pub min: i16,
    /// The highest.
    pub max: i16,
    /// The level of a cluster that was never told another.
    pub founded: i16,
}

/// Groups of the consumer protocol (KIP-848).
pub const GROUP_VERSION: Feature = Feature { name: "group.version", min: 0, max: 1, founded: 1 };
/// Which Kafka this is like, for clients and tools that ask: 25 is 4.0. Nothing here depends on it, so that it has one level.
pub const METADATA_VERSION: Feature = Feature { name: "metadata.version", min: 25, max: 25, founded: 25 };
/// All, by name.
pub const FEATURES: [Feature; 2] = [GROUP_VERSION, METADATA_VERSION];

/// Levels by feature, where somebody set one.
pub type Levels = BTreeMap<String, i16>;

/// The command: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFeatures {
    /// Which features get which levels.
    pub updates: Vec<FeatureUpdate>,
    /// Only check.
    pub validate_only: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    /// Its name.
    pub name: String,
    /// The new level.
    pub level: i16,
    /// Whether it may be lower than the present one.
    pub may_lower: bool,
}

impl Image {
    /// The level of a feature.
    pub fn feature(&self, feature: Feature) -> i16 {
        self.settings.features.get(feature.name).copied().unwrap_or(feature.founded)
    }

    /// Sets levels; the results are those of the updates, in their order.
    pub(super) fn update_features(&mut self, update: UpdateFeatures) -> Vec<Result<(), Error>> {
        let results: Vec<_> = update.updates.iter().map(|update| self.check_feature(update)).collect();
        if results.iter().all(Result::is_ok) {
            let levels = &mut Arc::make_mut(&mut self.settings).features;
            levels.extend(update.updates.into_iter().map(|update| (update.name, update.level)));
            return results;
        }
        // One that is refused takes the others with it, as in Kafka.
        let spoiled = || Error::new(Code::InvalidUpdateVersion, "another feature of the request was refused");
        results.into_iter().map(|result| result.and_then(|()| Err(spoiled()))).collect()
    }

    fn check_feature(&self, update: &FeatureUpdate) -> Result<(), Error> {
        let FeatureUpdate { name, level, may_lower } = update;
        let refuse = |why: String| {
            Err(Error::new(
                Code::InvalidUpdateVersion,
                format!("Invalid update version {level} for feature {name}. {why}"),
            ))
        };
        let Some(feature) = FEATURES.into_iter().find(|feature| feature.name == name) else {
            return refuse("The cluster does not support this feature.".to_owned());
        };
        let Feature { min, max, .. } = feature;
        let present = self.feature(feature);
        match *level {
            level if level < min || level > max => refuse(format!("Levels from {min} to {max} are supported.")),
            level if level < present && !may_lower => refuse(format!(
                "Can't downgrade the version of this feature from {present} without the upgrade type set to a downgrade."
            )),
            _ => Ok(()),
        }
    }
}
