//! DescribeLogDirs (35): bytes of this node's replicas and of the volume under them (KIP-113, KIP-827).
use std::collections::{BTreeMap, BTreeSet};

use wire::kafka::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use wire::kafka::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::broker::LogDir;
use crate::kafka::Call;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted = request.topics.as_deref().map(wanted);
    let results = call.broker().log_dirs().into_iter().map(|dir| describe(dir, wanted.as_ref())).collect();
    DescribeLogDirsResponse { results, ..Default::default() }
}

fn wanted(topics: &[DescribableLogDirTopic]) -> BTreeSet<(String, i32)> {
    let partitions = |topic: &DescribableLogDirTopic| {
        let name = topic.topic.as_str().to_owned();
        topic.partitions.iter().map(move |index| (name.clone(), *index)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(partitions).collect()
}

/// All replicas, or those wanted.
fn describe(dir: LogDir, wanted: Option<&BTreeSet<(String, i32)>>) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for replica in dir.replicas {
        let key = (replica.topic, replica.index.0);
        if wanted.is_some_and(|wanted| !wanted.contains(&key)) {
            continue;
        }
        topics.entry(key.0).or_default().push(DescribeLogDirsPartition {
            partition_index: key.1,
            partition_size: i64::try_from(replica.bytes).unwrap_or(i64::MAX),
            offset_lag: replica.lag,
            ..Default::default()
        });
    }
    let topics = topics.into_iter();
    DescribeLogDirsResult {
        log_dir: dir.path.into(),
        topics: topics
            .map(|(name, partitions)| DescribeLogDirsTopic { name: name.into(), partitions, ..Default::default() })
            .collect(),
        total_bytes: dir.total_bytes,
        usable_bytes: dir.usable_bytes,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::DirEntry;
    use model::PartitionIndex;

    fn dir() -> LogDir {
        let replica =
            |topic: &str, index, bytes| DirEntry { topic: topic.into(), index: PartitionIndex(index), bytes, lag: 0 };
        let replicas = vec![replica("b", 0, 10), replica("a", 1, 20), replica("b", 2, 30)];
        LogDir { path: "/data".into(), total_bytes: 100, usable_bytes: 40, replicas }
    }

    #[test]
    fn everything_by_topic() {
        let result = describe(dir(), None);
        let sizes: Vec<_> = result
            .topics
            .iter()
            .map(|t| (t.name.as_str(), t.partitions.iter().map(|p| p.partition_size).sum()))
            .collect();
        assert_eq!(sizes, [("a", 20), ("b", 40i64)]);
        assert_eq!((result.log_dir.as_str(), result.total_bytes, result.usable_bytes), ("/data", 100, 40));
    }

    #[test]
    fn only_what_was_asked_for() {
        let asked =
            DescribableLogDirTopic { topic: String::from("b").into(), partitions: vec![2, 9], ..Default::default() };
        let result = describe(dir(), Some(&wanted(&[asked])));
        assert_eq!(result.topics.len(), 1);
        assert_eq!(result.topics[0].partitions[0].partition_index, 2);
    }
}
