//! S7, the consumer protocol (KIP-848): a partition is one member's at a time. From when a member was told of it to the last heartbeat
//! that it began with it, and that was answered, it is the member's and nobody else's; and once another member has it, no commit of
//! the one before counts.

use std::collections::BTreeMap;

use super::group_fenced::words;
use crate::history::History;
use crate::history::groups::{Commit, Cursor, Hold};

/// Partitions that two members have at the same time, and commits of those who have lost one.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let mut cursors: BTreeMap<Cursor, Vec<&Hold>> = BTreeMap::new();
    for hold in &groups.holds {
        cursors.entry(hold.cursor).or_default().push(hold);
    }
    let mut violations = Vec::new();
    for holds in cursors.values() {
        for (place, one) in holds.iter().enumerate() {
            let overlaps =
                |other: &&&Hold| other.member != one.member && other.from < one.until && one.from < other.until;
            violations.extend(
                holds[place..].iter().find(overlaps).map(|other| format!("{}, and {}", told(one), told(other))),
            );
        }
    }
    for commit in groups.commits.iter().filter(|commit| commit.is_done()) {
        for (partition, _) in &commit.offsets {
            let holds = cursors.get(&(commit.who.group, *partition)).map_or(&[][..], Vec::as_slice);
            violations
                .extend(lost_before(commit, holds).map(|other| format!("{}, although {}", words(commit), told(other))));
        }
    }
    violations
}

/// Who had the partition when the commit began, if it was another member than the one that committed.
fn lost_before<'a>(commit: &Commit, holds: &[&'a Hold]) -> Option<&'a Hold> {
    let last = holds.iter().rev().find(|hold| hold.from <= commit.begun)?;
    (last.member != commit.who.member).then_some(last)
}

fn told(hold: &Hold) -> String {
    let Hold { cursor: (group, partition), member, from, until } = hold;
    let (from, until) = (from.as_secs_f64(), until.as_secs_f64());
    format!("partition {partition} of group {group} is {member}'s from {from:.3}s to {until:.3}s")
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{GroupSample, at};
    use crate::history::groups::Outcome;

    use super::*;

    fn hold(sample: &mut GroupSample, member: &str, from: u64, until: u64) {
        let member = member.to_owned();
        sample.history.groups.holds.push(Hold { cursor: ("g", 0), member, from: at(from), until: at(until) });
    }

    #[test]
    fn two_holders_at_a_time_are_seen() {
        let mut sample = GroupSample::default();
        hold(&mut sample, "a", 1, 4);
        hold(&mut sample, "b", 4, 6);
        hold(&mut sample, "a", 6, 6);
        assert!(check(&sample.history).is_empty());
        hold(&mut sample, "c", 5, 7);
        assert_eq!(check(&sample.history).len(), 2, "b has it until then, and a gets it meanwhile");
    }

    #[test]
    fn a_commit_of_the_one_before_is_seen() {
        let mut sample = GroupSample::default();
        hold(&mut sample, "a", 1, 2);
        sample.commit("a", None, 1, (3, 4), 5, Outcome::Done);
        hold(&mut sample, "b", 5, 8);
        sample.commit("a", None, 1, (6, 7), 6, Outcome::Refused);
        sample.commit("b", None, 2, (6, 7), 7, Outcome::Done);
        assert!(check(&sample.history).is_empty());
        sample.commit("a", None, 1, (6, 7), 8, Outcome::Done);
        assert_eq!(check(&sample.history).len(), 1);
    }
}
