//! What the channels of one connection share: who it is, where they write, and the queues that end with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::TopicId;
use model::controller::topology::{Owner, Queue};
use tokio::time::timeout;

use super::Shared;
use super::outbox::Outbox;
use crate::broker::Broker;

/// How long the client waits for its exclusive queues to be gone; then they go behind its back.
const QUEUES_GONE: Duration = Duration::from_secs(5);

/// One connection.
pub struct Session {
    pub shared: Arc<Shared>,
    pub outbox: Arc<Outbox>,
    /// Whose login it was.
    pub user: String,
    pub vhost: String,
    /// The client wants to hear that a consumer was cancelled by us.
    pub cancels_notified: bool,
    /// What its exclusive queues are marked with.
    pub owner: Owner,
    exclusive: Mutex<BTreeMap<TopicId, Arc<Queue>>>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, user: String, vhost: String, cancels_notified: bool) -> Self {
        let owner = shared.broker.owner(shared.next_connection());
        Self { shared, outbox, user, vhost, cancels_notified, owner, exclusive: Mutex::default() }
    }

    pub fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    fn exclusive(&self) -> MutexGuard<'_, BTreeMap<TopicId, Arc<Queue>>> {
        self.exclusive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This queue ends with the connection.
    pub fn own(&self, queue: &Arc<Queue>) {
        self.exclusive().insert(queue.topic, queue.clone());
    }

    /// Deletes the exclusive queues; those that cannot be deleted now are left to who cleans up.
    pub async fn end(&self) {
        let queues = std::mem::take(&mut *self.exclusive());
        for queue in queues.into_values() {
            let deleted = timeout(QUEUES_GONE, self.broker().delete_this_queue(&queue)).await;
            if !matches!(deleted, Ok(Ok(()))) {
                self.shared.left_over.send(queue).ok();
            }
        }
    }
}
