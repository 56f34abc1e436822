//! The one error of requests and responses on the wire. A batch inside a request has its own: `kafka::BatchError`.

use crate::kafka::ApiKey;

/// Result of everything in this crate that reads or writes a frame.
pub type Result<T> = std::result::Result<T, Error>;

/// Why bytes are not a request or response, or why a message cannot be written. The connection is closed on each of
/// them, except where the variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The length in front of a frame is negative or above the limit of its API. Found before anything is allocated.
    #[error("frame of {bytes} bytes exceeds the limit of {max}")]
    FrameTooLarge {
        /// The declared length, as read.
        bytes: i64,
        /// The limit that held.
        max: usize,
    },
    /// The API is not in [`crate::kafka::versions`].
    #[error("api key {key} is not served")]
    UnknownApi {
        /// The key read from the header.
        key: i16,
        /// For an answer, if the caller wants to give one.
        correlation_id: i32,
    },
    /// The API is served, this version of it is not. ApiVersions is answered (KIP-511), Produce 0-2 through
    /// [`crate::kafka::produce_legacy`]; otherwise close.
    #[error("{} version {version} is not served", .api.name())]
    UnsupportedVersion {
        /// The API asked for.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// For an answer.
        correlation_id: i32,
    },
    /// The bytes do not follow the schema: too short, too long, null where none may be, a bad length.
    #[error("{what}: {problem} with {remaining} bytes left")]
    Malformed {
        /// The field being read.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// Bytes that were left, for finding the place.
        remaining: usize,
    },
    /// More array elements and tagged fields in one request than any client needs.
    #[error("{what}: too many elements in one message")]
    TooManyElements {
        /// The array that passed the limit.
        what: &'static str,
    },
    /// The codec refused what the schema scan let pass (a string that is not UTF-8).
    #[error("decoding failed: {0}")]
    Decode(String),
    /// The message cannot be written in this version: a field is set that the version does not have. A bug of the
    /// caller, never of the peer.
    #[error("encoding failed: {0}")]
    Encode(String),
}
