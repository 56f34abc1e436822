//! Compact: frees the logs of compacted topics that this node leads from records that a newer one of the same key replaced, and those
//! of other topics from what only old messages hold that a cursor still needs. One pass at a time, the dirtiest log first, at a bounded rate. A pass may end anywhere: what it has moved stays readable.
//! Never moves more bytes than it frees, unless `max.compaction.lag.ms` says that it must.
mod keys;
mod pass;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::GroupId;
use model::compaction::{Rules, Work};
use model::controller::{Image, Topic};
use tokio::time::sleep;

use self::pass::{Outcome, Pass, Task};
use super::Broker;
use crate::router::LocalPartition;

/// A log that was not worth a pass is looked into again when it has grown by this part.
const GROWTH_PART: u64 = 8;

/// A log to look into.
struct Job {
    local: Arc<LocalPartition>,
    task: Task,
    work: Work,
    /// Bytes of appends ever.
    log_bytes: u64,
}

impl Broker {
    /// Compacts what is worth it, for ever.
    pub async fn compact(self) {
        // Logs that were looked into in vain, by the size at which they may be worth it.
        let mut later: BTreeMap<GroupId, u64> = BTreeMap::new();
        loop {
            sleep(self.0.config.storage.retention_check).await;
            let mut jobs: Vec<Job> = self.0.router.locals().into_iter().filter_map(|local| self.job(local)).collect();
            let metrics = &self.0.metrics.compaction;
            let compacted = jobs.iter().filter(|job| matches!(job.task, Task::Newest(_)));
            metrics.show(compacted.map(|job| (job.work.dirty_bytes, job.work.dirty_ratio())));
            later.retain(|group, _| jobs.iter().any(|job| job.local.group() == *group));
            jobs.retain(|job| {
                let worth = later.get(&job.local.group()).is_none_or(|bytes| job.log_bytes >= *bytes);
                job.task.is_due(&job.work) && (worth || job.work.overdue)
            });
            jobs.sort_by(|a, b| b.work.dirty_ratio().total_cmp(&a.work.dirty_ratio()));
            for job in jobs {
                let (group, next) = (job.local.group(), job.log_bytes + job.work.bytes() / GROWTH_PART);
                match self.pass(job).await {
                    Outcome::NotWorth => drop(later.insert(group, next)),
                    _ => drop(later.remove(&group)),
                }
            }
        }
    }

    /// What is to do for a partition that this node leads, if its topic is compacted, or a cursor holds back what would be deleted.
    fn job(&self, local: Arc<LocalPartition>) -> Option<Job> {
        let (raft, now_ms) = (local.raft(), self.0.clock.wall_ms());
        if !raft.knows_end() || !local.role().leads {
            return None;
        }
        let (task, work) = match self.compaction_of(&local) {
            Some(rules) => (Task::Newest(rules), raft.compactable(&rules, now_ms)?),
            None => {
                let rules = self.of_topic(&local, |image, topic| image.retention(topic, Some(self.node_id())))?;
                (Task::Needed, raft.held_back(&rules, now_ms)?)
            }
        };
        let log_bytes = raft.partition(|machine| machine.state().log_bytes)?;
        Some(Job { local, task, work, log_bytes })
    }

    /// How the topic of a partition is compacted, if it is.
    fn compaction_of(&self, local: &LocalPartition) -> Option<Rules> {
        self.of_topic(local, |image, topic| image.compaction(topic, Some(self.node_id()))).flatten()
    }

    fn of_topic<R>(&self, local: &LocalPartition, read: impl FnOnce(&Image, &Topic) -> R) -> Option<R> {
        let (image, placement) = (self.image(), local.placement());
        let topic = image.topic(&placement.topic).filter(|topic| topic.id == placement.id)?;
        Some(read(&image, topic))
    }

    async fn pass(&self, job: Job) -> Outcome {
        let Job { local, task, work, .. } = job;
        let (group, metrics) = (local.group(), &self.0.metrics.compaction);
        tracing::debug!(group = group.0, end = work.end, dirty = work.dirty_bytes, "a compaction begins");
        let outcome = Pass::new(self, &local, task, work).run().await;
        match &outcome {
            Outcome::Finished { moved, read } => {
                metrics.finished(*moved, read.saturating_sub(*moved), self.0.clock.wall_ms());
                tracing::info!(group = group.0, end = work.end, moved, read, "compacted");
            }
            Outcome::Abandoned(why) => {
                metrics.abandoned.inc();
                tracing::info!(group = group.0, why, "a compaction was abandoned");
            }
            Outcome::NotWorth => {
                metrics.not_worth.inc();
                tracing::debug!(group = group.0, "a compaction would move more than it frees");
            }
        }
        outcome
    }
}
