//! How queues stand, as their leaders know it: gathered from all nodes, never guessed.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::GroupId;
use model::controller::topology::Queue;
use tokio::time::timeout;

use super::leader::Now;
use super::types::QueueStanding;
use crate::broker::Broker;
use crate::peer::questions::{Answered, Question};

/// How long a node may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

impl Broker {
    /// All queues of the cluster whose leader answers.
    pub async fn queue_standings(&self) -> BTreeMap<GroupId, QueueStanding> {
        let answers = self.ask_all(Question::Queues(None), DEADLINE).await;
        answers.into_iter().flat_map(standings).collect()
    }

    /// One queue, if its leader answers.
    pub async fn queue_standing(&self, queue: &Queue) -> Option<QueueStanding> {
        let group = queue.partition_group;
        let leader = self.leader(group).node?;
        let answer = timeout(DEADLINE, self.ask(leader, Question::Queues(Some(group)))).await;
        standings(answer.ok()?.ok()?).pop().map(|(_, standing)| standing)
    }

    /// The queues that are led here: all, or that of one group.
    pub fn queues_led_here(&self, of: Option<GroupId>) -> Vec<(Arc<Queue>, QueueStanding)> {
        let leaders = self.0.queues.leaders();
        let wanted = leaders.iter().filter(|(group, _)| of.is_none_or(|of| of == **group));
        let handles: Vec<_> = wanted.map(|(_, handle)| handle.clone()).collect();
        drop(leaders);
        let now = self.queue_now();
        handles.into_iter().filter_map(|handle| Some((handle.queue.clone(), handle.standing(now)?))).collect()
    }

    /// The time for the leaders of queues.
    pub(super) fn queue_now(&self) -> Now {
        let steady = i64::try_from(self.clock().monotonic().as_millis()).unwrap_or(i64::MAX);
        Now { wall: self.clock().wall_ms(), steady }
    }
}

fn standings(answer: Answered) -> Vec<(GroupId, QueueStanding)> {
    match answer {
        Answered::Queues(standings) => standings,
        _ => Vec::new(),
    }
}
