//! Consumer groups of the classic protocol, asked in raw bytes: rebalances, commits, fencing, and Kafka's codes for the rest.
use std::time::Duration;

use bytes::Bytes;
use node::broker::{GroupStanding, NotRebalanced, Rebalanced};
use wire::kafka::messages::join_group::JoinGroupRequestProtocol;
use wire::kafka::messages::leave_group::MemberIdentity;
use wire::kafka::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::kafka::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use wire::kafka::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use wire::kafka::messages::sync_group::SyncGroupRequestAssignment;
use wire::kafka::messages::{
    CreatePartitionsRequest, DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use wire::kafka::{ApiKey, ErrorCode, Str, Uuid};

use crate::client::Client;
use crate::node::{Node, ask_for, batch, produce, produced, set_cluster_config, start, start_three, until};

const GROUP: Str = Str::from_static("g");

/// The metadata of a consumer that subscribes to topic `t`.
const SUBSCRIPTION: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];

fn join(member: &Str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: Str::from_static("range"),
        metadata: Bytes::from_static(SUBSCRIPTION),
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 6_000,
        member_id: member.clone(),
        protocol_type: Str::from_static("consumer"),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// Joins with the version's own steps: one, or two with the id that the coordinator gives.
async fn joined(client: &mut Client, version: i16, request: &JoinGroupRequest) -> JoinGroupResponse {
    let first = client.call(version, request).await;
    if first.error_code != ErrorCode::MemberIdRequired.code() {
        return first;
    }
    assert!(version >= 4 && request.member_id.is_empty() && request.group_instance_id.is_none());
    client.call(version, &JoinGroupRequest { member_id: first.member_id, ..request.clone() }).await
}

fn sync(joined: &JoinGroupResponse, version: i16, assigns: &[&Str]) -> SyncGroupRequest {
    let assignment = |member: &&Str| SyncGroupRequestAssignment {
        member_id: (*member).clone(),
        assignment: Bytes::copy_from_slice(member.as_str().as_bytes()),
        ..Default::default()
    };
    SyncGroupRequest {
        group_id: GROUP,
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: (version >= 5).then(|| Str::from_static("consumer")),
        protocol_name: (version >= 5).then(|| Str::from_static("range")),
        assignments: assigns.iter().map(assignment).collect(),
        ..Default::default()
    }
}

fn heartbeat(joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: GROUP,
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    }
}

/// A commit of `offset` for partition 0 of topic `t`; by nobody in particular without `joined`.
fn commit(joined: Option<&JoinGroupResponse>, version: i16, offset: i64, id: Uuid) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: if version >= 6 { 1 } else { -1 },
        committed_metadata: Some(Str::from_static("note")),
        ..Default::default()
    };
    let (name, topic_id) = if version >= 10 { (Str::default(), id) } else { (Str::from_static("t"), Uuid::ZERO) };
    OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: joined.map_or(-1, |joined| joined.generation_id),
        member_id: joined.map(|joined| joined.member_id.clone()).unwrap_or_default(),
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

async fn commits(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> i16 {
    client.call(version, request).await.topics[0].partitions[0].error_code
}

/// The committed offset and note of partition 0 of `t`, or of all topics, by any version.
async fn fetched(client: &mut Client, version: i16, id: Uuid, all: bool) -> (i64, String) {
    let old = OffsetFetchRequestTopic { name: Str::from_static("t"), partition_indexes: vec![0], ..Default::default() };
    let (name, topic_id) = if version >= 10 { (Str::default(), id) } else { (Str::from_static("t"), Uuid::ZERO) };
    let new = OffsetFetchRequestTopics { name, topic_id, partition_indexes: vec![0], ..Default::default() };
    let mut request = OffsetFetchRequest::default();
    if version >= 8 {
        let topics = (!all).then(|| vec![new]);
        request.groups =
            vec![OffsetFetchRequestGroup { group_id: GROUP, topics, member_epoch: -1, ..Default::default() }];
    } else {
        request.group_id = GROUP;
        request.topics = (!all).then(|| vec![old]);
    }
    let answer = client.call(version, &request).await;
    if version >= 8 {
        let group = &answer.groups[0];
        assert_eq!(group.error_code, 0, "v{version}");
        let partition = &group.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0, "v{version}");
        return (partition.committed_offset, partition.metadata.clone().unwrap().to_string());
    }
    assert_eq!(answer.error_code, 0, "v{version}");
    let partition = &answer.topics[0].partitions[0];
    (partition.committed_offset, partition.metadata.clone().unwrap().to_string())
}

