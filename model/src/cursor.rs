//! Cursors: what a log's readers together have done with its records, replicated in the log's own raft.
//! The offset cursor of a consumer group lives in its coordinator shard (`coordinator::offsets`); here is the other kind.

pub mod ackset;
