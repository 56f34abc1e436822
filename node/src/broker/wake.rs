//! Waiting for news of partitions without polling: a higher high watermark, another leader, the end of a replica.
//! Invariant: what changed after the waiter was made is never missed.
use futures::future::select_all;
use tokio::sync::watch;

use super::{Broker, PartitionRef};

/// See [`Broker::wake`].
pub struct Wake {
    news: Vec<watch::Receiver<u64>>,
}

impl Broker {
    /// A waiter on these partitions. Make it before reading: changes since its making count. Partitions that have no
    /// replica here are waited for in vain.
    pub fn wake(&self, partitions: &[PartitionRef]) -> Wake {
        let local = |partition: &PartitionRef| self.0.router.local(self.group(*partition).ok()?);
        Wake { news: partitions.iter().filter_map(local).map(|local| local.news()).collect() }
    }
}

impl Wake {
    /// Ends when the high watermark or the leadership of one of the partitions changed since the making of this waiter
    /// or the last return. Cancel safe.
    pub async fn changed(&mut self) {
        if self.news.is_empty() {
            return std::future::pending().await;
        }
        let gone = {
            let (outcome, place, _rest) = select_all(self.news.iter_mut().map(|news| Box::pin(news.changed()))).await;
            outcome.is_err().then_some(place)
        };
        if let Some(place) = gone {
            // The replica is gone: told once.
            self.news.swap_remove(place);
        }
    }
}
