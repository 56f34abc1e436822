//! Cursors: what a log's readers together have done with its records, replicated in the log's own raft.
//! The offset cursor of a consumer group lives in its coordinator shard (`coordinator::offsets`); here is the other kind, what may be
//! asked of those of one log, and what records of a queue say of themselves.

pub mod ackset;
mod note;
mod recent;

pub use note::{LetterNote, Note};
pub use recent::Once;
pub(crate) use recent::Recent;
use serde::{Deserialize, Serialize};

/// The body of a `Tag::CursorBatch` entry: all that waited on one log in one turn, applied in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Vec<CursorCommand>);

/// What may be asked of the cursors of a log. Variants are only ever added at the end: their order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CursorCommand {
    /// Begins a cursor at the log start, with everything in the log ready; one that is open gets these rules.
    Open {
        /// Its number.
        cursor: u32,
        /// Its rules.
        config: ackset::Config,
    },
    /// Forgets a cursor.
    Close {
        /// Its number.
        cursor: u32,
    },
    /// A command of one cursor. `Publish` says again what records say of themselves, and never grows the log.
    Run {
        /// Its number.
        cursor: u32,
        /// The command.
        command: ackset::Command,
    },
    /// Letters of this source will never come again: it does not exist any more, and nothing of it is on the way.
    ForgetSource(ackset::Place),
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CursorRefusal {
    /// No cursor of this number is open.
    #[error("no cursor of this number is open")]
    NoCursor,
    /// The cursor refused.
    #[error(transparent)]
    Refused(#[from] ackset::Refusal),
}
