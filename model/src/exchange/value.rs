//! Argument and header values, as far as two of them are compared. Flat: what nests is kept as bytes, so that nothing here recurses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Arguments by name.
pub type Args = BTreeMap<String, ArgValue>;

/// One value. Two are equal if their class and value are, whatever width a client chose for a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ArgValue {
    /// No value: as a pattern, anything that is present.
    Void,
    /// A truth value.
    Bool(bool),
    /// A whole number of any width that fits.
    Int(i64),
    /// The bits of a double, or of a float made one.
    Float(u64),
    /// Text, or any bytes.
    Bytes(Vec<u8>),
    /// Seconds since 1970.
    Timestamp(u64),
    /// Anything else (decimals, arrays, tables, numbers above `i64`), as it lies on the wire.
    Other {
        /// Its type on the wire.
        tag: u8,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl ArgValue {
    /// Text.
    pub fn text(text: &str) -> Self {
        ArgValue::Bytes(text.as_bytes().to_vec())
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            ArgValue::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        match self {
            ArgValue::Bytes(bytes) | ArgValue::Other { bytes, .. } => 32 + bytes.len(),
            _ => 32,
        }
    }

    /// The bytes that a hash is taken of; equal values have equal ones.
    pub(super) fn hashed(&self) -> Vec<u8> {
        match self {
            ArgValue::Void => Vec::new(),
            ArgValue::Bool(value) => vec![u8::from(*value)],
            ArgValue::Int(number) => number.to_string().into_bytes(),
            ArgValue::Float(bits) | ArgValue::Timestamp(bits) => bits.to_be_bytes().to_vec(),
            ArgValue::Bytes(bytes) | ArgValue::Other { bytes, .. } => bytes.clone(),
        }
    }
}

/// For people: text as it is, bytes that are none escaped.
impl std::fmt::Display for ArgValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ArgValue::Void => f.write_str("void"),
            ArgValue::Bool(value) => value.fmt(f),
            ArgValue::Int(number) => number.fmt(f),
            ArgValue::Float(bits) => f64::from_bits(*bits).fmt(f),
            ArgValue::Timestamp(seconds) => seconds.fmt(f),
            ArgValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => f.write_str(text),
                Err(_) => bytes.escape_ascii().fmt(f),
            },
            ArgValue::Other { tag, bytes } => {
                write!(f, "{} of {} bytes", char::from(*tag).escape_default(), bytes.len())
            }
        }
    }
}
