//! The topic that groups read: its producer, which sends each batch once, and how members read it.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::compression::Compression;
use wire::kafka::batch::{BatchBuilder, read_batches};

use super::seat::Seat;
use crate::history::Partition;
use crate::workload::client::Client;
use crate::workload::produce::{PRODUCE_VERSION, outcome, request};
use crate::workload::read::{FETCH_VERSION, fetch_request};
use crate::workload::{JOBS, Ledger, PAUSE, now};

/// Records in a batch: 1 to this.
const BATCH_RECORDS_MAX: i64 = 3;
/// How long a member waits for records of one partition.
const WAIT_MS: i32 = 10;

/// Produces until `until`.
pub async fn produce(nodes: u32, ledger: Ledger, mut rng: SmallRng, until: Duration) {
    let mut client = Client::new(nodes, 1);
    ledger.borrow_mut().groups.producers += 1;
    while now() < until {
        tokio::time::sleep(PAUSE * rng.random_range(1..4)).await;
        let partition = Partition { topic: JOBS.0, index: rng.random_range(0..JOBS.1) };
        let Ok(leader) = client.leader(partition).await else { continue };
        let records = rng.random_range(1..=BATCH_RECORDS_MAX);
        let mut builder = BatchBuilder::new(Compression::None);
        (0..records).for_each(|_| builder.push(1, None, Some(b"job")));
        let Ok(batch) = builder.build() else { continue };
        match client
            .call_leader(leader, PRODUCE_VERSION, &request(partition, batch))
            .await
            .map(|answer| outcome(&answer))
        {
            Ok((0, base)) => {
                let groups = &mut ledger.borrow_mut().groups;
                groups.produced.entry(partition.index).or_default().extend(base..base + records);
            }
            _ => client.forget_leaders(),
        }
    }
    ledger.borrow_mut().groups.producers -= 1;
}

/// A member processes what there is of a partition from `next` on.
pub async fn go_on(seat: &mut Seat, index: i32, next: &mut i64) {
    let Ok(offsets) = read(&mut seat.client, index, *next).await else { return };
    *next = offsets.last().map_or(*next, |last| last + 1);
    let groups = &mut seat.ledger.borrow_mut().groups;
    groups.consumed.entry((seat.group, index)).or_default().extend(offsets);
}

/// Offsets of a partition from `from` on, as its leader serves them.
async fn read(client: &mut Client, index: i32, from: i64) -> anyhow::Result<Vec<i64>> {
    let partition = Partition { topic: JOBS.0, index };
    let leader = client.leader(partition).await?;
    let request = fetch_request(partition, from, leader.epoch).with_max_wait_ms(WAIT_MS);
    let answer = client.call_leader(leader, FETCH_VERSION, &request).await?;
    let answer = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let answer = answer.ok_or_else(|| anyhow::anyhow!("fetch answer without the partition"))?;
    if answer.error_code != 0 {
        client.forget_leaders();
        anyhow::bail!("fetch error {}", answer.error_code);
    }
    let mut offsets = Vec::new();
    for batch in read_batches(answer.records.unwrap_or_default()) {
        for record in batch?.records(1 << 20)? {
            offsets.push(record?.offset);
        }
    }
    offsets.retain(|offset| *offset >= from);
    Ok(offsets)
}