/// The coordinator of group `g`, by any version: its node id.
async fn coordinator(node: &Node, version: i16) -> i32 {
    let mut request = FindCoordinatorRequest::default();
    if version >= 4 {
        request.coordinator_keys = vec![GROUP];
    } else {
        request.key = GROUP;
    }
    until("a coordinator", || async {
        let answer = node.client().await.call(version, &request).await;
        let (code, found) = match answer.coordinators.first() {
            Some(found) => (found.error_code, found.node_id),
            None => (answer.error_code, answer.node_id),
        };
        assert!(code == 0 || code == ErrorCode::CoordinatorNotAvailable.code(), "{answer:?}");
        (code == 0).then_some(found)
    })
    .await
}

/// A node with topic `t` and shards, whose groups do not wait for more members.
async fn ready() -> (Node, Uuid) {
    let node = start().await;
    let id = node.topic("t", 2).await;
    set_cluster_config(&mut node.client().await, &[("group.initial.rebalance.delay.ms", "0")]).await;
    coordinator(&node, 4).await;
    (node, id)
}

fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    api.api().min..=api.api().max
}

/// One member through its life in every version, each request in the version that is as far along.
#[tokio::test]
async fn every_version_of_the_classic_protocol_works() {
    let (node, id) = ready().await;
    let mut client = node.client().await;
    for version in versions(ApiKey::FindCoordinator) {
        assert_eq!(coordinator(&node, version).await, 1);
    }
    for step in 0..=9 {
        let at = |api: ApiKey| step.clamp(api.api().min, api.api().max);
        let joined = joined(&mut client, at(ApiKey::JoinGroup), &join(&Str::default())).await;
        assert_eq!((joined.error_code, &joined.leader), (0, &joined.member_id), "step {step}");
        assert_eq!(joined.members[0].metadata, SUBSCRIPTION);
        let version = at(ApiKey::SyncGroup);
        let synced = client.call(version, &sync(&joined, version, &[&joined.member_id])).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, joined.member_id.as_str().as_bytes()));
        assert_eq!(client.call(at(ApiKey::Heartbeat), &heartbeat(&joined)).await.error_code, 0);
        let version = (step + 1).clamp(2, 10);
        assert_eq!(commits(&mut client, version, &commit(Some(&joined), version, i64::from(step), id)).await, 0);
        let version = step + 1;
        for all in [false, version >= 2] {
            assert_eq!(fetched(&mut client, version, id, all).await, (step.into(), "note".to_owned()), "v{version}");
        }
        let version = at(ApiKey::LeaveGroup);
        let mut leave = LeaveGroupRequest { group_id: GROUP, ..Default::default() };
        let member_id = joined.member_id.clone();
        match version {
            3.. => leave.members = vec![MemberIdentity { member_id, ..Default::default() }],
            _ => leave.member_id = member_id,
        }
        let left = client.call(version, &leave).await;
        assert_eq!((left.error_code, left.members.iter().all(|member| member.error_code == 0)), (0, true));
        let gone = client.call(at(ApiKey::Heartbeat), &heartbeat(&joined)).await.error_code;
        assert_eq!(gone, ErrorCode::UnknownMemberId.code());
    }
}

