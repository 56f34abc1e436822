//! The ack-set cursors on a partition's log, the inbox of the letters that come to it, and what came lately and shall come once.
//! Owns no record: a cursor hears of each append and of each move of the log start in the entry that does it.
//! Invariants: every cursor knows as many records as the log has; their rows restore them, or say which invariant is broken.

use std::collections::BTreeMap;

use super::PartitionMachine;
use crate::check;
use crate::cursor::ackset::{
    AckSet, Command, Config, Fact, Inbox, Key, Place, Ranges, Reason, Refusal, Reply, Row, Settlement, Taking, Value,
    Verdict,
};
use crate::cursor::{Batch, CursorCommand, CursorRefusal, LetterNote, Note, Once, Recent};
use crate::invariants::InvariantId;
use crate::limits;
use crate::machine::{AppendError, At, Out, Write};
use crate::planted::{self, Bug};

/// What became of one command.
pub(super) type Outcome = Result<Reply, CursorRefusal>;

/// The cursors of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursors {
    open: BTreeMap<u32, AckSet>,
    inbox: Inbox,
    recent: Recent,
    /// What the rows broke that this was restored from.
    broken: Option<InvariantId>,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) start: i64,
    pub(super) next: i64,
}

fn written(cursor: u32, rows: Vec<Row>, out: &mut Out) {
    out.writes.extend(rows.into_iter().map(|row| Write::Cursor { cursor, row }));
}

impl Cursors {
    /// Whether a message that says this of itself is in the log already. For `told` before it in its entry the cursor needs room too.
    ///
    /// # Errors
    /// Why it may not be there yet.
    pub(super) fn is_known(&self, at: At, note: &Note, told: usize) -> Result<bool, AppendError> {
        let taking = note.letter.map(|letter| self.inbox.judge(letter.source, letter.number, letter.lowest));
        match taking {
            Some(Taking::Duplicate) => return Ok(!planted::is(Bug::DeadLetterAgain)),
            Some(Taking::Early) => return Err(AppendError::EarlyLetter),
            Some(Taking::New) | None => {}
        }
        if note.once.is_some_and(|once| self.recent.knows(once.key, at.leader_ts)) {
            return Ok(true);
        }
        let says = note.surplus || note.fact(0).is_some();
        let full = says && self.open.values().any(|cursor| cursor.has_room(told + 1).is_err());
        if full { Err(AppendError::QueueFull) } else { Ok(false) }
    }

    /// The message that says this of itself has an offset.
    pub(super) fn take(&mut self, at: At, note: &Note, out: &mut Out) {
        if let Some(letter) = note.letter {
            let LetterNote { source, number, lowest } = letter;
            let taking = self.inbox.take(source, number, lowest);
            let taking = if planted::is(Bug::DeadLetterAgain) { Taking::New } else { taking };
            check!(taking == Taking::New, DeadLetterOnce, "{letter:?} was judged new and is {taking:?}");
            out.writes.push(Write::Inbox { source, number });
        }
        // What is refused may come again.
        if let Some(once) = note.once.filter(|_| !note.surplus) {
            let gone = self.recent.take(once, at.leader_ts);
            out.writes.push(Write::Recent(once));
            out.writes.extend(gone.into_iter().map(Write::RecentGone));
        }
    }

    /// The log has grown to `next`. What is said of records was judged before: there is room.
    pub(super) fn publish(&mut self, at: At, next: i64, facts: &[Fact], out: &mut Out) {
        for (number, cursor) in &mut self.open {
            let mut rows = Vec::new();
            let done = cursor.apply(at, Command::Publish { next, facts: facts.to_vec() }, &mut rows);
            if !check!(done.is_ok(), CursorIndexes, "{} facts up to {next}: {done:?}", facts.len()) {
                rows.clear();
                let _nothing_said = cursor.apply(at, Command::Publish { next, facts: Vec::new() }, &mut rows);
            }
            written(*number, rows, out);
        }
    }

    /// These are too many: dead, in the entry that appended them. There is room for them, as above.
    pub(super) fn refuse(&mut self, at: At, surplus: Vec<(i64, i64)>, out: &mut Out) {
        if !surplus.is_empty() {
            self.settle_all(at, Verdict::Reject(Reason::Overflow), surplus, out);
        }
    }

