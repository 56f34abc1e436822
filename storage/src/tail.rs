//! The tail cache and the bounds of every log, as if every queued change were already done.
//! Owns: the newest entries of the node under one byte budget, whoever reads them; those not durable stay even above it.
//! Over the budget the oldest entry of all groups goes first: each log has what came within the same span of time, so that
//! nobody who keeps up with a quiet log pays for a busy one, and no old slice keeps a frame in memory that others shared.
//! Invariants: the cached entries end at the log's last; what is not in the engine yet is cached; so the engine is asked
//! only for indexes below the cached ones, and never for one above a queued truncation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::GroupId;
use tokio::time::Instant;

use crate::committer::{Change, Closed, Done, Queue};
use crate::engine::{Engine, Op, ScanLimit, Table};
use crate::size::{Point, SizeLine};
use crate::writer::LogEntry;
use crate::{Error, RowKind, Stats, keys};

/// What one cached entry costs beside its stored bytes, bytes (slot, head, their counters) ...
const SLOT_BYTES: usize = 160;
/// ... and each slice of its body.
const SLICE_BYTES: usize = size_of::<Bytes>() + 8;
/// The newest entries of a log that are read at a start to learn their mean size.
const SAMPLE: ScanLimit = ScanLimit { bytes: 64 << 10, rows: 16 };

/// A store without a commit for so long is idle.
const LULL: Duration = Duration::from_secs(1);

/// All logs of a node.
pub(crate) struct Tails {
    inner: Mutex<Inner>,
    pub(crate) stats: Arc<Stats>,
}

struct Inner {
    groups: BTreeMap<GroupId, Tail>,
    /// Groups with cached entries, by the submission of their oldest one.
    by_age: BTreeSet<(u64, GroupId)>,
    /// Counts edits.
    clock: u64,
    bytes: usize,
    budget: usize,
    /// Every submission up to this number is written.
    flushed: u64,
    /// When the last of them was.
    flushed_at: Option<Instant>,
}

/// One log.
#[derive(Default)]
struct Tail {
    bounds: Option<Bounds>,
    slots: VecDeque<Slot>,
    /// Time of the last truncation or purge: a read that went to the engine is void if it changed meanwhile.
    edited: u64,
    size: SizeLine,
}

/// Ends of a log that is not empty.
#[derive(Clone, Copy)]
struct Bounds {
    first: u64,
    last: u64,
    /// `None` after a truncation below the cached entries: the engine knows.
    last_term: Option<u64>,
}

struct Slot {
    entry: LogEntry,
    /// Number of the submission that writes it.
    submission: u64,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.entry.stored_bytes() + SLOT_BYTES + self.entry.payload.body.len() * SLICE_BYTES
    }
}

/// A change that removes entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// Keep indexes up to this one (`None`: none).
    TruncateAfter(Option<u64>),
    /// Keep indexes above this one.
    Purge(u64),
    /// Keep nothing, forget the group.
    Destroy,
}

/// What a read finds: `cold` indexes are in the engine, `entries` follow them.
pub(crate) struct Found {
    pub(crate) cold: Range<u64>,
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) edited: u64,
    /// Whether the store has committed of late.
    pub(crate) busy: bool,
}

/// The last index of a log and, when it is known without reading, its term.
pub(crate) struct Last {
    pub(crate) index: u64,
    pub(crate) term: Option<u64>,
    pub(crate) edited: u64,
}

