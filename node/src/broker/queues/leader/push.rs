//! Messages on their way from a queue's leader to the gateway of their consumers: read from the log, then sent until they arrive.
//! Invariant: a push that may have arrived is sent again as it was, under its number, which the gateway takes once.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use tokio::time::sleep;

use super::Handle;
use super::soft::{Outgoing, Push};
use crate::broker::Broker;
use crate::peer::queues::{Attachment, Heard, Item, Told};

/// Bytes of one push, unless one message has more.
const PUSH_BYTES: usize = 1 << 20;
/// A gateway whose attachment is over begins another meanwhile.
const ATTENDS: Duration = Duration::from_millis(500);
/// After a failure.
const AGAIN: Duration = Duration::from_millis(50);

/// A push that is ready to be sent.
pub(super) struct Sent {
    to: NodeId,
    told: Told,
    parts: Vec<Bytes>,
    missing: Vec<i64>,
    left: Vec<Outgoing>,
}

/// How a push ended.
pub(super) struct Pushed {
    pub(super) to: NodeId,
    pub(super) attachment: Attachment,
    /// What is not in the log any more.
    pub(super) missing: Vec<i64>,
    /// What there was no room for.
    pub(super) left: Vec<Outgoing>,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// The gateway has it.
    Taken,
    /// The gateway does not know the attachment.
    Stale,
    /// It may have arrived or not.
    Lost(Sent),
}

/// As the gateway gets it.
pub(super) fn item(outgoing: &Outgoing, part: u32) -> Item {
    let Outgoing { consumer, offset, failures, redelivered } = *outgoing;
    Item { consumer, offset, failures, redelivered, part }
}

/// Reads what is to be pushed, and sends it.
pub(super) async fn run(broker: Broker, handle: Arc<Handle>, push: Push) -> Pushed {
    let Push { to, attachment, number, items } = push;
    let mut offsets: Vec<i64> = items.iter().map(|item| item.offset).collect();
    offsets.sort_unstable();
    let found = match broker.records(&handle.local, &offsets, PUSH_BYTES).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(group = handle.local.group().0, %error, "messages cannot be read now");
            sleep(AGAIN).await;
            return Pushed { to, attachment, missing: Vec::new(), left: items, outcome: Outcome::Taken };
        }
    };
    let (mut parts, mut places) = (Vec::new(), BTreeMap::new());
    let (mut sent, mut left) = (Vec::new(), Vec::new());
    for outgoing in items {
        if let Some((base, batch)) = found.batches.get(&outgoing.offset) {
            let part = *places.entry(*base).or_insert_with(|| {
                parts.push(batch.clone());
                parts.len() as u32 - 1
            });
            sent.push(item(&outgoing, part));
        } else if outgoing.offset >= found.upto {
            left.push(outgoing);
        }
    }
    let missing = found.missing;
    let told = Told::Deliver { attachment, push: number, items: sent };
    again(broker, handle, Sent { to, told, parts, missing, left }).await
}

/// Whether nobody consumes there any more. Else it attends anew within moments, with what its consumers have settled, and others may not
/// get that: what it holds stays with it until it does, or dies.
async fn is_deserted(broker: &Broker, gateway: NodeId, handle: &Handle) -> bool {
    let nobody = broker.tell_queue(gateway, handle.local.group(), Told::Call, Vec::new()).await;
    matches!(nobody, Ok((Heard::Done, _)))
}

/// Sends what is read.
pub(super) async fn again(broker: Broker, handle: Arc<Handle>, sent: Sent) -> Pushed {
    let Told::Deliver { attachment, .. } = sent.told else { unreachable!("a push delivers") };
    let to = sent.to;
    let answer = broker.tell_queue(to, handle.local.group(), sent.told.clone(), sent.parts.clone()).await;
    let outcome = match answer {
        Ok((Heard::Done, _)) => Outcome::Taken,
        Ok(_) if is_deserted(&broker, to, &handle).await => Outcome::Stale,
        answer => {
            sleep(if answer.is_ok() { ATTENDS } else { AGAIN }).await;
            let outcome = Outcome::Lost(sent);
            return Pushed { to, attachment, missing: Vec::new(), left: Vec::new(), outcome };
        }
    };
    Pushed { to, attachment, missing: sent.missing, left: sent.left, outcome }
}
