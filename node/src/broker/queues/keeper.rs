//! Keeps a leader's loop for each queue that has a replica here, ends what is of queues that are no more, and runs what belongs to
//! queues for as long as the node lives: when this ends, all of it does.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::GroupId;
use model::command::{Payload, Tag};
use model::controller::topology::Queue;
use model::cursor::{Batch, CursorCommand};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::leader::{CURSOR, Handle, Leader};
use super::rules::Policies;
use crate::broker::Broker;
use crate::router::LocalPartition;

/// Changes that come within so long are looked at together.
const GATHER: Duration = Duration::from_millis(5);
/// How often all is looked at without a change.
const LOOK: Duration = Duration::from_secs(2);
/// With thousands of queues a look takes long: so many times as long nobody looks again, after a change and without, but never longer
/// than this.
const GATHER_REST: u32 = 20;
const GATHER_MAX: Duration = Duration::from_millis(500);
const LOOK_REST: u32 = 500;
const LOOK_MAX: Duration = Duration::from_secs(10);

/// A queue that the image does not have for so long is no more: the image is not older than that.
pub(super) const STRAY: Duration = Duration::from_secs(10);

/// What the keeper keeps.
#[derive(Default)]
struct Kept {
    tasks: JoinSet<()>,
    leaders: BTreeMap<GroupId, (Arc<Handle>, AbortHandle)>,
    /// Open cursors of topics that have no queue, and since when.
    stray: BTreeMap<GroupId, Instant>,
}

impl Broker {
    /// See the file header. For ever.
    pub async fn keep_queues(&self) {
        let begun = self.0.queues.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut begun) = begun else { return };
        let (mut image, mut locals) = (self.image_watch(), self.0.router.changes());
        let mut kept = Kept::default();
        let (mut look_at, mut rested_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                Some(work) = begun.recv() => drop(kept.tasks.spawn(work)),
                Some(ended) = kept.tasks.join_next() => note(ended),
                changed = image.changed() => match changed {
                    Ok(()) => look_at = look_at.min(rested_at.max(Instant::now() + GATHER)),
                    Err(_) => return,
                },
                changed = locals.changed() => match changed {
                    Ok(()) => look_at = look_at.min(rested_at.max(Instant::now() + GATHER)),
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(look_at) => {
                    let began = Instant::now();
                    self.match_queues(&mut kept);
                    let (now, took) = (Instant::now(), began.elapsed());
                    rested_at = now + (took * GATHER_REST).min(GATHER_MAX);
                    look_at = now + (took * LOOK_REST).clamp(LOOK, LOOK_MAX);
                }
            }
        }
    }

    /// Starts what is missing and ends what is too much.
    fn match_queues(&self, kept: &mut Kept) {
        let image = self.image();
        let mut wanted: BTreeMap<GroupId, (Arc<Queue>, Arc<LocalPartition>)> = BTreeMap::new();
        for local in self.0.router.locals().into_iter().filter(|local| local.desk().is_none()) {
            match image.queue_of_topic(local.placement().id) {
                Some(queue) => drop(wanted.insert(local.group(), (queue.clone(), local))),
                None => self.close_cursor(&local, &mut kept.stray),
            }
        }
        let is_kept = |handle: &Handle| {
            let known = wanted.get(&handle.local.group());
            known.is_some_and(|(queue, local)| *queue == handle.queue && Arc::ptr_eq(local, &handle.local))
        };
        kept.leaders.retain(|_, (handle, task)| {
            let stays = is_kept(handle) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        let policies = Policies::of(&image);
        for (group, (queue, local)) in wanted {
            let rules = policies.rules(&queue).arguments;
            if let Some((handle, _)) = kept.leaders.get(&group) {
                handle.follow(rules);
            } else {
                let (handle, visits) = Handle::new(queue, rules, local);
                let task = kept.tasks.spawn(Leader::new(self.clone(), handle.clone()).run(visits));
                kept.leaders.insert(group, (handle, task));
            }
        }
        kept.leaders.values().for_each(|(handle, _)| handle.measure());
        *self.0.queues.leaders() = kept.leaders.iter().map(|(group, (handle, _))| (*group, handle.clone())).collect();
        self.end_links();
    }

    /// Links to queues that are no more end.
    fn end_links(&self) {
        let mut links = self.0.queues.links();
        let over: Vec<GroupId> =
            links.iter().filter(|(_, link)| self.is_over(link.queue())).map(|(group, _)| *group).collect();
        let over: Vec<_> = over.into_iter().filter_map(|group| links.remove(&group)).collect();
        drop(links);
        over.iter().for_each(|link| link.end("the queue was deleted"));
    }

    /// A topic that outlives its queue remembers nothing of it: else it would keep its records for nobody.
    fn close_cursor(&self, local: &Arc<LocalPartition>, stray: &mut BTreeMap<GroupId, Instant>) {
        let open = local.raft().partition(|machine| machine.cursor(CURSOR).is_some()) == Some(true);
        if !open || !local.raft().knows_end() {
            stray.remove(&local.group());
            return;
        }
        // An image that is older than the queue does not know it yet.
        if stray.entry(local.group()).or_insert_with(Instant::now).elapsed() < STRAY {
            return;
        }
        let close = Batch(vec![CursorCommand::Close { cursor: CURSOR }]);
        let payload = Payload::command(Tag::CursorBatch, self.clock().wall_ms(), storage::codec::encode(&close));
        let raft = local.raft().clone();
        self.0.queues.work(Box::pin(async move {
            if raft.rouse().await.is_ok() {
                let _told_again = raft.propose(vec![payload]).await;
            }
        }));
    }

    /// Deletes a queue that is to end by its own rules.
    pub(super) fn end_queue(&self, queue: Arc<Queue>) {
        let broker = self.clone();
        self.0.queues.work(Box::pin(async move {
            while !broker.is_over(&queue) {
                match broker.delete_this_queue(&queue).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(queue = queue.name, ?error, "a queue that is over is not deleted yet")
                    }
                }
                sleep(LOOK).await;
            }
        }));
    }
}

/// A task ended; if it was a leader's loop that failed, the next look starts it anew.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of a queue failed");
    }
}
