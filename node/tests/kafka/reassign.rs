//! AlterPartitionReassignments and ListPartitionReassignments, as Kafka's own tools ask: shrink, grow, reorder, and every refusal.
use wire::kafka::messages::alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use wire::kafka::messages::{AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest};
use wire::kafka::{ErrorCode, Str};

use crate::client::Client;
use crate::node::{ask_for, batch, produce, produced, start_three, until};

/// A partition, and the nodes it shall be on.
type Change<'a> = (i32, Option<&'a [i32]>);

fn asked(topic: &'static str, changes: &[Change<'_>]) -> AlterPartitionReassignmentsRequest {
    let partition = |(index, replicas): &Change<'_>| ReassignablePartition {
        partition_index: *index,
        replicas: replicas.map(<[i32]>::to_vec),
        ..Default::default()
    };
    let partitions = changes.iter().map(partition).collect();
    let topics = vec![ReassignableTopic { name: Str::from_static(topic), partitions, ..Default::default() }];
    AlterPartitionReassignmentsRequest { topics, timeout_ms: 10_000, ..Default::default() }
}

async fn codes(client: &mut Client, request: &AlterPartitionReassignmentsRequest) -> Vec<i16> {
    let answer = client.call(1, request).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).collect()
}

async fn replicas(client: &mut Client) -> Vec<i32> {
    let metadata = client.call(12, &ask_for("t", false)).await;
    metadata.topics[0].partitions[0].replica_nodes.clone()
}

#[tokio::test]
async fn replicas_go_and_come_back_as_kafkas_tools_ask() {
    let nodes = start_three().await;
    nodes[0].topic("t", 2).await;
    let mut client = nodes[0].client().await;
    let before = replicas(&mut client).await;
    for to in [vec![before[1]], vec![before[0], before[1]], vec![before[2], before[0], before[1]]] {
        assert_eq!(codes(&mut client, &asked("t", &[(0, Some(&to))])).await, [0]);
        until("the change is finished", || async {
            let mut client = nodes[1].client().await;
            let all = client.call(0, &ListPartitionReassignmentsRequest::default()).await;
            (all.topics.is_empty() && replicas(&mut client).await == to).then_some(())
        })
        .await;
        until("a record is taken", || async {
            for node in &nodes {
                let answer = node.client().await.call(9, &produce("t", 0, batch(&["a"]))).await;
                if produced(&answer).error_code == 0 {
                    return Some(());
                }
            }
            None
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_kafkas_words() {
    let nodes = start_three().await;
    nodes[0].topic("t", 2).await;
    let mut client = nodes[0].client().await;
    let assignment = ErrorCode::InvalidReplicaAssignment.code();
    let cases: [(&[Change<'_>], &[i16]); 6] = [
        (&[(0, Some(&[1, 9]))], &[assignment]),
        (&[(0, Some(&[1, 1]))], &[assignment]),
        (&[(0, Some(&[-4]))], &[assignment]),
        (&[(0, Some(&[])), (5, Some(&[1]))], &[assignment, ErrorCode::UnknownTopicOrPartition.code()]),
        (&[(0, None)], &[ErrorCode::NoReassignmentInProgress.code()]),
        (&[(1, Some(&[1])), (1, Some(&[2]))], &[ErrorCode::InvalidRequest.code(); 2]),
    ];
    for (changes, expected) in cases {
        assert_eq!(codes(&mut client, &asked("t", changes)).await, expected, "{changes:?}");
    }
    let fewer = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        ..asked("t", &[(0, Some(&[1])), (1, Some(&[3, 2, 1]))])
    };
    assert_eq!(codes(&mut client, &fewer).await, [ErrorCode::InvalidReplicationFactor.code(), 0]);
    assert_eq!(
        codes(&mut client, &asked("none", &[(0, Some(&[1]))])).await,
        [ErrorCode::UnknownTopicOrPartition.code()]
    );
}
