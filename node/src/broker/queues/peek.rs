//! Messages as operators see them: read where they are, taken from nobody. Properties and headers as JSON, a body only if it is asked for.
//! Bounded: `PEEK_MAX` messages and about `PEEK_BYTES` of them in one look.
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use model::controller::topology::Queue;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use wire::amqp::{Properties, Table, Value};

use super::leader::Handle;
use super::message::{Content, record};
use super::types::ConsumeError;
use crate::broker::Broker;
use crate::peer::queues::{Heard, PeekState, Peeked, Told};

/// Messages of one look.
pub const PEEK_MAX: usize = 1_000;
/// Bytes of batches of one look, unless one message has more.
const PEEK_BYTES: usize = 1 << 20;

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessageReport {
    /// Which of the queue: the offset of its record.
    pub offset: i64,
    /// What it waits for.
    pub state: PeekState,
    /// How often it failed.
    pub failures: u32,
    /// When a node took it, ms since 1970.
    pub published_ms: i64,
    /// It is not delivered before, ms since 1970.
    pub not_before_ms: Option<i64>,
    /// It is not delivered from then on, ms since 1970.
    pub expires_ms: Option<i64>,
    /// Where it was published; empty for the default exchange.
    pub exchange: String,
    /// With this key.
    pub routing_key: String,
    /// Those that it has, by AMQP's names.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub properties: BTreeMap<String, Json>,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// Its body, if that was asked for: as it is if it is UTF-8, else in base64.
    pub body: Option<String>,
    /// `string` or `base64`.
    pub body_encoding: Option<String>,
}

impl Broker {
    /// Messages of a queue from `from` on, whatever they wait for; their bodies `with_body`. May be fewer than there are.
    ///
    /// # Errors
    /// As [`ConsumeError`] says.
    pub async fn peek(
        &self,
        queue: &Arc<Queue>,
        from: i64,
        count: usize,
        with_body: bool,
    ) -> Result<Vec<MessageReport>, ConsumeError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (heard, parts) = self.ask_queue(queue, Told::Peek { from, count }).await?;
        let Heard::Peeked(peeked) = heard else { return Err(ConsumeError::unexpected(&heard)) };
        let report = |peeked: &Peeked| {
            let batch = parts.get(peeked.part as usize)?;
            report(peeked, batch, &queue.name, with_body)
        };
        Ok(peeked.iter().filter_map(report).collect())
    }

    /// Puts the records to what was peeked; what is not in the log any more is left out.
    pub(super) async fn with_records(&self, handle: &Handle, heard: Heard) -> (Heard, Vec<Bytes>) {
        let Heard::Peeked(mut peeked) = heard else { return (heard, Vec::new()) };
        let offsets: Vec<i64> = peeked.iter().map(|peeked| peeked.offset).collect();
        let Ok(found) = self.records(&handle.local, &offsets, PEEK_BYTES).await else {
            return (Heard::NotHere, Vec::new());
        };
        let (mut parts, mut places) = (Vec::new(), BTreeMap::new());
        peeked.retain_mut(|peeked| {
            let Some((base, batch)) = found.batches.get(&peeked.offset) else { return false };
            peeked.part = *places.entry(*base).or_insert_with(|| {
                parts.push(batch.clone());
                parts.len() as u32 - 1
            });
            true
        });
        (Heard::Peeked(peeked), parts)
    }
}

fn report(peeked: &Peeked, batch: &Bytes, queue: &str, with_body: bool) -> Option<MessageReport> {
    let record = record(batch, peeked.offset)?;
    let published_ms = record.timestamp_ms;
    let Content { exchange, routing_key, properties, body } = Content::from_record(record, queue);
    let (encoding, text) = match std::str::from_utf8(&body) {
        Ok(text) => ("string", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(&body)),
    };
    Some(MessageReport {
        offset: peeked.offset,
        state: peeked.state,
        failures: peeked.failures,
        published_ms,
        not_before_ms: peeked.not_before,
        expires_ms: peeked.expires_at,
        exchange: exchange.escape_ascii().to_string(),
        routing_key: routing_key.escape_ascii().to_string(),
        properties: named(properties.read()),
        body_bytes: body.len(),
        body: with_body.then_some(text),
        body_encoding: with_body.then(|| encoding.to_owned()),
    })
}

fn named(properties: Properties) -> BTreeMap<String, Json> {
    let Properties { headers, delivery_mode, priority, timestamp, .. } = &properties;
    let numbers = [
        ("delivery_mode", delivery_mode.map(Json::from)),
        ("priority", priority.map(Json::from)),
        ("timestamp", timestamp.map(Json::from)),
        ("headers", headers.as_ref().map(table)),
    ];
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    let texts = texts.into_iter().map(|(name, value)| (name, value.as_ref().map(|value| text(value.as_bytes()))));
    let given = numbers.into_iter().chain(texts).filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

fn table(table: &Table) -> Json {
    let entry =
        |(name, value): (wire::amqp::ShortStr, Value)| (String::from_utf8_lossy(&name).into_owned(), json(&value));
    Json::Object(table.iter().map(entry).collect())
}

fn text(bytes: &Bytes) -> Json {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Void => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Str(bytes) => text(bytes),
        Value::Bytes(bytes) => BASE64.encode(bytes).into(),
        Value::Timestamp(number) | Value::U64(number) => (*number).into(),
        Value::F32(number) => (*number).into(),
        Value::F64(number) => (*number).into(),
        Value::Decimal(decimal) => (f64::from(decimal.value) / 10f64.powi(decimal.scale.into())).into(),
        Value::Array(array) => array.iter().map(|value| json(&value)).collect(),
        Value::Table(inner) => table(inner),
        number => number.as_integer().into(),
    }
}
