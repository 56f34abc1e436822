//! What members of the consumer protocol subscribe to, as the image has it now: names, and expressions of names (KIP-848).
//! Bounded: an expression is compiled within `PATTERN_BYTES_MAX`, matching is linear. Internal topics match no expression.
use std::collections::{BTreeMap, BTreeSet};

use model::TopicId;
use model::controller::Image;
use model::coordinator::{Command, Consumer, Group, Subscription};
use regex::{Regex, RegexBuilder};

use super::{After, Coordinator};

/// What a compiled expression may use of memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The members of a group and what each subscribes to.
type Subscribed = Vec<(String, BTreeSet<TopicId>)>;

/// Looks names up; expressions are compiled once.
pub(super) struct Lookup<'a> {
    image: &'a Image,
    patterns: BTreeMap<String, Option<Regex>>,
}

/// The expression, which has to match a name as a whole.
///
/// # Errors
/// It is none, or too large; in words.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
    // Alone first: `a)|(?:b` is none, though it would be one in the parentheses of the whole.
    build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))).map_err(|error| error.to_string())
}

impl<'a> Lookup<'a> {
    pub(super) fn new(image: &'a Image) -> Self {
        Self { image, patterns: BTreeMap::new() }
    }

    /// The topics that exist of a subscription.
    pub(super) fn topics(&mut self, subscription: &Subscription) -> BTreeSet<TopicId> {
        let named = subscription.names.iter().filter_map(|name| self.image.topic(name));
        let mut topics: BTreeSet<TopicId> = named.map(|topic| topic.id).collect();
        if let Some(pattern) = &subscription.pattern {
            let compiled = self.patterns.entry(pattern.clone()).or_insert_with(|| compile(pattern).ok());
            let all = compiled.iter().flat_map(|regex| self.image.topics.values().map(move |topic| (regex, topic)));
            let matching = all.filter(|(regex, topic)| !topic.is_internal() && regex.is_match(&topic.name));
            topics.extend(matching.map(|(_, topic)| topic.id));
        }
        topics
    }

    /// Those of these names that exist.
    pub(super) fn named(&self, names: &BTreeSet<String>) -> Vec<(String, TopicId)> {
        names.iter().filter_map(|name| Some((name.clone(), self.image.topic(name)?.id))).collect()
    }

    /// How many partitions these topics have.
    pub(super) fn counts(&self, topics: &BTreeSet<TopicId>) -> Vec<(TopicId, i32)> {
        let count = |id: &TopicId| {
            let topic = self.image.topic_by_id(*id)?;
            Some((*id, i32::try_from(topic.partitions.len()).ok()?))
        };
        topics.iter().filter_map(count).collect()
    }

    /// What a group subscribes to now, if that is not what it knows.
    fn news(&mut self, group: &Consumer) -> Option<(Vec<(TopicId, i32)>, Subscribed)> {
        let members: Subscribed =
            group.members.iter().map(|(id, member)| (id.clone(), self.topics(&member.subscription))).collect();
        let all: BTreeSet<TopicId> = members.iter().flat_map(|(_, topics)| topics).copied().collect();
        let counts = self.counts(&all);
        let known = group.members.values().map(|member| &member.subscription.topics);
        let same = members.iter().map(|(_, topics)| topics).eq(known)
            && group.topics.iter().map(|(id, count)| (*id, *count)).eq(counts.iter().copied());
        (!same).then_some((counts, members))
    }
}

impl Coordinator {
    /// The same of a group in which members of both protocols are: what those of the classic one said was looked up elsewhere,
    /// maybe a while ago.
    pub(super) fn refresh_mixed(&mut self, group: &str) {
        let image = self.context.image.borrow().clone();
        let news = self.read(|machine| {
            let consumer = machine.group(group)?.consumer()?;
            let mixed = consumer.members.values().any(|member| member.classic.is_some());
            mixed.then(|| Lookup::new(&image).news(consumer)).flatten()
        });
        if let Some((topics, members)) = news.flatten() {
            let refresh = Command::Refresh { group: group.to_owned(), topics, members };
            self.queue.push_back((refresh, After::Nothing));
        }
    }

    /// Tells each group which topics it subscribes to by now.
    pub(super) fn refresh(&mut self, image: &Image) {
        let mut lookup = Lookup::new(image);
        let refresh = |(id, group): (&String, &Group)| {
            let (topics, members) = lookup.news(group.consumer()?)?;
            Some(Command::Refresh { group: id.clone(), topics, members })
        };
        let commands = self.read(|machine| machine.groups().filter_map(refresh).collect::<Vec<_>>());
        self.queue.extend(commands.into_iter().flatten().map(|command| (command, After::Nothing)));
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn an_expression_matches_whole_names_and_is_bounded() {
        let regex = compile("a|orders-.*").unwrap();
        let matching: Vec<_> =
            ["a", "ab", "orders-1", "my-orders-1"].into_iter().filter(|name| regex.is_match(name)).collect();
        assert_eq!(matching, ["a", "orders-1"]);
        for bad in ["(", "a{1,1000}{1,1000}", "(?<a", "a)|(?:b"] {
            assert!(compile(bad).is_err(), "{bad}");
        }
    }
}
