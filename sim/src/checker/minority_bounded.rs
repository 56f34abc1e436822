//! L3: while at most one node is disturbed the others go on: 99 of 100 acknowledgements come within a bound. The bound has room for
//! a client that waits in vain for a dead leader and then for a dead node's metadata, and for an election; the promise is that of
//! any majority system (reference/simulation.md section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fault::Fault;
use crate::history::History;
use crate::history::operation::{Action, Kind};

/// Simulated time within which 99 of 100 sends are acknowledged.
const BOUND: Duration = Duration::from_millis(8_000);
/// A fault is felt for as long after its end: elections, catching up.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Fewer sends say nothing about one in a hundred.
const SENDS_MIN: usize = 100;

/// A time during which some nodes are disturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disturbance {
    begin: Duration,
    end: Duration,
    nodes: BTreeSet<u32>,
}

/// What a fault means for the nodes it touches.
enum Effect {
    /// It lasts until its key ends.
    Begin(Key),
    End(Key),
    /// It is over at once.
    Once(Vec<u32>),
}

/// Which lasting fault, on which nodes.
type Key = (&'static str, u32, u32);

/// Sends that were disturbed on one node at most must be acknowledged in time.
pub fn check(faults: &[(Duration, Fault)], history: &History) -> Vec<String> {
    let disturbances = disturbances(faults);
    let mut open = BTreeMap::new();
    let mut took = Vec::new();
    for operation in &history.operations {
        match (operation.kind, &operation.action) {
            (Kind::Invoke, Action::Send { .. }) => drop(open.insert(operation.process, operation.time)),
            (Kind::Ok, Action::Send { .. }) => {
                let end = Duration::from_nanos(operation.time);
                let begin = open.remove(&operation.process).map_or(end, Duration::from_nanos);
                if is_minority(&disturbances, begin, end) {
                    took.push(end - begin);
                }
            }
            _ => {}
        }
    }
    took.sort_unstable();
    match took.get(took.len() * 99 / 100) {
        Some(slow) if took.len() >= SENDS_MIN && *slow > BOUND => {
            vec![format!("of {} sends one in a hundred took more than {slow:?}, the bound is {BOUND:?}", took.len())]
        }
        _ => Vec::new(),
    }
}

/// Whether there is one node whose disturbance explains everything that went on between two moments.
fn is_minority(disturbances: &[Disturbance], begin: Duration, end: Duration) -> bool {
    let mut felt = disturbances.iter().filter(|one| one.begin <= end && one.end >= begin).map(|one| &one.nodes);
    let Some(first) = felt.next() else { return true };
    let common = felt.fold(first.clone(), |common, nodes| &common & nodes);
    !common.is_empty()
}

fn disturbances(faults: &[(Duration, Fault)]) -> Vec<Disturbance> {
    let mut under_way: BTreeMap<Key, Duration> = BTreeMap::new();
    let mut over = Vec::new();
    let nodes = |key: &Key| [key.1, key.2].into_iter().collect();
    for (at, fault) in faults {
        match effect(fault) {
            Some(Effect::Begin(key)) => {
                under_way.entry(key).or_insert(*at);
            }
            Some(Effect::End(key)) => {
                if let Some(begin) = under_way.remove(&key) {
                    over.push(Disturbance { begin, end: *at + AFTERMATH, nodes: nodes(&key) });
                }
            }
            Some(Effect::Once(nodes)) => {
                over.push(Disturbance { begin: *at, end: *at + AFTERMATH, nodes: nodes.into_iter().collect() });
            }
            None => {}
        }
    }
    over.extend(under_way.iter().map(|(key, begin)| Disturbance {
        begin: *begin,
        end: Duration::MAX,
        nodes: nodes(key),
    }));
    over
}

fn effect(fault: &Fault) -> Option<Effect> {
    let one = |what, node: &u32| (what, *node, *node);
    Some(match fault {
        Fault::Kill { node } | Fault::PowerLoss { node } | Fault::Stop { node } => Effect::Begin(one("down", node)),
        Fault::Start { node } => Effect::End(one("down", node)),
        Fault::Pause { node } => Effect::Begin(one("paused", node)),
        Fault::Resume { node } => Effect::End(one("paused", node)),
        Fault::Cut { from, to } => Effect::Begin(("cut", *from, *to)),
        Fault::Heal { from, to } => Effect::End(("cut", *from, *to)),
        Fault::Slow { from, to, .. } => Effect::Begin(("slow", *from, *to)),
        Fault::Fast { from, to } => Effect::End(("slow", *from, *to)),
        Fault::CutClients { node } => Effect::Begin(one("clients", node)),
        Fault::HealClients { node } => Effect::End(one("clients", node)),
        Fault::ClockDrift { node, per_mille: 0 } => Effect::End(one("drift", node)),
        Fault::ClockDrift { node, .. } => Effect::Begin(one("drift", node)),
        Fault::DiskSlow { node, sync_ms: 0 } => Effect::End(one("disk", node)),
        Fault::DiskSlow { node, .. } => Effect::Begin(one("disk", node)),
        Fault::DiskFull { node } => Effect::Begin(one("full", node)),
        Fault::DiskFree { node } => Effect::End(one("full", node)),
        Fault::BitFlip { node } | Fault::Truncate { node } | Fault::DiskLoss { node } | Fault::Restore { node } => {
            Effect::Begin(one("damaged", node))
        }
        Fault::Reset { one, other } => Effect::Once(vec![*one, *other]),
        Fault::HalfOpen { node }
        | Fault::ClockJump { node, .. }
        | Fault::SyncError { node }
        | Fault::Panic { node, .. }
        | Fault::RaftEnds { node, .. } => Effect::Once(vec![*node]),
        Fault::Backup { .. } | Fault::Transfer { .. } | Fault::Join { .. } => return None,
        // What operators do disturbs nobody.
        Fault::Move { .. } | Fault::Relocate { .. } | Fault::Rebalance => return None,
        Fault::Drain { .. } | Fault::Decommission { .. } | Fault::Recommission { .. } => return None,
        Fault::Halt | Fault::GoOn | Fault::Cancel => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Partition, Serial};
    use crate::workload::produce::sending;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends from second 10 on that take `seconds` each.
    fn history(seconds: u64) -> History {
        let mut history = History::default();
        let partition = Partition { topic: "ledger", index: 0 };
        for process in 0..200 {
            let send = sending(partition, &[Serial { producer: process, number: 0 }], Some(0));
            history.record(at(10), process, Kind::Invoke, send.clone(), None);
            history.record(at(10 + seconds), process, Kind::Ok, send, None);
        }
        history
    }

    #[test]
    fn a_cluster_that_stalls_for_one_node_is_seen() {
        let one = [(at(9), Fault::PowerLoss { node: 2 })];
        assert!(check(&one, &history(2)).is_empty());
        assert_eq!(check(&one, &history(9)).len(), 1);
        assert_eq!(check(&[], &history(9)).len(), 1);
    }

    #[test]
    fn what_no_majority_survives_is_no_stall() {
        let two = [(at(9), Fault::PowerLoss { node: 2 }), (at(11), Fault::Pause { node: 1 })];
        assert!(check(&two, &history(9)).is_empty());
        let isolated = [(at(9), Fault::Cut { from: 1, to: 2 }), (at(9), Fault::Cut { from: 1, to: 3 })];
        assert_eq!(check(&isolated, &history(9)).len(), 1);
        let after =
            [(at(2), Fault::Kill { node: 1 }), (at(3), Fault::Start { node: 1 }), (at(9), Fault::Kill { node: 2 })];
        assert_eq!(check(&after, &history(9)).len(), 1);
    }
}