    /// Records below `start` are gone.
    pub(super) fn move_start(&mut self, at: At, start: i64, out: &mut Out) {
        for (number, cursor) in &mut self.open {
            let mut rows = Vec::new();
            let done = cursor.apply(at, Command::LogStart(start), &mut rows);
            check!(done.is_ok(), CursorFloor, "log start {start}: {done:?}");
            written(*number, rows, out);
        }
    }

    /// There are no records in these ranges any more: what nobody needed was left out of a move, or what a newer one replaced.
    pub(super) fn lose(&mut self, at: At, gaps: &[(i64, i64)], out: &mut Out) {
        self.settle_all(at, Verdict::Accept, gaps.iter().copied(), out);
    }

    /// Settles these messages of every cursor, which may not refuse it.
    fn settle_all(&mut self, at: At, verdict: Verdict, ranges: impl IntoIterator<Item = (i64, i64)>, out: &mut Out) {
        let settlement = Settlement { verdict, ranges: Ranges::of(ranges) };
        for (number, cursor) in &mut self.open {
            let mut rows = Vec::new();
            let done = cursor.apply(at, Command::Settle(vec![settlement.clone()]), &mut rows);
            let settled = matches!(&done, Ok(Reply::Settled(each)) if each.iter().all(Result::is_ok));
            check!(settled, CursorFloor, "{settlement:?}: {done:?}");
            written(*number, rows, out);
        }
    }

    /// Does what an entry asks, one command after the other.
    pub(super) fn run(&mut self, at: At, extent: Extent, batch: Batch, out: &mut Out) -> Vec<Outcome> {
        batch.0.into_iter().map(|command| self.command(at, extent, command, out)).collect()
    }

    fn command(&mut self, at: At, extent: Extent, command: CursorCommand, out: &mut Out) -> Outcome {
        match command {
            CursorCommand::Open { cursor, config } if self.open.contains_key(&cursor) => {
                self.apply(at, cursor, Command::Configure(config), out)
            }
            CursorCommand::Open { cursor, config } => self.begin(at, extent, cursor, config, out),
            CursorCommand::Close { cursor } => {
                let gone = self.open.remove(&cursor).ok_or(CursorRefusal::NoCursor)?;
                let rows = gone.rows().into_iter().map(|row| Row { value: None, ..row });
                written(cursor, rows.collect(), out);
                Ok(Reply::Changed(0))
            }
            CursorCommand::Run { cursor, command } => self.apply(at, cursor, within(extent, command)?, out),
            CursorCommand::ForgetSource(source) => {
                let known = self.inbox.forget(source);
                out.writes.extend(known.then_some(Write::InboxGone(source)));
                Ok(Reply::Changed(known.into()))
            }
        }
    }

    fn begin(&mut self, at: At, Extent { start, next }: Extent, cursor: u32, config: Config, out: &mut Out) -> Outcome {
        if self.open.len() >= limits::CURSORS_PER_LOG_MAX {
            return Err(Refusal::TooMany.into());
        }
        let mut begun = AckSet::default();
        for command in
            [Command::Publish { next, facts: Vec::new() }, Command::LogStart(start), Command::Configure(config)]
        {
            begun.apply(at, command, &mut Vec::new())?;
        }
        written(cursor, begun.rows(), out);
        self.open.insert(cursor, begun);
        Ok(Reply::Changed((next - start) as u64))
    }

    fn apply(&mut self, at: At, cursor: u32, command: Command, out: &mut Out) -> Outcome {
        let set = self.open.get_mut(&cursor).ok_or(CursorRefusal::NoCursor)?;
        let mut rows = Vec::new();
        let reply = set.apply(at, command, &mut rows);
        written(cursor, rows, out);
        Ok(reply?)
    }

    /// Every row as it is.
    pub(super) fn rows(&self) -> impl Iterator<Item = Write> + '_ {
        let rows = |(cursor, set): (&u32, &AckSet)| {
            let cursor = *cursor;
            set.rows().into_iter().map(move |row| Write::Cursor { cursor, row })
        };
        let letters = self.inbox.sources().map(|(source, number)| Write::Inbox { source, number });
        self.open.iter().flat_map(rows).chain(letters).chain(self.recent.all().map(Write::Recent))
    }

    /// The first invariant that does not hold with a log of this extent.
    pub(super) fn breach(&self, Extent { start, next }: Extent) -> Option<InvariantId> {
        let fits = |cursor: &AckSet| cursor.state().next == next && cursor.state().start <= start;
        let fit = self.open.len() <= limits::CURSORS_PER_LOG_MAX && self.open.values().all(fits);
        self.broken.or((!fit).then_some(InvariantId::CursorFloor))
    }
}

