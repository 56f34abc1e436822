//! The log and the tables of one node: the trait `Engine` (RocksDB, or a simulated disk), the one committer, the tail cache.
//! Owns rocksdb, the key layout, every fsync, and `codec` (bincode).
//! Invariant: what `Writer` accepted is executed in that order, and a `Done` with `Ok` is true after any crash.
//! Never knows consensus or a client protocol.
#![forbid(unsafe_code)]

pub mod codec;
pub mod committer;
pub mod engine;
mod error;
pub mod identity;
pub mod keys;
mod reader;
pub mod roster;
mod size;
pub mod stats;
mod tail;
mod writer;

pub use committer::{Closed, Committer, Done};
pub use engine::{Engine, Op, ScanLimit, Table};
pub use error::Error;
pub use identity::{Identity, Owner};
pub use keys::RowKind;
pub use reader::Reader;
pub use stats::Stats;
pub use writer::{LogEntry, Row, Writer};

use std::sync::Arc;

/// Sizes of one node's store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Budget of the tail cache over all groups, bytes. Entries that are not yet durable stay even above it.
    pub tail_bytes: usize,
    /// The committer takes at most this many queued bytes into one write (and one sync), bytes.
    pub batch_bytes: usize,
    /// Who reads aside (`Reader::entries_aside`) pauses up to so many times as long as each read took; 0: reads as others do.
    pub aside_pauses: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { tail_bytes: 64 << 20, batch_bytes: 4 << 20, aside_pauses: 10 }
    }
}

/// Makes what is found durable, reads the bounds of every group's log, starts the committer on `engine`, and returns the two
/// handles. What a killed process wrote and never synced is found again: a replica that counted it as held could lose it later.
/// The committer ends, after writing what is queued, when the last `Writer` is dropped.
///
/// # Errors
/// What the engine says while it syncs and the bounds are read; `Error::Corrupt` for a key that is not ours.
///
/// # Panics
/// The simulated engine spawns its committer with tokio: call it inside a runtime.
pub fn open(engine: Arc<dyn Engine>, options: Options) -> Result<(Writer, Reader), Error> {
    engine.sync()?;
    let tails = Arc::new(tail::Tails::load(engine.as_ref(), options.tail_bytes)?);
    let (queue, committer) = committer::queue(tails.clone(), engine.clone(), options.batch_bytes);
    let reader = Reader::new(engine.clone(), tails.clone(), options.aside_pauses);
    let writer = Writer::new(queue, tails);
    engine.drive(committer);
    Ok((writer, reader))
}
