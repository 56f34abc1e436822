//! Server-side assignors (KIP-848): which member of a group reads which partition. Pure functions of who subscribes to what and
//! who has what. Invariants: every partition that somebody subscribes to has exactly one member, who subscribes to it; `uniform`
//! moves a partition only to make loads equal, so that what need not move stays.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{PartitionIndex, TopicId};

/// A partition of a topic by its id: a topic made anew under an old name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// Which topic.
    pub topic: TopicId,
    /// Which partition of it.
    pub partition: PartitionIndex,
}

/// A way to assign, by the name that clients ask for (`group.remote.assignor`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assignor {
    /// Equal counts, and as few moves as that allows.
    #[default]
    Uniform,
    /// Of each topic a run of neighbouring partitions; the same runs of topics with as many partitions.
    Range,
}

/// What there is to assign, and to whom.
pub struct Case<'a> {
    /// What each member subscribes to.
    pub members: BTreeMap<&'a str, &'a BTreeSet<TopicId>>,
    /// How many partitions each topic has.
    pub topics: &'a BTreeMap<TopicId, i32>,
    /// Who reads what at this moment: rather than these, partitions move that nobody has got yet.
    pub owners: &'a BTreeMap<Spot, String>,
}

/// Each member's partitions; every member has an entry.
pub type Assignment = BTreeMap<String, BTreeSet<Spot>>;

impl Assignor {
    /// By the name on the wire.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// Who reads what; `before` is who was to read what until now.
    pub fn assign(self, case: &Case<'_>, before: &Assignment) -> Assignment {
        match self {
            Assignor::Uniform => uniform(case, before),
            Assignor::Range => range(case),
        }
    }
}

impl Case<'_> {
    fn subscribers(&self, topic: TopicId) -> impl Iterator<Item = &str> {
        self.members.iter().filter(move |(_, topics)| topics.contains(&topic)).map(|(member, _)| *member)
    }

    fn subscribes(&self, member: &str, topic: TopicId) -> bool {
        self.members.get(member).is_some_and(|topics| topics.contains(&topic))
    }

    fn spots(&self) -> impl Iterator<Item = Spot> {
        let spot = |topic: TopicId, partition| Spot { topic, partition: PartitionIndex(partition) };
        self.topics.iter().flat_map(move |(topic, count)| (0..*count).map(move |partition| spot(*topic, partition)))
    }

    fn exists(&self, spot: &Spot) -> bool {
        self.topics.get(&spot.topic).is_some_and(|count| (0..*count).contains(&spot.partition.0))
    }
}

fn range(case: &Case<'_>) -> Assignment {
    let mut assignment: Assignment =
        case.members.keys().map(|member| ((*member).to_owned(), BTreeSet::new())).collect();
    for (topic, count) in case.topics {
        let members: Vec<&str> = case.subscribers(*topic).collect();
        let count = usize::try_from(*count).unwrap_or(0);
        for (place, member) in members.iter().enumerate() {
            // The first `count % members` have one more.
            let begin = |place: usize| count / members.len() * place + place.min(count % members.len());
            let run = (begin(place)..begin(place + 1))
                .map(|partition| Spot { topic: *topic, partition: PartitionIndex(partition as i32) });
            assignment.entry((*member).to_owned()).or_default().extend(run);
        }
    }
    assignment
}

/// The members by how much they have, so that the least loaded is found first.
struct Loads<'a> {
    case: &'a Case<'a>,
    has: Assignment,
    order: BTreeSet<(usize, String)>,
}

