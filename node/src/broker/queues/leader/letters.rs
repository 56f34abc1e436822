//! Dead letters of a queue on their way: decides once where each goes, then sends it until its target has it.
//! The replicated outbox remembers both; targets take every number once. A round is one look at the outbox: what it finds out becomes
//! commands. Bounded: `ROUND_MAX` messages of each kind in a round.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::cursor::ackset::{Command, Place, Reason, Sending};
use model::exchange::Routed;
use model::planted::{self, Bug};
use wire::amqp::{Table, Value};

use super::{CURSOR, Handle, STRAY};
use crate::broker::Broker;
use crate::broker::queues::message::{Content, Death};
use crate::broker::queues::said::Said;
use crate::peer::queues::{DeadLetter, Heard, Saying, Told};

/// Messages of one round that are decided about, and letters that are sent to one target.
const ROUND_MAX: usize = 256;
/// Bytes of letters in one go.
const ROUND_BYTES: usize = 4 << 20;

/// What a round found out.
#[derive(Default)]
pub(super) struct Round {
    pub(super) commands: Vec<Command>,
    /// Something has to be tried again.
    pub(super) failed: bool,
}

/// Waits for the round that is under way.
pub(super) async fn ended(round: &mut Option<BoxFuture<'static, Round>>) -> Round {
    match round {
        Some(round) => round.await,
        None => std::future::pending().await,
    }
}

/// Looks at the outbox once.
pub(super) async fn round(broker: Broker, handle: Arc<Handle>) -> Round {
    let mut round = Round::default();
    let unresolved = handle.cursor(|cursor| cursor.unresolved().take(ROUND_MAX).collect()).unwrap_or_default();
    broker.resolve(&handle, unresolved, &mut round).await;
    let targets: Vec<Place> = handle.cursor(|cursor| cursor.targets().collect()).unwrap_or_default();
    for target in targets {
        if broker.is_gone(&handle, target) {
            round.commands.push(Command::ForgetTarget(target));
            continue;
        }
        let sendings = |cursor: &model::cursor::ackset::AckSet| cursor.sendings(target).take(ROUND_MAX).collect();
        let sendings: Vec<Sending> = handle.cursor(sendings).unwrap_or_default();
        if !sendings.is_empty() {
            broker.send_letters(&handle, target, &sendings, &mut round).await;
        }
    }
    round
}

impl Broker {
    /// Decides where these dead messages go.
    async fn resolve(&self, handle: &Handle, offsets: Vec<i64>, round: &mut Round) {
        let Ok(found) = self.records(&handle.local, &offsets, ROUND_BYTES).await else {
            round.failed = true;
            return;
        };
        for offset in offsets.into_iter().filter(|offset| *offset < found.upto) {
            let content = found.batches.get(&offset);
            let content = content.and_then(|(_, batch)| Content::from_batch(batch, offset, &handle.queue.name));
            let targets = content.map(|content| self.targets(handle, offset, &content)).unwrap_or_default();
            round.commands.push(Command::Resolve { offset, targets });
        }
    }

    /// Where a dead message of `queue` goes: nowhere if its exchange is gone, and not in a circle.
    fn targets(&self, handle: &Handle, offset: i64, content: &Content) -> Vec<Place> {
        let (queue, reason) = (&handle.queue, reason(handle, offset));
        let arguments = handle.rules();
        let Some(exchange) = &arguments.dead_letter_exchange else { return Vec::new() };
        let own = || content.routing_keys().iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        let keys: Vec<String> = arguments.dead_letter_routing_key.clone().map_or_else(own, |key| vec![key]);
        let said = Said(content.properties.read());
        let mut targets = BTreeMap::new();
        for key in &keys {
            let Ok(route) = self.route(&queue.vhost, exchange, &Routed { key, headers: &said }) else { continue };
            targets.extend(route.queues.into_iter().map(|target| (target.partition_group, target)));
        }
        let straight = targets.values().filter(|target| !goes_in_a_circle(content, reason, &target.name));
        let places = straight.map(|target| Place { group: target.partition_group, queue: CURSOR });
        places.take(model::limits::DEAD_TARGETS_MAX).collect()
    }

