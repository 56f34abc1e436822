//! Read: committed batches from an offset, straight from the log by way of the sparse index.
//! Never returns what is not committed and applied; never decodes a record.
use bytes::Bytes;
use model::record::LiveBatch;

use super::{Broker, Error, ReadRequest, ReadResult};
use crate::router::LocalPartition;

/// Bytes read from the log in the first step, at least: the sparse index is this coarse.
const STEP_BYTES: usize = 256 << 10;
/// Bytes read from the log in one step, at most.
const STEP_BYTES_MAX: usize = 1 << 20;
/// An answer with less room than this part of it is full: the batch that might still fit is not worth the search.
const FULL_PART: usize = 64;
/// How long a read beyond the known end may ask the quorum.
const END_DEADLINE: std::time::Duration = std::time::Duration::from_millis(500);

/// A place in the log: the entry at `index` begins with `offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset: i64,
    pub(super) index: u64,
}

/// What the machine knows of its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) log_start: i64,
    pub(super) high_watermark: i64,
    pub(super) applied: u64,
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
        let batches = if wants && request.offset < bounds.high_watermark {
            self.collect(&local, bounds, &request).await?
        } else {
            Vec::new()
        };
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
        let start = start(local, request.offset)?;
        let mut batches = Vec::new();
        let mut left = request.max_bytes;
        let (offset, at_least_one) = (request.offset, request.at_least_one);
        let resume = self
            .scan(local, start, bounds.applied, request.max_bytes, |batch| {
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
        local.remember(resume.offset, resume.index);
        local.traffic().fetched_batches.inc_by(batches.len() as u64);
        local.traffic().fetched_bytes.inc_by(bytes_of(&batches) as u64);
        Ok(batches)
    }

    /// Walks the live batches from `from` to the entry `upto` until `visit` stops it, reading about `max_bytes` at first.
    /// Returns where to go on.
    pub(super) async fn scan(
        &self,
        local: &LocalPartition,
        from: Place,
        upto: u64,
        max_bytes: usize,
        mut visit: impl FnMut(LiveBatch) -> Step + Send,
    ) -> Result<Place, Error> {
        let mut place = from;
        let mut step = max_bytes.clamp(STEP_BYTES, STEP_BYTES_MAX);
        while place.index <= upto {
            let entries = self.0.reader.entries(local.group(), place.index, upto + 1, step).await;
            let entries = entries.map_err(|error| unreadable(local, &error))?;
            if entries.first().is_none_or(|first| first.index != place.index) {
                return Err(gone(local, place));
            }
            let walked = local.raft().partition(|machine| {
                for entry in &entries {
                    let begin = Place { offset: place.offset, index: entry.index };
                    let mut walk = machine.walk(entry.index, entry.term, place.offset, &entry.payload);
                    let mut last = false;
                    while let Some(batch) = walk.next() {
                        match visit(batch) {
                            Step::Next => {}
                            Step::Within(left) => step = left.min(STEP_BYTES_MAX),
                            Step::Stop => return (begin, true),
                            // An entry that is not done is read again next time.
                            Step::StopAfter if walk.next().is_some() => return (begin, true),
                            Step::StopAfter => last = true,
                        }
                    }
                    place = Place { offset: walk.next_offset(), index: entry.index + 1 };
                    if last {
                        return (place, true);
                    }
                }
                (place, false)
            });
            let (reached, stopped) = walked.ok_or(Error::UnknownPartition)?;
            place = reached;
            if stopped {
                break;
            }
        }
        Ok(place)
    }
}

/// An entry may be purged while a reader is on its way to it, once the log start has passed it: who asks again is told so.
fn gone(local: &LocalPartition, place: Place) -> Error {
    let passed = bounds(local).is_ok_and(|bounds| bounds.log_start > place.offset);
    match passed {
        true => Error::OffsetNotAvailable,
        false => Error::Unavailable(format!("log entry {} of group {} is gone", place.index, local.group())),
    }
}

/// A replica with a damaged entry must not lead, since nobody could read past it: its peers have the entry.
fn unreadable(local: &LocalPartition, error: &storage::Error) -> Error {
    if let storage::Error::Corrupt(what) = error {
        local.raft().quarantine(&format!("its log cannot be read: {what}"));
    }
    Error::Unavailable(error.to_string())
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    /// At most so many bytes more are wanted.
    Within(usize),
    /// The batch was not wanted any more.
    Stop,
    /// The batch was the last one wanted.
    StopAfter,
}

pub(super) fn bounds(local: &LocalPartition) -> Result<Bounds, Error> {
    let read = local.raft().partition(|machine| Bounds {
        log_start: machine.log_start(),
        high_watermark: machine.high_watermark(),
        applied: machine.applied().0,
    });
    read.ok_or(Error::UnknownPartition)
}

/// Where a walk must begin to meet `offset`: the sparse index, or nearer, where an earlier read stopped.
pub(super) fn start(local: &LocalPartition, offset: i64) -> Result<Place, Error> {
    let sparse = local.raft().partition(|machine| machine.locate(offset)).flatten();
    let sparse = sparse.map(|point| Place { offset: point.base_offset, index: point.index });
    let sparse = sparse.ok_or(Error::OffsetNotAvailable)?;
    let recalled = local.recall(offset).map(|(offset, index)| Place { offset, index });
    Ok(recalled.filter(|near| near.offset >= sparse.offset && near.index > sparse.index).unwrap_or(sparse))
}

/// Total bytes of batches.
pub fn bytes_of(batches: &[LiveBatch]) -> usize {
    batches.iter().map(|batch: &LiveBatch| Bytes::len(&batch.bytes)).sum()
}
