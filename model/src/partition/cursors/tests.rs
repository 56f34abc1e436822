//! Cursors on a log, each beside one that is told the same by hand; letters, hostile notes, rows and checkpoints.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command::{Flags, Payload, Tag};
use crate::cursor::ackset::{Backoff, Chunk, Ranges, Reason, Settlement, State, Verdict};
use crate::ids::GroupId;
use crate::machine::{AppendReply, DeadReason, Reply as Replied};
use crate::partition::tests::{Log, successor};
use crate::partition::{self, MovedBatch, Relocation};
use crate::record::{BatchFacts, NO_HORIZON, sample_batch, sample_facts, thinned_batch};

const SOURCE: Place = Place { group: GroupId(2_000), queue: 0 };

fn log() -> Log {
    Log { term: 1, now: 1_000, ..Log::default() }
}

fn message() -> Bytes {
    sample_batch(&sample_facts(1, 0), 9)
}

fn publish(log: &mut Log, notes: &[Note], count: usize) -> Vec<AppendReply> {
    match log.apply(Payload::append_queue(log.now, Flags::AMQP, vec![message(); count], notes)).0 {
        Replied::Append(replies) => replies,
        other => panic!("{other:?}"),
    }
}

fn ask(log: &mut Log, commands: Vec<CursorCommand>) -> Vec<Outcome> {
    match log.apply_batch(Batch(commands)) {
        Replied::Cursors(replies) => replies,
        other => panic!("{other:?}"),
    }
}

fn open(log: &mut Log, cursor: u32, config: Config) -> Outcome {
    ask(log, vec![CursorCommand::Open { cursor, config }]).remove(0)
}

fn settle(verdict: Verdict, ranges: impl IntoIterator<Item = (i64, i64)>) -> Command {
    Command::Settle(vec![Settlement { verdict, ranges: Ranges::of(ranges) }])
}

fn run(cursor: u32, command: Command) -> CursorCommand {
    CursorCommand::Run { cursor, command }
}

fn letter(number: u64, lowest: u64) -> Option<LetterNote> {
    Some(LetterNote { source: SOURCE, number, lowest })
}

fn ok(base_offset: i64) -> AppendReply {
    AppendReply::Ok { base_offset }
}

#[test]
fn a_cursor_begins_at_the_log_start_and_hears_of_every_append() {
    let mut log = log();
    publish(&mut log, &[], 5);
    log.apply(Payload::log_start(0, 2));
    let config = Config { priority: 4, ..Config::default() };
    assert_eq!(open(&mut log, 0, config), Ok(Reply::Changed(3)), "what is there is ready");
    let told = Note { ordinal: 1, priority: Some(9), not_before: Some(5_000), ..Note::default() };
    assert_eq!(publish(&mut log, &[told], 2), [ok(5), ok(6)]);
    log.apply(Payload::append(0, vec![sample_batch(&sample_facts(3, 0), 0)]));
    let cursor = log.machine.cursor(0).unwrap();
    assert_eq!((cursor.state().floor, cursor.state().next), (2, 10));
    assert_eq!(cursor.priorities(), [9, 4]);
    assert_eq!((cursor.next_ready(9, 0, 4_999), cursor.next_ready(9, 0, 5_000)), (None, Some((6, 7))));
    assert_eq!(cursor.next_ready(4, 0, 0), Some((2, 6)));
    assert_eq!(log.machine.needed_from(), Some(2));
    log.apply(Payload::log_start(0, 7));
    assert_eq!(log.machine.needed_from(), Some(7), "an order to delete settles what it deletes");
    assert_eq!(open(&mut log, 0, Config::default()), Ok(Reply::Changed(0)), "other rules, the same cursor");
    assert_eq!(log.machine.cursor(0).unwrap().state().floor, 7);
    assert_eq!(log.restored(), log.machine);
}

