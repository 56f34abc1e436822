//! L2: no operation of a client wedges: each ends within its client's patience, and once everything has been healed for a while
//! soon and with success. The number is ours: a healed cluster answers within two elections.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::History;
use crate::history::operation::{Action, Kind, Operation};
use crate::nemesis::HEAL;
use crate::probe::GRACE;

/// A client gives up after three seconds; connecting and waiting for its turn come on top.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// What may be asked of a healed cluster.
const SOON: Duration = Duration::from_millis(1_500);

/// Every operation must end, in time.
pub fn check(history: &History) -> Vec<String> {
    let mut violations = Vec::new();
    let mut open = BTreeMap::new();
    for operation in &history.operations {
        if operation.kind == Kind::Invoke {
            open.insert(operation.process, operation);
            continue;
        }
        let Some(invoked) = open.remove(&operation.process) else {
            violations.push(format!("{} ended what did not begin", words(operation)));
            continue;
        };
        let begun = Duration::from_nanos(invoked.time);
        let took = Duration::from_nanos(operation.time - invoked.time);
        let healed = begun >= HEAL + GRACE;
        // An idempotent send is retried until it succeeds, as long as the faults last.
        let patience = if healed { SOON } else { PATIENCE };
        let retried = !healed && operation.kind == Kind::Ok && matches!(operation.action, Action::Send { .. });
        if (took > patience && !retried) || (healed && operation.kind == Kind::Info) {
            let error = operation.error.as_deref().unwrap_or("in the end with success");
            violations.push(format!("{} ended after {took:?}: {error}", words(invoked)));
        }
    }
    violations.extend(open.values().map(|operation| format!("{} never ended", words(operation))));
    violations
}

/// What somebody asked, and when.
fn words(operation: &Operation) -> String {
    let begun = Duration::from_nanos(operation.time).as_secs_f64();
    format!("what process {} began at {begun:.3}s, {:?},", operation.process, operation.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(begun: Duration, end: Option<(Duration, Kind)>) -> usize {
        let mut history = History::default();
        let action = Action::DeleteTopic { topic: "t".to_owned() };
        history.record(begun, 1, Kind::Invoke, action.clone(), None);
        if let Some((took, kind)) = end {
            history.record(begun + took, 1, kind, action, None);
        }
        check(&history).len()
    }

    #[test]
    fn what_hangs_or_fails_in_a_healthy_cluster_is_seen() {
        let (sick, healed) = (Duration::from_secs(9), HEAL + GRACE);
        let (short, long) = (Duration::from_millis(900), Duration::from_millis(2_000));
        assert_eq!(violations(sick, Some((long, Kind::Info))), 0);
        assert_eq!(violations(sick, Some((2 * long, Kind::Info))), 1);
        assert_eq!(violations(sick, None), 1);
        assert_eq!(violations(healed, Some((short, Kind::Ok))), 0);
        assert_eq!(violations(healed, Some((short, Kind::Info))), 1);
        assert_eq!(violations(healed, Some((long, Kind::Ok))), 1);
    }
}
