//! SyncGroup (14): the leader brings everybody's assignment, and each member is answered with its own.
use std::collections::BTreeMap;

use bytes::Bytes;
use model::controller::Image;
use model::coordinator::{Part, Share, Sync};
use wire::kafka::messages::{SyncGroupRequest, SyncGroupResponse};
use wire::kafka::{ErrorCode, Str, subscription};

use super::groups::{code, spots, who};
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
        Ok(Synced { protocol_type, protocol, share }) => SyncGroupResponse {
            protocol_type: protocol_type.map(Str::from),
            protocol_name: protocol.map(Str::from),
            assignment: assignment(&call.broker().image(), share),
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
    let image = call.broker().image();
    let part = |of: wire::kafka::messages::sync_group::SyncGroupRequestAssignment| Part {
        member: of.member_id.to_string(),
        bytes: of.assignment.to_vec(),
        spots: subscription::only_partitions(of.assignment).map(|named| spots(&image, named)),
    };
    Ok(Sync {
        who,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: request.assignments.into_iter().map(part).collect(),
    })
}

/// As its leader wrote it, or in the words of consumers where the group assigns.
fn assignment(image: &Image, share: Share) -> Bytes {
    let spots = match share {
        Share::Bytes(bytes) => return Bytes::from(bytes),
        Share::Spots(spots) => spots,
    };
    let mut topics = BTreeMap::<_, Vec<i32>>::new();
    for spot in spots {
        topics.entry(spot.topic).or_default().push(spot.partition.0);
    }
    let named = |(id, partitions)| Some((image.topic_by_id(id)?.name.as_str(), partitions));
    subscription::assignment(&topics.into_iter().filter_map(named).collect::<Vec<_>>())
}