impl Loads<'_> {
    fn load(&self, member: &str) -> usize {
        self.has.get(member).map_or(0, BTreeSet::len)
    }

    fn give(&mut self, member: &str, spot: Spot) {
        self.order.remove(&(self.load(member), member.to_owned()));
        self.has.entry(member.to_owned()).or_default().insert(spot);
        self.order.insert((self.load(member), member.to_owned()));
    }

    fn take(&mut self, member: &str, spot: Spot) {
        self.order.remove(&(self.load(member), member.to_owned()));
        self.has.entry(member.to_owned()).or_default().remove(&spot);
        self.order.insert((self.load(member), member.to_owned()));
    }

    fn least_loaded(&self, topic: TopicId) -> Option<(usize, String)> {
        self.order.iter().find(|(_, member)| self.case.subscribes(member, topic)).cloned()
    }

    /// A partition of `member`, and who has at least two fewer and may have it.
    fn relief(&self, member: &str) -> Option<(Spot, String)> {
        let (load, spots) = (self.load(member), self.has.get(member)?);
        let owned = |spot: &&Spot| self.case.owners.get(*spot).is_some_and(|owner| owner == member);
        let not_yet = spots.iter().rev().filter(|spot| !owned(spot));
        let mut asked = None;
        let one_a_topic = not_yet
            .chain(spots.iter().rev().filter(owned))
            .filter(|spot| asked.replace(spot.topic) != Some(spot.topic));
        let mut others = one_a_topic.filter_map(|spot| Some((*spot, self.least_loaded(spot.topic)?)));
        others.find(|(_, (least, _))| least + 2 <= load).map(|(spot, (_, other))| (spot, other))
    }

    fn next_move(&self) -> Option<(String, Spot, String)> {
        self.order.iter().rev().find_map(|(_, member)| {
            let (spot, other) = self.relief(member)?;
            Some((member.clone(), spot, other))
        })
    }

    /// Always from who has most, so that nothing moves twice. Each move makes the sum of squared loads smaller, so this ends.
    fn balance(&mut self) {
        while let Some((member, spot, other)) = self.next_move() {
            self.take(&member, spot);
            self.give(&other, spot);
        }
    }
}

