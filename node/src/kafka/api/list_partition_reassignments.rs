//! ListPartitionReassignments (46): the partitions whose replicas are being changed (KIP-455).
use std::collections::BTreeSet;

use model::NodeId;
use model::controller::{Partition, Topic};
use wire::kafka::messages::list_partition_reassignments::response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use wire::kafka::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::node;
use crate::kafka::Call;

/// Answers every version. Of a partition that does not exist, or does not change, nothing is said.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = call.broker().image();
    let topics: Vec<_> = match request.topics {
        None => image.topics.values().filter_map(|topic| ongoing(topic, |_| true)).collect(),
        Some(asked) => {
            let asked = asked.iter().filter_map(|asked| {
                ongoing(image.topic(asked.name.as_str())?, |index| asked.partition_indexes.contains(&index))
            });
            asked.collect()
        }
    };
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}

fn ongoing(topic: &Topic, is_asked: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let changing = (0..).zip(&topic.partitions).filter(|(index, partition)| partition.is_changing && is_asked(*index));
    let partitions: Vec<_> = changing.map(|(index, partition)| describe(index, partition)).collect();
    let name = topic.name.clone().into();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment { name, partitions, ..Default::default() })
}

fn describe(partition_index: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let numbers = |nodes: BTreeSet<NodeId>| nodes.into_iter().map(node).collect();
    let adding = partition.adding.difference(&partition.removing).map(|replica| replica.node()).collect();
    let removing = partition.removing.iter().map(|replica| replica.node()).collect();
    OngoingPartitionReassignment {
        partition_index,
        replicas: partition.nodes().into_iter().map(node).collect(),
        adding_replicas: numbers(adding),
        removing_replicas: numbers(removing),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use model::{GroupId, ReplicaId};

    use super::*;

    #[test]
    fn a_change_shows_what_comes_and_what_goes() {
        let replica = |node, revision| ReplicaId::new(NodeId(node), revision);
        let partition = Partition {
            revision: 3,
            replicas: vec![replica(1, 1), replica(4, 3), replica(5, 2), replica(2, 1)],
            adding: [replica(4, 3), replica(5, 2)].into(),
            removing: [replica(5, 2), replica(2, 1)].into(),
            ..Partition::new(GroupId(1024), &[])
        };
        let shown = describe(7, &partition);
        assert_eq!((shown.partition_index, &shown.replicas[..]), (7, &[1, 4, 5, 2][..]));
        assert_eq!(shown.adding_replicas, [4], "5 is not wanted any more");
        assert_eq!(shown.removing_replicas, [2, 5]);
    }
}
