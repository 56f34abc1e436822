//! Reads partitions by assignment, without a group. Owns nothing: positions belong to the caller.
//! Invariant: records below the asked offset, which the first batch may hold, are not given out.

use std::time::Duration;

use bytes::Bytes;
use wire::kafka::ErrorCode;
use wire::kafka::batch::{Record, read_batches};
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic};
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use wire::kafka::messages::{FetchRequest, ListOffsetsRequest};

use super::{Client, Error, text};

/// Most bytes one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 256 << 20;
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 4 << 20;

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record that exists.
    Earliest,
    /// The next record to come.
    Latest,
    /// That offset.
    Offset(i64),
    /// The first record of that time, ms since 1970, or later; the end if there is none.
    Time(i64),
}

/// The next offset to read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset.
    pub offset: i64,
}

/// What one fetch gave for one partition.
pub struct Fetched {
    /// Which.
    pub partition: i32,
    /// End of what is committed.
    pub high_watermark: i64,
    /// Record batches as they came.
    pub batches: Bytes,
}

impl Fetched {
    /// The records from `position` on; moves it behind the last one.
    pub fn records(&self, position: &mut Position) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for batch in read_batches(self.batches.clone()) {
            let batch = batch?;
            for record in batch.records(UNPACKED_BYTES_MAX)? {
                let record = record?;
                if record.offset >= position.offset {
                    records.push(record);
                }
            }
            let header = batch.header();
            position.offset = position.offset.max(header.base_offset + i64::from(header.last_offset_delta) + 1);
        }
        Ok(records)
    }
}

impl Client {
    /// The offset at which reading starts.
    pub async fn offset(&self, topic: &str, partition: i32, start: Start) -> Result<i64, Error> {
        let timestamp = match start {
            Start::Offset(offset) => return Ok(offset),
            Start::Earliest => -2,
            Start::Latest => -1,
            Start::Time(ms) => ms.max(0),
        };
        let asked = ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() };
        let named = ListOffsetsTopic { name: text(topic), partitions: vec![asked], ..Default::default() };
        let request = ListOffsetsRequest { topics: vec![named], timeout_ms: 10_000, ..Default::default() };
        let response = self.leader(topic, partition).await?.call(&request).await?;
        let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next().ok_or(Error::NoLeader)?;
        if Error::check(answer.error_code).is_err_and(|error| error.passes()) {
            self.forget_leader(topic, partition);
        }
        Error::check(answer.error_code)?;
        if answer.offset < 0 {
            return Box::pin(self.offset(topic, partition, Start::Latest)).await;
        }
        Ok(answer.offset)
    }

    /// One fetch of all positions that the leader of the first one leads; waits up to `wait` for a byte to come.
    /// The positions must be of one topic. Partitions with a leader elsewhere are left out and their leader forgotten.
    pub async fn fetch(&self, positions: &[Position], wait: Duration) -> Result<Vec<Fetched>, Error> {
        let Some(first) = positions.first() else { return Ok(Vec::new()) };
        let link = self.leader(&first.topic, first.partition).await?;
        let asked = |position: &Position| FetchPartition {
            partition: position.partition,
            fetch_offset: position.offset,
            partition_max_bytes: PARTITION_BYTES,
            ..Default::default()
        };
        let partitions = positions.iter().map(asked).collect();
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            topics: vec![FetchTopic { topic: text(&first.topic), partitions, ..Default::default() }],
            ..Default::default()
        };
        let response = link.call(&request).await?;
        Error::check(response.error_code)?;
        let mut fetched = Vec::new();
        for answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            match Error::check(answer.error_code) {
                Ok(()) => fetched.push(Fetched {
                    partition: answer.partition_index,
                    high_watermark: answer.high_watermark,
                    batches: answer.records.unwrap_or_default(),
                }),
                Err(Error::Code { code: ErrorCode::OffsetNotAvailable, .. }) => {}
                Err(error) if error.passes() => self.forget_leader(&first.topic, answer.partition_index),
                Err(error) => return Err(error),
            }
        }
        Ok(fetched)
    }

    /// Groups positions by the node that leads them now, so that each group is one fetch.
    pub async fn by_leader(&self, positions: Vec<Position>) -> Result<Vec<Vec<Position>>, Error> {
        let mut groups: std::collections::BTreeMap<i32, Vec<Position>> = Default::default();
        for position in positions {
            let key = (position.topic.clone(), position.partition);
            let known = self.view().leaders.get(&key).copied();
            let leader = match known {
                Some(leader) => leader,
                None => {
                    self.metadata(Some(&[&position.topic]), false).await?;
                    self.view().leaders.get(&key).copied().ok_or(Error::NoLeader)?
                }
            };
            groups.entry(leader).or_default().push(position);
        }
        Ok(groups.into_values().collect())
    }
}
