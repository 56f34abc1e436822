//! Reads single records of a log by their offsets, for queues: neighbours in one go, others one by one.
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::broker::read::bounds;
use crate::broker::scan::Step;
use crate::broker::{Broker, Error, StoredBatch};
use crate::router::LocalPartition;

/// So many records are read in vain rather than to begin anew behind them.
const GAP_MAX: i64 = 64;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By offset: the base offset of the batch that holds it, and that batch with its place in its header.
    pub(super) batches: BTreeMap<i64, (i64, Bytes)>,
    /// What is not in the log any more.
    pub(super) missing: Vec<i64>,
    /// Offsets from here on were not read: there was no room.
    pub(super) upto: i64,
}

struct Reading<'a> {
    wanted: &'a [i64],
    /// How many of the wanted were looked at.
    at: usize,
    bytes: usize,
    bytes_max: usize,
    found: Found,
}

impl Reading<'_> {
    fn take(&mut self, batch: &StoredBatch) -> Step {
        while self.wanted.get(self.at).is_some_and(|offset| *offset < batch.base_offset) {
            self.miss();
        }
        let Some(next) = self.wanted.get(self.at).copied() else { return Step::Stop };
        if next >= batch.next_offset {
            return if next - batch.next_offset > GAP_MAX { Step::Stop } else { Step::Next };
        }
        if self.bytes > 0 && self.bytes + batch.bytes.len() > self.bytes_max {
            self.bytes = self.bytes_max;
            return Step::Stop;
        }
        self.bytes += batch.bytes.len();
        let placed = placed(batch);
        while let Some(offset) = self.wanted.get(self.at).filter(|offset| **offset < batch.next_offset) {
            self.found.batches.insert(*offset, (batch.base_offset, placed.clone()));
            self.at += 1;
        }
        if self.is_full() { Step::StopAfter } else { Step::Next }
    }

    fn miss(&mut self) {
        self.found.missing.extend(self.wanted.get(self.at));
        self.at += 1;
    }

    fn is_full(&self) -> bool {
        self.at >= self.wanted.len() || (self.bytes > 0 && self.bytes >= self.bytes_max)
    }
}

impl Broker {
    /// The batches that hold these offsets, which ascend; about `bytes_max` of them, and one at least.
    ///
    /// # Errors
    /// The log cannot be read, or not now.
    pub(super) async fn records(
        &self,
        local: &LocalPartition,
        wanted: &[i64],
        bytes_max: usize,
    ) -> Result<Found, Error> {
        let mut reading = Reading { wanted, at: 0, bytes: 0, bytes_max, found: Found::default() };
        while !reading.is_full() {
            let bounds = bounds(local)?;
            let from = wanted[reading.at];
            if from < bounds.log_start {
                reading.miss();
                continue;
            }
            if from >= bounds.high_watermark {
                return Err(Error::OffsetNotAvailable);
            }
            let before = reading.at;
            let resume = self.scan(local, from, bounds.applied, bytes_max, |batch| reading.take(&batch)).await?;
            if let Some(place) = resume {
                local.remember(place.offset, place.index);
            }
            if reading.at == before && !reading.is_full() {
                // Nothing from here to the next that there is: compacted.
                reading.miss();
            }
        }
        reading.found.upto = wanted.get(reading.at).copied().unwrap_or(i64::MAX);
        Ok(reading.found)
    }
}

/// The batch as clients get it: base offset and leader epoch lie outside the checksum.
fn placed(batch: &StoredBatch) -> Bytes {
    let mut bytes = BytesMut::from(&batch.bytes[..]);
    if bytes.len() >= 16 {
        bytes[..8].copy_from_slice(&batch.base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&batch.leader_epoch.to_be_bytes());
    }
    bytes.freeze()
}
