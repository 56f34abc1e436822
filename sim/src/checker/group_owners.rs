//! S7: in one generation of a group a partition has one owner, one member assigns, and everybody gets what it assigned. A static
//! member that came back under another id is the same owner.

use std::collections::BTreeMap;

use crate::history::History;
use crate::history::groups::{Parts, Share};

/// Partitions with two owners, parts that nobody assigned, and generations that two members lead.
pub fn check(history: &History) -> Vec<String> {
    let groups = &history.groups;
    let mut violations = Vec::new();
    let mut owners: BTreeMap<(&str, i32, i32), &Share> = BTreeMap::new();
    for share in &groups.shares {
        let (who, at) = (&share.who, share.at.as_secs_f64());
        let (group, generation) = (who.group, who.generation);
        for partition in &share.partitions {
            let first = owners.entry((group, generation, *partition)).or_insert(share);
            if first.who.label() != who.label() {
                let (one, other) = (first.who.label(), who.label());
                violations.push(format!(
                    "partition {partition} is {one}'s and {other}'s in generation {generation} of group {group} at {at:.3}s"
                ));
            }
        }
        let assigned = groups.assigned.get(&(group, generation));
        let as_assigned = |parts: &Parts| {
            parts.get(who.label()).map_or(share.partitions.is_empty(), |part| *part == share.partitions)
        };
        if !assigned.is_some_and(|assigned| assigned.iter().any(as_assigned)) {
            let (label, part) = (who.label(), &share.partitions);
            violations.push(format!(
                "{label} got {part:?} at {at:.3}s in generation {generation} of group {group}, where {assigned:?} was assigned"
            ));
        }
    }
    let mut leaders: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for join in groups.joins.iter().filter(|join| join.leads) {
        let (group, generation, label) = (join.who.group, join.who.generation, join.who.label());
        let first = *leaders.entry((group, generation)).or_insert(label);
        if first != label {
            violations
                .push(format!("{first} and {label} are told to assign in generation {generation} of group {group}"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::GroupSample;

    use super::*;

    #[test]
    fn two_owners_a_part_that_nobody_assigned_and_two_leaders_are_seen() {
        let mut sample = GroupSample::default();
        sample.assign(1, &[("a", &[0, 1]), ("b", &[2])]);
        sample.share("a", 1, &[0, 1]);
        sample.share("b", 1, &[2]);
        sample.lead("a", 1);
        sample.lead("a", 1);
        sample.lead("b", 2);
        assert!(check(&sample.history).is_empty());
        sample.share("b", 1, &[1]);
        assert_eq!(check(&sample.history).len(), 2, "it is not b's, and a has it");
        sample.lead("b", 1);
        assert_eq!(check(&sample.history).len(), 3);
        sample.share("c", 1, &[]);
        assert_eq!(check(&sample.history).len(), 3, "who is not named has nothing");
        sample.share("c", 3, &[]);
        assert_eq!(check(&sample.history).len(), 4, "nobody has assigned");
    }
}
