//! JoinGroup (11): a member of the classic protocol joins, and is answered when the generation is made.
use bytes::Bytes;
use model::controller::Image;
use model::coordinator::migration::CONSUMER;
use model::coordinator::{Embedded, Join, Member, Protocol};
use wire::kafka::messages::join_group::JoinGroupResponseMember;
use wire::kafka::messages::{JoinGroupRequest, JoinGroupResponse};
use wire::kafka::{ErrorCode, Str, subscription};

use super::groups::{code, migration, spots, who};
use crate::broker::{Denied, Joined, Joining};
use crate::kafka::Call;

/// A new member is told its id first from here on (KIP-394).
const COMES_AGAIN_FROM: i16 = 4;
/// The names of protocol and type may be null from here on.
const NULL_NAMES_FROM: i16 = 7;
/// The leader of a group in which nothing has changed is told so from here on (KIP-814).
const SKIP_FROM: i16 = 9;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let member = request.member_id.clone();
    let joined = match joining(&call, request) {
        Ok(joining) => call.broker().join_group(joining).await.map_err(|denied| match &denied {
            Denied::MemberIdRequired(id) => (code(&denied), Str::from(id.clone())),
            _ => (code(&denied), member),
        }),
        Err(code) => Err((code, member)),
    };
    match joined {
        Ok(joined) => respond(&call, joined),
        Err((code, member_id)) => JoinGroupResponse {
            error_code: code.code(),
            generation_id: -1,
            protocol_name: (call.version < NULL_NAMES_FROM).then(Str::default),
            member_id,
            ..Default::default()
        },
    }
}

fn joining(call: &Call, request: JoinGroupRequest) -> Result<Joining, ErrorCode> {
    let who = who(&request.group_id, &request.member_id, request.group_instance_id.as_ref(), -1)?;
    let image = call.broker().image();
    let number = |key| image.broker_value(key, Some(call.broker().node_id())).parse::<i32>().unwrap_or(i32::MAX);
    let session = number("group.min.session.timeout.ms")..=number("group.max.session.timeout.ms");
    if !session.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let is_consumer = request.protocol_type.as_str() == CONSUMER;
    let mut topics: Vec<String> = match is_consumer {
        true => request.protocols.iter().flat_map(|protocol| subscription::topics(protocol.metadata.clone())).collect(),
        false => Vec::new(),
    };
    topics.sort();
    topics.dedup();
    let embedded = if is_consumer { embedded(&image, &request, &topics) } else { None };
    let protocol = |protocol: &wire::kafka::messages::join_group::JoinGroupRequestProtocol| Protocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata.to_vec(),
    };
    let member = Member {
        instance: who.instance.clone(),
        client_id: call.client_id.to_string(),
        client_host: call.client_host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            0.. => request.rebalance_timeout_ms,
            _ => request.session_timeout_ms,
        },
        protocols: request.protocols.iter().map(protocol).collect(),
        topics,
        ..Member::default()
    };
    let join = Join {
        who,
        is_new: false,
        member,
        protocol_type: request.protocol_type.to_string(),
        members_max: u32::try_from(number("group.max.size")).unwrap_or(0),
        gathers: number("group.initial.rebalance.delay.ms") > 0,
        embedded,
        migration: migration(call),
    };
    Ok(Joining { join, comes_again: call.version >= COMES_AGAIN_FROM })
}

/// What a consumer says to those who assign, read by the metadata of the protocol that it likes best.
fn embedded(image: &Image, request: &JoinGroupRequest, names: &[String]) -> Option<Embedded> {
    let owned = subscription::owned(request.protocols.first()?.metadata.clone())?;
    let known = |name: &String| {
        let topic = image.topic(name)?;
        Some((topic.id, i32::try_from(topic.partitions.len()).ok()?))
    };
    Some(Embedded { topics: names.iter().filter_map(known).collect(), owned: spots(image, owned) })
}

fn respond(call: &Call, joined: Joined) -> JoinGroupResponse {
    let member = |(id, instance, metadata): (String, Option<String>, Vec<u8>)| JoinGroupResponseMember {
        member_id: id.into(),
        group_instance_id: instance.map(Str::from),
        metadata: Bytes::from(metadata),
        ..Default::default()
    };
    // A leader that cannot be told to skip assigns anew, and has its assignment refused by nobody: it says what all have.
    let skips = joined.skip_assignment && call.version >= SKIP_FROM;
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Str::from),
        protocol_name: Some(joined.protocol.unwrap_or_default().into()),
        leader: joined.leader.into(),
        skip_assignment: skips,
        member_id: joined.member.into(),
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
