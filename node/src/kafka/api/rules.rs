//! What a topic's configs ask of a batch, worked out once per topic and version of the image.
//! Bounded by the topics of the cluster; emptied whenever the image changes.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use model::controller::{Image, Topic};
use model::{NodeId, TopicId};

/// The configs that admission reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Rules {
    /// `max.message.bytes`.
    pub(super) bytes_max: usize,
    /// `message.timestamp.before.max.ms` and `after`: how far a timestamp may be from the clock. None where the
    /// broker stamps.
    pub(super) clock_ms: Option<(i64, i64)>,
    /// Whether every record must have a key: `cleanup.policy` has `compact`.
    pub(super) keyed: bool,
}

impl Rules {
    fn of(image: &Image, topic: &Topic, node: NodeId) -> Self {
        let number = |name| image.topic_value(topic, name, Some(node)).parse().unwrap_or(i64::MAX);
        let limits = || (number("message.timestamp.before.max.ms"), number("message.timestamp.after.max.ms"));
        Self {
            bytes_max: image.max_message_bytes(topic, Some(node)),
            clock_ms: (!image.is_log_append_time(topic, Some(node))).then(limits),
            keyed: image.cleans_up_by("compact", topic, Some(node)),
        }
    }

    /// Whether a batch with timestamps between these two may be appended at `now`.
    pub(super) fn allow_times(&self, oldest_ms: i64, newest_ms: i64, now_ms: i64) -> bool {
        self.clock_ms.is_none_or(|(before, after)| {
            now_ms.saturating_sub(oldest_ms) <= before && newest_ms.saturating_sub(now_ms) <= after
        })
    }
}

/// The rules of the topics that were produced to lately.
#[derive(Default)]
pub(in crate::kafka) struct Known(Mutex<(u64, BTreeMap<TopicId, Rules>)>);

impl Known {
    /// The rules of a topic of this image.
    pub(super) fn rules(&self, image: &Image, topic: &Topic, node: NodeId) -> Rules {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != image.version {
            *known = (image.version, BTreeMap::new());
        }
        *known.1.entry(topic.id).or_insert_with(|| Rules::of(image, topic, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::controller::image::Configs;

    fn topic(configs: &[(&str, &str)]) -> Topic {
        let configs: Configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Topic { id: TopicId([1; 16]), name: "t".into(), configs, partitions: Vec::new() }
    }

    #[test]
    fn defaults_are_kafkas() {
        let rules = Rules::of(&Image::default(), &topic(&[]), NodeId(1));
        assert_eq!(rules, Rules { bytes_max: 1_048_588, clock_ms: Some((i64::MAX, 3_600_000)), keyed: false });
        assert!(rules.allow_times(0, 3_600_000, 0) && !rules.allow_times(0, 3_600_001, 0));
        assert!(rules.allow_times(-1, -1, i64::MAX), "a client without a clock");
    }

    #[test]
    fn the_past_is_limited_when_it_is_said_so_and_stamping_needs_no_limit() {
        let past = [("message.timestamp.before.max.ms", "1000")];
        let rules = Rules::of(&Image::default(), &topic(&past), NodeId(1));
        assert!(rules.allow_times(9_000, 9_500, 10_000) && !rules.allow_times(8_999, 9_500, 10_000));
        assert!(Rules::of(&Image::default(), &topic(&[("cleanup.policy", "delete,compact")]), NodeId(1)).keyed);
        let stamped = [past[0], ("message.timestamp.type", "LogAppendTime")];
        assert!(Rules::of(&Image::default(), &topic(&stamped), NodeId(1)).allow_times(0, i64::MAX, 10_000));
    }

    #[test]
    fn what_is_known_is_forgotten_with_the_image() {
        let known = Known::default();
        let mut image = Image::default();
        assert_eq!(known.rules(&image, &topic(&[]), NodeId(1)).bytes_max, 1_048_588);
        let changed = topic(&[("max.message.bytes", "7")]);
        assert_eq!(known.rules(&image, &changed, NodeId(1)).bytes_max, 1_048_588, "the same version, the same topic");
        image.version += 1;
        assert_eq!(known.rules(&image, &changed, NodeId(1)).bytes_max, 7);
    }
}
