//! S8: committed offsets are a register that only the owner writes. Whoever reads one gets the newest commit that counted before the
//! question, or one that was under way; never one that was refused, or an older one, or none (Jepsen on Bufstream: spurious zero
//! offsets). Commits are ordered by generation, then by the lives of a static member, then by time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::History;
use crate::history::groups::{Commit, Fetch, Groups, Outcome};

/// A commit with what is known of its place in the order.
struct Known<'a> {
    commit: &'a Commit,
    era: (i32, usize),
    /// Since when it is known to count.
    since: Duration,
}

impl Known<'_> {
    fn precedes(&self, other: &Known<'_>) -> bool {
        self.era < other.era || (self.era == other.era && self.since <= other.commit.begun)
    }
}

/// Reads that are wrong.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let known = known(groups);
    groups.fetches.iter().filter_map(|fetch| wrong(fetch, &known)).collect()
}

fn known<'a>(groups: &'a Groups) -> Vec<Known<'a>> {
    let mut seen: BTreeMap<usize, Duration> = BTreeMap::new();
    for fetch in &groups.fetches {
        if let Some((_, number)) = fetch.found {
            let first = seen.entry(number).or_insert(fetch.during.1);
            *first = fetch.during.1.min(*first);
        }
    }
    let known = |(number, commit): (usize, &'a Commit)| {
        let done = commit.ended.filter(|(_, outcome)| *outcome == Outcome::Done).map(|(at, _)| at);
        let since = done.into_iter().chain(seen.get(&number).copied()).min().unwrap_or(Duration::MAX);
        Known { commit, era: (commit.who.generation, groups.incarnation(&commit.who)), since }
    };
    groups.commits.iter().enumerate().map(known).collect()
}

fn wrong(fetch: &Fetch, known: &[Known<'_>]) -> Option<String> {
    let ((group, partition), (begun, ended)) = (fetch.cursor, fetch.during);
    let is_due = |other: &&Known<'_>| {
        let same = other.commit.who.group == group && other.commit.offset(partition).is_some();
        same && other.since <= begun
    };
    let words = |what: String| {
        let (begun, ended) = (begun.as_secs_f64(), ended.as_secs_f64());
        Some(format!("partition {partition} of group {group} was read from {begun:.3}s to {ended:.3}s: {what}"))
    };
    let Some((offset, number)) = fetch.found else {
        let due = known.iter().rfind(is_due)?;
        return words(format!("nothing, but {:?} counts since {:?}", due.commit, due.since));
    };
    let found = known.get(number).filter(|found| found.commit.who.group == group && found.commit.begun <= ended);
    let Some(found) = found else { return words(format!("{offset}, which nobody has committed (commit {number})")) };
    if found.commit.offset(partition) != Some(offset) {
        return words(format!("{offset}, but {:?} says otherwise", found.commit));
    }
    if matches!(found.commit.ended, Some((_, Outcome::Refused))) {
        return words(format!("{offset} of a commit that was refused, {:?}", found.commit));
    }
    let newer = known.iter().filter(is_due).find(|other| found.precedes(other))?;
    words(format!("{offset} of {:?}, but {:?} is newer and counts since {:?}", found.commit, newer.commit, newer.since))
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::GroupSample;

    use super::*;

    /// Two commits, of generations 1 and 2, the second of which is `outcome`; then somebody reads.
    fn violations(outcome: Outcome, found: Option<(i64, usize)>) -> usize {
        let mut sample = GroupSample::default();
        sample.join(1, "a", None, 1);
        sample.join(3, "b", None, 2);
        sample.commit("a", None, 1, (1, 2), 5, Outcome::Done);
        sample.commit("b", None, 2, (3, 6), 8, outcome);
        sample.fetch((7, 8), found);
        check(&sample.history).len()
    }

    #[test]
    fn lost_old_refused_and_invented_commits_are_seen() {
        assert_eq!(violations(Outcome::Done, Some((8, 1))), 0);
        assert_eq!(violations(Outcome::Done, Some((5, 0))), 1, "an older one");
        assert_eq!(violations(Outcome::Done, None), 1);
        assert_eq!(violations(Outcome::Done, Some((9, 1))), 1, "another offset");
        assert_eq!(violations(Outcome::Done, Some((8, 7))), 1, "nobody's");
        assert_eq!(violations(Outcome::Unknown, Some((8, 1))), 0);
        assert_eq!(violations(Outcome::Unknown, Some((5, 0))), 0);
        assert_eq!(violations(Outcome::Refused, Some((8, 1))), 1);
        assert_eq!(violations(Outcome::Refused, Some((5, 0))), 0);
    }

    #[test]
    fn what_was_read_once_is_not_gone_at_the_next_read() {
        let mut sample = GroupSample::default();
        sample.join(1, "a", None, 1);
        sample.commit("a", None, 1, (1, 2), 5, Outcome::Done);
        sample.commit("a", None, 1, (3, 4), 8, Outcome::Unknown);
        sample.fetch((5, 6), Some((8, 1)));
        assert!(check(&sample.history).is_empty());
        sample.fetch((7, 8), Some((5, 0)));
        assert_eq!(check(&sample.history).len(), 1);
    }

    #[test]
    fn a_late_commit_of_the_same_member_may_come_back_but_not_one_of_an_older_life() {
        let mut sample = GroupSample::default();
        sample.join(1, "a", Some("one"), 1);
        sample.commit("a", Some("one"), 1, (1, 2), 5, Outcome::Unknown);
        sample.commit("a", Some("one"), 1, (3, 4), 8, Outcome::Done);
        sample.fetch((5, 6), Some((5, 0)));
        assert!(check(&sample.history).is_empty(), "its bytes may have been late");
        sample.join(7, "b", Some("one"), 1);
        sample.commit("b", Some("one"), 1, (8, 9), 9, Outcome::Done);
        sample.fetch((10, 11), Some((5, 0)));
        assert_eq!(check(&sample.history).len(), 1);
    }
}
