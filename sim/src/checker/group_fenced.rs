//! S7: no zombie's commit counts. Once a member of a later generation has been told of it, or a static member's next life has
//! joined, a commit of the older one is refused; and generations only rise (KIP-62, KIP-345; Kafka's ILLEGAL_GENERATION and
//! FENCED_INSTANCE_ID).

use std::collections::BTreeMap;

use crate::history::History;
use crate::history::groups::{Commit, Join};

/// Acknowledged commits of members that had been overtaken when they asked, and generations that went back.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let mut violations = Vec::new();
    for commit in groups.commits.iter().filter(|commit| commit.is_done()) {
        let mine = groups.incarnation(&commit.who);
        let overtakes = |(place, join): &(usize, &Join)| {
            let who = &join.who;
            let next_life = who.instance.is_some() && who.instance == commit.who.instance && *place > mine;
            let other = who.member != commit.who.member && next_life;
            join.at <= commit.begun
                && who.group == commit.who.group
                && (who.generation > commit.who.generation || other)
        };
        if let Some((_, join)) = groups.joins.iter().enumerate().find(overtakes) {
            violations.push(format!("{}, although {}", words(commit), told(join)));
        }
    }
    let mut last: BTreeMap<(&str, &str), &Join> = BTreeMap::new();
    for join in &groups.joins {
        let before = last.insert((join.who.group, join.who.member.as_str()), join);
        if let Some(before) = before.filter(|before| before.who.generation > join.who.generation) {
            violations.push(format!("{}, but before {}", told(join), told(before)));
        }
    }
    violations
}

/// Whose commit it was, and when.
pub fn words(commit: &Commit) -> String {
    let (who, begun) = (&commit.who, commit.begun.as_secs_f64());
    format!(
        "a commit that {} of generation {} began at {begun:.3}s in group {} counts",
        who.member, who.generation, who.group
    )
}

fn told(join: &Join) -> String {
    let (who, at) = (&join.who, join.at.as_secs_f64());
    format!("{} was told of generation {} of group {} at {at:.3}s", who.member, who.generation, who.group)
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::GroupSample;
    use crate::history::groups::Outcome;

    use super::*;

    fn violations(generation: i32, begun: u64, outcome: Outcome) -> usize {
        let mut sample = GroupSample::default();
        sample.join(1, "a", None, 1);
        sample.join(5, "b", None, 2);
        sample.commit("a", None, generation, (begun, begun + 1), 7, outcome);
        check(&sample.history).len()
    }

    #[test]
    fn a_commit_of_an_older_generation_is_seen() {
        assert_eq!(violations(1, 4, Outcome::Done), 0, "nobody had been told of the next one");
        assert_eq!(violations(1, 6, Outcome::Refused), 0);
        assert_eq!(violations(1, 6, Outcome::Done), 1);
        assert_eq!(violations(2, 6, Outcome::Done), 0);
    }

    #[test]
    fn the_old_life_of_a_static_member_and_a_generation_that_falls_are_seen() {
        let mut sample = GroupSample::default();
        sample.join(1, "a", Some("one"), 1);
        sample.join(2, "b", Some("one"), 1);
        sample.commit("b", Some("one"), 1, (3, 4), 7, Outcome::Done);
        assert!(check(&sample.history).is_empty());
        sample.commit("a", Some("one"), 1, (3, 4), 5, Outcome::Done);
        assert_eq!(check(&sample.history).len(), 1);
        sample.join(6, "b", Some("one"), 0);
        assert_eq!(check(&sample.history).len(), 2);
    }
}