impl Tails {
    /// Reads the bounds of every log from the engine.
    pub(crate) fn load(engine: &dyn Engine, budget: usize) -> Result<Self, Error> {
        let mut groups = BTreeMap::new();
        let mut from = keys::log_from(GroupId(0), 0);
        let end = keys::log_end(GroupId(u32::MAX));
        loop {
            let one = ScanLimit { bytes: 0, rows: 1 };
            let Some((key, _)) = engine.scan(Table::Log, &from, &end, one, false)?.pop() else { break };
            let (group, first, _) = keys::parse_log(&key)?;
            from = keys::log_end(group);
            groups.insert(group, Tail::load(engine, group, first)?);
        }
        let inner = Inner { groups, by_age: BTreeSet::new(), clock: 0, bytes: 0, budget, flushed: 0, flushed_at: None };
        Ok(Tails { inner: Mutex::new(inner), stats: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the entries fit, submits them, and makes them readable, in one step.
    pub(crate) fn append(
        &self,
        group: GroupId,
        entries: Vec<LogEntry>,
        queue: &Queue,
        done: Done,
    ) -> Result<(), (Done, Closed)> {
        let mut inner = self.lock();
        if let Err(why) = fits(inner.groups.get(&group).and_then(|tail| tail.bounds), &entries) {
            return Err((done, Closed::new(format!("group {group}: {why}"))));
        }
        inner.ensure(group);
        let marks = inner.grow(group, &entries);
        let submission = queue.submit(Change::Append { group, entries: entries.clone(), marks }, done)?;
        inner.append(group, entries, submission);
        self.show(&inner);
        Ok(())
    }

    /// Submits a change that removes entries, and hides them, in one step.
    pub(crate) fn edit(
        &self,
        group: GroupId,
        edit: Edit,
        change: Change,
        queue: &Queue,
        done: Done,
    ) -> Result<(), (Done, Closed)> {
        let mut inner = self.lock();
        queue.submit(change, done)?;
        inner.edit(group, edit);
        self.show(&inner);
        Ok(())
    }

    /// Every submission up to `number` is written: what it appended may leave the cache now.
    pub(crate) fn flushed(&self, number: u64) {
        let mut inner = self.lock();
        inner.flushed = number;
        inner.flushed_at = Some(Instant::now());
        inner.evict();
        self.show(&inner);
    }

    fn show(&self, inner: &Inner) {
        self.stats.tail_bytes.store(inner.bytes as u64, Relaxed);
    }

    /// What there is in `from..to`: cached entries up to `max_bytes` (one at least), and the range before them.
    pub(crate) fn find(&self, group: GroupId, from: u64, to: u64, max_bytes: usize) -> Found {
        let inner = self.lock();
        let Some((bounds, tail)) = inner.groups.get(&group).and_then(|tail| Some((tail.bounds?, tail))) else {
            return Found { cold: 0..0, entries: Vec::new(), edited: inner.edited(group), busy: false };
        };
        let (from, to) = (from.max(bounds.first), to.min(bounds.last.saturating_add(1)));
        let cached = tail.cached_from();
        let cold = from..to.min(cached).max(from);
        let mut left = max_bytes;
        let entries: Vec<LogEntry> = tail
            .slots
            .iter()
            .skip(from.saturating_sub(cached) as usize)
            .take(to.saturating_sub(from.max(cached)) as usize)
            .enumerate()
            .map_while(|(place, slot)| {
                let fits = place == 0 || slot.entry.payload.len() <= left;
                left = left.saturating_sub(slot.entry.payload.len());
                fits.then(|| slot.entry.clone())
            })
            .collect();
        let busy = inner.flushed_at.is_some_and(|at| at.elapsed() < LULL);
        Found { cold, entries, edited: tail.edited, busy }
    }

    /// When the group's log was last cut; 0 for a group without a log.
    pub(crate) fn edited(&self, group: GroupId) -> u64 {
        self.lock().edited(group)
    }

    pub(crate) fn first(&self, group: GroupId) -> Option<u64> {
        Some(self.lock().groups.get(&group)?.bounds?.first)
    }

    pub(crate) fn last(&self, group: GroupId) -> Option<Last> {
        let inner = self.lock();
        let tail = inner.groups.get(&group)?;
        let bounds = tail.bounds?;
        Some(Last { index: bounds.last, term: bounds.last_term, edited: tail.edited })
    }

    pub(crate) fn bytes(&self, group: GroupId) -> u64 {
        self.lock().groups.get(&group).map_or(0, |tail| tail.size.bytes())
    }

    pub(crate) fn bytes_upto(&self, group: GroupId, index: u64) -> u64 {
        self.lock().groups.get(&group).map_or(0, |tail| tail.size.bytes_upto(index))
    }

    /// Groups that have a log.
    pub(crate) fn groups(&self) -> Vec<GroupId> {
        self.lock().groups.iter().filter(|(_, tail)| tail.bounds.is_some()).map(|(group, _)| *group).collect()
    }

    /// Bytes in the cache.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn edited(&self, group: GroupId) -> u64 {
        self.groups.get(&group).map_or(0, |tail| tail.edited)
    }

    /// Makes the group if it is not there; its `edited` differs from that of every group before it.
    fn ensure(&mut self, group: GroupId) {
        if !self.groups.contains_key(&group) {
            let edited = self.tick();
            self.groups.insert(group, Tail { edited, ..Tail::default() });
        }
    }

    /// Adds the entries to the size line and returns the rows of due marks.
    fn grow(&mut self, group: GroupId, entries: &[LogEntry]) -> Vec<Op> {
        let Some(tail) = self.groups.get_mut(&group) else { return Vec::new() };
        let marks = entries.iter().filter_map(|entry| tail.size.append(entry.index, entry.stored_bytes() as u64));
        marks
            .map(|Point { index, total }| Op::Put {
                table: Table::Meta,
                key: keys::meta(RowKind::Size, group, &index.to_be_bytes()),
                parts: vec![Bytes::copy_from_slice(&total.to_be_bytes())],
            })
            .collect()
    }

    fn append(&mut self, group: GroupId, entries: Vec<LogEntry>, submission: u64) {
        let (Some(tail), Some(first), Some(last)) = (self.groups.get_mut(&group), entries.first(), entries.last())
        else {
            return;
        };
        let first = tail.bounds.map_or(first.index, |bounds| bounds.first);
        tail.bounds = Some(Bounds { first, last: last.index, last_term: Some(last.term) });
        if tail.slots.is_empty() {
            self.by_age.insert((submission, group));
        }
        for entry in entries {
            let slot = Slot { entry, submission };
            self.bytes += slot.bytes();
            tail.slots.push_back(slot);
        }
        self.evict();
    }

    fn edit(&mut self, group: GroupId, edit: Edit) {
        let edited = self.tick();
        let Some(tail) = self.groups.get_mut(&group) else { return };
        tail.edited = edited;
        let before = tail.oldest();
        self.bytes -= match edit {
            Edit::TruncateAfter(index) => tail.truncate_after(index),
            Edit::Purge(upto) => tail.purge(upto),
            Edit::Destroy => tail.truncate_after(None),
        };
        let after = tail.oldest();
        if before != after {
            before.map(|submission| self.by_age.remove(&(submission, group)));
            after.map(|submission| self.by_age.insert((submission, group)));
        }
        if matches!(edit, Edit::Destroy) {
            self.groups.remove(&group);
        }
    }

    /// Takes written entries out, oldest first, until the budget is met.
    fn evict(&mut self) {
        while self.bytes > self.budget
            && let Some((submission, group)) =
                self.by_age.first().copied().filter(|(oldest, _)| *oldest <= self.flushed)
            && let Some(tail) = self.groups.get_mut(&group)
        {
            self.by_age.pop_first();
            while self.bytes > self.budget
                && let Some(slot) = tail.slots.pop_front_if(|slot| slot.submission == submission)
            {
                self.bytes -= slot.bytes();
            }
            self.by_age.extend(tail.oldest().map(|submission| (submission, group)));
        }
    }
}

impl Tail {
    fn load(engine: &dyn Engine, group: GroupId, first: u64) -> Result<Self, Error> {
        let (from, to) = (keys::log_from(group, 0), keys::log_end(group));
        let newest = engine.scan(Table::Log, &from, &to, SAMPLE, true)?;
        let Some((key, _)) = newest.first() else {
            return Err(Error::Corrupt(format!("the log of group {group} ends before it starts")));
        };
        let (_, last, term) = keys::parse_log(key)?;
        let mean = newest.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() / newest.len();
        let (from, to) = (keys::meta(RowKind::Size, group, &[]), keys::meta_end(RowKind::Size, group));
        let all = ScanLimit { bytes: usize::MAX, rows: usize::MAX };
        let marks = engine.scan(Table::Meta, &from, &to, all, false)?;
        let marks = marks.iter().map(|(key, value)| parse_mark(key, value)).collect::<Result<_, _>>()?;
        let bounds = Some(Bounds { first, last, last_term: Some(term) });
        Ok(Tail { bounds, size: SizeLine::load(first, last, marks, mean as u64), ..Tail::default() })
    }

    /// The submission of the oldest cached entry.
    fn oldest(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.submission)
    }

    /// The first index that is cached; the one after the last when none is.
    fn cached_from(&self) -> u64 {
        match (self.slots.front(), self.bounds) {
            (Some(slot), _) => slot.entry.index,
            (None, Some(bounds)) => bounds.last.saturating_add(1),
            (None, None) => 0,
        }
    }

    /// Returns the bytes that left the cache.
    fn truncate_after(&mut self, index: Option<u64>) -> usize {
        let mut freed = 0;
        while let Some(slot) = self.slots.pop_back_if(|slot| index.is_none_or(|index| slot.entry.index > index)) {
            freed += slot.bytes();
        }
        let Some(bounds) = &mut self.bounds else { return freed };
        match index.filter(|index| *index >= bounds.first) {
            None => {
                self.bounds = None;
                self.size = SizeLine::default();
            }
            Some(index) if index < bounds.last => {
                bounds.last = index;
                bounds.last_term = self.slots.back().map(|slot| slot.entry.term);
                self.size.truncate_after(index);
            }
            Some(_) => {}
        }
        freed
    }

    /// Returns the bytes that left the cache.
    fn purge(&mut self, upto: u64) -> usize {
        let mut freed = 0;
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.entry.index <= upto) {
            freed += slot.bytes();
        }
        let Some(bounds) = &mut self.bounds else { return freed };
        if upto >= bounds.last {
            self.bounds = None;
            self.size = SizeLine::default();
        } else if upto >= bounds.first {
            bounds.first = upto + 1;
            self.size.purge(upto);
        }
        freed
    }
}

/// Whether entries can follow a log with these bounds.
fn fits(bounds: Option<Bounds>, entries: &[LogEntry]) -> Result<(), String> {
    let mut expected = match (bounds, entries.first()) {
        (_, None) => return Ok(()),
        (Some(bounds), _) => bounds.last.checked_add(1),
        (None, Some(first)) => Some(first.index),
    };
    for entry in entries {
        match expected {
            Some(index) if index == entry.index => expected = index.checked_add(1),
            Some(index) => return Err(format!("append of index {} where {index} follows", entry.index)),
            None => return Err("append after the last possible index".into()),
        }
    }
    Ok(())
}

fn parse_mark(key: &Bytes, value: &[u8]) -> Result<Point, Error> {
    let (_, suffix) = keys::parse_meta(key)?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    match (number(&suffix), number(value)) {
        (Some(index), Some(total)) => Ok(Point { index, total }),
        _ => Err(Error::Corrupt("size mark".into())),
    }
}
