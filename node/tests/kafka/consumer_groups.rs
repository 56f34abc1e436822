//! Groups of the consumer protocol (KIP-848), asked in raw bytes: assignment by the broker, letting go before getting, fencing,
//! subscription by expression, and Kafka's codes for the rest.
use std::collections::BTreeSet;

use wire::kafka::messages::consumer_group_heartbeat::request::TopicPartitions;
use wire::kafka::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use wire::kafka::messages::update_features::FeatureUpdateKey;
use wire::kafka::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DescribeGroupsRequest, JoinGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, UpdateFeaturesRequest,
};
use wire::kafka::{ErrorCode, Str, Uuid};

use crate::client::Client;
use crate::node::{Node, coordinated, set_cluster_config, start, until};

const GROUP: Str = Str::from_static("g");

type Spots = BTreeSet<(Uuid, i32)>;

/// A member as a client has it.
#[derive(Clone, Debug, Default)]
struct Member {
    id: Str,
    epoch: i32,
    has: Spots,
}

impl Member {
    fn named(id: &'static str) -> Self {
        Self { id: Str::from_static(id), ..Self::default() }
    }

    /// What it says when it joins.
    fn joins(&self, names: &[&'static str]) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP,
            member_id: self.id.clone(),
            rebalance_timeout_ms: 5_000,
            subscribed_topic_names: Some(names.iter().map(|name| Str::from_static(name)).collect()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        }
    }

    /// What it says from then on; what it has, if that is news.
    fn beats(&self, says: bool) -> ConsumerGroupHeartbeatRequest {
        let topics: BTreeSet<Uuid> = self.has.iter().map(|(topic, _)| *topic).collect();
        let of = |topic_id: Uuid| TopicPartitions {
            topic_id,
            partitions: self.has.iter().filter(|(topic, _)| *topic == topic_id).map(|(_, index)| *index).collect(),
            ..Default::default()
        };
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP,
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: -1,
            topic_partitions: says.then(|| topics.into_iter().map(of).collect()),
            ..Default::default()
        }
    }

    /// Takes an answer and gives whether it changes what the member has.
    fn hears(&mut self, answer: &ConsumerGroupHeartbeatResponse) -> bool {
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.id = answer.member_id.clone().expect("its id");
        self.epoch = answer.member_epoch;
        let Some(assignment) = &answer.assignment else { return false };
        let spots = assignment.topic_partitions.iter();
        let told: Spots = spots.flat_map(|of| of.partitions.iter().map(|index| (of.topic_id, *index))).collect();
        std::mem::replace(&mut self.has, told.clone()) != told
    }

    /// Beats once, and once more to say what it has if that has changed.
    async fn round(&mut self, client: &mut Client) {
        let answer = client.call(1, &self.beats(false)).await;
        if self.hears(&answer) {
            let answer = client.call(1, &self.beats(true)).await;
            self.hears(&answer);
        }
    }
}

/// A node with topics `t` of six partitions and `u` of two, and shards.
async fn ready() -> (Node, Uuid, Client) {
    let node = start().await;
    let id = node.topic("t", 6).await;
    node.topic("u", 2).await;
    let client = coordinated(&node, &GROUP).await;
    (node, id, client)
}

fn commit(member: &Member, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: None,
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: Str::from_static("t"), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: member.epoch,
        member_id: member.id.clone(),
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

async fn commits(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> i16 {
    client.call(version, request).await.topics[0].partitions[0].error_code
}

#[tokio::test]
async fn both_versions_join_are_described_and_leave() {
    let (_node, id, mut client) = ready().await;
    for version in [0, 1] {
        let mut member = if version == 0 { Member::default() } else { Member::named("own") };
        let answer = client.call(version, &member.joins(&["t"])).await;
        member.hears(&answer);
        assert_eq!((member.id.is_empty(), member.epoch > 0, answer.heartbeat_interval_ms), (false, true, 5_000));
        assert_eq!(member.has, (0..6).map(|index| (id, index)).collect());
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![GROUP, Str::from_static("none")],
            include_authorized_operations: true,
            ..Default::default()
        };
        let described = client.call(version, &request).await.groups;
        let (group, shown) = (&described[0], &described[0].members[0]);
        assert_eq!(
            (group.error_code, group.group_state.as_str(), group.assignor_name.as_str()),
            (0, "Stable", "uniform")
        );
        assert_eq!(
            (&shown.member_id, shown.member_epoch, shown.client_id.as_str()),
            (&member.id, member.epoch, "test")
        );
        let topics = &shown.assignment.topic_partitions;
        assert_eq!((topics[0].topic_name.as_str(), topics[0].partitions.len()), ("t", 6));
        assert_eq!(shown.assignment, shown.target_assignment);
        assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound.code());
        let listed = client.call(5, &ListGroupsRequest::default()).await.groups;
        let listed: Vec<_> =
            listed.iter().map(|group| (group.group_state.as_str(), group.group_type.as_str())).collect();
        assert_eq!(listed, [("Stable", "consumer")]);
        let request = DescribeGroupsRequest { groups: vec![GROUP], ..Default::default() };
        assert_eq!(client.call(6, &request).await.groups[0].error_code, ErrorCode::GroupIdNotFound.code());
        let leaves = ConsumerGroupHeartbeatRequest { member_epoch: -1, ..member.beats(false) };
        assert_eq!(client.call(version, &leaves).await.member_epoch, -1);
        let request = DeleteGroupsRequest { groups_names: vec![GROUP], ..Default::default() };
        assert_eq!(client.call(2, &request).await.results[0].error_code, 0);
    }
}