#[tokio::test]
async fn every_version_lists_and_describes() {
    let (node, _) = ready().await;
    let mut client = node.client().await;
    let member = joined(&mut client, 9, &join(&Str::default())).await;
    client.call(5, &sync(&member, 5, &[&member.member_id])).await;
    for version in versions(ApiKey::ListGroups) {
        let mut request = ListGroupsRequest::default();
        if version >= 4 {
            request.states_filter = vec![Str::from_static("stable")];
        }
        if version >= 5 {
            request.types_filter = vec![Str::from_static("Classic")];
        }
        let listed = client.call(version, &request).await;
        assert_eq!((listed.error_code, listed.groups.len()), (0, 1), "v{version}");
        let group = &listed.groups[0];
        assert_eq!((group.group_id.as_str(), group.protocol_type.as_str()), ("g", "consumer"));
        assert_eq!(group.group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        if version >= 4 {
            request.states_filter = vec![Str::from_static("Empty")];
            assert!(client.call(version, &request).await.groups.is_empty());
        }
    }
    for version in versions(ApiKey::DescribeGroups) {
        let groups = vec![GROUP, Str::from_static("none")];
        let request = DescribeGroupsRequest { groups, ..Default::default() };
        let described = client.call(version, &request).await.groups;
        assert_eq!((described[0].error_code, described[0].group_state.as_str()), (0, "Stable"), "v{version}");
        let shown = &described[0].members[0];
        assert_eq!((&shown.member_id, shown.client_id.as_str()), (&member.member_id, "test"));
        assert_eq!(
            (&shown.member_metadata[..], &shown.member_assignment[..]),
            (SUBSCRIPTION, shown.member_id.as_str().as_bytes())
        );
        let missing = if version >= 6 { ErrorCode::GroupIdNotFound.code() } else { 0 };
        assert_eq!((described[1].error_code, described[1].group_state.as_str()), (missing, "Dead"), "v{version}");
    }
}

#[tokio::test]
async fn every_version_deletes_groups_without_members() {
    let (node, id) = ready().await;
    let mut client = node.client().await;
    for version in versions(ApiKey::DeleteGroups) {
        let member = joined(&mut client, 9, &join(&Str::default())).await;
        assert_eq!(member.error_code, 0);
        let request = DeleteGroupsRequest { groups_names: vec![GROUP], ..Default::default() };
        let refused = client.call(version, &request).await.results[0].error_code;
        assert_eq!(refused, ErrorCode::NonEmptyGroup.code());
        let members = vec![MemberIdentity { member_id: member.member_id.clone(), ..Default::default() }];
        client.call(5, &LeaveGroupRequest { group_id: GROUP, members, ..Default::default() }).await;
        assert_eq!(commits(&mut client, 9, &commit(None, 9, 7, id)).await, 0, "by a client outside of it");
        assert_eq!(client.call(version, &request).await.results[0].error_code, 0, "v{version}");
        assert_eq!(fetched(&mut client, 9, id, false).await.0, -1);
        let again = client.call(version, &request).await.results[0].error_code;
        assert_eq!(again, ErrorCode::GroupIdNotFound.code());
    }
}

#[tokio::test]
async fn offsets_are_deleted_unless_somebody_subscribes() {
    let (node, id) = ready().await;
    let mut client = node.client().await;
    let topic = |name: &'static str| OffsetDeleteRequestTopic {
        name: Str::from_static(name),
        partitions: vec![OffsetDeleteRequestPartition::default()],
        ..Default::default()
    };
    let request =
        OffsetDeleteRequest { group_id: GROUP, topics: vec![topic("t"), topic("none")], ..Default::default() };
    assert_eq!(client.call(0, &request).await.error_code, ErrorCode::GroupIdNotFound.code());
    let member = joined(&mut client, 9, &join(&Str::default())).await;
    client.call(5, &sync(&member, 5, &[&member.member_id])).await;
    assert_eq!(commits(&mut client, 9, &commit(Some(&member), 9, 7, id)).await, 0);
    let codes = |answer: wire::kafka::messages::OffsetDeleteResponse| -> Vec<i16> {
        answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect()
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let subscribed = codes(client.call(0, &request).await);
    assert_eq!(subscribed, [ErrorCode::GroupSubscribedToTopic.code(), unknown]);
    let members = vec![MemberIdentity { member_id: member.member_id.clone(), ..Default::default() }];
    client.call(5, &LeaveGroupRequest { group_id: GROUP, members, ..Default::default() }).await;
    assert_eq!(codes(client.call(0, &request).await), [0, unknown]);
    assert_eq!(fetched(&mut client, 9, id, false).await, (-1, String::new()));
}

#[tokio::test]
async fn a_rebalance_on_demand_makes_members_join_again() {
    let (node, id) = ready().await;
    let mut client = node.client().await;
    let demand = async |dry_run| node.broker().rebalance_group("g", dry_run).await;
    assert_eq!(demand(false).await, Err(NotRebalanced::Unknown));
    assert_eq!(commits(&mut client, 9, &commit(None, 9, 7, id)).await, 0, "by a client outside of it");
    assert_eq!(demand(false).await, Err(NotRebalanced::Empty));
    let old = joined(&mut client, 9, &join(&Str::default())).await;
    client.call(5, &sync(&old, 5, &[&old.member_id])).await;
    let standing = |state: &str| GroupStanding { state: state.to_owned(), generation: old.generation_id, members: 1 };
    let stable = standing("Stable");
    assert_eq!(demand(true).await, Ok(Rebalanced { before: stable.clone(), after: stable.clone() }));
    assert_eq!(client.call(4, &heartbeat(&old)).await.error_code, 0, "a dry run changes nothing");
    assert_eq!(demand(false).await, Ok(Rebalanced { before: stable, after: standing("PreparingRebalance") }));
    assert_eq!(client.call(4, &heartbeat(&old)).await.error_code, ErrorCode::RebalanceInProgress.code());
    let again = client.call(9, &join(&old.member_id)).await;
    assert_eq!((again.error_code, again.generation_id), (0, old.generation_id + 1));
}

/// Two members, of whom the second makes the first join again; whoever lags behind is fenced.
#[tokio::test]
async fn a_second_member_rebalances_and_zombies_are_fenced() {
    let (node, id) = ready().await;
    let (mut first, mut second) = (node.client().await, node.client().await);
    let old = joined(&mut first, 9, &join(&Str::default())).await;
    first.call(5, &sync(&old, 5, &[&old.member_id])).await;
    let named = second.call(9, &join(&Str::default())).await;
    assert_eq!(named.error_code, ErrorCode::MemberIdRequired.code());
    second.send(9, &join(&named.member_id)).await;
    until("a rebalance", || async {
        let code = node.client().await.call(4, &heartbeat(&old)).await.error_code;
        (code == ErrorCode::RebalanceInProgress.code()).then_some(())
    })
    .await;
    assert_eq!(commits(&mut first, 9, &commit(Some(&old), 9, 1, id)).await, 0, "until the generation is made");
    let again = first.call(9, &join(&old.member_id)).await;
    let (_, other) = second.receive::<JoinGroupResponse>(9).await;
    assert_eq!((again.error_code, other.error_code), (0, 0));
    assert_eq!((again.generation_id, again.members.len(), other.members.len()), (2, 2, 0));
    assert_eq!((other.generation_id, &other.leader), (2, &old.member_id));
    let stale = commits(&mut second, 9, &commit(Some(&old), 9, 99, id)).await;
    assert_eq!(stale, ErrorCode::IllegalGeneration.code());
    let early = commits(&mut second, 9, &commit(Some(&other), 9, 99, id)).await;
    assert_eq!(early, ErrorCode::RebalanceInProgress.code(), "it does not know what it reads yet");
    second.send(5, &sync(&other, 5, &[])).await;
    let synced = first.call(5, &sync(&again, 5, &[&old.member_id, &other.member_id])).await;
    let (_, theirs) = second.receive::<wire::kafka::messages::SyncGroupResponse>(5).await;
    assert_eq!(&synced.assignment[..], old.member_id.as_str().as_bytes());
    assert_eq!(&theirs.assignment[..], other.member_id.as_str().as_bytes());
    assert_eq!(commits(&mut second, 9, &commit(Some(&other), 9, 5, id)).await, 0);
    assert_eq!(fetched(&mut first, 9, id, false).await.0, 5);
    let outside = commits(&mut first, 9, &commit(None, 9, 6, id)).await;
    assert_eq!(outside, ErrorCode::UnknownMemberId.code(), "the group has members");
}

#[tokio::test]
async fn who_is_silent_is_expired_and_who_waits_is_not() {
    let (node, _) = ready().await;
    set_cluster_config(&mut node.client().await, &[("group.min.session.timeout.ms", "100")]).await;
    let (mut first, mut second) = (node.client().await, node.client().await);
    let short =
        |member: &Str| JoinGroupRequest { session_timeout_ms: 500, rebalance_timeout_ms: 5_000, ..join(member) };
    let silent = joined(&mut first, 9, &short(&Str::default())).await;
    first.call(5, &sync(&silent, 5, &[&silent.member_id])).await;
    let begun = tokio::time::Instant::now();
    let other = joined(&mut second, 9, &short(&Str::default())).await;
    assert_eq!((other.error_code, other.members.len()), (0, 1), "the silent one is gone, and this one was not expired");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(4), "its session ended before the rebalance's time: {waited:?}");
    assert_eq!(first.call(4, &heartbeat(&silent)).await.error_code, ErrorCode::UnknownMemberId.code());
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_place_and_its_shadow_is_fenced() {
    let (node, _) = ready().await;
    let mut client = node.client().await;
    let fixed = |member: &Str| JoinGroupRequest { group_instance_id: Some(Str::from_static("i")), ..join(member) };
    let old = joined(&mut client, 9, &fixed(&Str::default())).await;
    assert_eq!(old.error_code, 0, "no second step");
    client.call(5, &sync(&old, 5, &[&old.member_id])).await;
    let new = joined(&mut client, 9, &fixed(&Str::default())).await;
    assert_eq!((new.error_code, new.generation_id, new.skip_assignment), (0, old.generation_id, true));
    assert_ne!(new.member_id, old.member_id);
    let shadow = HeartbeatRequest { group_instance_id: Some(Str::from_static("i")), ..heartbeat(&old) };
    assert_eq!(client.call(4, &shadow).await.error_code, ErrorCode::FencedInstanceId.code());
    let synced = client.call(5, &sync(&new, 5, &[])).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, old.member_id.as_str().as_bytes()));
}