fn uniform(case: &Case<'_>, before: &Assignment) -> Assignment {
    let has = case.members.keys().map(|member| ((*member).to_owned(), BTreeSet::new())).collect();
    let order = case.members.keys().map(|member| (0, (*member).to_owned())).collect();
    let mut loads = Loads { case, has, order };
    let mut kept = BTreeSet::new();
    for (member, spots) in before.iter().filter(|(member, _)| case.members.contains_key(member.as_str())) {
        for spot in spots.iter().filter(|spot| case.exists(spot) && case.subscribes(member, spot.topic)) {
            if kept.insert(*spot) {
                loads.give(member, *spot);
            }
        }
    }
    for spot in case.spots().filter(|spot| !kept.contains(spot)) {
        if let Some((_, member)) = loads.least_loaded(spot.topic) {
            loads.give(&member, spot);
        }
    }
    loads.balance();
    loads.has
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    /// Members by what they subscribe to, topics by their partitions.
    fn sample() -> impl Strategy<Value = (Vec<BTreeSet<u8>>, Vec<i32>)> {
        let topics = proptest::collection::vec(0i32..12, 1..5);
        let members = proptest::collection::vec(proptest::collection::btree_set(0u8..5, 0..5), 0..7);
        (members, topics)
    }

    fn subscriptions(members: &[BTreeSet<u8>]) -> BTreeMap<String, BTreeSet<TopicId>> {
        let named = members.iter().enumerate();
        named
            .map(|(place, topics)| (format!("m{place}"), topics.iter().map(|number| topic(*number)).collect()))
            .collect()
    }

    fn counts(topics: &[i32]) -> BTreeMap<TopicId, i32> {
        (0..).zip(topics).map(|(number, count)| (topic(number), *count)).collect()
    }

    fn case<'a>(subscribed: &'a BTreeMap<String, BTreeSet<TopicId>>, topics: &'a BTreeMap<TopicId, i32>) -> Case<'a> {
        static NOBODY: BTreeMap<Spot, String> = BTreeMap::new();
        Case {
            owners: &NOBODY,
            members: subscribed.iter().map(|(member, topics)| (member.as_str(), topics)).collect(),
            topics,
        }
    }

    fn is_right(case: &Case<'_>, assignment: &Assignment) -> Result<(), TestCaseError> {
        let all: Vec<Spot> = assignment.values().flatten().copied().collect();
        let distinct: BTreeSet<Spot> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), distinct.len(), "a partition has two readers");
        let wanted: BTreeSet<Spot> =
            case.spots().filter(|spot| case.subscribers(spot.topic).next().is_some()).collect();
        prop_assert_eq!(distinct, wanted);
        for (member, spots) in assignment {
            prop_assert!(spots.iter().all(|spot| case.subscribes(member, spot.topic)), "not subscribed");
        }
        Ok(())
    }

    fn moved(before: &Assignment, after: &Assignment) -> usize {
        before.iter().map(|(member, spots)| after.get(member).map_or(0, |now| spots.difference(now).count())).sum()
    }

    #[test]
    fn range_gives_runs_and_the_first_have_more() {
        let subscribed = subscriptions(&[[0, 1].into(), [0, 1].into(), [1].into()]);
        let topics = counts(&[5, 4]);
        let assignment = Assignor::Range.assign(&case(&subscribed, &topics), &Assignment::new());
        let told = |member: &str| {
            assignment[member]
                .iter()
                .map(|spot| format!("{}-{}", spot.topic.0[0], spot.partition.0))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!([told("m0"), told("m1"), told("m2")], ["0-0 0-1 0-2 1-0 1-1", "0-3 0-4 1-2", "1-3"]);
    }

    #[test]
    fn who_comes_or_goes_moves_only_its_share() {
        let topics = counts(&[12]);
        let members = |count| subscriptions(&vec![BTreeSet::from([0]); count]);
        let mut before = Assignor::Uniform.assign(&case(&members(1), &topics), &Assignment::new());
        for count in 2..=12 {
            let after = Assignor::Uniform.assign(&case(&members(count), &topics), &before);
            assert_eq!(moved(&before, &after), 12 / count, "{count} members");
            before = after;
        }
        let mut left = members(12);
        left.remove("m5");
        let after = Assignor::Uniform.assign(&case(&left, &topics), &before);
        let stayed = before.iter().filter(|(member, _)| *member != "m5");
        assert!(stayed.clone().count() == 11 && stayed.clone().all(|(member, spots)| spots.is_subset(&after[member])));
    }

    proptest! {
        #![proptest_config(crate::testing::config())]

        #[test]
        fn each_partition_has_one_subscribed_reader_and_nothing_moves_in_vain((first, topics) in sample(), (second, others) in sample()) {
            let (one, two) = (subscriptions(&first), subscriptions(&second));
            let (topics, others) = (counts(&topics), counts(&others));
            for assignor in [Assignor::Uniform, Assignor::Range] {
                let (cases, nothing) = ([case(&one, &topics), case(&two, &others)], Assignment::new());
                let before = assignor.assign(&cases[0], &nothing);
                is_right(&cases[0], &before)?;
                prop_assert_eq!(&assignor.assign(&cases[0], &before), &before, "nothing changed, so nothing moves");
                is_right(&cases[1], &assignor.assign(&cases[1], &before))?;
            }
        }

        #[test]
        fn uniform_loads_differ_by_one_where_all_subscribe_alike(members in 1usize..9, topics in proptest::collection::vec(0i32..20, 1..4), left in 0usize..9) {
            let all: BTreeSet<u8> = (0..4).collect();
            let (subscribed, topics) = (subscriptions(&vec![all; members]), counts(&topics));
            let before = Assignor::Uniform.assign(&case(&subscribed, &topics), &Assignment::new());
            let mut fewer = subscribed.clone();
            fewer.remove(&format!("m{left}"));
            let after = Assignor::Uniform.assign(&case(&fewer, &topics), &before);
            for assignment in [&before, &after] {
                let loads = || assignment.values().map(BTreeSet::len);
                prop_assert!(loads().max().unwrap_or(0) - loads().min().unwrap_or(0) <= 1);
            }
            prop_assert!(fewer.is_empty() || fewer.keys().all(|member| before[member].is_subset(&after[member])), "a move in vain");
        }
    }
}
