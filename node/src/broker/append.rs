//! Append: from a caller's batches to the inbox of the partition's actor, and the outcome back.
//! Invariant: the job is queued before `append` returns, so a caller's appends keep their order.
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::record::BatchFacts;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::trace::Operation;
use super::{AppendRequest, Appended, Broker, Error, Leader, PartitionRef};
use crate::router::{AppendJob, Committed, LocalPartition, Refused};

type Outcome = oneshot::Receiver<Result<Committed, Refused>>;

impl Broker {
    /// Appends batches; they are enqueued by this call, in call order, and the future only waits for the commit.
    /// Dropping the future takes nothing back.
    pub fn append(&self, request: AppendRequest) -> BoxFuture<'static, Result<Appended, Error>> {
        let (partition, timeout, broker) = (request.partition, request.timeout, self.clone());
        let bytes: usize = request.batches.iter().map(Bytes::len).sum();
        let records: u64 = request.batches.iter().map(records_in).sum();
        let traced = self.traced_batch(partition, request.batches.first());
        let queued = self.enqueue(request, bytes);
        // From now, not from when somebody first waits.
        let deadline = Instant::now() + timeout;
        Box::pin(async move {
            let (outcome, local) = queued?;
            let appended = match timeout_at(deadline, outcome).await {
                Ok(Ok(Ok(committed))) => {
                    local.traffic().produced_bytes.inc_by(bytes as u64);
                    local.traffic().produced_records.inc_by(records);
                    Ok(appended(&local, committed))
                }
                Ok(Ok(Err(refused))) => Err(broker.refusal(partition, refused)),
                Ok(Err(_dropped)) => Err(Error::Unavailable("the partition failed and starts again".to_owned())),
                Err(_elapsed) => Err(Error::Timeout),
            };
            if let Some(traced) = traced {
                let offset = appended.as_ref().ok().map(|appended| appended.base_offset);
                let result = appended.as_ref().err().map_or("ok".to_owned(), ToString::to_string);
                traced.log(Operation { op: "produce", offset, result: &result });
            }
            appended
        })
    }

    fn enqueue(&self, request: AppendRequest, bytes: usize) -> Result<(Outcome, Arc<LocalPartition>), Error> {
        let local = self.led(request.partition, None)?;
        if self.is_disk_full() {
            return Err(Error::Unavailable("the disk of the leader is full".to_owned()));
        }
        if request.batches.is_empty() || local.desk().is_some() {
            return Err(Error::Rejected(model::machine::AppendError::InvalidRecord));
        }
        let image = self.image();
        let topic = image.topic_by_id(request.partition.topic).ok_or(Error::UnknownPartition)?;
        let stamp = image.is_log_append_time(topic, Some(self.node_id()));
        let admission = self.0.budget.admit(bytes).ok_or(Error::Busy)?;
        let queued = self.0.budget.admitted_bytes();
        self.0.metrics.storage.append_bytes_queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        let (reply, outcome) = oneshot::channel();
        local.inbox().push(AppendJob { batches: request.batches, note: None, stamp, bytes, admission, reply });
        Ok((outcome, local))
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

fn records_in(batch: &Bytes) -> u64 {
    BatchFacts::read(batch).map_or(0, |facts| u64::try_from(facts.record_count).unwrap_or(0))
}

fn appended(local: &LocalPartition, committed: Committed) -> Appended {
    let log_start = local.raft().partition(|machine| machine.log_start()).unwrap_or(-1);
    let Committed { base_offset, stamped_ms: log_append_time_ms } = committed;
    Appended { base_offset, log_append_time_ms, log_start }
}
