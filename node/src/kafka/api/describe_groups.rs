//! DescribeGroups (15): members, state and assignments of groups of the classic protocol.
use bytes::Bytes;
use futures::future::join_all;
use model::coordinator::{Classic, Group, Member, Phase};
use wire::kafka::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use wire::kafka::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{GROUP_OPERATIONS, code};
use crate::kafka::Call;
use crate::kafka::view::NO_OPERATIONS;

/// A group that does not exist is an error from here on; before, it is dead (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { NO_OPERATIONS };
    let groups = join_all(request.groups.into_iter().map(|group| describe(&call, group, operations))).await;
    DescribeGroupsResponse { groups, ..Default::default() }
}

async fn describe(call: &Call, group_id: Str, authorized_operations: i32) -> DescribedGroup {
    let described = match group_id.is_empty() {
        true => Err(ErrorCode::InvalidGroupId),
        false => call.broker().read_group(group_id.as_str(), shown).await.map_err(|denied| code(&denied)),
    };
    let empty = DescribedGroup { group_id: group_id.clone(), authorized_operations, ..Default::default() };
    match described {
        Ok(Some(shown)) => DescribedGroup { group_id, authorized_operations, ..shown },
        Ok(None) if call.version < NOT_FOUND_FROM => DescribedGroup { group_state: Str::from_static("Dead"), ..empty },
        Ok(None) => DescribedGroup {
            group_state: Str::from_static("Dead"),
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(format!("Group {group_id} not found.").into()),
            ..empty
        },
        Err(code) => DescribedGroup { error_code: code.code(), ..empty },
    }
}

/// What is shown of a group of the classic protocol; its metadata and assignments only while they are in force.
fn shown(group: Option<&Group>) -> Option<DescribedGroup> {
    let kind = &group?.kind;
    let group = group?.classic()?;
    let protocol = group.protocol.as_deref().filter(|_| group.phase == Phase::Stable).unwrap_or_default();
    Some(DescribedGroup {
        group_state: Str::from_static(kind.state()),
        protocol_type: group.protocol_type.clone().unwrap_or_default().into(),
        protocol_data: protocol.to_owned().into(),
        members: group.members.iter().map(|(id, of)| member(group, id, of)).collect(),
        ..Default::default()
    })
}

fn member(group: &Classic, id: &str, member: &Member) -> DescribedGroupMember {
    let in_force = group.phase == Phase::Stable;
    let metadata = group.protocol.as_deref().filter(|_| in_force).map(|protocol| member.metadata(protocol));
    DescribedGroupMember {
        member_id: id.to_owned().into(),
        group_instance_id: member.instance.clone().map(Str::from),
        client_id: member.client_id.clone().into(),
        client_host: member.client_host.clone().into(),
        member_metadata: Bytes::from(metadata.unwrap_or_default()),
        member_assignment: if in_force { Bytes::from(member.assignment.clone()) } else { Bytes::new() },
        ..Default::default()
    }
}
