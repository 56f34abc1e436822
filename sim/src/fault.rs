//! Everything that can go wrong in the world, as data: a schedule of these is a run, and can be printed, counted and shortened.
//! Owns no behaviour: `world` inflicts, `nemesis` chooses. Numbers in brackets are the cases of docs/simulation.md.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that happens to the world. Whatever begins has a fault that ends it; ending what never began is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are named by their fault")]
pub enum Fault {
    /// A node's process is killed; what it wrote stays, synced or not (9, 10, 14, 15).
    Kill { node: u32 },
    /// A node loses power: of what was not synced a part survives, chosen by the seed; the last batch may be torn (17, 18, 19).
    PowerLoss { node: u32 },
    /// A node is told to stop, as by SIGTERM (11).
    Stop { node: u32 },
    /// A node that is down starts again.
    Start { node: u32 },
    /// A node's process does not run, its sockets stay open, its clock goes on (12).
    Pause { node: u32 },
    /// It runs again.
    Resume { node: u32 },
    /// Bytes from one node to another wait, in this direction only; TCP loses nothing (1 to 5).
    Cut { from: u32, to: u32 },
    /// They arrive, late.
    Heal { from: u32, to: u32 },
    /// Bytes between two nodes take so much longer, with as much jitter; `loss` percent of the chunks are sent twice (6).
    Slow { from: u32, to: u32, delay_ms: u64, loss: u8 },
    /// At the usual speed again.
    Fast { from: u32, to: u32 },
    /// Every connection between two nodes is reset (RST).
    Reset { one: u32, other: u32 },
    /// A node and all clients do not hear each other (8).
    CutClients { node: u32 },
    /// They do again.
    HealClients { node: u32 },
    /// The connections of clients to a node die without either side being told (7).
    HalfOpen { node: u32 },
    /// A node's wall clock jumps (27, 29).
    ClockJump { node: u32, by_ms: i64 },
    /// All clocks of a node run faster (positive) or slower by parts per thousand; 0 ends it (28).
    ClockDrift { node: u32, per_mille: i32 },
    /// A node's syncs take so long; 0 ends it (24).
    DiskSlow { node: u32, sync_ms: u64 },
    /// A node's device is full (22).
    DiskFull { node: u32 },
    /// It has space again.
    DiskFree { node: u32 },
    /// A node's next sync fails (23).
    SyncError { node: u32 },
    /// One bit of a log entry that is on disk flips (20). Only while the node is down.
    BitFlip { node: u32 },
    /// The end of a node's log is cut off, synced or not (21). Only while the node is down.
    Truncate { node: u32 },
    /// A node's disk is empty (25). Only while the node is down.
    DiskLoss { node: u32 },
    /// A copy of a node's disk is put aside (26).
    Backup { node: u32 },
    /// The copy is put back (26). Only while the node is down.
    Restore { node: u32 },
    /// The actor of the `nth` partition on a node panics (16).
    Panic { node: u32, nth: u32 },
    /// The raft of the `nth` partition on a node ends by itself, 0 is the controller's (16).
    RaftEnds { node: u32, nth: u32 },
    /// The leader of a group hands over: 0 is the controller, n the nth partition (33).
    Transfer { group: u32, to: u32 },
    /// The replicas of the `nth` partition shall be on these nodes; on none: on those of before the change under way (30, 31).
    Move { nth: u32, to: Vec<u32> },
    /// A node that was no founder starts and joins (30, 32).
    Join { node: u32 },
    /// An operator levels what nodes carry.
    Rebalance,
    /// An operator moves the replicas of the `nth` partition to these nodes, as an operation.
    Relocate { nth: u32, to: Vec<u32> },
    /// An operator takes all leaderships from a node.
    Drain { node: u32 },
    /// An operator takes all replicas from a node.
    Decommission { node: u32 },
    /// An operator lets a node serve again.
    Recommission { node: u32 },
    /// An operator pauses all operations.
    Halt,
    /// They go on.
    GoOn,
    /// An operator cancels all operations.
    Cancel,
}

impl Fault {
    /// What ends what this begins.
    pub fn ending(&self) -> Option<Fault> {
        let ending = match *self {
            Fault::Kill { node } | Fault::PowerLoss { node } | Fault::Stop { node } => Fault::Start { node },
            Fault::Pause { node } => Fault::Resume { node },
            Fault::Cut { from, to } => Fault::Heal { from, to },
            Fault::Slow { from, to, .. } => Fault::Fast { from, to },
            Fault::CutClients { node } => Fault::HealClients { node },
            Fault::ClockDrift { node, .. } => Fault::ClockDrift { node, per_mille: 0 },
            Fault::DiskSlow { node, .. } => Fault::DiskSlow { node, sync_ms: 0 },
            Fault::DiskFull { node } => Fault::DiskFree { node },
            Fault::Drain { node } | Fault::Decommission { node } => Fault::Recommission { node },
            Fault::Halt => Fault::GoOn,
            _ => return None,
        };
        Some(ending)
    }

    /// The node that this damages for good, if it does: its disk lacks or changes what was synced.
    pub fn damages(&self) -> Option<u32> {
        match *self {
            Fault::BitFlip { node } | Fault::Truncate { node } | Fault::DiskLoss { node } | Fault::Restore { node } => {
                Some(node)
            }
            _ => None,
        }
    }

    /// Whether replicas move by it.
    pub fn moves(&self) -> bool {
        use Fault::{Decommission, Move, Rebalance, Relocate};
        matches!(self, Move { .. } | Rebalance | Relocate { .. } | Decommission { .. })
    }

    /// Its name without its details.
    pub fn kind(&self) -> String {
        format!("{self:?}").split(' ').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
