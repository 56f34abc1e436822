//! What a message says of itself, as exchanges read it: properties and headers of AMQP for `model::exchange`.
use model::exchange::{ArgValue, Headers};
use wire::amqp::{Properties, ShortStr, Value};

/// Properties that routing may read.
pub struct Said(pub Properties);

impl Headers for Said {
    fn get(&self, name: &str) -> Option<ArgValue> {
        self.0.headers.as_ref()?.get(name).map(|value| argument(&value))
    }

    fn property(&self, name: &str) -> Option<String> {
        let text = |value: &Option<ShortStr>| value.as_ref()?.to_str().map(str::to_owned);
        match name {
            "message_id" => text(&self.0.message_id),
            "correlation_id" => text(&self.0.correlation_id),
            "timestamp" => self.0.timestamp.map(|seconds| seconds.to_string()),
            _ => None,
        }
    }
}

/// A value as bindings have it.
pub fn argument(value: &Value) -> ArgValue {
    match value {
        Value::Void => ArgValue::Void,
        Value::Bool(value) => ArgValue::Bool(*value),
        Value::Str(bytes) | Value::Bytes(bytes) => ArgValue::Bytes(bytes.to_vec()),
        Value::Timestamp(seconds) => ArgValue::Timestamp(*seconds),
        Value::F32(number) => ArgValue::Float(f64::from(*number).to_bits()),
        Value::F64(number) => ArgValue::Float(number.to_bits()),
        Value::Array(array) => ArgValue::Other { tag: b'A', bytes: array.as_bytes().to_vec() },
        Value::Table(table) => ArgValue::Other { tag: b'F', bytes: table.as_bytes().to_vec() },
        Value::U64(number) => i64::try_from(*number)
            .map_or_else(|_| ArgValue::Other { tag: b'L', bytes: number.to_be_bytes().to_vec() }, ArgValue::Int),
        Value::Decimal(decimal) => {
            let bytes = [&[decimal.scale][..], &decimal.value.to_be_bytes()].concat();
            ArgValue::Other { tag: b'D', bytes }
        }
        number => ArgValue::Int(number.as_integer().unwrap_or_default()),
    }
}
