//! Where a message goes: exchanges with their bindings, as a pure function of what the message says of itself.
//! Owns the routing tables, copy-on-write. Invariant: a queue gets a message at most once, and cycles of exchanges end.
//! Must never be asked by apply: routes may be read anywhere, since nothing replicated follows from them.

mod hash;
mod headers;
mod table;
mod topic;
mod value;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use hash::share_of;
pub(crate) use hash::{spread_hash, weight_of};
pub use headers::Headers;
pub(crate) use headers::headers_are_legal;
pub use table::Table;
pub use value::{ArgValue, Args};

/// What a message says of itself, as far as routing reads it.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// The routing key.
    pub key: &'a str,
    /// Headers and properties.
    pub headers: &'a dyn Headers,
}

/// How an exchange chooses. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExchangeKind {
    /// The binding key is the routing key.
    #[default]
    Direct,
    /// The binding key is a pattern of words: `*` is one word, `#` any number.
    Topic,
    /// Every binding.
    Fanout,
    /// The binding's arguments are headers of the message: see `x-match`.
    Headers,
    /// One binding, by a hash; the binding key is its weight.
    ConsistentHash,
}

impl ExchangeKind {
    /// All, with the names that AMQP clients use.
    pub const ALL: [(&'static str, ExchangeKind); 5] = [
        ("direct", ExchangeKind::Direct),
        ("topic", ExchangeKind::Topic),
        ("fanout", ExchangeKind::Fanout),
        ("headers", ExchangeKind::Headers),
        ("x-consistent-hash", ExchangeKind::ConsistentHash),
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// What a consistent hash is taken of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashOn {
    /// The routing key.
    #[default]
    Key,
    /// This header.
    Header(String),
    /// This property: `message_id`, `correlation_id` or `timestamp`.
    Property(String),
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Destination {
    /// A queue, by name.
    Queue(String),
    /// Another exchange, by name.
    Exchange(String),
}

impl Destination {
    /// The name, of whatever it is.
    pub fn name(&self) -> &str {
        match self {
            Destination::Queue(name) | Destination::Exchange(name) => name,
        }
    }
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// The exchange it is of.
    pub source: String,
    /// Where it leads.
    pub destination: Destination,
    /// Binding key.
    pub key: String,
    /// Arguments; a headers exchange matches them.
    pub arguments: Args,
}