#[test]
fn each_command_of_a_batch_is_answered_and_none_reaches_beyond_the_log() {
    let mut log = log();
    publish(&mut log, &[], 5);
    let replies = ask(
        &mut log,
        vec![
            run(1, settle(Verdict::Accept, [(0, 1)])),
            CursorCommand::Open { cursor: 1, config: Config::default() },
            run(1, settle(Verdict::Accept, [(0, 1), (3, 4)])),
            run(
                1,
                Command::Publish {
                    next: 1 << 40,
                    facts: vec![Fact { offset: 2, priority: Some(1), ..Fact::default() }],
                },
            ),
            run(1, Command::LogStart(2)),
            run(1, Command::Seek { to: 9 }),
            CursorCommand::Close { cursor: 2 },
        ],
    );
    let refused = |refusal: Refusal| Err(CursorRefusal::Refused(refusal));
    let settled = Ok(Reply::Settled(vec![Ok(2)]));
    let said = Ok(Reply::Changed(1));
    let want = [
        Err(CursorRefusal::NoCursor),
        Ok(Reply::Changed(5)),
        settled,
        said,
        refused(Refusal::OutOfRange),
        refused(Refusal::OutOfRange),
        Err(CursorRefusal::NoCursor),
    ];
    assert_eq!(replies, want);
    let state = *log.machine.cursor(1).unwrap().state();
    assert_eq!((state.floor, state.next, state.start), (1, 5, 0));
    assert_eq!((log.machine.breach(), log.restored()), (None, log.machine.clone()));
    assert_eq!(ask(&mut log, vec![CursorCommand::Close { cursor: 1 }]), [Ok(Reply::Changed(0))]);
    assert_eq!((log.machine.needed_from(), log.rows.len()), (None, log.machine.rows().len()));
    let most = limits::CURSORS_PER_LOG_MAX as u32;
    for cursor in 1..=most {
        assert!(open(&mut log, cursor, Config::default()).is_ok());
    }
    assert_eq!(open(&mut log, 0, Config::default()), refused(Refusal::TooMany));
    assert!(open(&mut log, most, Config::default()).is_ok(), "one that is open is none more");
}

#[test]
fn a_letter_arrives_once_and_in_its_turn() {
    let mut log = log();
    let note = |ordinal, number, lowest| Note { ordinal, letter: letter(number, lowest), ..Note::default() };
    let early = AppendReply::Err(AppendError::EarlyLetter);
    let known = AppendReply::Duplicate { base_offset: -1 };
    assert_eq!(publish(&mut log, &[note(0, 2, 1)], 1), [early]);
    let some = [note(0, 1, 1), note(1, 1, 1), note(2, 3, 1), note(3, 2, 1)];
    assert_eq!(publish(&mut log, &some, 5), [ok(0), known, early, ok(1), ok(2)]);
    assert_eq!(publish(&mut log, &[note(0, 2, 2), note(1, 9, 9)], 2), [known, ok(3)], "3 to 8 are never sent");
    assert_eq!(log.machine.inbox().sources().collect::<Vec<_>>(), [(SOURCE, 9)]);
    assert_eq!(log.machine.state().dead_batches, 4);
    assert_eq!(log.read(0).len(), 4, "what was refused is not read");
    let fresh = BatchFacts { producer_id: 4, producer_epoch: 0, base_sequence: 0, ..sample_facts(1, 0) };
    let again = |number| vec![Note { letter: letter(number, number), ..Note::default() }];
    let retry = |log: &mut Log, number| {
        let batches = vec![sample_batch(&fresh, 0)];
        log.apply(Payload::append_queue(0, Flags::AMQP, batches, &again(number))).0
    };
    assert_eq!(retry(&mut log, 10), Replied::Append(vec![ok(4)]));
    assert_eq!(retry(&mut log, 11), Replied::Append(vec![AppendReply::Duplicate { base_offset: 4 }]));
    assert_eq!(log.machine.inbox().sources().collect::<Vec<_>>(), [(SOURCE, 10)], "the producer's word comes first");
    assert_eq!((log.restored(), log.machine.breach()), (log.machine.clone(), None));
    assert_eq!(ask(&mut log, vec![CursorCommand::ForgetSource(SOURCE)]), [Ok(Reply::Changed(1))]);
    assert_eq!(ask(&mut log, vec![CursorCommand::ForgetSource(SOURCE)]), [Ok(Reply::Changed(0))]);
    assert_eq!((log.restored(), log.rows.len()), (log.machine.clone(), log.machine.rows().len()));
}