    /// Sends letters to one target, in order.
    async fn send_letters(&self, handle: &Handle, target: Place, sendings: &[Sending], round: &mut Round) {
        let Some((letters, batches)) = self.letters(handle, sendings).await else {
            round.failed = true;
            return;
        };
        if let (true, Some(first)) = (letters.is_empty(), sendings.first()) {
            tracing::warn!(
                queue = handle.queue.name,
                offset = first.offset,
                "a dead message is not in the log any more"
            );
            round.commands.push(Command::Sent { target, through: first.number });
            return;
        }
        let numbers: Vec<u64> = letters.iter().map(|letter| letter.number).collect();
        let leader = self.0.router.leader(target.group).node;
        let answer = match leader {
            Some(leader) => self.tell_queue(leader, target.group, Told::Letters(letters), batches).await,
            None => Ok((Heard::NotHere, Vec::new())),
        };
        let arrived = match answer {
            Ok((Heard::Published(each), _)) => each.iter().take_while(|outcome| outcome.is_ok()).count(),
            _ if planted::is(Bug::DeadLetterOnce) => numbers.len(),
            _ => 0,
        };
        round.failed |= arrived < numbers.len();
        let through = arrived.checked_sub(1).and_then(|last| numbers.get(last).copied());
        round.commands.extend(through.map(|through| Command::Sent { target, through }));
    }

    /// Whether the queue does not exist any more. An image that is older than the queue says nothing about it, so that the image must
    /// have said so for a while where only a topic is left.
    fn is_gone(&self, handle: &Handle, target: Place) -> bool {
        let image = self.image();
        let Some((topic, _)) = image.partition_of_group(target.group) else { return target.group < image.next_group };
        handle.is_missing_for(STRAY, target, image.queue_of_topic(topic.id).is_none())
    }

    /// The letters as they are sent, up to one whose message cannot be read.
    async fn letters(&self, handle: &Handle, sendings: &[Sending]) -> Option<(Vec<DeadLetter>, Vec<Bytes>)> {
        let mut offsets: Vec<i64> = sendings.iter().map(|sending| sending.offset).collect();
        offsets.sort_unstable();
        let found = self.records(&handle.local, &offsets, ROUND_BYTES).await.ok()?;
        let source = Place { group: handle.local.group(), queue: CURSOR };
        let at_ms = self.clock().wall_ms();
        let (mut letters, mut batches) = (Vec::new(), Vec::new());
        for sending in sendings {
            // A later letter is not sent before an earlier one.
            if sending.offset >= found.upto {
                break;
            }
            let content = found.batches.get(&sending.offset);
            let content = content.and_then(|(_, batch)| Content::from_batch(batch, sending.offset, &handle.queue.name));
            let Some(content) = content else { break };
            let Some(batch) = dead(handle, &content, sending.offset, at_ms) else { break };
            let saying = Saying { priority: content.properties.read().priority, ..Saying::default() };
            letters.push(DeadLetter { source, number: sending.number, lowest: sending.lowest, saying });
            batches.push(batch);
        }
        let is_later = sendings.first().is_some_and(|first| first.offset >= found.upto);
        (!is_later).then_some((letters, batches))
    }
}

fn reason(handle: &Handle, offset: i64) -> Option<Reason> {
    handle.cursor(|cursor| cursor.exception(offset).dead.map(|dead| dead.reason)).flatten()
}

/// The dead message as its target gets it.
fn dead(handle: &Handle, content: &Content, offset: i64, at_ms: i64) -> Option<Bytes> {
    let arguments = handle.rules();
    let death = Death { queue: &handle.queue.name, reason: reason(handle, offset)?, at_ms };
    let exchange = arguments.dead_letter_exchange.as_deref().unwrap_or_default();
    content.dead(&death, exchange, arguments.dead_letter_routing_key.as_deref()).to_batch(at_ms).ok()
}

/// Whether the message died in `queue` before, and nobody has ever rejected it: RabbitMQ's rule against endless circles.
fn goes_in_a_circle(content: &Content, reason: Option<Reason>, queue: &str) -> bool {
    let headers = content.properties.read().headers.unwrap_or_default();
    let deaths: Vec<Table> = match headers.get("x-death") {
        Some(Value::Array(deaths)) => deaths.iter().filter_map(as_table).collect(),
        _ => return false,
    };
    let is = |name: &str, text: &str| {
        deaths.iter().any(|death| matches!(death.get(name), Some(Value::Str(found)) if found == text))
    };
    is("queue", queue) && !is("reason", "rejected") && reason != Some(Reason::Rejected)
}

fn as_table(value: Value) -> Option<Table> {
    if let Value::Table(table) = value { Some(table) } else { None }
}