#[tokio::test]
async fn bad_requests_have_kafkas_codes() {
    let (node, id) = ready().await;
    let mut client = node.client().await;
    let code = async |client: &mut Client, request: JoinGroupRequest| client.call(9, &request).await.error_code;
    let nameless = JoinGroupRequest { group_id: Str::default(), ..join(&Str::default()) };
    assert_eq!(code(&mut client, nameless).await, ErrorCode::InvalidGroupId.code());
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let request = JoinGroupRequest { session_timeout_ms, ..join(&Str::default()) };
        assert_eq!(code(&mut client, request).await, ErrorCode::InvalidSessionTimeout.code());
    }
    let stranger = join(&Str::from_static("stranger"));
    assert_eq!(code(&mut client, stranger).await, ErrorCode::UnknownMemberId.code());
    let member = joined(&mut client, 9, &join(&Str::default())).await;
    let other = JoinGroupRequest { protocol_type: Str::from_static("connect"), ..join(&Str::default()) };
    let refused = joined(&mut client, 9, &other).await.error_code;
    assert_eq!(refused, ErrorCode::InconsistentGroupProtocol.code());
    let sent = SyncGroupRequest { protocol_name: Some(Str::from_static("sticky")), ..sync(&member, 5, &[]) };
    assert_eq!(client.call(5, &sent).await.error_code, ErrorCode::InconsistentGroupProtocol.code());
    client.call(5, &sync(&member, 5, &[&member.member_id])).await;
    set_cluster_config(&mut client, &[("group.max.size", "1")]).await;
    let refused = joined(&mut client, 9, &join(&Str::default())).await.error_code;
    assert_eq!(refused, ErrorCode::GroupMaxSizeReached.code());
    let mut request = commit(Some(&member), 9, 1, id);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097).into());
    assert_eq!(commits(&mut client, 9, &request).await, ErrorCode::OffsetMetadataTooLarge.code());
    request.topics[0].partitions[0].partition_index = 2;
    assert_eq!(commits(&mut client, 9, &request).await, ErrorCode::UnknownTopicOrPartition.code());
    request.topics[0].name = Str::from_static("none");
    assert_eq!(commits(&mut client, 9, &request).await, ErrorCode::UnknownTopicOrPartition.code());
    let unknown = commit(Some(&member), 10, 1, Uuid::ONE);
    assert_eq!(commits(&mut client, 10, &unknown).await, ErrorCode::UnknownTopicId.code());
    for (key_type, expected) in [(1, ErrorCode::TransactionalIdAuthorizationFailed), (9, ErrorCode::InvalidRequest)] {
        let request = FindCoordinatorRequest { key_type, coordinator_keys: vec![GROUP], ..Default::default() };
        assert_eq!(client.call(6, &request).await.coordinators[0].error_code, expected.code());
    }
}

