//! ListConfigResources (74): names of what has configs (KIP-1142; version 0 was ListClientMetricsResources).
use wire::kafka::messages::list_config_resources::ConfigResource;
use wire::kafka::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use wire::kafka::{ErrorCode, Str};

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::kafka::Call;

/// The client says which types it wants from here on; before, client metrics only.
const TYPES_FROM: i16 = 1;
/// All types, in Kafka's order.
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let types = match request.resource_types.as_slice() {
        _ if call.version < TYPES_FROM => &[CLIENT_METRICS][..],
        [] => &ALL[..],
        asked => asked,
    };
    if types.iter().any(|asked| !ALL.contains(asked)) {
        return ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion.code(), ..Default::default() };
    }
    let config_resources = ALL.iter().filter(|kind| types.contains(kind)).flat_map(|kind| resources(&call, *kind));
    ListConfigResourcesResponse { config_resources: config_resources.collect(), ..Default::default() }
}

/// Client metrics, log levels and groups have no configs here yet.
fn resources(call: &Call, kind: i8) -> Vec<ConfigResource> {
    let image = call.broker().image();
    let names: Vec<Str> = match kind {
        TOPIC => image.topics.keys().map(|name| name.to_string().into()).collect(),
        BROKER => image.nodes.keys().map(|id| id.to_string().into()).collect(),
        _ => Vec::new(),
    };
    names
        .into_iter()
        .map(|resource_name| ConfigResource { resource_name, resource_type: kind, ..Default::default() })
        .collect()
}
