//! Questions about offsets: by position, by time, by leader epoch; and moving the log start.
//! Answers about the end are linearizable: a quorum confirms the leader first.
use std::time::Duration;

use model::command::Payload;
use model::machine::{DeadReason, Reply};
use model::producer::Producer;
use model::record::LiveBatch;
use raft::ProposeError;
use wire::kafka::Batch;

use super::read::bounds;
use super::scan::Step;
use super::{Broker, Error, OffsetAt, PartitionRef, Position};
use crate::router::{LocalPartition, Refused};

/// How long a question may wait for the quorum.
const DEADLINE: Duration = Duration::from_secs(5);
/// Decompressed bytes of one batch looked into for a timestamp.
const RECORDS_BYTES_MAX: usize = 128 << 20;

impl Broker {
    /// Finds the offset at a position.
    ///
    /// # Errors
    /// Not the leader, epoch checks, or the deadline of the linearizer.
    pub async fn list_offset(
        &self,
        partition: PartitionRef,
        position: Position,
        leader_epoch: Option<i32>,
    ) -> Result<OffsetAt, Error> {
        let local = self.led(partition, leader_epoch)?;
        if !local.raft().knows_end() {
            return Err(Error::OffsetNotAvailable);
        }
        match position {
            Position::Earliest | Position::EarliestLocal => Ok(at(&local, bounds(&local)?.log_start)),
            Position::Latest => {
                self.confirm(partition, &local).await?;
                Ok(at(&local, bounds(&local)?.high_watermark))
            }
            Position::LatestTiered => Ok(NOTHING),
            Position::MaxTimestamp => self.max_timestamp(&local).await,
            Position::Timestamp(timestamp) => self.first_from(&local, timestamp).await,
        }
    }

    /// The idempotent producers that a partition led here remembers.
    ///
    /// # Errors
    /// Not the leader.
    pub fn producers(&self, partition: PartitionRef) -> Result<Vec<Producer>, Error> {
        let local = self.led(partition, None)?;
        let producers = local.raft().partition(|machine| machine.producers().iter().cloned().collect());
        producers.ok_or(Error::UnknownPartition)
    }

