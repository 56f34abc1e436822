//! The schemas of the served APIs, for the guard in `bound`. One constant each, from Kafka's message definitions.
//! Invariant (tested): what is generated from a schema is read and written alike by this crate and by kafka-protocol.

mod groups;
mod request;
mod response;

pub(crate) use request::of as request;
pub(crate) use response::of as response;

use crate::bound::Kind;

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const STR: Kind = Kind::Str;
const I32_ARRAY: Kind = Kind::Array(&I32);
const STR_ARRAY: Kind = Kind::Array(&STR);

macro_rules! array_of {
    ($($field:expr),+ $(,)?) => { Kind::Array(&Kind::Struct(&[$($field),+])) };
}
use array_of;
