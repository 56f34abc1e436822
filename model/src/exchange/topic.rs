//! Patterns of words, as a tree of words: `*` is one word, `#` any number of them. Copy-on-write along the path that changes.
//! Invariant: a pattern is found at most once, and the work is bounded by words times nodes, whatever the patterns are.

use std::collections::BTreeMap;
use std::sync::Arc;

const ONE: &str = "*";
const MANY: &str = "#";

/// The empty text has no words, as in RabbitMQ.
fn words(text: &str) -> impl Iterator<Item = &str> {
    (!text.is_empty()).then(|| text.split('.')).into_iter().flatten()
}

/// A word of patterns, and those that go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    next: BTreeMap<Arc<str>, Arc<Tree>>,
    /// The pattern that ends here.
    pattern: Option<Arc<str>>,
}

impl Tree {
    pub fn insert(&mut self, pattern: &Arc<str>) {
        let mut node = self;
        for word in words(pattern) {
            node = Arc::make_mut(node.next.entry(Arc::from(word)).or_default());
        }
        node.pattern = Some(pattern.clone());
    }

    pub fn remove(&mut self, pattern: &str) {
        self.remove_words(words(pattern));
    }

    fn remove_words<'a>(&mut self, mut words: impl Iterator<Item = &'a str>) {
        let Some(word) = words.next() else {
            self.pattern = None;
            return;
        };
        let Some(node) = self.next.get_mut(word).map(Arc::make_mut) else { return };
        node.remove_words(words);
        if node.pattern.is_none() && node.next.is_empty() {
            self.next.remove(word);
        }
    }

    /// Calls `found` with each pattern that `key` fits. A node may be reached on several ways only if it stands behind a `#`:
    /// those are kept apart, and taken once.
    pub fn each<'a>(&'a self, key: &str, mut found: impl FnMut(&'a str)) {
        let mut here = Here::default();
        here.reach(self, false);
        for word in words(key) {
            let before = std::mem::take(&mut here);
            for node in before.many {
                here.reach(node, true);
            }
            for node in before.nodes {
                let named = node.next.get(word).filter(|_| word != ONE && word != MANY);
                for next in named.into_iter().chain(node.next.get(ONE)) {
                    here.reach(next, false);
                }
            }
        }
        here.nodes.iter().filter_map(|node| node.pattern.as_deref()).for_each(&mut found);
    }
}

/// The nodes that a part of the key leads to.
#[derive(Default)]
struct Here<'a> {
    nodes: Vec<&'a Tree>,
    /// Those of them that stand behind a `#`, and stay whatever comes.
    many: Vec<&'a Tree>,
}

impl<'a> Here<'a> {
    fn reach(&mut self, mut node: &'a Tree, mut is_many: bool) {
        loop {
            if is_many {
                if self.many.iter().any(|known| std::ptr::eq(*known, node)) {
                    return;
                }
                self.many.push(node);
            }
            self.nodes.push(node);
            let Some(next) = node.next.get(MANY) else { return };
            (node, is_many) = (next, true);
        }
    }
}
