//! What no schedule may do, since a cluster of three could then lose acknowledged records without a bug.
//! 1. At most one node of a run suffers lasting damage (a flipped bit, a cut-off log, a lost disk, an old copy).
//! 2. It is down when it is struck, and from its fall on nothing else was wrong for [`UNDISTURBED_MS`]. By then whatever was ever
//!    acknowledged is synced on both others, and both know every term in which the struck node can have voted.
//!    No replicas move in such a run: what is acknowledged might be on the struck node and one more.
//! 3. Once it got an old copy of its disk, nobody else restarts: the others remember how far it was, and only while they run.

use crate::fault::Fault;
use crate::schedule::{Act, Schedule};

/// How long the others are left in peace before the blow: restart, election and catching up, several times over.
pub const UNDISTURBED_MS: u64 = 4_000;

/// Says which article a schedule breaks.
///
/// # Errors
/// The article, with the acts in question.
pub fn check(schedule: &Schedule) -> Result<(), String> {
    let blows: Vec<_> = schedule.acts.iter().filter_map(|act| Some((act, act.fault.damages()?))).collect();
    let Some((_, damaged)) = blows.first() else { return Ok(()) };
    if let Some(moved) = schedule.acts.iter().find(|act| act.fault.moves()) {
        return Err(format!("replicas move in a run with damage: {moved:?}"));
    }
    if let Some((blow, _)) = blows.iter().find(|(_, node)| node != damaged) {
        return Err(format!("a second node is damaged: {blow:?}"));
    }
    for (blow, node) in &blows {
        let fall = schedule.acts.iter().find(|act| {
            let down = matches!(act.fault, Fault::Kill { .. } | Fault::PowerLoss { .. } | Fault::Stop { .. });
            down && act.fault.ending() == Some(Fault::Start { node: *node })
                && act.at_ms + UNDISTURBED_MS <= blow.at_ms
                && act.over_ms() > blow.at_ms
        });
        let Some(fall) = fall else { return Err(format!("the node was not down long enough: {blow:?}")) };
        let disturbs = |at_ms: u64, over_ms: u64| at_ms <= blow.at_ms && over_ms >= fall.at_ms;
        let other = schedule.acts.iter().find(|act| {
            !std::ptr::eq(*act, fall) && act.fault.damages().is_none() && disturbs(act.at_ms, act.over_ms())
        });
        if let Some(other) = other {
            return Err(format!("{blow:?} while {other:?}"));
        }
        if let Some(forgets) = schedule.acts.iter().find(|act| act.over_ms() >= fall.at_ms && forgets(blow, act)) {
            return Err(format!("{blow:?}, and those who know it is old forget: {forgets:?}"));
        }
    }
    Ok(())
}

/// Whether another node forgets by `act` how far the one was that `blow` struck.
pub fn forgets(blow: &Act, act: &Act) -> bool {
    let other = match act.fault {
        Fault::Kill { node } | Fault::PowerLoss { node } | Fault::Stop { node } => node,
        Fault::SyncError { node } | Fault::DiskFull { node } => node,
        _ => return false,
    };
    matches!(blow.fault, Fault::Restore { node } if node != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(at_ms: u64, until_ms: Option<u64>, fault: Fault) -> Act {
        Act { scenario: String::new(), at_ms, until_ms, fault }
    }

    #[test]
    fn the_law_is_enforced() {
        let down = act(8_000, Some(14_000), Fault::PowerLoss { node: 2 });
        let blow = act(12_500, None, Fault::Truncate { node: 2 });
        let lawful = vec![down.clone(), blow.clone()];
        assert_eq!(check(&Schedule::new(lawful.clone())), Ok(()));
        let breaches = [
            vec![blow.clone()],
            vec![act(9_000, Some(14_000), Fault::PowerLoss { node: 2 }), blow.clone()],
            [lawful.clone(), vec![act(7_000, Some(8_100), Fault::Cut { from: 1, to: 3 })]].concat(),
            [lawful.clone(), vec![act(5_500, None, Fault::SyncError { node: 1 })]].concat(),
            [lawful, vec![act(13_000, None, Fault::DiskLoss { node: 1 })]].concat(),
            vec![down.clone(), blow, act(20_000, None, Fault::Move { nth: 1, to: vec![1, 2, 3] })],
            vec![
                down,
                act(12_500, None, Fault::Restore { node: 2 }),
                act(15_000, Some(16_000), Fault::Kill { node: 1 }),
            ],
        ];
        for breach in breaches {
            assert!(check(&Schedule::new(breach.clone())).is_err(), "{breach:?}");
        }
    }
}
