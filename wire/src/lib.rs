//! Bytes <-> typed requests for every protocol Flotilla speaks. Sans-io: owns no socket, no clock, no task.
//! Invariant: whatever the bytes, a call returns in time and memory linear in their length, without panic.
//! Never: allocates by a number read from the wire, performs I/O, depends on another crate of Flotilla.
//!
//! # The life of a Kafka request
//! ```
//! use bytes::BytesMut;
//! use wire::kafka::{ApiKey, ErrorCode, frame, messages, versions};
//!
//! # fn serve(input: &mut BytesMut) -> Result<Vec<bytes::Bytes>, wire::Error> {
//! let Some(frame) = frame::next_request(input, frame::MAX_FRAME_BYTES)? else { return Ok(vec![]) };
//! let request = match frame::parse_request(frame) {
//!     Ok(request) => request,
//!     // KIP-511: a too new ApiVersions is answered by a v0 body that says which versions we speak.
//!     Err(wire::Error::UnsupportedVersion { api: ApiKey::ApiVersions, correlation_id, .. }) => {
//!         let body = versions::api_versions_response(ErrorCode::UnsupportedVersion);
//!         return Ok(vec![messages::encode_response(correlation_id, 0, &body)?]);
//!     }
//!     Err(close_the_connection) => return Err(close_the_connection),
//! };
//! match request.api {
//!     ApiKey::Metadata => {
//!         let metadata: messages::MetadataRequest = messages::decode_request(request.version, request.body)?;
//!         let answer = messages::MetadataResponse::default(); // from the broker, for metadata.topics
//!         # let _ = metadata;
//!         Ok(vec![messages::encode_response(request.correlation_id, request.version, &answer)?])
//!     }
//!     _ => Ok(vec![]), // one arm for each ApiKey; the match is exhaustive in the node
//! }
//! # }
//! # let body = messages::MetadataRequest::default();
//! # let bytes = messages::encode_request(12, 7, Some("docs"), &body).unwrap();
//! # assert_eq!(serve(&mut BytesMut::from(&bytes[..])).unwrap().len(), 1);
//! ```
//! Produce: hand each partition's `records` to [`kafka::batch::split_batches`]; the batches are slices of the frame.
//! Fetch: answer with [`kafka::fetch_writer::encode_fetch_response`], which never copies records. Errors of a batch name their Kafka code.
//!
//! # The life of an AMQP frame
//! [`amqp::frame::next_frame`] takes it off the input; [`amqp::Method::decode`] or [`amqp::ContentHeader::decode`] reads
//! its payload, or it is a part of a body. An [`amqp::Error`] knows the reply code that connection.close says of it.
#![forbid(unsafe_code)]

pub mod amqp;
mod bound;
mod codes;
pub mod compression;
mod error;
pub mod kafka;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};
