//! What operators do to queues: forget what is ready, go on from elsewhere. Each tells how the queue stood before and stands after.
use std::sync::Arc;

use model::controller::topology::Queue;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::leader::{Handle, Visit};
use super::types::{ConsumeError, QueueCounts};
use crate::broker::Broker;
use crate::peer::queues::{Heard, SeekTo, Told};

/// What a change did to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueChange {
    /// How it stood.
    pub before: QueueCounts,
    /// How it stands.
    pub after: QueueCounts,
    /// Messages that are what they were not: forgotten, or ready again.
    pub changed: u64,
}

impl Broker {
    /// Forgets what is ready, and tells what that was.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn purge_and_tell(&self, queue: &Arc<Queue>) -> Result<QueueChange, ConsumeError> {
        let before = self.counts(queue).await?;
        let changed = self.purge(queue).await?;
        Ok(QueueChange { before, after: self.counts(queue).await?, changed })
    }

    /// Goes on from elsewhere: what lies before is settled, what lies behind is to be had again.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn seek(&self, queue: &Arc<Queue>, to: SeekTo) -> Result<QueueChange, ConsumeError> {
        let before = self.counts(queue).await?;
        match self.ask_queue(queue, Told::Seek(to)).await?.0 {
            Heard::Sought(changed) => Ok(QueueChange { before, after: self.counts(queue).await?, changed }),
            other => Err(ConsumeError::unexpected(&other)),
        }
    }

    /// Finds the offset on the leader, and lets its loop go there.
    pub(super) async fn seek_here(&self, handle: &Handle, to: SeekTo) -> Heard {
        let ends = handle.local.raft().partition(|machine| (machine.log_start(), machine.high_watermark()));
        let Some((start, end)) = ends else { return Heard::NotHere };
        let to = match to {
            SeekTo::Start => start,
            SeekTo::End => end,
            SeekTo::Offset(offset) => offset.clamp(start, end),
            SeekTo::TimeMs(time) => match self.first_from(&handle.local, time).await {
                Ok(found) if found.offset >= 0 => found.offset,
                Ok(_) => end,
                Err(_) => return Heard::NotHere,
            },
        };
        handle.visit(|told| Visit::Seek { to, told }).await
    }
}
