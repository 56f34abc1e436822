//! The one error of AMQP bytes. Each but the last is the peer's doing and closes its connection.

use super::ReplyCode;

/// Result of everything that reads or writes AMQP bytes.
pub type Result<T> = std::result::Result<T, Error>;

/// Why bytes are not AMQP, or why something cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection does not begin with the header of AMQP 0-9-1. Answer with [`super::frame::PROTOCOL_HEADER`] and
    /// close. What came instead, up to eight bytes and then zeros.
    #[error("not the protocol header of AMQP 0-9-1: {received:02x?}")]
    ProtocolHeader {
        /// For the log: TLS, HTTP and AMQP 1.0 can be told by it.
        received: [u8; 8],
    },
    /// The size in front of a frame is above what was negotiated, or a frame to write is. Found before anything is
    /// allocated.
    #[error("frame of {bytes} bytes exceeds the limit of {max}")]
    FrameTooLarge {
        /// The whole frame.
        bytes: u64,
        /// The limit that held.
        max: usize,
    },
    /// The bytes around a payload are not those of a frame.
    #[error("frame: {problem} ({byte})")]
    Frame {
        /// What is wrong.
        problem: &'static str,
        /// The byte read there.
        byte: u8,
    },
    /// No method has these numbers.
    #[error("unknown method {class}.{method}")]
    UnknownMethod {
        /// Class id, as read.
        class: u16,
        /// Method id, as read.
        method: u16,
    },
    /// The payload does not follow its description: too short, too long, a bad length, an unknown tag, too deep.
    #[error("{what}: {problem} with {remaining} bytes left")]
    Malformed {
        /// The field being read.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// Bytes that were left, for finding the place.
        remaining: usize,
    },
    /// A value has no form on the wire: a short string above 255 bytes, a table too deep. A bug of the caller, or input
    /// of another protocol that the caller must check.
    #[error("cannot be written: {0}")]
    Encode(&'static str),
}

impl Error {
    /// What connection.close says of it. After [`Error::ProtocolHeader`] there is none: nobody would read it.
    #[must_use]
    pub const fn reply_code(&self) -> ReplyCode {
        match self {
            Self::ProtocolHeader { .. } | Self::FrameTooLarge { .. } | Self::Frame { .. } => ReplyCode::FrameError,
            Self::UnknownMethod { .. } => ReplyCode::CommandInvalid,
            Self::Malformed { .. } => ReplyCode::SyntaxError,
            Self::Encode(_) => ReplyCode::InternalError,
        }
    }
}
