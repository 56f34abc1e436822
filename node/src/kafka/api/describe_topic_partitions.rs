//! DescribeTopicPartitions (75): topics in order of name, in pages of a bounded number of partitions (KIP-966).
//! Invariant: following the cursor from page to page shows every partition once.
use std::collections::BTreeSet;
use std::ops::Bound;

use model::GroupId;
use wire::kafka::ErrorCode;
use wire::kafka::messages::describe_topic_partitions::response::Cursor;
use wire::kafka::messages::describe_topic_partitions::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use wire::kafka::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::uuid;
use crate::broker::Leader;
use crate::kafka::Call;
use crate::kafka::view::{self, PartitionView, TOPIC_OPERATIONS, View};

/// Most partitions of one answer: Kafka's `max.request.partition.size.limit`.
const PAGE_PARTITIONS_MAX: usize = 2000;

/// Answers every version.
pub(in crate::kafka) async fn answer(
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let view = view::now(call.broker());
    let asked = request.topics.iter().map(|topic| topic.name.as_str().to_owned()).collect();
    let from = request.cursor.map(|cursor| (cursor.topic_name.as_str().to_owned(), cursor.partition_index));
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE_PARTITIONS_MAX);
    page(&view, &asked, from, limit)
}

fn page(
    view: &View<impl Fn(GroupId) -> Leader>,
    asked: &BTreeSet<String>,
    from: Option<(String, i32)>,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let (first, start) = from.unwrap_or_default();
    let range = (Bound::Included(first.as_str()), Bound::Unbounded);
    let names: Vec<&str> = match asked.is_empty() {
        true => view.image.topics.range::<str, _>(range).map(|(name, _)| &**name).collect(),
        false => asked.range::<str, _>(range).map(String::as_str).collect(),
    };
    let mut answer = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        let start = if name == first { usize::try_from(start).unwrap_or(0) } else { 0 };
        if left == 0 {
            answer.next_cursor = Some(cursor(name, start));
            break;
        }
        let topic = describe(view, name, start, left);
        left -= topic.partitions.len();
        let next = start + topic.partitions.len();
        let count = view.image.topic(name).map_or(0, |topic| topic.partitions.len());
        answer.topics.push(topic);
        if next < count {
            answer.next_cursor = Some(cursor(name, next));
            break;
        }
    }
    answer
}

fn cursor(topic: &str, partition: usize) -> Box<Cursor> {
    let partition_index = i32::try_from(partition).unwrap_or(i32::MAX);
    Box::new(Cursor { topic_name: topic.to_owned().into(), partition_index, ..Default::default() })
}

fn describe(
    view: &View<impl Fn(GroupId) -> Leader>,
    name: &str,
    start: usize,
    limit: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let mut described = DescribeTopicPartitionsResponseTopic {
        name: Some(name.to_owned().into()),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    };
    match view.image.topic(name) {
        Some(topic) => {
            described.topic_id = uuid(topic.id);
            described.is_internal = topic.is_internal();
            described.partitions = view.partitions(topic).skip(start).take(limit).map(partition).collect();
        }
        None => described.error_code = unknown(name).code(),
    }
    described
}

fn unknown(name: &str) -> ErrorCode {
    match model::controller::topics::check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopic,
    }
}

fn partition(view: PartitionView) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition {
        error_code: view.error.code(),
        partition_index: view.index,
        leader_id: view.leader,
        leader_epoch: view.epoch,
        replica_nodes: view.replicas,
        isr_nodes: view.in_sync,
        // A majority holds every acknowledged record: there are no eligible replicas outside it to speak of.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: view.offline,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::view::tests::view;

    /// Follows the cursor; gives (topic, partition) in the order shown and the number of pages.
    fn walk(asked: &[&str], limit: usize) -> (Vec<(String, i32)>, usize) {
        let view = view(&[1, 2, 3], &[("a", 3), ("b", 1), ("c", 4)]);
        let asked = asked.iter().map(|name| (*name).to_owned()).collect();
        let (mut shown, mut from, mut pages) = (Vec::new(), None, 0);
        loop {
            let answer = page(&view, &asked, from.take(), limit);
            pages += 1;
            for topic in &answer.topics {
                let name = topic.name.as_ref().unwrap().to_string();
                assert!(topic.partitions.len() <= limit);
                shown.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
            }
            match answer.next_cursor {
                Some(cursor) => from = Some((cursor.topic_name.to_string(), cursor.partition_index)),
                None => return (shown, pages),
            }
        }
    }

    #[test]
    fn pages_show_every_partition_once() {
        let (all, pages) = walk(&[], 2000);
        assert_eq!((all.len(), pages), (8, 1));
        for limit in 1..=8 {
            let (shown, pages) = walk(&[], limit);
            assert_eq!(shown, all, "limit {limit}");
            assert!(pages <= 8, "limit {limit}");
        }
    }

    #[test]
    fn only_the_topics_asked_for_in_order_of_name() {
        let (shown, _) = walk(&["c", "b"], 2);
        let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "c", "c", "c", "c"]);
    }

    #[test]
    fn unknown_and_illegal_names_are_told_apart() {
        let view = view(&[1], &[]);
        let asked = ["nope".to_owned(), "bad name".to_owned()].into();
        let codes: Vec<i16> = page(&view, &asked, None, 10).topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [ErrorCode::InvalidTopic.code(), ErrorCode::UnknownTopicOrPartition.code()]);
    }
}