/// Commands come from a leader, and where the log begins and ends is known here.
fn within(extent: Extent, command: Command) -> Result<Command, Refusal> {
    match command {
        Command::Publish { facts, .. } => Ok(Command::Publish { next: extent.next, facts }),
        Command::LogStart(start) if start > extent.start => Err(Refusal::OutOfRange),
        other => Ok(other),
    }
}

/// Rows on their way to be cursors: the last of each key counts, whatever the order.
#[derive(Debug, Default)]
pub(super) struct Restored {
    rows: BTreeMap<(u32, Key), Option<Value>>,
    letters: BTreeMap<Place, Option<u64>>,
    recent: BTreeMap<u128, Option<i64>>,
}

impl Restored {
    /// Takes a row of those in here; any other comes back.
    pub(super) fn put(&mut self, row: Write) -> Option<Write> {
        match row {
            Write::Cursor { cursor, row } => drop(self.rows.insert((cursor, row.key), row.value)),
            Write::Inbox { source, number } => drop(self.letters.insert(source, Some(number))),
            Write::InboxGone(source) => drop(self.letters.insert(source, None)),
            Write::Recent(Once { key, until }) => drop(self.recent.insert(key, Some(until))),
            Write::RecentGone(key) => drop(self.recent.insert(key, None)),
            other => return Some(other),
        }
        None
    }

    pub(super) fn finish(self) -> Cursors {
        let mut cursors = Cursors::default();
        let mut of_each: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for ((cursor, key), value) in self.rows.into_iter().filter(|(_, value)| value.is_some()) {
            of_each.entry(cursor).or_default().push(Row { key, value });
        }
        for (cursor, rows) in of_each {
            match AckSet::from_rows(rows) {
                Ok(set) => drop(cursors.open.insert(cursor, set)),
                Err(broken) => cursors.broken = Some(broken),
            }
        }
        let letters = self.letters.into_iter().filter_map(|(source, number)| Some((source, number?)));
        cursors.inbox = Inbox::from_sources(letters);
        let recent = self.recent.into_iter().filter_map(|(key, until)| Some(Once { key, until: until? }));
        recent.for_each(|once| cursors.recent.put(once));
        cursors
    }
}

impl PartitionMachine {
    /// The cursor of this number, if it is open.
    pub fn cursor(&self, cursor: u32) -> Option<&AckSet> {
        self.cursors.open.get(&cursor)
    }

    /// The open cursors, by their numbers.
    pub fn cursors(&self) -> impl Iterator<Item = (u32, &AckSet)> {
        self.cursors.open.iter().map(|(cursor, set)| (*cursor, set))
    }

    /// Whether a message of this key, which was to come once, is in the log, by the time `now_ms`.
    pub fn knows(&self, key: u128, now_ms: i64) -> bool {
        self.cursors.recent.knows(key, now_ms)
    }

    /// What was taken of the letters of each source.
    pub fn inbox(&self) -> &Inbox {
        &self.cursors.inbox
    }

    /// The lowest offset whose record some cursor still needs: age and size do not move the log start beyond it. None without cursors.
    pub fn needed_from(&self) -> Option<i64> {
        self.cursors.open.values().map(AckSet::needed_from).min()
    }

    /// The records of from..to that a cursor still needs, in order; and the last one of the log, so that a reader's position can reach
    /// its end.
    pub fn needed(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let last = self.state.next_offset - 1;
        let last = (from..to).contains(&last).then_some((last, last + 1));
        let pinned = self.cursors.open.values().flat_map(|cursor| cursor.pinned(from, to));
        let mut all: Vec<(i64, i64)> = pinned.chain(last).collect();
        all.sort_unstable();
        all.dedup_by(|next, before| {
            let joined = next.0 <= before.1;
            before.1 = if joined { before.1.max(next.1) } else { before.1 };
            joined
        });
        all
    }

    /// How many records of from..to are needed, those that two cursors need counted twice.
    pub fn needed_in(&self, from: i64, to: i64) -> u64 {
        self.cursors.open.values().map(|cursor| cursor.needed_in(from, to)).sum()
    }
}

#[cfg(test)]
mod tests;
