//! A group with members changes its protocol (KIP-848), asked in raw bytes: a member of the classic protocol is assigned by the
//! group, and takes part in Kafka's codes, until the last one of the consumer protocol has left.
use bytes::Bytes;
use wire::kafka::messages::join_group::JoinGroupRequestProtocol;
use wire::kafka::messages::sync_group::SyncGroupRequestAssignment;
use wire::kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, ListGroupsRequest, SyncGroupRequest, SyncGroupResponse,
};
use wire::kafka::{ErrorCode, Str, subscription};

use crate::client::Client;
use crate::node::{Node, coordinated, set_cluster_config, start};

const GROUP: Str = Str::from_static("g");
const RANGE: Str = Str::from_static("range");
const TYPE: Str = Str::from_static("consumer");

/// A node with topic `t` of two partitions, and shards.
async fn ready() -> (Node, Client) {
    let node = start().await;
    node.topic("t", 2).await;
    let client = coordinated(&node, &GROUP).await;
    (node, client)
}

/// An eager consumer of `t` joins; with an instance id, so that it needs no second step.
fn join(member: &Str) -> JoinGroupRequest {
    let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
    JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 6_000,
        member_id: member.clone(),
        group_instance_id: Some(Str::from_static("i")),
        protocol_type: TYPE,
        protocols: vec![JoinGroupRequestProtocol { name: RANGE, metadata, ..Default::default() }],
        ..Default::default()
    }
}

async fn sync(client: &mut Client, joined: &JoinGroupResponse, assigns: Option<Bytes>) -> SyncGroupResponse {
    let member_id = joined.member_id.clone();
    let part =
        |assignment| SyncGroupRequestAssignment { member_id: member_id.clone(), assignment, ..Default::default() };
    let request = SyncGroupRequest {
        group_id: GROUP,
        generation_id: joined.generation_id,
        member_id: member_id.clone(),
        group_instance_id: Some(Str::from_static("i")),
        protocol_type: Some(TYPE),
        protocol_name: Some(RANGE),
        assignments: assigns.map(part).into_iter().collect(),
        ..Default::default()
    };
    client.call(5, &request).await
}

async fn heartbeat(client: &mut Client, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest {
        group_id: GROUP,
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: Some(Str::from_static("i")),
        ..Default::default()
    };
    client.call(4, &request).await.error_code
}

/// A member of the consumer protocol joins, or says another epoch.
fn beat(epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP,
        member_id: Str::from_static("c"),
        member_epoch: epoch,
        rebalance_timeout_ms: if epoch == 0 { 5_000 } else { -1 },
        subscribed_topic_names: (epoch == 0).then(|| vec![Str::from_static("t")]),
        topic_partitions: (epoch == 0).then(Vec::new),
        ..Default::default()
    }
}

async fn kind(client: &mut Client) -> String {
    let listed = client.call(5, &ListGroupsRequest::default()).await.groups;
    listed[0].group_type.to_string()
}

