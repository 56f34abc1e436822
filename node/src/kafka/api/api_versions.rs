//! ApiVersions (18): what this node speaks, and which cluster features are final.
//! Invariant: the list is the table's, whatever was asked (KIP-511: also in the refusal).
use bytes::Bytes;
use model::controller::FEATURES;
use wire::kafka::messages::api_versions::{FinalizedFeatureKey, SupportedFeatureKey};
use wire::kafka::messages::{self, ApiVersionsRequest, ApiVersionsResponse};
use wire::kafka::{ErrorCode, Str, versions};

use crate::kafka::Call;

/// Clients before this version of the API take a lowest level of 0 for a fault (KIP-1022).
const LEVEL_ZERO_FROM: i16 = 4;
/// Longest `client.software.name` or version; Kafka allows what matches its pattern, of any length.
const SOFTWARE_BYTES_MAX: usize = 256;

/// Answers a version that is served.
pub(in crate::kafka) async fn answer(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let names = [&request.client_software_name, &request.client_software_version];
    if call.version >= 3 && !names.iter().all(|name| is_software_name(name.as_str())) {
        return versions::api_versions_response(ErrorCode::InvalidRequest);
    }
    let mut answer = versions::api_versions_response(ErrorCode::None);
    let image = call.broker().image();
    for feature in FEATURES {
        let name = Str::from_static(feature.name);
        answer.supported_features.push(SupportedFeatureKey {
            name: name.clone(),
            min_version: feature.min.max(i16::from(call.version < LEVEL_ZERO_FROM)),
            max_version: feature.max,
            ..Default::default()
        });
        // A feature that is off is not final.
        let level = image.feature(feature);
        answer.finalized_features.extend((level > 0).then(|| FinalizedFeatureKey {
            name,
            min_version_level: level,
            max_version_level: level,
            ..Default::default()
        }));
    }
    answer.finalized_features_epoch = i64::try_from(image.version).unwrap_or(i64::MAX);
    answer
}

/// Answers a version that is too new, in version 0, so that the client can fall back to one we speak.
pub(in crate::kafka) fn unsupported(correlation_id: i32) -> wire::Result<Bytes> {
    let body = versions::api_versions_response(ErrorCode::UnsupportedVersion);
    messages::encode_response(correlation_id, 0, &body)
}

/// Kafka's rule (KIP-511): letters, digits, dots and dashes, beginning and ending with a letter or digit.
fn is_software_name(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= SOFTWARE_BYTES_MAX
        && edge(name.bytes().next())
        && edge(name.bytes().next_back())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_pattern() {
        for good in ["librdkafka", "apache-kafka-java", "4.3.0", "a"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a\n", "ä"] {
            assert!(!is_software_name(bad), "{bad}");
        }
        assert!(!is_software_name(&"a".repeat(257)));
    }
}
