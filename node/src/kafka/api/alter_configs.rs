//! AlterConfigs (33): a resource has exactly the values given afterwards (deprecated by KIP-339, still in use).
use model::controller::image::Configs;
use model::controller::{AlterConfigs, Command, ConfigResource};
use wire::kafka::ErrorCode;
use wire::kafka::messages::alter_configs::{AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig};
use wire::kafka::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::configs::{Asked, alter};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let validate_only = request.validate_only;
    let command = |changes| Command::AlterConfigs(AlterConfigs { changes, validate_only });
    let asked = request.resources.into_iter().map(asked).collect();
    let responses =
        alter(&call, asked, change, command).await.into_iter().map(|(resource_type, resource_name, refusal)| {
            AlterConfigsResourceResponse {
                error_code: Refusal::code_of(refusal.as_ref()),
                error_message: refusal.as_ref().and_then(Refusal::text),
                resource_type,
                resource_name,
                ..Default::default()
            }
        });
    AlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}

fn asked(resource: AlterConfigsResource) -> Asked<Vec<AlterableConfig>> {
    ((resource.resource_type, resource.resource_name.as_str().to_owned()), resource.configs)
}

fn change(resource: ConfigResource, asked: Vec<AlterableConfig>) -> Result<(ConfigResource, Configs), Refusal> {
    Ok((resource, asked.into_iter().map(value).collect::<Result<_, _>>()?))
}

fn value(config: AlterableConfig) -> Result<(String, String), Refusal> {
    let key = config.name.as_str().to_owned();
    match config.value {
        Some(value) => Ok((key, value.as_str().to_owned())),
        None => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Null value not supported for : {key}"))),
    }
}
