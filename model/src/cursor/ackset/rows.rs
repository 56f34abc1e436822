//! The rows of an ack-set cursor: what storage keeps, and what a snapshot is. Each apply writes those that it changed, a chunk of
//! 64K offsets at most in one. Invariant: the cursor restored from the last row of each key equals the one that wrote them.
//! Rows that no cursor has written are refused whole, never repaired.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::AckSet;
use super::command::{Config, Place};
use super::outbox::Dead;
use super::set::Chunk;
use super::times::Block;
use crate::invariants::InvariantId;

/// Which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// The only one of its kind.
    State,
    /// A chunk of what is settled.
    Done(i64),
    /// A chunk of what has this priority.
    Priority(u8, i64),
    /// A block of when messages are due.
    Due(i64),
    /// A block of when messages expire.
    Expiry(i64),
    /// How often the message at this offset failed.
    Failures(i64),
    /// The dead message at this offset.
    Dead(i64),
    /// The last number given to a letter to this target.
    Last(Place),
}

impl Key {
    /// Writes the key behind `out`, so that no two are alike. The numbers are on disk and never change meaning.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut of = |kind: u8, number: i64| {
            out.push(kind);
            out.extend(number.to_be_bytes());
        };
        match *self {
            Key::State => out.push(0),
            Key::Done(chunk) => of(1, chunk),
            Key::Priority(priority, chunk) => {
                of(2, chunk);
                out.push(priority);
            }
            Key::Due(block) => of(3, block),
            Key::Expiry(block) => of(4, block),
            Key::Failures(offset) => of(5, offset),
            Key::Dead(offset) => of(6, offset),
            Key::Last(target) => {
                out.push(7);
                out.extend(target.to_be_bytes());
            }
        }
    }
}

/// What is in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Of `State`.
    State(State, Config),
    /// Of `Done` and `Priority`.
    Chunk(Chunk),
    /// Of `Due` and `Expiry`.
    Block(Block),
    /// Of `Failures` and `Last`.
    Number(u64),
    /// Of `Dead`.
    Dead(Dead),
}

/// A row, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub key: Key,
    /// What is in it; none where it is gone.
    pub value: Option<Value>,
}

/// The counters of a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// All below are settled.
    pub floor: i64,
    /// Offset of the next record of the log.
    pub next: i64,
    /// Below this offset there are no records.
    pub start: i64,
    /// Messages that ever died, by reason.
    pub dead: [u64; super::Reason::ALL.len()],
}

impl AckSet {
    /// The rows that changed since the last call.
    pub(super) fn take_rows(&mut self, rows: &mut Vec<Row>) {
        let mut keys = std::mem::take(&mut self.touched);
        keys.insert(Key::State);
        keys.extend(self.done.take_dirty().into_iter().map(Key::Done));
        for (priority, set) in &mut self.priorities {
            keys.extend(set.take_dirty().into_iter().map(|chunk| Key::Priority(*priority, chunk)));
        }
        self.priorities.retain(|_, set| !set.is_empty());
        keys.extend(self.due.take_dirty().into_iter().map(Key::Due));
        keys.extend(self.expiry.take_dirty().into_iter().map(Key::Expiry));
        rows.extend(keys.into_iter().map(|key| Row { key, value: self.value(key) }));
    }

    fn value(&self, key: Key) -> Option<Value> {
        match key {
            Key::State => Some(Value::State(self.state, self.config)),
            Key::Done(chunk) => self.done.chunks().get(&chunk).cloned().map(Value::Chunk),
            Key::Priority(priority, chunk) => {
                self.priorities.get(&priority)?.chunks().get(&chunk).cloned().map(Value::Chunk)
            }
            Key::Due(block) => self.due.blocks().get(&block).cloned().map(Value::Block),
            Key::Expiry(block) => self.expiry.blocks().get(&block).cloned().map(Value::Block),
            Key::Failures(offset) => self.failures.get(&offset).map(|count| Value::Number(u64::from(*count))),
            Key::Dead(offset) => self.outbox.dead.get(&offset).cloned().map(Value::Dead),
            Key::Last(target) => self.outbox.last(target).map(Value::Number),
        }
    }