#[test]
fn what_shall_come_once_comes_once_for_its_time() {
    let mut log = log();
    let once = |ordinal, key, until| Note { ordinal, once: Some(Once { key, until }), ..Note::default() };
    let known = AppendReply::Duplicate { base_offset: -1 };
    let some = [once(0, 7, 1_100), once(1, 7, 1_100), once(2, 8, 1_100)];
    assert_eq!(publish(&mut log, &some, 4), [ok(0), known, ok(1), ok(2)]);
    log.now = 1_099;
    assert_eq!(publish(&mut log, &[once(0, 8, 2_000)], 1), [known], "it does not begin anew");
    let checkpoint = log.checkpoint();
    log.now = 1_100;
    assert_eq!(publish(&mut log, &[once(0, 8, 2_000)], 1), [ok(3)]);
    assert_eq!(log.read(0).len(), 4, "what came before is not read");
    assert_eq!((log.restored(), log.rows.len()), (log.machine.clone(), log.machine.rows().len()));
    log.apply(Payload::log_start(log.now, -1));
    assert_eq!(successor(&log, checkpoint), log.machine);
}

#[test]
fn one_too_many_is_dead_where_it_is_appended() {
    let mut log = log();
    open(&mut log, 0, Config { dead_letters: true, ..Config::default() }).unwrap();
    let once = Some(Once { key: 7, until: 9_000 });
    let surplus = |ordinal| Note { ordinal, surplus: true, once, ..Note::default() };
    assert_eq!(publish(&mut log, &[surplus(1)], 3), [ok(0), ok(1), ok(2)]);
    let cursor = log.machine.cursor(0).unwrap();
    assert_eq!(cursor.unresolved().collect::<Vec<_>>(), [1]);
    assert_eq!((cursor.counts(0).ready, cursor.state().dead), (2, [0, 0, 0, 1]));
    open(&mut log, 0, Config::default()).unwrap();
    assert_eq!(publish(&mut log, &[surplus(0)], 1), [ok(3)]);
    let cursor = log.machine.cursor(0).unwrap();
    assert_eq!((cursor.counts(0).ready, cursor.state().dead), (2, [0, 0, 0, 2]), "without dead letters it is dropped");
    assert!(!log.machine.knows(7, 1_000), "what was refused may come again");
    assert_eq!(publish(&mut log, &[Note { once, ..Note::default() }], 1), [ok(4)]);
    assert_eq!(publish(&mut log, &[surplus(0)], 1), [AppendReply::Duplicate { base_offset: -1 }]);
    assert!(log.machine.knows(7, 8_999) && !log.machine.knows(7, 9_000));
    assert_eq!((log.restored(), log.machine.breach()), (log.machine.clone(), None));
}

#[test]
fn a_full_cursor_takes_what_says_nothing_of_itself() {
    // Bitmaps up to three messages below the bound.
    let holes = Value::Chunk(Chunk::Bits(vec![0x5555_5555_5555_5555; 1_024]));
    let room = 3 * limits::CURSOR_MESSAGE_BYTES;
    let chunks = ((limits::CURSOR_BYTES_MAX - room) / (8_192 + 64)) as i64;
    let next = 1 << 40;
    let rest = (limits::CURSOR_BYTES_MAX - room) % (8_192 + 64) / 32;
    let failures = (0..rest as i64).map(|offset| (Key::Failures(offset), Value::Number(1)));
    let rows = (1..=chunks).map(|chunk| (Key::Done(chunk), holes.clone())).chain(failures);
    let state = State { next, ..State::default() };
    let rows = rows.chain([(Key::State, Value::State(state, Config::default()))]);
    let log_state = partition::State { next_offset: next, ..partition::State::default() };
    let rows = rows.map(|(key, value)| Write::Cursor { cursor: 0, row: Row { key, value: Some(value) } });
    let machine = PartitionMachine::restore(rows.chain([Write::State(log_state)]));
    assert_eq!(machine.cursors.broken, None);
    let mut log = Log { machine, ..log() };
    let says = |ordinal| Note { ordinal, priority: Some(1), ..Note::default() };
    let replies = publish(&mut log, &[says(0), says(1), Note { ordinal: 2, ..Note::default() }, says(4), says(5)], 6);
    let full = AppendReply::Err(AppendError::QueueFull);
    assert_eq!(replies, [ok(next), ok(next + 1), ok(next + 2), ok(next + 3), ok(next + 4), full]);
    assert!(log.machine.cursor(0).unwrap().bytes() <= limits::CURSOR_BYTES_MAX);
}

