//! Why a channel or a connection is closed, in the protocol's words. The code decides which of the two it is.

use wire::amqp::{Method, ReplyCode, ShortStr, method};

/// An error as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: ReplyCode,
    text: String,
    /// Class and id of the method it answers; zeros if none.
    method: (u16, u16),
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The text is what follows the name of the code.
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), method: (0, 0) }
    }

    /// What is malformed.
    pub fn wire(error: &wire::amqp::Error) -> Self {
        Self::new(error.reply_code(), error.to_string())
    }

    /// The same, in answer to this method.
    #[must_use]
    pub fn of(mut self, method: (u16, u16)) -> Self {
        self.method = method;
        self
    }

    /// What closes the connection with this.
    pub fn connection_close(&self) -> Method {
        let (class_id, method_id) = self.method;
        let (reply_code, reply_text) = (self.code.code(), self.reply_text());
        method::connection::Close { reply_code, reply_text, class_id, method_id }.into()
    }

    /// What closes a channel with this.
    pub fn channel_close(&self) -> Method {
        let (class_id, method_id) = self.method;
        let (reply_code, reply_text) = (self.code.code(), self.reply_text());
        method::channel::Close { reply_code, reply_text, class_id, method_id }.into()
    }

    fn reply_text(&self) -> ShortStr {
        ShortStr::shortened(&self.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} - {}", self.code, self.text)
    }
}

/// A failure of this code: `fail!(NotFound, "no queue '{name}'")`.
macro_rules! failure {
    ($code:ident, $($text:tt)+) => {
        $crate::amqp::failure::Failure::new(wire::amqp::ReplyCode::$code, format!($($text)+))
    };
}

pub(super) use failure;
