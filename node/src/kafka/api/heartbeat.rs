//! Heartbeat (12): a member of the classic protocol lives, and hears whether the group rebalances.
use wire::kafka::messages::{HeartbeatRequest, HeartbeatResponse};

use super::groups::{code, who};
use crate::kafka::Call;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let instance = request.group_instance_id.as_ref();
    let beaten = match who(&request.group_id, &request.member_id, instance, request.generation_id) {
        Ok(who) => call.broker().group_heartbeat(who).await.map_err(|denied| code(&denied)),
        Err(code) => Err(code),
    };
    HeartbeatResponse { error_code: beaten.err().map_or(0, |code| code.code()), ..Default::default() }
}
