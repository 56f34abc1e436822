//! Read: committed batches from an offset, straight from the log.
//! Never returns what is not committed and applied; never decodes a record.
use bytes::Bytes;
use model::record::LiveBatch;
use tokio::time::Instant;

use super::scan::Step;
use super::trace::Operation;
use super::{Broker, Error, ReadRequest, ReadResult};
use crate::router::LocalPartition;

/// An answer with less room than this part of it is full: the batch that might still fit is not worth the search.
const FULL_PART: usize = 64;
/// How long a read beyond the known end may ask the quorum.
const END_DEADLINE: std::time::Duration = std::time::Duration::from_millis(500);

/// What the machine knows of its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) log_start: i64,
    pub(super) high_watermark: i64,
    pub(super) applied: u64,
    /// Records below were moved, if they are there at all.
    pub(super) clean_end: i64,
}

impl Broker {
    /// Reads committed batches from an offset. Returns at once, with no batches at the high watermark.
    ///
    /// # Errors
    /// Not the leader, epoch checks (KIP-320), offset outside the log, or not available yet on a new leader.
    pub async fn read(&self, request: ReadRequest) -> Result<ReadResult, Error> {
        let local = self.led(request.partition, request.leader_epoch)?;
        if !local.raft().knows_end() {
            return Err(Error::OffsetNotAvailable);
        }
        let bounds = self.check_offset(&local, request.offset).await?;
        let wants = request.max_bytes > 0 || request.at_least_one;
        let since = Instant::now();
        let batches = if wants && request.offset < bounds.high_watermark {
            self.collect(&local, bounds, &request).await?
        } else {
            Vec::new()
        };
        if let Some(first) = batches.first()
            && let Some(traced) = self.traced_batch(request.partition, Some(&first.bytes))
        {
            let latency_ms = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
            traced.log_after(Operation { op: "fetch", offset: Some(request.offset), result: "ok" }, latency_ms);
        }
        let leader = self.leader(local.group());
        Ok(ReadResult { high_watermark: bounds.high_watermark, log_start: bounds.log_start, leader, batches })
    }

    /// The bounds, if `offset` lies within. Beyond the end the quorum is asked, since a leader that was just replaced
    /// must not send a reader back.
    async fn check_offset(&self, local: &LocalPartition, offset: i64) -> Result<Bounds, Error> {
        let mut bounds = bounds(local)?;
        if offset > bounds.high_watermark {
            let proof = tokio::time::timeout(END_DEADLINE, local.raft().linearize()).await;
            if !matches!(proof, Ok(Ok(_))) {
                return Err(Error::OffsetNotAvailable);
            }
            bounds = self::bounds(local)?;
        }
        if offset < bounds.log_start || offset > bounds.high_watermark {
            let Bounds { log_start, high_watermark, .. } = bounds;
            return Err(Error::OffsetOutOfRange { log_start, high_watermark });
        }
        Ok(bounds)
    }

    async fn collect(
        &self,
        local: &LocalPartition,
        bounds: Bounds,
        request: &ReadRequest,
    ) -> Result<Vec<LiveBatch>, Error> {
        let mut batches = Vec::new();
        let mut left = request.max_bytes;
        let (offset, at_least_one) = (request.offset, request.at_least_one);
        let resume = self
            .scan(local, request.offset, bounds.applied, request.max_bytes, |batch| {
                if batch.next_offset <= offset {
                    return Step::Next;
                }
                let first = batches.is_empty() && at_least_one;
                if batch.bytes.len() > left && !first {
                    return Step::Stop;
                }
                left = left.saturating_sub(batch.bytes.len());
                batches.push(batch);
                if left <= request.max_bytes / FULL_PART { Step::StopAfter } else { Step::Within(left) }
            })
            .await?;
        if let Some(place) = resume {
            local.remember(place.offset, place.index);
        }
        local.traffic().fetched_batches.inc_by(batches.len() as u64);
        local.traffic().fetched_bytes.inc_by(bytes_of(&batches) as u64);
        Ok(batches)
    }
}

pub(super) fn bounds(local: &LocalPartition) -> Result<Bounds, Error> {
    let read = local.raft().partition(|machine| Bounds {
        log_start: machine.log_start(),
        high_watermark: machine.high_watermark(),
        applied: machine.applied().0,
        clean_end: machine.clean().end,
    });
    // What a coordinator shard holds are no records: as a log it is empty.
    let empty = Bounds { log_start: 0, high_watermark: 0, applied: 0, clean_end: 0 };
    read.or_else(|| local.desk().map(|_| empty)).ok_or(Error::UnknownPartition)
}

/// Total bytes of batches.
pub fn bytes_of(batches: &[LiveBatch]) -> usize {
    batches.iter().map(|batch: &LiveBatch| Bytes::len(&batch.bytes)).sum()
}
