//! A message as a record, and a record as a message: `docs/queues.md` has the table. Both who takes messages in and who dead-letters
//! them use it. Invariant: properties leave as the bytes that came unless a rule of the queue changes them; a record that a
//! Kafka client made is a message like any other.

use bytes::Bytes;
use model::cursor::ackset::Reason;
use wire::amqp::{Array, Properties, RawProperties, ShortStr, Table, TableBuilder, Value};
use wire::compression::Compression;
use wire::kafka::batch::{Batch, BatchBuilder, BatchError, Record};

/// Record header: the exchange that a message was published to.
pub const EXCHANGE: &[u8] = b"amqp.exchange";
/// Record header: its routing key.
pub const ROUTING_KEY: &[u8] = b"amqp.routing-key";
/// Record header: its properties, byte by byte.
pub const PROPERTIES: &[u8] = b"amqp.properties";
/// What the names of our own record headers begin with: an application's header of such a name is in the properties only.
const RESERVED: &[u8] = b"amqp.";
/// Message header: the key of a record that a Kafka client made.
const KAFKA_KEY: &str = "kafka.key";
/// A batch of records that a Kafka client compressed may become so large.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Where it was published; empty for the default exchange.
    pub exchange: ShortStr,
    /// With this key.
    pub routing_key: ShortStr,
    /// What it says of itself.
    pub properties: RawProperties,
    /// The rest.
    pub body: Bytes,
}

/// Why a message is dead, for its headers.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// In this queue.
    pub queue: &'a str,
    /// By this rule.
    pub reason: Reason,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

impl Death<'_> {
    /// RabbitMQ's word.
    fn reason(&self) -> &'static str {
        match self.reason {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::Failed => "delivery_limit",
            Reason::Overflow => "maxlen",
        }
    }
}

impl Content {
    /// A batch of one record.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`].
    pub fn to_batch(&self, timestamp_ms: i64) -> Result<Bytes, BatchError> {
        let properties = self.properties.read();
        let application: Vec<_> = properties
            .headers
            .iter()
            .flat_map(Table::iter)
            .filter(|(name, _)| !name.starts_with(RESERVED))
            .filter_map(|(name, value)| Some((name, as_text(&value)?)))
            .collect();
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = vec![
            (EXCHANGE, Some(&self.exchange)),
            (ROUTING_KEY, Some(&self.routing_key)),
            (PROPERTIES, Some(self.properties.as_bytes())),
        ];
        headers.extend(application.iter().map(|(name, text)| (&**name, text.as_deref())));
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push_with_headers(timestamp_ms, None, Some(&self.body), &headers);
        batch.build()
    }

    /// The message at `offset` of a batch, whoever made it; `queue` stands for the routing key of a Kafka client's. `None` if there is none:
    /// compacted away, or a batch that cannot be read.
    pub fn from_batch(batch: &Bytes, offset: i64, queue: &str) -> Option<Self> {
        Some(Self::from_record(record(batch, offset)?, queue))
    }

    /// The message that a record is.
    pub fn from_record(record: Record, queue: &str) -> Self {
        let header = |name| record.headers.clone().find(|header| header.key == name).and_then(|header| header.value);
        let properties = header(PROPERTIES).and_then(|bytes| RawProperties::from_bytes(bytes).ok());
        let short = |name| header(name).and_then(|bytes| ShortStr::new(bytes).ok());
        Self {
            exchange: short(EXCHANGE).unwrap_or_default(),
            routing_key: short(ROUTING_KEY).unwrap_or_else(|| ShortStr::shortened(queue)),
            properties: properties.unwrap_or_else(|| foreign_properties(&record)),
            body: record.value.unwrap_or_default(),
        }
    }

    /// The keys it is routed by: its own, and those of the headers CC and BCC.
    pub fn routing_keys(&self) -> Vec<ShortStr> {
        let mut keys = vec![self.routing_key.clone()];
        let headers = self.properties.read().headers.unwrap_or_default();
        for name in ["CC", "BCC"] {
            if let Some(Value::Array(more)) = headers.get(name) {
                keys.extend(more.iter().filter_map(as_key));
            }
        }
        keys
    }

    /// This message as it is dead-lettered to `exchange`, with `routing_key` or its own keys: its death is noted in `x-death`, its expiration
    /// is taken off, so that it does not die there at once.
    #[must_use]
    pub fn dead(&self, death: &Death<'_>, exchange: &str, routing_key: Option<&str>) -> Self {
        let mut properties = self.properties.read();
        let headers = properties.headers.take().unwrap_or_default();
        let expiration = properties.expiration.take();
        let entry = self.death_entry(death, expiration.as_ref());
        // Tables that came in are within their bounds, and `x-death` is far less deep: the old headers stay if not.
        properties.headers = Some(with_death(&headers, entry, death, &self.exchange).unwrap_or(headers));
        Self {
            exchange: ShortStr::shortened(exchange),
            routing_key: routing_key.map_or_else(|| self.routing_key.clone(), ShortStr::shortened),
            properties: properties.to_raw(),
            body: self.body.clone(),
        }
    }