    /// Every row as it is: the snapshot.
    pub fn rows(&self) -> Vec<Row> {
        let mut keys = BTreeSet::from([Key::State]);
        keys.extend(self.done.chunks().keys().copied().map(Key::Done));
        for (priority, set) in &self.priorities {
            keys.extend(set.chunks().keys().map(|chunk| Key::Priority(*priority, *chunk)));
        }
        keys.extend(self.due.blocks().keys().copied().map(Key::Due));
        keys.extend(self.expiry.blocks().keys().copied().map(Key::Expiry));
        keys.extend(self.failures.keys().copied().map(Key::Failures));
        keys.extend(self.outbox.dead.keys().copied().map(Key::Dead));
        keys.extend(self.outbox.targets().map(Key::Last));
        keys.into_iter().map(|key| Row { key, value: self.value(key) }).collect()
    }

    /// The cursor of these rows, one for each key, in any order.
    ///
    /// # Errors
    /// The first invariant that they break.
    pub fn from_rows(rows: impl IntoIterator<Item = Row>) -> Result<Self, InvariantId> {
        let mut cursor = Self::default();
        let mut found = false;
        for Row { key, value } in rows {
            let Some(value) = value else { continue };
            found |= key == Key::State;
            if !cursor.put(key, value) {
                return Err(InvariantId::CursorIndexes);
            }
        }
        if found { cursor.breach().map_or(Ok(cursor), Err) } else { Err(InvariantId::CursorFloor) }
    }

    /// Whether the value fits the key, and its form is right.
    fn put(&mut self, key: Key, value: Value) -> bool {
        match (key, value) {
            (Key::State, Value::State(state, config)) => {
                (self.state, self.config) = (state, config);
                true
            }
            (Key::Done(at), Value::Chunk(chunk)) => self.done.put(at, chunk),
            (Key::Priority(priority, at), Value::Chunk(chunk)) => {
                self.priorities.entry(priority).or_default().put(at, chunk)
            }
            (Key::Due(at), Value::Block(block)) => self.due.put(at, block),
            (Key::Expiry(at), Value::Block(block)) => self.expiry.put(at, block),
            (Key::Failures(offset), Value::Number(count)) => {
                let count = u32::try_from(count).ok().filter(|count| *count > 0);
                count.is_some_and(|count| self.failures.insert(offset, count).is_none())
            }
            (Key::Dead(offset), Value::Dead(dead)) => self.outbox.put_dead(offset, dead),
            (Key::Last(target), Value::Number(last)) => self.outbox.put_last(target, last),
            _ => false,
        }
    }

    /// The first invariant that does not hold; looks at everything.
    pub fn breach(&self) -> Option<InvariantId> {
        let super::State { floor, next, start, .. } = self.state;
        let in_order = 0 <= start && start <= floor && floor <= next;
        let above = self.done.next_run(0).is_none_or(|(first, _)| first > floor);
        let below = self.done.count(0, next) == self.done.count(0, i64::MAX);
        if !(in_order && above && below && self.outbox.is_sound()) {
            return Some(if self.outbox.is_sound() { InvariantId::CursorFloor } else { InvariantId::DeadLetterOnce });
        }
        let exists = |offset: i64| (floor..next).contains(&offset) && !self.done.contains(offset);
        let dead = self.outbox.dead.keys().all(|offset| exists(*offset));
        let failed = self.failures.keys().all(|offset| self.is_live(*offset));
        let timed = self.due.iter().chain(self.expiry.iter()).all(|(offset, _)| self.is_live(offset));
        let mut seen = super::set::OffsetSet::default();
        let mut runs = self.priorities.values().flat_map(|set| set.runs());
        let once = runs.all(|(from, to)| {
            let open = from >= floor && to <= next && self.done.count(from, to) == 0;
            let alive = open && self.outbox.dead.range(from..to).next().is_none();
            alive && seen.insert(from, to) == (to - from) as u64
        });
        (!(dead && failed && timed && once)).then_some(InvariantId::CursorIndexes)
    }
}
