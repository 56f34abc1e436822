//! DeleteGroups (42): groups without members, and their offsets with them (KIP-229).
use futures::future::join_all;
use model::coordinator::{Command, Reply};
use wire::kafka::messages::delete_groups::DeletableGroupResult;
use wire::kafka::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{code, refusal};
use crate::kafka::Call;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = join_all(request.groups_names.into_iter().map(|group| delete(&call, group))).await;
    DeleteGroupsResponse { results, ..Default::default() }
}

async fn delete(call: &Call, group_id: Str) -> DeletableGroupResult {
    let command = Command::DeleteGroup(group_id.to_string());
    let code = match call.broker().group_command(group_id.as_str(), command).await {
        Ok(Reply::Done(deleted)) => deleted.map_or_else(refusal, |()| ErrorCode::None),
        Ok(_) => ErrorCode::UnknownServerError,
        Err(denied) => code(&denied),
    };
    DeletableGroupResult { group_id, error_code: code.code(), ..Default::default() }
}