    /// This dead letter as it was before it died, and the queue that it died in, if it is one: by its newest death. The deaths stay in
    /// its headers.
    #[must_use]
    pub fn revived(mut self) -> (Self, Option<String>) {
        let headers = self.properties.read().headers.unwrap_or_default();
        let Some(Value::Array(deaths)) = headers.get("x-death") else { return (self, None) };
        let Some(Value::Table(death)) = deaths.iter().next() else { return (self, None) };
        let text = |name: &str| death.get(name).as_ref().and_then(|value| as_key(value.clone()));
        let keys = match death.get("routing-keys") {
            Some(Value::Array(keys)) => keys.iter().next(),
            _ => None,
        };
        self.exchange = text("exchange").unwrap_or(self.exchange);
        self.routing_key = keys.and_then(as_key).unwrap_or(self.routing_key);
        let queue = text("queue").and_then(|name| name.to_str().map(str::to_owned));
        (self, queue)
    }

    fn death_entry(&self, death: &Death<'_>, expiration: Option<&ShortStr>) -> TableBuilder {
        let keys: Vec<Value> = self.routing_keys().iter().map(|key| Value::Str(key.as_bytes().clone())).collect();
        let mut entry = TableBuilder::default()
            .put("reason", &Value::text(death.reason()))
            .put("queue", &Value::text(death.queue))
            .put("time", &Value::Timestamp(u64::try_from(death.at_ms / 1_000).unwrap_or(0)))
            .put("exchange", &Value::Str(self.exchange.as_bytes().clone()));
        if let Ok(keys) = Array::new(&keys) {
            entry = entry.put("routing-keys", &Value::Array(keys));
        }
        match expiration {
            Some(text) => entry.put("original-expiration", &Value::Str(text.as_bytes().clone())),
            None => entry,
        }
    }
}

/// The record at `offset` of a batch. `None` if there is none: compacted away, or a batch that cannot be read.
pub fn record(batch: &Bytes, offset: i64) -> Option<Record> {
    let batch = Batch::take(&mut batch.clone()).ok()?;
    let mut records = batch.records(BATCH_BYTES_MAX).ok()?;
    records.find_map(|record| record.ok().filter(|record| record.offset == offset))
}

/// The headers with one more death: of the same queue by the same rule it is counted, and the newest comes first.
fn with_death(
    headers: &Table,
    entry: TableBuilder,
    death: &Death<'_>,
    exchange: &ShortStr,
) -> wire::amqp::Result<Table> {
    let is_same = |old: &Table| {
        let is = |name, text: &str| matches!(old.get(name), Some(Value::Str(found)) if found == text);
        is("queue", death.queue) && is("reason", death.reason())
    };
    let before: Vec<Value> = match headers.get("x-death") {
        Some(Value::Array(entries)) => entries.iter().collect(),
        _ => Vec::new(),
    };
    let counted = before.iter().find_map(|entry| match entry {
        Value::Table(old) if is_same(old) => old.get("count")?.as_integer(),
        _ => None,
    });
    let entry = entry.put("count", &Value::I64(counted.unwrap_or(0).saturating_add(1))).build()?;
    let others = before.into_iter().filter(|entry| !matches!(entry, Value::Table(old) if is_same(old)));
    let deaths: Vec<Value> = std::iter::once(Value::Table(entry)).chain(others).collect();
    let mut changed = TableBuilder::default();
    for (name, value) in headers.iter() {
        if &*name != b"x-death" && !name.starts_with(b"x-last-death-") {
            changed = changed.put(&*name, &value);
        }
    }
    changed = changed.put("x-death", &Value::Array(Array::new(&deaths)?));
    let is_first = headers.get("x-first-death-queue").is_none();
    for moment in ["last", "first"].into_iter().filter(|moment| *moment == "last" || is_first) {
        changed = changed
            .put(format!("x-{moment}-death-queue"), &Value::text(death.queue))
            .put(format!("x-{moment}-death-reason"), &Value::text(death.reason()))
            .put(format!("x-{moment}-death-exchange"), &Value::Str(exchange.as_bytes().clone()));
    }
    changed.build()
}

/// Properties of a record without any: its headers as a table, its time.
fn foreign_properties(record: &Record) -> RawProperties {
    let value = |bytes: Option<Bytes>| match bytes {
        None => Value::Void,
        Some(text) if std::str::from_utf8(&text).is_ok() => Value::Str(text),
        Some(bytes) => Value::Bytes(bytes),
    };
    let mut headers = TableBuilder::default();
    for header in record.headers.clone().filter(|header| header.key.len() <= u8::MAX.into()) {
        headers = headers.put(&header.key, &value(header.value));
    }
    if record.key.is_some() {
        headers = headers.put(KAFKA_KEY, &value(record.key.clone()));
    }
    let headers = headers.build().ok().filter(|headers| !headers.is_empty());
    let timestamp = u64::try_from(record.timestamp_ms / 1_000).ok();
    Properties { headers, timestamp, ..Properties::default() }.to_raw()
}

fn as_key(value: Value) -> Option<ShortStr> {
    match value {
        Value::Str(text) => ShortStr::new(text).ok(),
        _ => None,
    }
}

/// A value as Kafka clients like it: text, or null. Tables and arrays have no such form.
#[allow(clippy::option_option, reason = "the inner one is Kafka's null")]
fn as_text(value: &Value) -> Option<Option<Bytes>> {
    let text = match value {
        Value::Void => return Some(None),
        Value::Str(bytes) | Value::Bytes(bytes) => return Some(Some(bytes.clone())),
        Value::Bool(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::U64(value) | Value::Timestamp(value) => value.to_string(),
        Value::Array(_) | Value::Table(_) | Value::Decimal(_) => return None,
        number => number.as_integer()?.to_string(),
    };
    Some(Some(text.into()))
}

#[cfg(test)]
mod tests;
