//! Where the newest record of each key is, as far as memory allows. Keys are known by 128 bits of hash, as Kafka's offset map does.
//! Bounded: `bytes` of memory, about `KEY_BYTES` a key.
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use model::planted::{self, Bug};

/// Memory of one key: hash, offset, and its share of a tree's node.
const KEY_BYTES: usize = 48;

/// See the file header.
pub(super) struct Keys {
    newest: BTreeMap<u128, i64>,
    keys_max: usize,
}

impl Keys {
    /// As many keys as fit in `bytes`; one at least.
    pub(super) fn new(bytes: usize) -> Self {
        Self { newest: BTreeMap::new(), keys_max: (bytes / KEY_BYTES).max(1) }
    }

    /// Whether there is no room for another key.
    pub(super) fn is_full(&self) -> bool {
        self.newest.len() >= self.keys_max
    }

    /// A record of `key` is at `offset`, above those noted before.
    pub(super) fn note(&mut self, key: &[u8], offset: i64) {
        self.newest.insert(hash(key), offset);
    }

    /// Whether no newer record of `key` than the one at `offset` was noted.
    pub(super) fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        let newest = self.newest.get(&hash(key));
        newest.is_none_or(|newest| *newest <= offset) != (newest.is_some() && planted::is(Bug::MoveKeepsOldest))
    }
}

fn hash(key: &[u8]) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(key);
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_key_is_known_until_memory_ends() {
        let mut keys = Keys::new(2 * KEY_BYTES);
        keys.note(b"a", 1);
        keys.note(b"a", 5);
        assert!(!keys.is_full());
        keys.note(b"", 7);
        assert!(keys.is_full());
        assert!(!keys.is_newest(b"a", 1) && keys.is_newest(b"a", 5) && keys.is_newest(b"a", 9));
        assert!(!keys.is_newest(b"", 6) && keys.is_newest(b"never noted", 0));
    }
}
