//! Readers: one tails the topic while faults go on, one reads everything when they are over.

use std::time::Duration;

use wire::kafka::batch::split_batches;
use wire::kafka::messages::FetchRequest;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic};

use super::client::Client;
use super::{Ledger, PARTITIONS, TOPIC};
use crate::history::{Place, Serial};

const FETCH_VERSION: i16 = 11;
const PAUSE: Duration = Duration::from_millis(100);

/// What one fetch of one partition brought.
struct Fetched {
    high_watermark: i64,
    records: Vec<(Place, Serial)>,
}

async fn fetch(client: &mut Client, partition: i32, offset: i64) -> anyhow::Result<Fetched> {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TOPIC.to_string().into()).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_max_wait_ms(200)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let answer = client.call_leader(partition, FETCH_VERSION, &request).await?;
    let answer = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let answer = answer.ok_or_else(|| anyhow::anyhow!("fetch answer without the partition"))?;
    if answer.error_code != 0 {
        client.forget_leaders();
        anyhow::bail!("fetch error {}", answer.error_code);
    }
    let mut records = Vec::new();
    for batch in split_batches(answer.records.unwrap_or_default())? {
        for record in batch.records(1 << 20)? {
            let record = record?;
            // The batch that holds the offset comes whole: what stands before is the client's to drop.
            if record.offset >= offset {
                let serial = record.value.as_deref().and_then(Serial::decode);
                let serial =
                    serial.ok_or_else(|| anyhow::anyhow!("a record that nobody wrote at {}", record.offset))?;
                records.push((Place { partition, offset: record.offset }, serial));
            }
        }
    }
    Ok(Fetched { high_watermark: answer.high_watermark, records })
}

/// Follows the topic until `until`, and writes down the first sight of each record and any step back of a high watermark.
pub async fn tail(nodes: u32, ledger: Ledger, until: Duration) {
    let mut client = Client::new(nodes, 2);
    let mut next = vec![0; PARTITIONS as usize];
    while turmoil::sim_elapsed().unwrap_or_default() < until {
        for partition in 0..PARTITIONS {
            let from = next[partition as usize];
            match fetch(&mut client, partition, from).await {
                Ok(fetched) => {
                    let now = turmoil::sim_elapsed().unwrap_or_default();
                    let mut ledger = ledger.borrow_mut();
                    for (place, serial) in fetched.records {
                        ledger.note(now, "read", place, serial);
                        ledger.seen.insert(place, serial);
                        next[partition as usize] = place.offset + 1;
                    }
                }
                Err(_) => ledger.borrow_mut().count("fetch errors"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads every partition from 0 to its high watermark, once that is at least what was acknowledged. Retries until it could.
pub async fn everything(nodes: u32, ledger: Ledger) {
    let mut client = Client::new(nodes, 0);
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let Ok(fetched) = fetch(&mut client, partition, next).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            next = fetched.records.last().map_or(next, |(place, _)| place.offset + 1);
            let ended = fetched.records.is_empty();
            ledger.borrow_mut().found.extend(fetched.records);
            if ended && next >= fetched.high_watermark {
                break;
            }
        }
    }
}
