//! LeaveGroup (13): one member, or several from version 3 on, also static ones by their instance ids alone (KIP-345).
use model::coordinator::{Command, Reply, Who};
use wire::kafka::messages::leave_group::{MemberIdentity, MemberResponse};
use wire::kafka::messages::{LeaveGroupRequest, LeaveGroupResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{code, refusal, who};
use crate::kafka::Call;

/// Several members from here on, each with its own error.
const MEMBERS_FROM: i16 = 3;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let LeaveGroupRequest { group_id, member_id, members, .. } = request;
    let named = match call.version {
        MEMBERS_FROM.. => members,
        _ => vec![MemberIdentity { member_id, ..Default::default() }],
    };
    let failed = |code: ErrorCode| LeaveGroupResponse { error_code: code.code(), ..Default::default() };
    let left = match leave(&call, &group_id, &named).await {
        Ok(left) => left,
        Err(code) => return failed(code),
    };
    if call.version < MEMBERS_FROM {
        return failed(left.first().copied().unwrap_or(ErrorCode::UnknownMemberId));
    }
    let member = |(named, code): (MemberIdentity, ErrorCode)| MemberResponse {
        member_id: named.member_id,
        group_instance_id: named.group_instance_id,
        error_code: code.code(),
        ..Default::default()
    };
    LeaveGroupResponse { members: named.into_iter().zip(left).map(member).collect(), ..Default::default() }
}

async fn leave(call: &Call, group: &Str, named: &[MemberIdentity]) -> Result<Vec<ErrorCode>, ErrorCode> {
    let who = |named: &MemberIdentity| who(group, &named.member_id, named.group_instance_id.as_ref(), -1);
    let members: Vec<Who> = named.iter().map(who).collect::<Result<_, _>>()?;
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let command = Command::Leave { group: group.to_string(), members };
    match call.broker().group_command(group.as_str(), command).await {
        Ok(Reply::Each(each)) => {
            Ok(each.into_iter().map(|left| left.map_or_else(refusal, |()| ErrorCode::None)).collect())
        }
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(denied) => Err(code(&denied)),
    }
}
