//! Append: from a caller's batches to the inbox of the partition's actor, and the outcome back.
//! Invariant: the job is queued before `append` returns, so a caller's appends keep their order.
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::{AppendRequest, Appended, Broker, Error, Leader, PartitionRef};
use crate::router::{AppendJob, Committed, Refused};

type Outcome = oneshot::Receiver<Result<Committed, Refused>>;

impl Broker {
    /// Appends batches; they are enqueued by this call, in call order, and the future only waits for the commit.
    /// Dropping the future takes nothing back.
    pub fn append(&self, request: AppendRequest) -> BoxFuture<'static, Result<Appended, Error>> {
        let (partition, timeout, broker) = (request.partition, request.timeout, self.clone());
        let queued = self.enqueue(request);
        Box::pin(async move {
            let outcome = queued?;
            match tokio::time::timeout(timeout, outcome).await {
                Ok(Ok(Ok(committed))) => broker.appended(partition, committed),
                Ok(Ok(Err(refused))) => Err(broker.refusal(partition, refused)),
                Ok(Err(_dropped)) => Err(Error::Unavailable("the partition failed and starts again".to_owned())),
                Err(_elapsed) => Err(Error::Timeout),
            }
        })
    }

    fn enqueue(&self, request: AppendRequest) -> Result<Outcome, Error> {
        let local = self.led(request.partition, None)?;
        if self.is_disk_full() {
            return Err(Error::Unavailable("the disk of the leader is full".to_owned()));
        }
        if request.batches.is_empty() {
            return Err(Error::Rejected(model::machine::AppendError::InvalidRecord));
        }
        let image = self.image();
        let topic = image.topic_by_id(request.partition.topic).ok_or(Error::UnknownPartition)?;
        let stamp = image.is_log_append_time(topic, Some(self.node_id()));
        let bytes = request.batches.iter().map(bytes::Bytes::len).sum();
        let admission = self.0.budget.admit(bytes).ok_or(Error::Busy)?;
        let queued = self.0.budget.admitted_bytes();
        self.0.metrics.storage.append_bytes_queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let (reply, outcome) = oneshot::channel();
        local.inbox().push(AppendJob { batches: request.batches, stamp, bytes, admission, reply });
        Ok(outcome)
    }

    fn appended(&self, partition: PartitionRef, committed: Committed) -> Result<Appended, Error> {
        let local = self.0.router.local(self.group(partition)?);
        let log_start = local.and_then(|local| local.raft().partition(|machine| machine.log_start()));
        Ok(Appended {
            base_offset: committed.base_offset,
            log_append_time_ms: committed.stamped_ms,
            log_start: log_start.unwrap_or(-1),
        })
    }

    pub(super) fn refusal(&self, partition: PartitionRef, refused: Refused) -> Error {
        let leader = |hint| {
            let known = self.group(partition).map(|group| self.leader(group)).unwrap_or_default();
            // The hint comes from the raft itself; the heartbeats may know better by now.
            Leader { node: known.node.or(hint), ..known }
        };
        match refused {
            Refused::NotLeader(hint) | Refused::Unknown(hint) => Error::NotLeader { leader: leader(hint) },
            Refused::Rejected(error) => Error::Rejected(error),
            Refused::Busy => Error::Busy,
            Refused::Stopped(why) => Error::Unavailable(why),
        }
    }
}
