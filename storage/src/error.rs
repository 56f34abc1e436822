//! The one error type of this crate.

use model::GroupId;

use crate::committer::Closed;

/// Why the store could not do what was asked. Each variant asks for another reaction of the caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The device or the engine failed; the committer closes for good on it.
    #[error("input/output error: {0}")]
    Io(String),
    /// No space left on the device.
    #[error("no space left on the device: {0}")]
    Full(String),
    /// Another process (or another node of this process) has the folder open.
    #[error("the data folder is in use by another process: {0}")]
    Locked(String),
    /// The folder belongs to another node or cluster.
    #[error("the data folder belongs to {found}, this is {expected}: check the configured folder; nothing was changed")]
    Foreign {
        /// Whom the folder belongs to.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// The folder was written by a newer program.
    #[error(
        "the data folder has format {found}, this program knows formats up to {known}: start the newer program; nothing was changed"
    )]
    NewerFormat {
        /// The format of the folder.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// Stored bytes are not what was written: do not serve, do not delete, rebuild this replica from its peers.
    #[error("corrupt store: {0}")]
    Corrupt(String),
    /// Two entries of one log share an index, or one is missing: same reaction as `Corrupt`.
    #[error("log of group {group} is not one line at index {index}: {what}")]
    Broken {
        /// The group whose log it is.
        group: GroupId,
        /// The index in question.
        index: u64,
        /// What is there instead.
        what: String,
    },
    /// Bytes that do not decode as the expected type or exceed the given limit.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// The committer is closed.
    #[error(transparent)]
    Closed(#[from] Closed),
}
