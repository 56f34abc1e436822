//! ListGroups (16): the groups that this node coordinates, by state (KIP-518) and type (KIP-848) if asked.
use model::coordinator::{CoordinatorMachine, Kind};
use wire::kafka::messages::list_groups::ListedGroup;
use wire::kafka::messages::{ListGroupsRequest, ListGroupsResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::code;
use crate::broker::Denied;
use crate::kafka::Call;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |words: &[Str], word: &str| {
        words.is_empty() || words.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(word))
    };
    let list = |machine: &CoordinatorMachine| -> Vec<ListedGroup> {
        let groups = machine.groups().filter(|(_, group)| {
            wanted(&request.states_filter, group.kind.state()) && wanted(&request.types_filter, group.kind.name())
        });
        groups.map(|(id, group)| listed(id, &group.kind)).collect()
    };
    match call.broker().read_shards(list).await {
        Ok(shards) => ListGroupsResponse { groups: shards.into_iter().flatten().collect(), ..Default::default() },
        // A shard that was led here a moment ago has its groups elsewhere by now: the client asks again.
        Err(Denied::NotCoordinator) => failed(ErrorCode::CoordinatorLoadInProgress),
        Err(denied) => failed(code(&denied)),
    }
}

fn failed(code: ErrorCode) -> ListGroupsResponse {
    ListGroupsResponse { error_code: code.code(), ..Default::default() }
}

fn listed(id: &str, group: &Kind) -> ListedGroup {
    let protocol_type = match group {
        Kind::Classic(classic) => classic.protocol_type.clone().unwrap_or_default(),
        Kind::Consumer(_) => "consumer".to_owned(),
    };
    ListedGroup {
        group_id: id.to_owned().into(),
        protocol_type: protocol_type.into(),
        group_state: Str::from_static(group.state()),
        group_type: Str::from_static(group.name()),
        ..Default::default()
    }
}
