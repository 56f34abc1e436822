//! What is in the logs of queues when all is over, read as Kafka clients read topics.

use bytes::Bytes;
use wire::amqp::{RawProperties, Value};
use wire::kafka::batch::{Record, split_batches};

use super::publish;
use crate::history::Partition;
use crate::history::queues::Logged;
use crate::workload::client::Client;
use crate::workload::read::{FETCH_VERSION, fetch_request};
use crate::workload::{Ledger, now};

/// Reads each queue's topic from its beginning to its end. Retries until it could.
pub async fn read(nodes: u32, ledger: Ledger) {
    let names: Vec<&'static str> = ledger.borrow().queues.kinds.iter().map(|kind| kind.name).collect();
    let mut client = Client::new(nodes, 1);
    for name in names {
        let mut found: Vec<Logged> = Vec::new();
        loop {
            let next = found.last().map_or(0, |last| last.offset + 1);
            match read_on(&mut client, name, next).await {
                Ok((more, high_watermark)) if more.is_empty() && next >= high_watermark => break,
                Ok((more, _)) => found.extend(more),
                Err(_) => {
                    client.forget_leaders();
                    publish::pause().await;
                }
            }
        }
        ledger.borrow_mut().tell(now(), format!("{} messages in the log of {name}", found.len()));
        ledger.borrow_mut().queues.logs.insert(name, found);
    }
}

async fn read_on(client: &mut Client, topic: &'static str, from: i64) -> anyhow::Result<(Vec<Logged>, i64)> {
    let partition = Partition { topic, index: 0 };
    let leader = client.leader(partition).await?;
    let answer = client.call_leader(leader, FETCH_VERSION, &fetch_request(partition, from, leader.epoch)).await?;
    let answer = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let answer = answer.ok_or_else(|| anyhow::anyhow!("fetch answer without the partition"))?;
    anyhow::ensure!(answer.error_code == 0, "fetch error {}", answer.error_code);
    let mut found = Vec::new();
    for batch in split_batches(answer.records.unwrap_or_default())? {
        for record in batch.records(1 << 20)? {
            let record = record?;
            if record.offset >= from {
                found.extend(logged(&record));
            }
        }
    }
    Ok((found, answer.high_watermark))
}

fn logged(record: &Record) -> Option<Logged> {
    let number = publish::number(record.value.as_ref()?)?;
    let mut headers = record.headers.clone();
    let properties: Option<Bytes> =
        headers.find(|header| &*header.key == b"amqp.properties").and_then(|header| header.value);
    let headers = RawProperties::from_bytes(properties?).ok()?.read().headers;
    let death = headers.and_then(|headers| match headers.get("x-first-death-reason") {
        Some(Value::Str(reason)) => Some(String::from_utf8_lossy(&reason).into_owned()),
        _ => None,
    });
    Some(Logged { offset: record.offset, number, death })
}
