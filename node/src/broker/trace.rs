//! The trace switch: a log line for each operation on a topic or a queue, for the share of messages that the topic's `flotilla.trace` says.
//! Invariants: all lines of a message that has an id or a trace, or none, on whatever node; never a payload.
use bytes::Bytes;
use model::controller::topology::Queue;
use model::exchange::share_of;
use model::record::BatchFacts;
use model::{NodeId, TopicId};
use tokio::time::Instant;
use wire::amqp::{Properties, Value};

use super::queues::message::Content;
use super::{Broker, PartitionRef};

/// The config key.
pub const SHARE: &str = "flotilla.trace";

/// A message, or a request, whose operations are logged.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Of the topic or the queue.
    name: String,
    message_id: String,
    trace_id: String,
    since: Instant,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// `publish`, `deliver`, `settle`, `produce` or `fetch`.
    pub op: &'a str,
    /// Where in the log, where that is known.
    pub offset: Option<i64>,
    /// In a word, or the error.
    pub result: &'a str,
}

impl Traced {
    fn new(name: &str, properties: &Properties) -> Self {
        let message_id = properties.message_id.as_ref().map(|id| id.escape_ascii().to_string());
        let trace_id = match properties.headers.as_ref().and_then(|headers| headers.get("traceparent")) {
            Some(Value::Str(text) | Value::Bytes(text)) => trace_id(&text),
            _ => None,
        };
        let (message_id, trace_id) = (message_id.unwrap_or_default(), trace_id.unwrap_or_default());
        Self { name: name.to_owned(), message_id, trace_id, since: Instant::now() }
    }

    /// Whether it is one of this share: of those that have no name, by chance.
    fn is_chosen(&self, share: f64) -> bool {
        match [&self.message_id, &self.trace_id].into_iter().find(|name| !name.is_empty()) {
            Some(name) => share_of(name.as_bytes()) < share,
            None => rand::random::<f64>() < share,
        }
    }

    /// Logs an operation that began with this.
    pub fn log(&self, operation: Operation<'_>) {
        self.log_after(operation, i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX));
    }

    /// Logs an operation that took so long.
    pub fn log_after(&self, operation: Operation<'_>, latency_ms: i64) {
        let Self { name, message_id, trace_id, .. } = self;
        let Operation { op, offset, result } = operation;
        tracing::info!(target: "flotilla::trace", op, name, message_id, trace_id, offset, latency_ms, result, "traced");
    }
}

/// The trace id of a `traceparent` (W3C Trace Context, 3.2.2).
fn trace_id(traceparent: &[u8]) -> Option<String> {
    let id = std::str::from_utf8(traceparent).ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// How old the records of a batch are at least, ms.
pub fn age_ms(batch: &Bytes, now_ms: i64) -> i64 {
    BatchFacts::read(batch).map_or(0, |facts| now_ms.saturating_sub(facts.max_timestamp).max(0))
}

impl Broker {
    /// The message of a queue, if it is traced.
    pub fn traced(&self, queue: &Queue, properties: impl FnOnce() -> Properties) -> Option<Traced> {
        let (share, _) = self.trace_share(queue.topic)?;
        Some(Traced::new(&queue.name, &properties())).filter(|traced| traced.is_chosen(share))
    }

    /// Batches of a partition that are appended, or read, if that is traced; by the headers of the first record.
    pub(super) fn traced_batch(&self, partition: PartitionRef, batch: Option<&Bytes>) -> Option<Traced> {
        let (share, topic) = self.trace_share(partition.topic)?;
        let is_plain = |batch: &&Bytes| BatchFacts::read(batch).is_ok_and(|facts| facts.compression() == 0);
        let first = batch.filter(is_plain).and_then(|batch| Content::from_batch(batch, base_offset(batch), ""));
        let properties = first.map(|content| content.properties.read()).unwrap_or_default();
        Some(Traced::new(&format!("{topic}/{}", partition.index), &properties)).filter(|traced| traced.is_chosen(share))
    }

    /// The share that is traced of a topic, and its name; none if nothing is.
    fn trace_share(&self, topic: TopicId) -> Option<(f64, String)> {
        let image = self.image();
        let topic = image.topic_by_id(topic)?;
        let node: Option<NodeId> = Some(self.node_id());
        let share = image.topic_value(topic, SHARE, node).parse().ok().filter(|share| *share > 0.0)?;
        Some((share, topic.name.clone()))
    }
}

fn base_offset(batch: &Bytes) -> i64 {
    batch.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use wire::amqp::{ShortStr, TableBuilder};

    use super::*;

    fn traced(id: &str, traceparent: &str) -> Traced {
        let headers = TableBuilder::default().put("traceparent", &Value::text(traceparent)).build().ok();
        let message_id = Some(ShortStr::shortened(id));
        Traced::new("q", &Properties { message_id, headers, ..Default::default() })
    }

    #[test]
    fn the_trace_id_is_taken_of_what_is_one() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(traced("", &format!("00-{id}-b7ad6b7169203331-01")).trace_id, id);
        for wrong in ["", "00", "00-abc-b7ad6b7169203331-01", "00-zz47651916cd43dd8448eb211c80319c-b7ad-01"] {
            assert_eq!(traced("", wrong).trace_id, "", "{wrong}");
        }
    }

    #[test]
    fn a_share_of_all_messages_is_chosen_and_the_same_ones_everywhere() {
        let count = |share| (0..10_000).filter(|n| traced(&n.to_string(), "").is_chosen(share)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((800..1_200).contains(&count(0.1)), "{}", count(0.1));
        assert_eq!(count(0.1), count(0.1));
    }
}
