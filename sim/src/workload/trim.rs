//! Deletes records from the beginning of `audit`, so that readers meet a log start that moves while faults go on.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::kafka::messages::DeleteRecordsRequest;
use wire::kafka::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};

use super::client::Client;
use super::process::Process;
use super::{AUDIT, Ledger, TOPICS, now};
use crate::history::operation::Action;
use crate::history::{Deleted, Partition};

const DELETE_RECORDS_VERSION: i16 = 2;

/// Deletes until `until`, every second or two, some of what is acknowledged.
pub async fn run(nodes: u32, ledger: Ledger, mut rng: SmallRng, until: Duration) {
    let (mut client, mut process) = (Client::new(nodes, 1), Process::new(290, ledger.clone()));
    while now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(800..2_500))).await;
        let partition = Partition { topic: AUDIT, index: rng.random_range(0..TOPICS[1].1) };
        let end = ledger.borrow().acknowledged_end(partition);
        let start = ledger.borrow().deleted.get(&partition).map_or(0, |deleted| deleted.asked);
        if start >= end {
            continue;
        }
        let offset = rng.random_range(start..=start + (end - start) / 2);
        let action = Action::DeleteRecords { topic: AUDIT, partition: partition.index, offset };
        let Ok(leader) = client.leader(partition).await else { continue };
        ledger.borrow_mut().deleted.entry(partition).or_default().asked = offset;
        process.invoke(action.clone());
        let wanted = DeleteRecordsPartition::default().with_partition_index(partition.index).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(AUDIT.to_owned().into()).with_partitions(vec![wanted]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(2_000);
        let answer = client.call_leader(leader, DELETE_RECORDS_VERSION, &request).await;
        let answer = answer.map(|answer| {
            let result = answer.topics.first().and_then(|topic| topic.partitions.first());
            result.map_or((-1, -1), |partition| (partition.error_code, partition.low_watermark))
        });
        match answer {
            Ok((0, low_watermark)) if low_watermark < offset => {
                let words = format!("S5 OffsetsDense: {partition} was cut at {offset} and begins at {low_watermark}");
                ledger.borrow_mut().violate(now(), words);
            }
            Ok((0, _)) => {
                let deleted = Deleted { asked: offset, acknowledged: offset, epoch: leader.epoch };
                ledger.borrow_mut().deleted.insert(partition, deleted);
                ledger.borrow_mut().count("deletions of records");
                process.ok(action);
            }
            Ok((code, _)) => process.info(action, format!("error {code}")),
            Err(error) => process.info(action, error),
        }
        client.forget_leaders();
    }
}
