//! The bindings of one exchange, found by what a message says. A change copies pointers, so that images share what stayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::topic::Tree;
use super::value::Args;
use super::{Binding, Destination, ExchangeKind, HashOn, Routed, hash, headers};

/// Where the bindings of one key lead, and under which arguments.
type Ends = BTreeSet<(Destination, Args)>;

/// The routing table of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    kind: ExchangeKind,
    hash_on: HashOn,
    by_key: BTreeMap<Arc<str>, Arc<Ends>>,
    /// The keys as patterns, of a topic exchange.
    patterns: Tree,
    count: usize,
}

impl Table {
    /// The table of an exchange without bindings.
    pub fn new(kind: ExchangeKind, hash_on: HashOn) -> Self {
        Table { kind, hash_on, ..Table::default() }
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All bindings, as (key, destination, arguments).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Destination, &Args)> {
        self.by_key
            .iter()
            .flat_map(|(key, ends)| ends.iter().map(move |(destination, args)| (&**key, destination, args)))
    }

    /// Whether there is this very binding.
    pub fn has(&self, binding: &Binding) -> bool {
        let end = (binding.destination.clone(), binding.arguments.clone());
        self.by_key.get(binding.key.as_str()).is_some_and(|ends| ends.contains(&end))
    }

    /// Adds a binding; tells whether it was new.
    pub(crate) fn insert(&mut self, binding: &Binding) -> bool {
        let key: Arc<str> = Arc::from(binding.key.as_str());
        if self.kind == ExchangeKind::Topic && !self.by_key.contains_key(&key) {
            self.patterns.insert(&key);
        }
        let ends = Arc::make_mut(self.by_key.entry(key).or_default());
        let new = ends.insert((binding.destination.clone(), binding.arguments.clone()));
        self.count += usize::from(new);
        new
    }

    /// Removes a binding; tells whether it was there.
    pub(crate) fn remove(&mut self, binding: &Binding) -> bool {
        if !self.has(binding) {
            return false;
        }
        self.retain_of(&binding.key, |destination, args| {
            (destination, args) != (&binding.destination, &binding.arguments)
        });
        true
    }

    /// Removes all bindings to a destination; tells whether there were any.
    pub(crate) fn remove_all(&mut self, gone: &Destination) -> bool {
        let leads = |ends: &Ends| ends.iter().any(|(destination, _)| destination == gone);
        let keys: Vec<Arc<str>> =
            self.by_key.iter().filter(|(_, ends)| leads(ends)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.retain_of(key, |destination, _| destination != gone));
        !keys.is_empty()
    }

    fn retain_of(&mut self, key: &str, keep: impl Fn(&Destination, &Args) -> bool) {
        let Some(ends) = self.by_key.get_mut(key).map(Arc::make_mut) else { return };
        let before = ends.len();
        ends.retain(|(destination, args)| keep(destination, args));
        self.count -= before - ends.len();
        if ends.is_empty() {
            self.by_key.remove(key);
            self.patterns.remove(key);
        }
    }

    /// Calls `found` with where the message goes from here; with one destination perhaps more than once.
    pub(crate) fn each<'a>(&'a self, message: &Routed<'_>, mut found: impl FnMut(&'a Destination)) {
        match self.kind {
            ExchangeKind::Direct => self.ends_of(message.key).for_each(found),
            ExchangeKind::Topic => self.patterns.each(message.key, |key| self.ends_of(key).for_each(&mut found)),
            ExchangeKind::Fanout => self.iter().for_each(|(_, destination, _)| found(destination)),
            ExchangeKind::Headers => {
                let fits = |pattern: &Args| headers::fits(pattern, message.headers);
                self.iter().filter(|(_, _, args)| fits(args)).for_each(|(_, destination, _)| found(destination));
            }
            ExchangeKind::ConsistentHash => self.drawn(message).into_iter().for_each(found),
        }
    }

    fn ends_of(&self, key: &str) -> impl Iterator<Item = &Destination> {
        self.by_key.get(key).into_iter().flat_map(|ends| ends.iter()).map(|(destination, _)| destination)
    }

    fn drawn(&self, message: &Routed<'_>) -> Option<&Destination> {
        let subject = hash::subject(&self.hash_on, message);
        let lots = self.iter().filter_map(|(key, destination, _)| {
            Some((hash::lot(&subject, destination, hash::weight_of(key)?), destination))
        });
        lots.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, destination)| destination)
    }
}
