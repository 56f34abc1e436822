//! The Kafka protocol: framing, the table of APIs, messages, record batches.
//! Never: names another protocol, decides what an answer means.

pub mod batch;
mod error_code;
pub mod fetch_writer;
pub mod frame;
pub mod messages;
pub mod produce_legacy;
mod schema;
pub mod subscription;
pub mod versions;

pub use batch::{Batch, BatchError, BatchHeader};
pub use error_code::ErrorCode;
pub use kacrab_protocol::{KafkaString as Str, KafkaUuid as Uuid};
pub use versions::{Api, ApiKey};

#[cfg(test)]
mod tests;
