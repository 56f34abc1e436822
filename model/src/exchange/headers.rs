//! The headers exchange: a binding's arguments are a pattern of headers, `x-match` says how much of it must fit.

use std::collections::BTreeMap;

use super::value::{ArgValue, Args};

/// What says how the others are matched; never matched itself.
const MATCH: &str = "x-match";

/// Reads what a message says of itself, without taking it apart first.
pub trait Headers {
    /// The header of this name.
    fn get(&self, name: &str) -> Option<ArgValue>;

    /// The property of this name (`message_id`, `correlation_id`, `timestamp`).
    fn property(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Arguments are headers too: tests and tools have nothing else.
impl Headers for Args {
    fn get(&self, name: &str) -> Option<ArgValue> {
        BTreeMap::get(self, name).cloned()
    }
}

/// Whether `x-match` is one of those that there are.
pub(crate) fn headers_are_legal(pattern: &Args) -> bool {
    let how = BTreeMap::get(pattern, MATCH);
    how.is_none_or(|how| matches!(how.as_text(), Some("all" | "any" | "all-with-x" | "any-with-x")))
}

/// Whether the headers fit. Without `-with-x`, names that begin with `x-` are no part of the pattern, as in RabbitMQ.
pub(super) fn fits(pattern: &Args, headers: &dyn Headers) -> bool {
    let how = BTreeMap::get(pattern, MATCH).and_then(ArgValue::as_text).unwrap_or("all");
    let (with_x, any) = (how.ends_with("-with-x"), how.starts_with("any"));
    let counts = |name: &str| name != MATCH && (with_x || !name.starts_with("x-"));
    let fits = |(name, wanted): (&String, &ArgValue)| {
        headers.get(name).is_some_and(|value| *wanted == ArgValue::Void || *wanted == value)
    };
    let mut wanted = pattern.iter().filter(|(name, _)| counts(name));
    if any { wanted.any(fits) } else { wanted.all(fits) }
}