#[test]
fn what_is_not_to_be_understood_changes_nothing() {
    let mut log = log();
    open(&mut log, 0, Config::default()).unwrap();
    let before = log.machine.cursor(0).cloned();
    let hostile = |notes: &[u8], version| {
        let body = vec![message(), Bytes::copy_from_slice(notes)];
        Payload::encode_version(Tag::Append, version, Flags::AMQP, 0, body)
    };
    assert_eq!(log.apply(hostile(&[0, 0], 1)).0, Replied::Dead(DeadReason::Body));
    assert_eq!(log.apply(hostile(&[9, 0, 0], 1)).0, Replied::Dead(DeadReason::Body));
    assert_eq!(log.apply(hostile(&[], 2)).0, Replied::Dead(DeadReason::Header("version 2".into())));
    let undecoded = Payload::command(Tag::CursorBatch, 0, Bytes::from_static(b"junk"));
    assert_eq!(log.apply(undecoded).0, Replied::Dead(DeadReason::Body));
    assert_eq!((log.machine.next_offset(), log.machine.cursor(0).cloned()), (0, before));
    assert_eq!(publish(&mut log, &[], 2), [ok(0), ok(1)]);
    assert_eq!(log.read(0).len(), 2, "readers leave out what apply left out");
}

#[test]
fn rows_that_no_machine_wrote_are_named() {
    let mut log = log();
    publish(&mut log, &[], 3);
    open(&mut log, 0, Config::default()).unwrap();
    ask(&mut log, vec![run(0, settle(Verdict::Accept, [(1, 2)]))]);
    let rows = log.machine.rows();
    let with = |change: fn(&mut Write)| {
        let mut rows = rows.clone();
        rows.iter_mut().for_each(change);
        PartitionMachine::restore(rows.into_iter()).breach()
    };
    assert_eq!(with(|_| {}), None);
    let shorter: fn(&mut Write) = |row| {
        if let Write::State(state) = row {
            state.next_offset = 2;
        }
    };
    assert_eq!(with(shorter), Some(InvariantId::CursorFloor));
    let settled_twice: fn(&mut Write) = |row| {
        if let Write::Cursor { row: Row { key: Key::Done(_), value }, .. } = row {
            *value = Some(Value::Chunk(Chunk::Runs(vec![(0, 1)])));
        }
    };
    assert_eq!(with(settled_twice), Some(InvariantId::CursorFloor));
}

/// What a proptest does to a log with cursors.
#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<(Say, bool)>),
    Settle(u32, Verdict, Vec<(f64, u8)>),
    Seek(u32, f64),
    Resolve(u32, Vec<u32>),
    Sent(u32, u32, u64),
    Open(u32, Config),
    Close(u32),
    DeleteRecords(f64),
    Checkpoint,
    Elect,
    /// Moves what is needed up to a place, or only every second record of it, as if newer ones had replaced the others.
    Move(f64, bool),
}

/// What a message says of itself; times relative to now.
#[derive(Clone, Debug)]
struct Say {
    priority: Option<u8>,
    due: Option<i64>,
    over: Option<i64>,
    letter: Option<(u32, i8)>,
    once: Option<(u128, i64)>,
    surplus: bool,
}