#[tokio::test]
async fn the_shards_are_an_internal_topic_that_is_let_be() {
    let (node, _) = ready().await;
    let mut client = node.client().await;
    let name = Str::from_static("__consumer_offsets");
    let metadata = client.call(12, &ask_for(name.as_str(), false)).await;
    assert_eq!((metadata.topics[0].is_internal, metadata.topics[0].partitions.len()), (true, 8));
    let answer = client.call(9, &produce(name.as_str(), 0, batch(&["a"]))).await;
    assert_eq!(produced(&answer).error_code, ErrorCode::InvalidTopic.code());
    let topics = vec![name.clone()];
    let request = DeleteTopicsRequest { topic_names: topics, timeout_ms: 1_000, ..Default::default() };
    assert_eq!(client.call(5, &request).await.responses[0].error_code, ErrorCode::InvalidTopic.code());
    let more = wire::kafka::messages::create_partitions::CreatePartitionsTopic { name, count: 9, ..Default::default() };
    let request = CreatePartitionsRequest { topics: vec![more], timeout_ms: 1_000, ..Default::default() };
    assert_eq!(client.call(3, &request).await.results[0].error_code, ErrorCode::InvalidTopic.code());
}

/// What a coordinator says that does not hear a quorum for a moment: on a busy machine that happens, and clients ask again.
fn blinks(code: i16) -> bool {
    [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator].map(ErrorCode::code).contains(&code)
}