#[tokio::test]
async fn a_classic_member_is_taken_along_and_back() {
    let (_node, mut client) = ready().await;
    let joined = client.call(9, &join(&Str::default())).await;
    let all = subscription::assignment(&[("t", vec![0, 1])]);
    assert_eq!(sync(&mut client, &joined, Some(all.clone())).await.assignment, all);
    let taken = client.call(1, &beat(0)).await;
    assert_eq!((taken.error_code, taken.member_epoch), (0, 2));
    assert_eq!(kind(&mut client).await, "consumer");
    assert_eq!(heartbeat(&mut client, &joined).await, ErrorCode::RebalanceInProgress.code());

    let again = client.call(9, &join(&joined.member_id)).await;
    assert_eq!((again.error_code, again.generation_id, again.leader.as_str()), (0, 2, ""));
    assert_eq!((again.protocol_type.as_ref(), again.protocol_name.as_ref()), (Some(&TYPE), Some(&RANGE)));
    let told = sync(&mut client, &again, None).await;
    assert_eq!(subscription::only_partitions(told.assignment), Some(vec![("t".to_owned(), vec![0])]));
    assert_eq!(heartbeat(&mut client, &again).await, 0);
    assert_eq!(heartbeat(&mut client, &joined).await, ErrorCode::IllegalGeneration.code());
    let got = client.call(1, &beat(2)).await.assignment.expect("the other one");
    assert_eq!(got.topic_partitions[0].partitions, [1]);

    let request = ConsumerGroupDescribeRequest { group_ids: vec![GROUP], ..Default::default() };
    let described = client.call(1, &request).await.groups.remove(0);
    let types: Vec<_> = described.members.iter().map(|member| (member.member_type, member.member_epoch)).collect();
    assert_eq!((described.group_state.as_str(), types.len()), ("Stable", 2));
    assert!(types.contains(&(0, 2)) && types.contains(&(1, 2)), "{types:?}");

    assert_eq!(client.call(1, &beat(-1)).await.error_code, 0);
    assert_eq!(heartbeat(&mut client, &again).await, ErrorCode::RebalanceInProgress.code());
    let back = client.call(9, &join(&again.member_id)).await;
    assert_eq!((back.generation_id, &back.leader), (3, &back.member_id));
    assert_eq!(kind(&mut client).await, "classic");
    let request = DescribeGroupsRequest { groups: vec![GROUP], ..Default::default() };
    assert_eq!(client.call(6, &request).await.groups[0].group_state.as_str(), "CompletingRebalance");
}

#[tokio::test]
async fn the_policy_of_the_node_is_honoured() {
    let (_node, mut client) = ready().await;
    let policy = "group.consumer.migration.policy";
    set_cluster_config(&mut client, &[(policy, "downgrade")]).await;
    let joined = client.call(9, &join(&Str::default())).await;
    let refused = client.call(1, &beat(0)).await;
    let words = refused.error_message.as_ref().map(Str::as_str);
    assert_eq!((refused.error_code, words), (69, Some("Group g is not a consumer group.")));
    set_cluster_config(&mut client, &[(policy, "upgrade")]).await;
    assert_eq!(client.call(1, &beat(0)).await.error_code, 0);
    assert_eq!(client.call(1, &beat(-1)).await.error_code, 0);
    assert_eq!(kind(&mut client).await, "consumer", "it may not go back");
    set_cluster_config(&mut client, &[(policy, "disabled")]).await;
    let other = JoinGroupRequest { group_instance_id: Some(Str::from_static("j")), ..join(&Str::default()) };
    assert_eq!(client.call(9, &other).await.error_code, ErrorCode::InconsistentGroupProtocol.code());
    let again = client.call(9, &join(&joined.member_id)).await;
    assert_eq!(again.error_code, 0, "a member stays one");
}

#[tokio::test]
async fn who_does_not_fetch_its_assignment_in_time_is_no_member_any_more() {
    const TIMEOUT_MS: i32 = 800;
    let (_node, mut client) = ready().await;
    let join = |member: &Str| JoinGroupRequest { rebalance_timeout_ms: TIMEOUT_MS, ..join(member) };
    let joined = client.call(9, &join(&Str::default())).await;
    sync(&mut client, &joined, Some(subscription::assignment(&[("t", vec![0, 1])]))).await;
    assert_eq!(client.call(1, &beat(0)).await.error_code, 0);
    let fetches = client.call(9, &join(&joined.member_id)).await;
    assert_eq!(sync(&mut client, &fetches, None).await.error_code, 0);
    let pause = std::time::Duration::from_millis(100);
    for _ in 0..2 * TIMEOUT_MS / 100 {
        tokio::time::sleep(pause).await;
        assert_eq!(heartbeat(&mut client, &fetches).await, 0, "it has fetched it");
    }
    let begun = tokio::time::Instant::now();
    let idle = client.call(9, &join(&joined.member_id)).await;
    assert_eq!(idle.error_code, 0);
    let expired = async {
        while heartbeat(&mut client, &idle).await != ErrorCode::UnknownMemberId.code() {
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), expired).await.expect("it is expired though it beats");
    assert!(begun.elapsed().as_millis() >= TIMEOUT_MS as u128, "{:?}", begun.elapsed());
}
