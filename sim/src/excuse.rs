//! When a node may stop by itself: a full disk and a failed sync explain a stop, but not every stop that follows.
//! Invariant: an excuse is used up, ends in time, or is that of damage which stays until somebody repairs it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fault::Fault;

/// How long after a disk has space again a node may still stop for the write that failed.
const LATE: Duration = Duration::from_secs(5);

/// What explains stops of one node.
#[derive(Default)]
struct Excuse {
    /// Its disk is damaged for good.
    damaged: bool,
    /// Its disk is full.
    full: bool,
    /// When its disk was full last.
    full_until: Option<Duration>,
    /// A sync that fails and has stopped nobody yet.
    sync: bool,
}

/// The excuses of all nodes.
#[derive(Default)]
pub struct Excuses(BTreeMap<u32, Excuse>);

impl Excuses {
    /// `fault` took effect.
    pub fn note(&mut self, at: Duration, fault: &Fault) {
        match *fault {
            Fault::DiskFull { node } => self.of(node).full = true,
            Fault::DiskFree { node } if std::mem::take(&mut self.of(node).full) => {
                self.of(node).full_until = Some(at);
            }
            Fault::SyncError { node } => self.of(node).sync = true,
            // The plan to fail a sync ends with the power.
            Fault::PowerLoss { node } => self.of(node).sync = false,
            _ => {}
        }
        if let Some(node) = fault.damages() {
            self.of(node).damaged = true;
        }
    }

    /// `node` stopped by itself: whether a fault explains it. Uses the excuse of a failed sync up.
    pub fn explain(&mut self, at: Duration, node: u32) -> bool {
        let excuse = self.of(node);
        let full = excuse.full || excuse.full_until.is_some_and(|until| at <= until + LATE);
        excuse.damaged || full || std::mem::take(&mut excuse.sync)
    }

    fn of(&mut self, node: u32) -> &mut Excuse {
        self.0.entry(node).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u32 = 2;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_failed_sync_explains_one_stop() {
        let mut excuses = Excuses::default();
        assert!(!excuses.explain(at(1), NODE));
        excuses.note(at(2), &Fault::SyncError { node: NODE });
        assert!(!excuses.explain(at(3), 1), "another node");
        assert!(excuses.explain(at(3), NODE));
        assert!(!excuses.explain(at(4), NODE));
        excuses.note(at(5), &Fault::SyncError { node: NODE });
        excuses.note(at(6), &Fault::PowerLoss { node: NODE });
        assert!(!excuses.explain(at(7), NODE));
    }

    #[test]
    fn a_full_disk_explains_stops_until_a_while_after_it_has_space() {
        let mut excuses = Excuses::default();
        excuses.note(at(1), &Fault::DiskFull { node: NODE });
        assert!(excuses.explain(at(9), NODE) && excuses.explain(at(10), NODE));
        excuses.note(at(11), &Fault::DiskFree { node: NODE });
        assert!(excuses.explain(at(16), NODE));
        assert!(!excuses.explain(at(17), NODE));
    }

    #[test]
    fn damage_explains_every_stop() {
        let mut excuses = Excuses::default();
        excuses.note(at(1), &Fault::Truncate { node: NODE });
        assert!(excuses.explain(at(2), NODE) && excuses.explain(at(50), NODE));
    }
}
