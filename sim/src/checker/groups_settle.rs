//! L5: once everything is healed and nobody misbehaves a group comes to rest: within ten seconds it has its last generation, in
//! which every partition has an owner, and a few seconds after the last record everything is committed. The numbers are ours: sessions
//! and rebalances of the workload take 1.5 s each, a healed cluster has five.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::history::History;
use crate::history::groups::Share;
use crate::nemesis::HEAL;
use crate::workload::groups::{GROUPS, Group, Members};
use crate::workload::{JOBS, UNTIL};

/// How long a group may take to come to rest.
const REST: Duration = Duration::from_secs(10);
/// How long it may take to commit the last records.
const CATCH_UP: Duration = Duration::from_secs(6);

/// A member of the consumer protocol that was not heard for so long does not count as an owner.
const HEARD: Duration = Duration::from_millis(1_500);

/// Groups that did not come to rest.
pub fn check(history: &History) -> Vec<String> {
    let played = GROUPS.iter().filter(|_| history.groups.plays);
    played.flat_map(|group| restless(history, *group)).collect()
}

fn restless(history: &History, group: Group) -> Vec<String> {
    let settled = history.groups.settled.get(group.name).copied();
    let mut violations = match group.members {
        Members::Modern => unheld(history, group.name, settled),
        Members::Roaming | Members::Resident => unshared(history, group.name, settled),
    };
    let group = group.name;
    if settled.is_none_or(|at| at > UNTIL + CATCH_UP) {
        violations
            .push(format!("group {group} had not committed everything by {:?}, but {settled:?}", UNTIL + CATCH_UP));
    }
    violations
}

/// Of the consumer protocol: who had what when all was committed, and when that changed last.
fn unheld(history: &History, group: &'static str, settled: Option<Duration>) -> Vec<String> {
    let end = settled.unwrap_or(Duration::MAX);
    let holds = || history.groups.holds.iter().filter(|hold| hold.cursor.0 == group && hold.from <= end);
    let mut violations = Vec::new();
    let formed = holds().map(|hold| hold.from).max().unwrap_or_default();
    if formed > HEAL + REST {
        violations.push(format!("group {group} was still rebalancing at {formed:?}"));
    }
    let last = settled.or_else(|| holds().map(|hold| hold.until).max()).unwrap_or_default();
    let kept = holds().filter(|hold| hold.until + HEARD >= last);
    let owned: BTreeSet<i32> = kept.map(|hold| hold.cursor.1).collect();
    if owned != (0..JOBS.1).collect() {
        violations.push(format!("at {last:?}, the end of group {group}, only {owned:?} have an owner"));
    }
    violations
}

/// Of the classic protocol: the last generation, and what has an owner in it.
fn unshared(history: &History, group: &'static str, settled: Option<Duration>) -> Vec<String> {
    let groups = &history.groups;
    let mut violations = Vec::new();
    let before = |share: &&Share| share.who.group == group && settled.is_none_or(|at| share.at <= at);
    let shares: Vec<&Share> = groups.shares.iter().filter(before).collect();
    let Some(last) = shares.iter().map(|share| share.who.generation).max() else {
        violations.push(format!("group {group} never had a generation"));
        return violations;
    };
    let of_last = || shares.iter().filter(|share| share.who.generation == last);
    let formed = of_last().map(|share| share.at).min().unwrap_or_default();
    if formed > HEAL + REST {
        violations.push(format!("group {group} was still rebalancing at {formed:?}, generation {last}"));
    }
    let owned: BTreeSet<i32> = of_last().flat_map(|share| share.partitions.iter().copied()).collect();
    if owned != (0..JOBS.1).collect() {
        violations.push(format!("in generation {last}, the last one of group {group}, only {owned:?} have an owner"));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::groups::{Hold, Who};

    fn violations(shared: Duration, partitions: &[i32], settled: Option<Duration>) -> usize {
        let mut history = History::default();
        history.groups.plays = true;
        for group in GROUPS {
            let who = Who { group: group.name, generation: 4, ..Who::default() };
            history.groups.shares.push(Share { at: shared, who, partitions: partitions.iter().copied().collect() });
            let hold = |index: &i32| {
                let (cursor, member, until) = ((group.name, *index), "m".to_owned(), settled.unwrap_or(shared));
                Hold { cursor, member, from: shared, until }
            };
            history.groups.holds.extend(partitions.iter().map(hold));
            history.groups.settled.extend(settled.map(|at| (group.name, at)));
        }
        check(&history).len() / GROUPS.len()
    }

    #[test]
    fn who_does_not_come_to_rest_is_seen() {
        let all: Vec<i32> = (0..JOBS.1).collect();
        assert_eq!(violations(HEAL, &all, Some(UNTIL)), 0);
        assert_eq!(violations(HEAL + 2 * REST, &all, None), 2, "never settled, and late");
        assert_eq!(violations(HEAL, &all[1..], Some(UNTIL)), 1);
        assert_eq!(violations(HEAL, &all, Some(UNTIL + 2 * CATCH_UP)), 1);
        let mut history = History::default();
        assert!(check(&history).is_empty(), "there were none");
        history.groups.plays = true;
        assert_eq!(check(&history).len(), 2 * GROUPS.len());
    }
}