#[tokio::test]
async fn a_partition_is_let_go_before_another_gets_it() {
    let (_node, _, mut client) = ready().await;
    let (mut first, mut second) = (Member::named("a"), Member::named("b"));
    let answer = client.call(1, &first.joins(&["t"])).await;
    first.hears(&answer);
    let answer = client.call(1, &second.joins(&["t"])).await;
    second.hears(&answer);
    assert!(second.has.is_empty(), "all are the first one's still");
    let told = client.call(1, &first.beats(false)).await;
    let before = first.clone();
    assert!(first.hears(&told) && first.has.len() == 3);
    second.round(&mut client).await;
    assert!(second.has.is_empty(), "until it says that it has let go");
    let mut lagging = before.beats(true);
    lagging.member_epoch = first.epoch;
    let answer = client.call(1, &lagging).await;
    assert_eq!(answer.error_code, 0);
    second.round(&mut client).await;
    assert!(second.has.is_empty(), "it said that it has them still");
    let answer = client.call(1, &first.beats(true)).await;
    first.hears(&answer);
    second.round(&mut client).await;
    assert_eq!((first.has.len(), second.has.len(), first.has.is_disjoint(&second.has)), (3, 3, true));
    assert_eq!(first.epoch, second.epoch);
}

#[tokio::test]
async fn old_epochs_are_fenced_and_commit_nothing() {
    let (node, _, mut client) = ready().await;
    let (mut first, mut second) = (Member::named("a"), Member::named("b"));
    let answer = client.call(1, &first.joins(&["t"])).await;
    first.hears(&answer);
    assert_eq!(commits(&mut client, 9, &commit(&first, 1)).await, 0);
    let old = first.clone();
    let answer = client.call(1, &second.joins(&["t"])).await;
    second.hears(&answer);
    for _ in 0..2 {
        first.round(&mut client).await;
        second.round(&mut client).await;
    }
    assert!(first.epoch > old.epoch);
    assert_eq!(commits(&mut client, 9, &commit(&old, 2)).await, ErrorCode::StaleMemberEpoch.code());
    assert_eq!(commits(&mut client, 8, &commit(&old, 2)).await, ErrorCode::UnsupportedVersion.code());
    assert_eq!(commits(&mut client, 9, &commit(&first, 3)).await, 0);
    let ahead = ConsumerGroupHeartbeatRequest { member_epoch: 99, ..first.beats(false) };
    assert_eq!(client.call(1, &ahead).await.error_code, ErrorCode::FencedMemberEpoch.code());
    let stranger = Member { epoch: 1, ..Member::named("stranger") };
    assert_eq!(client.call(1, &stranger.beats(false)).await.error_code, ErrorCode::UnknownMemberId.code());
    set_cluster_config(&mut client, &[("group.consumer.session.timeout.ms", "3000")]).await;
    let answer = client.call(1, &second.joins(&["t"])).await;
    second.hears(&answer);
    until("the silent one's partitions", || async {
        let answer = node.client().await.call(1, &first.beats(false)).await;
        assert_eq!(answer.error_code, 0);
        let request = ConsumerGroupDescribeRequest { group_ids: vec![GROUP], ..Default::default() };
        let described = node.client().await.call(1, &request).await;
        (described.groups[0].members.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_expression_finds_topics_that_are_made_later() {
    let (node, _, mut client) = ready().await;
    let mut member = Member::named("a");
    let mut request = member.joins(&[]);
    (request.subscribed_topic_names, request.subscribed_topic_regex) =
        (None, Some(Str::from_static("[tu]|later.*|__.*")));
    let answer = client.call(1, &request).await;
    member.hears(&answer);
    assert_eq!(member.has.len(), 8, "and no internal topic");
    let later = node.topic("later-1", 2).await;
    let mut tries = 0;
    while member.has.len() < 10 && tries < 100 {
        member.round(&mut client).await;
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(member.has.contains(&(later, 1)), "{member:?}");
    let broken =
        ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some(Str::from_static("(")), ..member.beats(false) };
    assert_eq!(client.call(1, &broken).await.error_code, ErrorCode::InvalidRegularExpression.code());
}

#[tokio::test]
async fn bad_heartbeats_have_kafkas_codes() {
    let (_node, _, mut client) = ready().await;
    let joins = Member::named("a").joins(&["t"]);
    let bad = [
        ConsumerGroupHeartbeatRequest { group_id: Str::default(), ..joins.clone() },
        ConsumerGroupHeartbeatRequest { member_id: Str::default(), ..joins.clone() },
        ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..joins.clone() },
        ConsumerGroupHeartbeatRequest { topic_partitions: None, ..joins.clone() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..joins.clone() },
        ConsumerGroupHeartbeatRequest { member_epoch: -2, ..joins.clone() },
        ConsumerGroupHeartbeatRequest { member_epoch: -3, ..joins.clone() },
        ConsumerGroupHeartbeatRequest { instance_id: Some(Str::default()), ..joins.clone() },
    ];
    for request in bad {
        let answer = client.call(1, &request).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code(), "{request:?}");
        assert!(answer.error_message.is_some());
    }
    let request = ConsumerGroupHeartbeatRequest { server_assignor: Some(Str::from_static("mine")), ..joins.clone() };
    assert_eq!(client.call(1, &request).await.error_code, ErrorCode::UnsupportedAssignor.code());
    assert_eq!(client.call(1, &joins).await.error_code, 0);
    set_cluster_config(&mut client, &[("group.consumer.max.size", "1")]).await;
    let request = Member::named("b").joins(&["t"]);
    assert_eq!(client.call(1, &request).await.error_code, ErrorCode::GroupMaxSizeReached.code());
    let mut classic = JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 6_000,
        group_instance_id: Some(Str::from_static("i")),
        protocol_type: Str::from_static("consumer"),
        protocols: vec![Default::default()],
        ..Default::default()
    };
    let refused = client.call(9, &classic).await.error_code;
    assert_eq!(refused, ErrorCode::InconsistentGroupProtocol.code(), "its members speak another protocol");
    classic.group_id = Str::from_static("h");
    assert_eq!(client.call(9, &classic).await.error_code, 0);
    let refused = client.call(1, &ConsumerGroupHeartbeatRequest { group_id: Str::from_static("h"), ..joins }).await;
    let words = refused.error_message.as_ref().map(Str::as_str);
    assert_eq!((refused.error_code, words), (69, Some("Group h is not a consumer group.")));
}

#[tokio::test]
async fn a_cluster_whose_group_version_is_zero_has_classic_groups_only() {
    let (_node, _, mut client) = ready().await;
    let lower = |level, upgrade_type| UpdateFeaturesRequest {
        timeout_ms: 10_000,
        feature_updates: vec![FeatureUpdateKey {
            feature: Str::from_static("group.version"),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        }],
        ..Default::default()
    };
    let refused = client.call(1, &lower(0, 1)).await.results[0].error_code;
    assert_eq!(refused, ErrorCode::InvalidUpdateVersion.code(), "an upgrade lowers nothing");
    assert_eq!(client.call(2, &lower(7, 1)).await.error_code, ErrorCode::InvalidUpdateVersion.code());
    assert_eq!(client.call(2, &lower(0, 2)).await.error_code, 0);
    let joins = client.call(1, &Member::named("a").joins(&["t"])).await;
    assert_eq!(joins.error_code, ErrorCode::UnsupportedVersion.code());
    let told = ApiVersionsRequest {
        client_software_name: Str::from_static("test"),
        client_software_version: Str::from_static("1"),
        ..Default::default()
    };
    let finals: Vec<Str> =
        client.call(4, &told).await.finalized_features.into_iter().map(|feature| feature.name).collect();
    assert_eq!(finals, [Str::from_static("metadata.version")], "what is off is not final");
    let lowest = |versions: ApiVersionsResponse| versions.supported_features[0].min_version;
    assert_eq!((lowest(client.call(3, &told).await), lowest(client.call(4, &told).await)), (1, 0), "KIP-1022");

    assert_eq!(client.call(2, &lower(1, 1)).await.error_code, 0);
    assert_eq!(client.call(1, &Member::named("a").joins(&["t"])).await.error_code, 0);
}
