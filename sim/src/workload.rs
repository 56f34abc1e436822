//! Clients of the simulated world. They speak real Kafka bytes to the real listener and write what they learn to the history.

pub mod client;
pub mod produce;
pub mod read;

use std::cell::RefCell;
use std::rc::Rc;

use crate::history::History;

/// The topic of the run.
pub const TOPIC: &str = "ledger";
/// Its partitions.
pub const PARTITIONS: i32 = 4;
/// The Kafka port of every node.
pub const KAFKA_PORT: u16 = 9092;

/// The history that all clients of a run share; the simulation has one thread.
pub type Ledger = Rc<RefCell<History>>;

/// Name of node `id` as a turmoil host.
pub fn host(id: u32) -> String {
    format!("node{id}")
}
