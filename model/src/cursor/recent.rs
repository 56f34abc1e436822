//! What was published to a log lately, by keys of its publishers' choice: one that comes again is not appended again.
//! Invariants: at most [`limits::RECENT_KEYS_MAX`] keys, of which those that end first make room; a key whose time is over is as good as
//! forgotten, whether or not it still stands here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::planted::{self, Bug};

/// Keys forgotten for each one that is taken: more than come, so that what is over goes in the end.
const FORGET_PER_TAKE: usize = 4;

/// A message that shall be in the log once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Once {
    /// Until when another one of this key is the same message, ms since 1970.
    pub until: i64,
    /// A digest of the publisher's key.
    pub key: u128,
}

/// See the file header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    keys: BTreeMap<u128, i64>,
    ends: BTreeSet<Once>,
}

impl Recent {
    /// Whether a message of this key came, and its time is not over at `now`.
    pub(crate) fn knows(&self, key: u128, now: i64) -> bool {
        !planted::is(Bug::PublishedAgain) && self.keys.get(&key).is_some_and(|until| *until > now)
    }

    /// A message came at `now`: the keys that are forgotten.
    pub(crate) fn take(&mut self, once: Once, now: i64) -> Vec<u128> {
        self.put(once);
        let is_over = |this: &Self, first: &Once| first.until <= now || this.ends.len() > limits::RECENT_KEYS_MAX;
        let mut gone = Vec::new();
        while let Some(first) = self.ends.first().copied().filter(|first| is_over(self, first))
            && gone.len() < FORGET_PER_TAKE
        {
            self.forget(first.key);
            gone.push(first.key);
        }
        gone
    }

    /// A row.
    pub(crate) fn put(&mut self, once: Once) {
        self.forget(once.key);
        self.keys.insert(once.key, once.until);
        self.ends.insert(once);
    }

    /// The row of this key is gone.
    pub(crate) fn forget(&mut self, key: u128) {
        if let Some(until) = self.keys.remove(&key) {
            self.ends.remove(&Once { until, key });
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = Once> + '_ {
        self.ends.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_until_its_time_is_over() {
        let mut recent = Recent::default();
        assert_eq!(recent.take(Once { until: 10, key: 1 }, 0), []);
        assert!(recent.knows(1, 9) && !recent.knows(1, 10) && !recent.knows(2, 0));
        assert_eq!(recent.take(Once { until: 30, key: 1 }, 10), [], "it came again, and stands once");
        assert!(recent.knows(1, 29));
        assert_eq!(recent.take(Once { until: 40, key: 2 }, 30), [1]);
        assert_eq!(recent.all().collect::<Vec<_>>(), [Once { until: 40, key: 2 }]);
    }

    #[test]
    fn those_that_end_first_make_room() {
        let mut recent = Recent::default();
        let count = limits::RECENT_KEYS_MAX as u128 + 10;
        let gone: Vec<u128> =
            (0..count).flat_map(|key| recent.take(Once { until: 1_000 + key as i64, key }, 0)).collect();
        assert_eq!(gone, (0..10).collect::<Vec<_>>());
        assert_eq!(recent.all().count(), limits::RECENT_KEYS_MAX);
    }
}