fn say() -> impl Strategy<Value = Say> {
    let time = || proptest::option::weighted(0.3, -50i64..200);
    let letter = proptest::option::weighted(0.3, (0u32..3, prop_oneof![6 => Just(1i8), 1 => -1i8..=2]));
    let once = proptest::option::weighted(0.3, (0u128..4, -10i64..100));
    (proptest::option::weighted(0.3, 0u8..4), time(), time(), letter, once, proptest::bool::weighted(0.1))
        .prop_map(|(priority, due, over, letter, once, surplus)| Say { priority, due, over, letter, once, surplus })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Accept),
        2 => (any::<bool>(), proptest::option::of(-5i64..300))
            .prop_map(|(counted, delay_ms)| Verdict::Release { counted, delay_ms }),
        1 => Just(Verdict::Reject(Reason::Rejected)),
        1 => Just(Verdict::Expire),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let config = (0u8..4, 0u32..3, any::<bool>(), any::<bool>()).prop_map(|(priority, failures_max, wait, letters)| {
        let backoff = wait.then_some(Backoff { first_ms: 10, max_ms: 100 });
        Config { priority, failures_max, backoff, dead_letters: letters }
    });
    let ranges = || proptest::collection::vec((0.0..1.0f64, 1u8..5), 1..4);
    prop_oneof![
        8 => proptest::collection::vec((say(), proptest::bool::weighted(0.9)), 1..6).prop_map(Step::Publish),
        8 => (0u32..2, verdict(), ranges()).prop_map(|(cursor, verdict, ranges)| Step::Settle(cursor, verdict, ranges)),
        1 => (0u32..2, 0.0..1.0f64).prop_map(|(cursor, to)| Step::Seek(cursor, to)),
        2 => (0u32..2, proptest::collection::vec(0u32..3, 0..3)).prop_map(|(c, targets)| Step::Resolve(c, targets)),
        2 => (0u32..2, 0u32..3, 0u64..4).prop_map(|(cursor, target, through)| Step::Sent(cursor, target, through)),
        3 => (0u32..2, config).prop_map(|(cursor, config)| Step::Open(cursor, config)),
        1 => (0u32..2).prop_map(Step::Close),
        1 => (0.0..1.0f64).prop_map(Step::DeleteRecords),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Elect),
        2 => (0.0..=1.0f64, proptest::bool::weighted(0.8)).prop_map(|(upto, all)| Step::Move(upto, all)),
    ]
}

/// The log, and what should be there.
struct World {
    log: Log,
    cursors: BTreeMap<u32, AckSet>,
    inbox: Inbox,
    /// Until when each key is known.
    recent: BTreeMap<u128, i64>,
    /// Base offsets of what may be read.
    live: Vec<i64>,
}

fn place(number: u32) -> Place {
    Place { group: GroupId(3_000 + number), queue: number }
}

impl World {
    fn at(&self) -> At {
        At { index: self.log.machine.applied().0 + 1, term: self.log.term, leader_ts: self.log.now }
    }

    fn offset(&self, share: f64) -> i64 {
        (self.log.machine.next_offset() as f64 * share) as i64
    }

