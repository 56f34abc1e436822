//! Why a request of the client failed, in words for people; `passes` tells what is worth another attempt.

use wire::kafka::ErrorCode;

/// One failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or the name does not resolve.
    #[error("cannot connect to {address}: {cause} (is a node running?)")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The connection ended before the answer came.
    #[error("{address} closed the connection")]
    Disconnected {
        /// By whom.
        address: String,
    },
    /// Bytes that are not the protocol, or a request that cannot be encoded.
    #[error("protocol: {0}")]
    Wire(#[from] wire::Error),
    /// The server speaks no version of the request that we do.
    #[error("the server does not offer {0}")]
    Unsupported(&'static str),
    /// The server refused.
    #[error("{code}{}", .message.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Code {
        /// Kafka's code.
        code: ErrorCode,
        /// Its explanation, if it gave one.
        message: Option<String>,
    },
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// A partition has no leader now.
    #[error("a partition has no leader")]
    NoLeader,
    /// The topic does not exist.
    #[error("there is no topic \"{0}\"")]
    UnknownTopic(String),
    /// An empty list of addresses.
    #[error("no bootstrap address was given")]
    NoBootstrap,
    /// A batch that came from the cluster or cannot be built.
    #[error("record batch: {0}")]
    Batch(#[from] wire::kafka::BatchError),
}

impl Error {
    /// The error of a response's code, `None` for success.
    pub fn from_code(code: ErrorCode) -> Option<Self> {
        (code != ErrorCode::None).then_some(Self::Code { code, message: None })
    }

    /// The same for a code as it stands on the wire.
    pub fn check(code: i16) -> Result<(), Self> {
        Self::check_with(code, None)
    }

    /// The same, with the server's words.
    pub fn check_with(code: i16, message: Option<&str>) -> Result<(), Self> {
        let code = ErrorCode::from_i16(code).unwrap_or(ErrorCode::UnknownServerError);
        if code == ErrorCode::None { Ok(()) } else { Err(Self::Code { code, message: message.map(str::to_owned) }) }
    }

    /// Whether the same request may succeed later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::Timeout | Self::NoLeader => true,
            Self::Code { code, .. } => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::BrokerNotAvailable
                    | ErrorCode::NotController
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::OffsetNotAvailable
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::NotCoordinator
                    | ErrorCode::ThrottlingQuotaExceeded
            ),
            _ => false,
        }
    }
}
