//! DescribeQuorum (55): how far the members of the controller's group are (KIP-595, KIP-836). Offsets are its Raft indexes; whoever
//! is asked asks the controller's leader.
use model::{GroupId, NodeId};
use wire::kafka::messages::describe_quorum::request::TopicData as AskedTopic;
use wire::kafka::messages::describe_quorum::response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use wire::kafka::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use wire::kafka::{ErrorCode, Str, Uuid};

use super::{NONE, node};
use crate::broker::{ListenerKind, Member, Quorum};
use crate::kafka::Call;

/// Kafka's name of the controller's log; it has one partition.
const METADATA: &str = "__cluster_metadata";
/// The name that the address of a member is given, as in Kafka's own configurations.
const CONTROLLER_LISTENER: Str = Str::from_static("CONTROLLER");
/// Versions from here on have ids of data folders, and the addresses of the members.
const NODES_FROM: i16 = 2;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let quorum = call.broker().quorum(GroupId::CONTROLLER).await;
    let topics = request.topics.iter().map(|topic| describe_topic(&call, topic, &quorum)).collect();
    let nodes = match &quorum {
        Ok(quorum) if call.version >= NODES_FROM => {
            quorum.members.iter().filter_map(|member| address(&call, member.node)).collect()
        }
        _ => Vec::new(),
    };
    DescribeQuorumResponse { topics, nodes, ..Default::default() }
}

fn describe_topic(call: &Call, asked: &AskedTopic, quorum: &Result<Quorum, String>) -> TopicData {
    let partition = |index: i32| {
        let is_known = asked.topic_name.as_str() == METADATA && index == 0;
        let refuse = |code: ErrorCode, words: Option<&str>| PartitionData {
            partition_index: index,
            error_code: code.code(),
            error_message: words.map(|words| Str::from(words.to_owned())),
            leader_id: NONE,
            leader_epoch: NONE,
            high_watermark: NONE.into(),
            ..Default::default()
        };
        match quorum {
            _ if !is_known => refuse(ErrorCode::UnknownTopicOrPartition, None),
            Ok(quorum) => describe(call, index, quorum),
            Err(why) => refuse(ErrorCode::LeaderNotAvailable, Some(why)),
        }
    };
    let partitions = asked.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
    TopicData { topic_name: asked.topic_name.clone(), partitions, ..Default::default() }
}

fn describe(call: &Call, partition_index: i32, quorum: &Quorum) -> PartitionData {
    let such = |votes| {
        let members = quorum.members.iter().filter(move |member| member.votes == votes);
        members.map(|member| replica(call, member)).collect()
    };
    PartitionData {
        partition_index,
        leader_id: node(quorum.leader),
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: offset(quorum.committed + 1),
        current_voters: such(true),
        observers: such(false),
        ..Default::default()
    }
}

fn replica(call: &Call, member: &Member) -> ReplicaState {
    let heard = member.heard_ms_ago.map(|ago| call.broker().clock().wall_ms().saturating_sub(offset(ago)));
    let unknown = i64::from(NONE);
    let replica_directory_id = match call.broker().image().nodes.get(&member.node) {
        Some(node) if call.version >= NODES_FROM => Uuid::from_parts(0, node.store.0),
        _ => Uuid::ZERO,
    };
    ReplicaState {
        replica_id: node(member.node),
        replica_directory_id,
        log_end_offset: member.matched.map_or(0, |matched| offset(matched + 1)),
        last_fetch_timestamp: heard.unwrap_or(unknown),
        last_caught_up_timestamp: heard.filter(|_| member.is_caught_up).unwrap_or(unknown),
        ..Default::default()
    }
}

fn address(call: &Call, id: NodeId) -> Option<Node> {
    let (host, port) = call.broker().node_address(id, ListenerKind::Peer, call.client.via)?;
    let listener = Listener { name: CONTROLLER_LISTENER, host: host.into(), port, ..Default::default() };
    Some(Node { node_id: node(id), listeners: vec![listener], ..Default::default() })
}

fn offset(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
