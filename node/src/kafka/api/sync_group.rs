//! SyncGroup (14): the leader brings everybody's assignment, and each member is answered with its own.
use bytes::Bytes;
use model::coordinator::Sync;
use wire::kafka::messages::{SyncGroupRequest, SyncGroupResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{code, who};
use crate::broker::Synced;
use crate::kafka::Call;

/// Members say which protocol they believe was chosen from here on, and must (KIP-559).
const PROTOCOL_FROM: i16 = 5;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let synced = match sync(&call, request) {
        Ok(sync) => call.broker().sync_group(sync).await.map_err(|denied| code(&denied)),
        Err(code) => Err(code),
    };
    match synced {
        Ok(Synced { protocol_type, protocol, assignment }) => SyncGroupResponse {
            protocol_type: protocol_type.map(Str::from),
            protocol_name: protocol.map(Str::from),
            assignment: Bytes::from(assignment),
            ..Default::default()
        },
        Err(code) => SyncGroupResponse { error_code: code.code(), ..Default::default() },
    }
}

fn sync(call: &Call, request: SyncGroupRequest) -> Result<Sync, ErrorCode> {
    if call.version >= PROTOCOL_FROM && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let instance = request.group_instance_id.as_ref();
    let who = who(&request.group_id, &request.member_id, instance, request.generation_id)?;
    let assignments = request.assignments.into_iter();
    Ok(Sync {
        who,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments.map(|of| (of.member_id.to_string(), of.assignment.to_vec())).collect(),
    })
}
