//! Deliveries that wait for the client's word, by delivery tag, and what it says: basic.ack, nack, reject, recover.
//! Invariant: a tag is settled once; a tag that is not open is refused with 406.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::cursor::ackset::{Reason, Verdict};
use wire::amqp::method::basic;

use super::{Channel, Mode};
use crate::amqp::failure::{Result, failure};
use crate::broker::queues::Subscription;
use crate::broker::trace::{Operation, Traced};

/// Given back, not by a consumer's failure.
pub(super) const GIVEN_BACK: Verdict = Verdict::Release { counted: false, delay_ms: None };
/// A consumer could not do it: to be tried again.
const FAILED: Verdict = Verdict::Release { counted: true, delay_ms: None };
/// A consumer does not want it.
const REJECTED: Verdict = Verdict::Reject(Reason::Rejected);

/// A delivery.
pub(super) struct Held {
    pub subscription: Arc<Subscription>,
    pub offset: i64,
    /// Since it was delivered, if it is traced.
    pub traced: Option<Box<Traced>>,
}

impl Held {
    pub(super) fn settle(&self, verdict: Verdict) {
        self.subscription.settle(self.offset, verdict);
        if let Some(traced) = &self.traced {
            let result = match verdict {
                Verdict::Accept => "accepted",
                Verdict::Release { counted: true, .. } => "failed",
                Verdict::Release { counted: false, .. } => "given back",
                Verdict::Reject(_) | Verdict::Expire => "rejected",
            };
            traced.log(Operation { op: "settle", offset: Some(self.offset), result });
        }
    }
}

/// Those of one channel. At most what its consumers have credit for.
#[derive(Default)]
pub(super) struct Unacked {
    held: BTreeMap<u64, Held>,
    last_tag: u64,
    /// How many there may be, all consumers of the channel together; 0: no limit.
    pub prefetch: u16,
}

impl Unacked {
    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    pub(super) fn hold(&mut self, tag: u64, held: Held) {
        self.held.insert(tag, held);
    }

    pub(super) fn put_back(&mut self, held: Vec<(u64, Held)>) {
        self.held.extend(held);
    }

    /// Whether another may be delivered.
    pub(super) fn has_room(&self) -> bool {
        self.prefetch == 0 || self.held.len() < self.prefetch.into()
    }

    /// Takes the delivery of this tag, or all up to it; 0 is all there are.
    fn take(&mut self, tag: u64, multiple: bool) -> Result<Vec<(u64, Held)>> {
        let unknown = || failure!(PreconditionFailed, "unknown delivery tag {tag}");
        if !multiple {
            return self.held.remove(&tag).map(|held| vec![(tag, held)]).ok_or_else(unknown);
        }
        if tag == 0 {
            return Ok(std::mem::take(&mut self.held).into_iter().collect());
        }
        if tag > self.last_tag || self.held.first_key_value().is_none_or(|(first, _)| *first > tag) {
            return Err(unknown());
        }
        let later = self.held.split_off(&(tag + 1));
        Ok(std::mem::replace(&mut self.held, later).into_iter().collect())
    }
}

impl Channel {
    pub(super) fn acknowledge(&mut self, ack: &basic::Ack) -> Result<()> {
        self.settle(ack.delivery_tag, ack.multiple, Verdict::Accept)
    }

    pub(super) fn nack(&mut self, nack: &basic::Nack) -> Result<()> {
        self.settle(nack.delivery_tag, nack.multiple, if nack.requeue { FAILED } else { REJECTED })
    }

    pub(super) fn reject(&mut self, reject: &basic::Reject) -> Result<()> {
        self.settle(reject.delivery_tag, false, if reject.requeue { FAILED } else { REJECTED })
    }

    fn settle(&mut self, tag: u64, multiple: bool, verdict: Verdict) -> Result<()> {
        let taken = self.unacked.take(tag, multiple)?;
        match &mut self.mode {
            Mode::Transacting(transaction) => transaction.settle(taken, verdict),
            Mode::Plain | Mode::Confirming => taken.iter().for_each(|(_, held)| held.settle(verdict)),
        }
        Ok(())
    }

    /// All deliveries that wait go back to their queues.
    pub(super) fn recover(&mut self, requeue: bool) -> Result<()> {
        if !requeue {
            return Err(failure!(NotImplemented, "requeue=false"));
        }
        let taken = self.unacked.take(0, true)?;
        taken.iter().for_each(|(_, held)| held.settle(GIVEN_BACK));
        Ok(())
    }
}