    fn publish(&mut self, messages: &[(Say, bool)]) {
        let (mut notes, mut expected, mut facts, mut surplus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let at = self.at();
        let before = self.log.machine.next_offset();
        let mut next = before;
        for (ordinal, (say, sound)) in messages.iter().enumerate() {
            let [not_before, expires_at] = [say.due, say.over].map(|time| time.map(|time| time + at.leader_ts));
            let letter = say.letter.map(|(source, step)| {
                let last = self.inbox.sources().find(|(of, _)| *of == place(source)).map_or(0, |(_, last)| last);
                LetterNote { source: place(source), number: last.saturating_add_signed(step.into()), lowest: 1 }
            });
            let once = say.once.map(|(key, time)| Once { key, until: time + at.leader_ts });
            let (ordinal, priority, surplus_one) = (ordinal as u16, say.priority, say.surplus);
            let note = Note { ordinal, priority, not_before, expires_at, letter, once, surplus: surplus_one };
            notes.push(note);
            if !sound {
                expected.push(AppendReply::Err(AppendError::InvalidRecord));
                continue;
            }
            let judged = letter.map_or(Taking::New, |one| self.inbox.judge(one.source, one.number, one.lowest));
            let came = once.is_some_and(|once| self.recent.get(&once.key).is_some_and(|until| *until > at.leader_ts));
            let taking = if judged == Taking::New && came { Taking::Duplicate } else { judged };
            expected.push(match taking {
                Taking::New => ok(next),
                Taking::Duplicate => AppendReply::Duplicate { base_offset: -1 },
                Taking::Early => AppendReply::Err(AppendError::EarlyLetter),
            });
            if taking == Taking::New {
                letter.map(|one| self.inbox.take(one.source, one.number, one.lowest));
                self.recent.extend(once.filter(|_| !say.surplus).map(|once| (once.key, once.until)));
                facts.extend(note.fact(next));
                surplus.extend(surplus_one.then_some((next, next + 1)));
                self.live.push(next);
                next += 1;
            }
        }
        let batch = |(_, sound): &(Say, bool)| if *sound { message() } else { Bytes::from_static(b"junk") };
        let payload = Payload::append_queue(self.log.now, Flags::AMQP, messages.iter().map(batch).collect(), &notes);
        assert_eq!(self.log.apply(payload).0, Replied::Append(expected));
        if next > before {
            self.each(at, &Command::Publish { next, facts });
        }
        if !surplus.is_empty() {
            self.each(at, &settle(Verdict::Reject(Reason::Overflow), surplus));
        }
    }

    fn each(&mut self, at: At, command: &Command) {
        self.cursors.values_mut().for_each(|cursor| drop(cursor.apply(at, command.clone(), &mut Vec::new())));
    }

    fn run(&mut self, cursor: u32, command: Command) {
        let at = self.at();
        let expected = match self.cursors.get_mut(&cursor) {
            Some(set) => set.apply(at, command.clone(), &mut Vec::new()).map_err(CursorRefusal::Refused),
            None => Err(CursorRefusal::NoCursor),
        };
        assert_eq!(ask(&mut self.log, vec![run(cursor, command)]), [expected]);
    }

    fn is_one_too_many(&self, cursor: u32) -> bool {
        !self.cursors.contains_key(&cursor) && self.cursors.len() == limits::CURSORS_PER_LOG_MAX
    }

    fn relocate(&mut self, upto: f64, all: bool) {
        let at = self.at();
        let machine = &self.log.machine;
        let (from, next) = (machine.log_start(), machine.next_offset());
        let to = from + ((next - from) as f64 * upto) as i64;
        let needed = machine.needed(from, to);
        let stays = |offset: i64| {
            let needed = needed.iter().any(|(from, to)| (*from..*to).contains(&offset));
            needed && (all || offset % 2 == 0 || offset + 1 == next)
        };
        let left = self.log.read(from).into_iter().filter(|batch| batch.base_offset < to && stays(batch.base_offset));
        let facts = sample_facts(1, 0);
        let moved = left.map(|batch| MovedBatch {
            bytes: thinned_batch(&facts, (batch.base_offset, batch.leader_epoch), 9),
            horizon_ms: NO_HORIZON,
        });
        let moves = Relocation { after: machine.clean().moves, from, to, batches: moved.collect() };
        // Moving what was moved needs all of it.
        if from >= to || to < machine.clean().end {
            return;
        }
        assert_eq!(self.log.apply(moves.payload(self.log.now)).0, Replied::Relocated(true));
        self.live.retain(|offset| *offset < from || *offset >= to || stays(*offset));
        // Also what went in an earlier move, before this cursor was opened.
        let gone = (from..to).filter(|offset| !self.live.contains(offset)).map(|offset| (offset, offset + 1));
        let settled = settle(Verdict::Accept, gone);
        self.each(at, &settled);
    }

    fn take(&mut self, step: &Step) {
        self.log.now += 20;
        let at = self.at();
        match step {
            Step::Publish(messages) => self.publish(messages),
            Step::Settle(cursor, verdict, shares) => {
                let ranges: std::collections::BTreeSet<i64> = shares.iter().map(|(at, _)| self.offset(*at)).collect();
                let ranges = ranges.into_iter().map(|offset| (offset, offset + 1));
                self.run(*cursor, settle(*verdict, ranges));
            }
            Step::Seek(cursor, to) => self.run(*cursor, Command::Seek { to: self.offset(*to) }),
            Step::Resolve(cursor, targets) => {
                let dead = self.cursors.get(cursor).and_then(|set| set.unresolved().next()).unwrap_or_default();
                let targets = targets.iter().copied().map(place).collect();
                self.run(*cursor, Command::Resolve { offset: dead, targets });
            }
            Step::Sent(cursor, target, through) => {
                self.run(*cursor, Command::Sent { target: place(*target), through: *through });
            }
            Step::Open(cursor, _) if self.is_one_too_many(*cursor) => {
                let refused = open(&mut self.log, *cursor, Config::default());
                assert_eq!(refused, Err(CursorRefusal::Refused(Refusal::TooMany)));
            }
            Step::Open(cursor, config) => {
                let extent = (self.log.machine.log_start(), self.log.machine.next_offset());
                let set = self.cursors.entry(*cursor).or_insert_with(|| {
                    let mut set = AckSet::default();
                    for command in [Command::Publish { next: extent.1, facts: vec![] }, Command::LogStart(extent.0)] {
                        set.apply(at, command, &mut Vec::new()).unwrap();
                    }
                    set
                });
                set.apply(at, Command::Configure(*config), &mut Vec::new()).unwrap();
                open(&mut self.log, *cursor, *config).unwrap();
            }
            Step::Close(cursor) => {
                self.cursors.remove(cursor);
                ask(&mut self.log, vec![CursorCommand::Close { cursor: *cursor }]);
            }
            Step::DeleteRecords(share) => {
                let start = self.offset(*share).max(self.log.machine.log_start());
                self.log.apply(Payload::log_start(self.log.now, start));
                self.each(at, &Command::LogStart(start));
            }
            Step::Move(upto, all) => self.relocate(*upto, *all),
            Step::Checkpoint => self.log.last_checkpoint = Some(self.log.checkpoint()),
            Step::Elect => {
                self.log.term += 1;
                self.log.apply(Payload::blank(self.log.now));
            }
        }
    }
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn cursors_are_what_they_were_told_and_their_rows_and_checkpoints(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World {
            log: log(),
            cursors: BTreeMap::new(),
            inbox: Inbox::default(),
            recent: BTreeMap::new(),
            live: Vec::new(),
        };
        for step in &steps {
            world.take(step);
            let machine = &world.log.machine;
            prop_assert_eq!(&machine.cursors.open, &world.cursors);
            prop_assert_eq!(machine.inbox(), &world.inbox);
            let unforgotten = |once: &Once| world.recent.get(&once.key) == Some(&once.until);
            prop_assert!(machine.cursors.recent.all().all(|once| unforgotten(&once)));
            prop_assert_eq!(&world.log.restored(), machine, "rows");
            prop_assert_eq!(machine.breach(), None);
            let rows = machine.rows();
            prop_assert_eq!(&PartitionMachine::restore(rows.into_iter().rev()), machine, "rows in any order");
            let start = machine.log_start();
            let read: Vec<i64> = world.log.read(start).iter().map(|batch| batch.base_offset).collect();
            let live: Vec<i64> = world.live.iter().copied().filter(|offset| *offset >= start).collect();
            prop_assert_eq!(&read, &live, "notes are not read");
        }
        let unwritten = usize::from(world.log.machine.applied().0 == 0);
        prop_assert_eq!(world.log.rows.len() + unwritten, world.log.machine.rows().len());
        if let Some(checkpoint) = world.log.last_checkpoint.take() {
            world.log.apply(Payload::log_start(world.log.now, -1));
            prop_assert_eq!(successor(&world.log, checkpoint), world.log.machine, "a checkpoint and the entries after it");
        }
    }
}
