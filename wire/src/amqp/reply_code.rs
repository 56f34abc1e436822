//! Reply codes of connection.close, channel.close and basic.return (AMQP 0-9-1, clause 1.2 of the reference).

crate::codes::codes! {
    /// A reply code.
    ReplyCode: u16, from_u16;

    ReplySuccess = 200, "REPLY_SUCCESS";
    ContentTooLarge = 311, "CONTENT_TOO_LARGE";
    NoRoute = 312, "NO_ROUTE";
    NoConsumers = 313, "NO_CONSUMERS";
    ConnectionForced = 320, "CONNECTION_FORCED";
    InvalidPath = 402, "INVALID_PATH";
    AccessRefused = 403, "ACCESS_REFUSED";
    NotFound = 404, "NOT_FOUND";
    ResourceLocked = 405, "RESOURCE_LOCKED";
    PreconditionFailed = 406, "PRECONDITION_FAILED";
    FrameError = 501, "FRAME_ERROR";
    SyntaxError = 502, "SYNTAX_ERROR";
    CommandInvalid = 503, "COMMAND_INVALID";
    ChannelError = 504, "CHANNEL_ERROR";
    UnexpectedFrame = 505, "UNEXPECTED_FRAME";
    ResourceError = 506, "RESOURCE_ERROR";
    NotAllowed = 530, "NOT_ALLOWED";
    NotImplemented = 540, "NOT_IMPLEMENTED";
    InternalError = 541, "INTERNAL_ERROR";
}

impl ReplyCode {
    /// Whether it closes the connection; the others close a channel or say why a message came back.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        matches!(self as u16, 320 | 402 | 500..)
    }
}
