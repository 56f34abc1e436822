//! AMQP 0-9-1 with RabbitMQ's extensions: frames, methods, content headers, tables. Both sides: what a server reads and
//! writes, and what a client does. Sans-io.
//! Invariant: payloads, strings and tables are slices of the frame; decoding allocates nothing that the bytes can size.
//! Never: names another protocol, keeps the state of a connection or channel, decides what an answer means.

mod content;
mod error;
mod field;
pub mod frame;
pub mod method;
mod reply_code;
mod table;

pub use content::{ContentHeader, Properties, RawProperties};
pub use error::{Error, Result};
pub use field::ShortStr;
pub use frame::{Frame, Kind};
pub use method::Method;
pub use reply_code::ReplyCode;
pub use table::{Array, Decimal, Table, TableBuilder, Value};

#[cfg(test)]
mod tests;