/// What is committed for partition 0 of `t`, once the coordinator says it.
async fn committed(node: &Node) -> i64 {
    let all = OffsetFetchRequestGroup { group_id: GROUP, topics: None, member_epoch: -1, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![all], ..Default::default() };
    until("the offsets", || async {
        let answer = node.client().await.call(8, &request).await;
        let group = &answer.groups[0];
        assert!(group.error_code == 0 || blinks(group.error_code), "{group:?}");
        (group.error_code == 0).then(|| group.topics[0].partitions[0].committed_offset)
    })
    .await
}

/// The coordinator's node crashes: another goes on with the members, the generation and the offsets.
#[tokio::test]
async fn a_group_outlives_its_coordinator() {
    let mut nodes = start_three().await;
    let id = nodes[0].topic("t", 2).await;
    set_cluster_config(&mut nodes[0].client().await, &[("group.initial.rebalance.delay.ms", "0")]).await;
    let before = coordinator(&nodes[0], 4).await;
    let place = usize::try_from(before).unwrap() - 1;
    let mut client = nodes[place].client().await;
    let member = until("a coordinator that knows all", || async {
        let request = JoinGroupRequest { session_timeout_ms: 30_000, ..join(&Str::default()) };
        let member = joined(&mut nodes[place].client().await, 9, &request).await;
        (member.error_code == 0).then_some(member)
    })
    .await;
    client.call(5, &sync(&member, 5, &[&member.member_id])).await;
    until("the first commit", || async {
        let code = commits(&mut nodes[place].client().await, 9, &commit(Some(&member), 9, 42, id)).await;
        assert!(code == 0 || blinks(code), "{code}");
        (code == 0).then_some(())
    })
    .await;
    let mut wrong = nodes[(place + 1) % 3].client().await;
    assert_eq!(wrong.call(4, &heartbeat(&member)).await.error_code, ErrorCode::NotCoordinator.code());
    drop(client);
    drop(nodes.remove(place));
    let after = until("another coordinator", || async {
        let found = coordinator(&nodes[0], 4).await;
        (found != before).then_some(found)
    })
    .await;
    let node = &nodes[nodes.iter().position(|node| node.id == after).unwrap()];
    until("its members", || async {
        let code = node.client().await.call(4, &heartbeat(&member)).await.error_code;
        assert!(code == 0 || blinks(code), "{code}");
        (code == 0).then_some(())
    })
    .await;
    assert_eq!(committed(node).await, 42);
    until("the second commit", || async {
        let code = commits(&mut node.client().await, 9, &commit(Some(&member), 9, 43, id)).await;
        assert!(code == 0 || blinks(code), "{code}");
        (code == 0).then_some(())
    })
    .await;
    assert_eq!(committed(node).await, 43);
}
