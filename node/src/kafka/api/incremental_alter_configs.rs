//! IncrementalAlterConfigs (44): set, delete, append to and subtract from single keys (KIP-339).
use std::collections::BTreeSet;

use model::controller::{Command, ConfigOp, ConfigResource, IncrementalAlterConfigs, IncrementalChange, OpKind};
use wire::kafka::ErrorCode;
use wire::kafka::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use wire::kafka::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::configs::{Asked, alter};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Answers every version.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let validate_only = request.validate_only;
    let command = |changes| Command::IncrementalAlterConfigs(IncrementalAlterConfigs { changes, validate_only });
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
    IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}

fn asked(resource: AlterConfigsResource) -> Asked<Vec<AlterableConfig>> {
    ((resource.resource_type, resource.resource_name.as_str().to_owned()), resource.configs)
}

fn change(resource: ConfigResource, asked: Vec<AlterableConfig>) -> Result<IncrementalChange, Refusal> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = asked.iter().find(|config| !seen.insert(config.name.as_str())) {
        let words = format!("Error due to duplicate config keys: {}", twice.name);
        return Err(Refusal::new(ErrorCode::InvalidRequest, words));
    }
    let ops = asked.iter().map(op).collect::<Result<_, _>>()?;
    Ok(IncrementalChange { resource, ops })
}

fn op(config: &AlterableConfig) -> Result<ConfigOp, Refusal> {
    let key = config.name.as_str().to_owned();
    let kind = match config.config_operation {
        0 => OpKind::Set,
        1 => OpKind::Delete,
        2 => OpKind::Append,
        3 => OpKind::Subtract,
        other => {
            let words = format!("Unknown operation type {other} for config {key}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, words));
        }
    };
    let value = config.value.as_ref().map(|value| value.as_str().to_owned());
    if value.is_none() && kind != OpKind::Delete {
        let words = format!("Null value not supported for : {key}");
        return Err(Refusal::new(ErrorCode::InvalidRequest, words));
    }
    Ok(ConfigOp { key, kind, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::Str;

    fn config(name: &'static str, config_operation: i8, value: Option<&'static str>) -> AlterableConfig {
        let value = value.map(Str::from_static);
        AlterableConfig { name: Str::from_static(name), config_operation, value, ..Default::default() }
    }

    fn topic() -> ConfigResource {
        ConfigResource::Topic("t".into())
    }

    #[test]
    fn steps_keep_their_order() {
        let change = change(topic(), vec![config("a", 0, Some("1")), config("b", 1, None)]).unwrap();
        let kinds: Vec<_> = change.ops.iter().map(|op| (op.key.as_str(), op.kind)).collect();
        assert_eq!(kinds, [("a", OpKind::Set), ("b", OpKind::Delete)]);
    }

    #[test]
    fn nonsense_is_an_invalid_request() {
        for configs in [
            vec![config("a", 0, None)],
            vec![config("a", 4, Some("1"))],
            vec![config("a", 0, Some("1")), config("a", 1, None)],
        ] {
            assert_eq!(change(topic(), configs).unwrap_err().code, ErrorCode::InvalidRequest);
        }
    }
}
