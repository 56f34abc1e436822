//! FindCoordinator (10): the node that leads a group's shard; several groups at once from version 4 on (KIP-699).
use futures::future::join_all;
use wire::kafka::messages::find_coordinator::Coordinator;
use wire::kafka::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::code;
use super::{NONE, node};
use crate::kafka::Call;
use crate::kafka::errors::Refusal;

/// Several keys from here on.
const KEYS_FROM: i16 = 4;
/// What a key names.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if call.version >= KEYS_FROM {
        let coordinators = request.coordinator_keys.into_iter().map(|key| find(&call, key, request.key_type));
        return FindCoordinatorResponse { coordinators: join_all(coordinators).await, ..Default::default() };
    }
    let found = find(&call, request.key, request.key_type).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(call: &Call, key: Str, key_type: i8) -> Coordinator {
    let found = match key_type {
        GROUP => coordinator(call, &key).await,
        // Final for every client; see init_producer_id.
        TRANSACTION => {
            Err(Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not supported yet"))
        }
        _ => Err(Refusal::new(ErrorCode::InvalidRequest, format!("there are no coordinators of type {key_type}"))),
    };
    match found {
        Ok((node_id, host, port)) => Coordinator { key, node_id, host, port, ..Default::default() },
        Err(refusal) => Coordinator {
            key,
            node_id: NONE,
            port: NONE,
            error_code: refusal.code.code(),
            error_message: refusal.text(),
            ..Default::default()
        },
    }
}

async fn coordinator(call: &Call, group: &Str) -> Result<(i32, Str, i32), Refusal> {
    let found = call.broker().coordinator(group.as_str()).await;
    let found = found.map_err(|denied| Refusal::new(code(&denied), denied.to_string()))?;
    let (host, port, _) = call.endpoint(found).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok((node(found), host.into(), port.into()))
}