    async fn confirm(&self, partition: PartitionRef, local: &LocalPartition) -> Result<(), Error> {
        match tokio::time::timeout(DEADLINE, local.raft().linearize()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ProposeError::NotLeader { leader } | ProposeError::Lost { leader })) => {
                Err(self.refusal(partition, Refused::NotLeader(leader)))
            }
            Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
            Err(_elapsed) => Err(Error::Timeout),
        }
    }

    /// The first record with a timestamp of at least `timestamp`.
    pub(super) async fn first_from(&self, local: &LocalPartition, timestamp: i64) -> Result<OffsetAt, Error> {
        let begin = local.raft().partition(|machine| machine.offset_for_timestamp(timestamp)).flatten();
        let Some(begin) = begin else { return Ok(NOTHING) };
        let bounds = bounds(local)?;
        let mut found = NOTHING;
        let look = |batch: LiveBatch| {
            found = first_in(&batch, timestamp, bounds.log_start).unwrap_or(NOTHING);
            if found.offset < 0 { Step::Next } else { Step::StopAfter }
        };
        self.scan(local, begin, bounds.applied, 0, look).await?;
        Ok(found)
    }

    /// The timestamp of the first record from `offset` on.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn timestamp_at(&self, local: &LocalPartition, offset: i64) -> Result<Option<i64>, Error> {
        let (bounds, mut found) = (bounds(local)?, None);
        let look = |batch: LiveBatch| {
            found = first_in(&batch, i64::MIN, offset);
            if found.is_none() { Step::Next } else { Step::StopAfter }
        };
        self.scan(local, offset, bounds.applied, 0, look).await?;
        Ok(found.map(|found| found.timestamp))
    }

    /// The first of the records with the largest timestamp (KIP-734).
    async fn max_timestamp(&self, local: &LocalPartition) -> Result<OffsetAt, Error> {
        let bounds = bounds(local)?;
        if bounds.log_start == bounds.high_watermark {
            return Ok(NOTHING);
        }
        let known = local.raft().partition(|machine| machine.max_timestamp()).ok_or(Error::UnknownPartition)?;
        // What was moved may lack the record that had it.
        let kept = known.1 >= bounds.log_start.max(bounds.clean_end);
        let begin = if kept { known.1 } else { bounds.log_start };
        let mut best: Option<(i64, LiveBatch)> = None;
        let look = |batch: LiveBatch| {
            let newest = Batch::take(&mut batch.bytes.clone()).map_or(i64::MIN, |view| view.header().max_timestamp);
            let readable = batch.next_offset > bounds.log_start;
            if readable && best.as_ref().is_none_or(|(timestamp, _)| newest > *timestamp) {
                best = Some((newest, batch));
            }
            let done = kept && best.as_ref().is_some_and(|(timestamp, _)| *timestamp >= known.0);
            if done { Step::StopAfter } else { Step::Next }
        };
        self.scan(local, begin, bounds.applied, 0, look).await?;
        let found = best.and_then(|(timestamp, batch)| first_in(&batch, timestamp, bounds.log_start));
        Ok(found.unwrap_or(NOTHING))
    }

    /// The largest epoch not above `epoch` and the offset at which it ends (OffsetForLeaderEpoch, KIP-279/320);
    /// (-1, -1) if there is none.
    ///
    /// # Errors
    /// Not the leader, or epoch checks on `current_leader_epoch`.
    pub async fn epoch_end(
        &self,
        partition: PartitionRef,
        epoch: i32,
        current_leader_epoch: Option<i32>,
    ) -> Result<(i32, i64), Error> {
        let local = self.led(partition, current_leader_epoch)?;
        if !local.raft().knows_end() {
            return Err(Error::OffsetNotAvailable);
        }
        let Ok(term) = u64::try_from(epoch) else { return Ok((-1, -1)) };
        let end = local.raft().partition(|machine| machine.epoch_end(term)).flatten();
        Ok(end.map_or((-1, -1), |(term, offset)| (super::epoch_of(term), offset)))
    }

    /// Moves the log start up to `before` (-1: the high watermark); answers the new log start.
    ///
    /// # Errors
    /// Not the leader, `before` above the high watermark, or the deadline.
    pub async fn delete_records(&self, partition: PartitionRef, before: i64) -> Result<i64, Error> {
        let local = self.led(partition, None)?;
        let bounds = bounds(&local)?;
        let out_of_range =
            Error::OffsetOutOfRange { log_start: bounds.log_start, high_watermark: bounds.high_watermark };
        if before < -1 || before > bounds.high_watermark {
            return Err(out_of_range);
        }
        let proposed = local.raft().propose(vec![Payload::log_start(self.0.clock.wall_ms(), before)]);
        let outcomes = tokio::time::timeout(DEADLINE, proposed).await.map_err(|_| Error::Timeout)?;
        match outcomes.into_iter().next() {
            Some(Ok(proposed)) => match proposed.reply {
                Reply::LogStart(log_start) => Ok(log_start),
                Reply::Dead(DeadReason::LogStartOutOfRange { .. }) => Err(out_of_range),
                other => Err(Error::Unavailable(format!("unexpected reply {other:?}"))),
            },
            Some(Err(ProposeError::NotLeader { leader } | ProposeError::Lost { leader })) => {
                Err(self.refusal(partition, Refused::NotLeader(leader)))
            }
            Some(Err(error)) => Err(Error::Unavailable(error.to_string())),
            None => Err(Error::Unavailable("no outcome".to_owned())),
        }
    }
}

const NOTHING: OffsetAt = OffsetAt { offset: -1, timestamp: -1, leader_epoch: -1 };

fn at(local: &LocalPartition, offset: i64) -> OffsetAt {
    let epoch = local.raft().partition(|machine| machine.epoch_of(offset)).flatten();
    let epoch = epoch.unwrap_or_else(|| local.role().term);
    OffsetAt { offset, timestamp: -1, leader_epoch: super::epoch_of(epoch) }
}

/// The first record of a batch with a timestamp of at least `timestamp`, not below `log_start`.
fn first_in(batch: &LiveBatch, timestamp: i64, log_start: i64) -> Option<OffsetAt> {
    if batch.next_offset <= log_start {
        return None;
    }
    let view = Batch::take(&mut batch.bytes.clone()).ok()?;
    let header = view.header();
    if header.max_timestamp < timestamp {
        return None;
    }
    let found = |offset, timestamp| OffsetAt { offset, timestamp, leader_epoch: batch.leader_epoch };
    if header.is_log_append_time() {
        return Some(found(batch.base_offset.max(log_start), header.max_timestamp));
    }
    let stored_base = header.base_offset;
    let records = view.records(RECORDS_BYTES_MAX).ok()?;
    let offsets = records.map_while(Result::ok).map(|record| (record.offset - stored_base, record.timestamp_ms));
    let mut offsets = offsets.map(|(delta, at)| (batch.base_offset + delta, at));
    offsets.find(|(offset, at)| *at >= timestamp && *offset >= log_start).map(|(offset, at)| found(offset, at))
}
