//! The ack-set cursor: transcripts of every rule, a plain model beside it, what it costs, and snapshots that are none.

mod plain;

use super::*;
use crate::ids::GroupId;
use crate::invariants::InvariantId;
use crate::transcripts::{Words, replay};

fn at(leader_ts: i64) -> At {
    At { index: 1, term: 1, leader_ts }
}

pub(crate) fn place(text: &str) -> Place {
    let (group, queue) = text.split_once('.').unwrap();
    Place { group: GroupId(group.parse().unwrap()), queue: queue.parse().unwrap() }
}

/// `3` and `3-5`, both ends meant.
fn ranges<'a>(words: impl IntoIterator<Item = &'a str>) -> Ranges {
    let number = |text: &str| text.parse::<i64>().ok();
    let range = |word: &str| match word.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)? + 1)),
        None => number(word).map(|only| (only, only + 1)),
    };
    Ranges::of(words.into_iter().filter_map(range))
}

fn fact(text: &str) -> Fact {
    let words = Words::of(text);
    let time = |key| words.get(key).map(|time| time.parse().unwrap());
    Fact {
        offset: words.plain()[0].parse().unwrap(),
        priority: words.get("priority").map(|priority| priority.parse().unwrap()),
        not_before: time("due"),
        expires_at: time("expires"),
    }
}

pub(crate) fn config(words: &Words<'_>) -> Config {
    let backoff = words
        .get("backoff")
        .and_then(|text| text.split_once(".."))
        .map(|(first, max)| Backoff { first_ms: first.parse().unwrap(), max_ms: max.parse().unwrap() });
    let dead_letters = words.plain().contains(&"letters");
    Config { priority: words.number("priority", 0), failures_max: words.number("failures", 0), backoff, dead_letters }
}

fn verdict(verb: &str, words: &Words<'_>) -> Verdict {
    let plain = words.plain();
    match verb {
        "accept" => Verdict::Accept,
        "release" => Verdict::Release {
            counted: plain.contains(&"counted"),
            delay_ms: words.get("delay").map(|delay| delay.parse().unwrap()),
        },
        "expire" => Verdict::Expire,
        "overflow" => Verdict::Reject(Reason::Overflow),
        _ => Verdict::Reject(Reason::Rejected),
    }
}

pub(crate) fn command(text: &str) -> Command {
    let (verb, rest) = text.split_once(' ').unwrap();
    let words = Words::of(rest.split('|').next().unwrap());
    let plain = words.plain();
    let first = plain.first().and_then(|word| word.parse::<i64>().ok()).unwrap_or_default();
    match verb {
        "publish" => Command::Publish { next: first, facts: rest.split('|').skip(1).map(fact).collect() },
        "resolve" => Command::Resolve { offset: first, targets: plain[1..].iter().map(|text| place(text)).collect() },
        "sent" => Command::Sent { target: place(plain[0]), through: words.number("through", 0) },
        "forget" => Command::ForgetTarget(place(plain[0])),
        "purge" => Command::Purge { to: first, keep: ranges(words.get("keep").unwrap_or_default().split(',')) },
        "seek" => Command::Seek { to: first },
        "log-start" => Command::LogStart(first),
        "configure" => Command::Configure(config(&words)),
        verb => Command::Settle(vec![Settlement { verdict: verdict(verb, &words), ranges: ranges(plain) }]),
    }
}

/// A cursor, and the rows that are left of all that it wrote.
#[derive(Default)]
struct Run {
    cursor: AckSet,
    rows: BTreeMap<Key, Row>,
    inbox: Inbox,
}

impl Run {
    fn apply(&mut self, leader_ts: i64, command: Command) -> (Result<Reply, Refusal>, Vec<Row>) {
        let mut rows = Vec::new();
        let result = self.cursor.apply(at(leader_ts), command, &mut rows);
        self.rows.extend(rows.iter().map(|row| (row.key, row.clone())));
        (result, rows)
    }

    /// The cursor that these rows give.
    fn restored(&self) -> Result<AckSet, InvariantId> {
        AckSet::from_rows(self.rows.values().cloned())
    }

    fn ready(&self, now: i64) -> Vec<String> {
        let of = |priority: u8| {
            let mut ranges = Vec::new();
            let mut from = 0;
            while let Some((first, end)) = self.cursor.next_ready(priority, from, now) {
                ranges.push(format!("{first}..{end}"));
                from = end;
            }
            format!("priority {priority}: [{}]", ranges.join(" "))
        };
        self.cursor.priorities().into_iter().map(of).collect()
    }

    fn ask(&self, verb: &str, words: &Words<'_>) -> Option<Vec<String>> {
        let first = || words.plain()[0].parse::<i64>().unwrap();
        let line = match verb {
            "ready" => return Some(self.ready(words.number("now", 0))),
            "counts" => format!("{:?}", self.cursor.counts(words.number("now", 0))),
            "times" => format!("due {:?} expiry {:?}", self.cursor.due_at(), self.cursor.next_expiry()),
            "expired" => format!("{:?}", self.cursor.expired(first(), 10)),
            "of" => format!("{:?}", self.cursor.exception(first())),
            "pinned" => {
                let pinned: Vec<_> = self.cursor.pinned(0, first()).collect();
                format!("from {} {pinned:?}", self.cursor.needed_from())
            }
            "unresolved" => format!("{:?}", self.cursor.unresolved().collect::<Vec<_>>()),
            "sendings" => {
                return Some(
                    self.cursor.sendings(place(words.plain()[0])).map(|sending| format!("{sending:?}")).collect(),
                );
            }
            "restored" => format!("equal {}", self.restored().as_ref() == Ok(&self.cursor)),
            _ => return None,
        };
        Some(vec![line])
    }

    fn step(&mut self, text: &str) -> Vec<String> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words = Words::of(rest);
        if verb == "take" {
            let taking = self.inbox.take(place(words.plain()[0]), words.number("number", 0), words.number("lowest", 1));
            return vec![format!("{taking:?}")];
        }
        if let Some(answer) = self.ask(verb, &words) {
            return answer;
        }
        let (result, rows) = self.apply(words.number("ts", 0), command(text));
        let mut trace = vec![format!("{result:?}")];
        trace.extend(rows.into_iter().map(|Row { key, value }| match value {
            Some(Value::State(State { floor, next, start, dead }, _)) => {
                format!("state {start} <= {floor} <= {next} dead {dead:?}")
            }
            Some(value) => format!("{key:?} = {value:?}"),
            None => format!("{key:?} gone"),
        }));
        trace
    }
}

#[test]
fn transcript() {
    let mut run = Run::default();
    replay("ackset.txt", |command| run.step(command));
}

fn accept(list: impl IntoIterator<Item = (i64, i64)>) -> Command {
    Command::Settle(vec![Settlement { verdict: Verdict::Accept, ranges: Ranges::of(list) }])
}

fn published(next: i64, facts: impl IntoIterator<Item = Fact>) -> Run {
    let mut run = Run::default();
    let facts = facts.into_iter().collect();
    run.apply(0, Command::Publish { next, facts }).0.unwrap();
    run
}

/// Chunks of 64K offsets that ten million messages have: what one costs, so often.
const CHUNKS: usize = 10_000_000 / 65_536 + 1;

#[test]
fn ten_million_ready_messages_cost_nothing() {
    let run = published(10_000_000, []);
    assert_eq!((run.cursor.bytes(), run.cursor.counts(0).ready), (0, 10_000_000));
    assert_eq!(run.cursor.next_ready(0, 0, 0), Some((0, 10_000_000)));
    assert_eq!(run.rows.len(), 1, "{:?}", run.rows);
}

#[test]
fn ten_million_messages_of_any_priority_cost_less_than_100_mib() {
    for priorities in [10, 256u64] {
        let any = |offset: i64| (offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let stated = |offset| Fact { offset, priority: Some((any(offset) % priorities) as u8), ..Fact::default() };
        let bytes = published(8_192, (0..8_192).map(stated)).cursor.bytes();
        assert!(bytes * CHUNKS * 8 < 100 << 20, "{priorities} priorities: {bytes} bytes for 8,192");
    }
}

#[test]
fn ten_million_messages_that_expire_cost_less_than_100_mib() {
    let stated = |offset| Fact { offset, expires_at: Some(offset), ..Fact::default() };
    let bytes = published(8_192, (0..8_192).map(stated)).cursor.bytes();
    assert!(bytes * CHUNKS * 8 < 100 << 20, "{bytes} bytes for 8,192");
}

#[test]
fn the_worst_pattern_of_acknowledgements_costs_a_bitmap_a_chunk() {
    let mut run = published(3 * 65_536, []);
    // Behind a message that stays, a chunk of holes between two without any.
    let holes = (0..32_768).map(|place| 65_536 + 2 * place).map(|offset| (offset, offset + 1));
    run.apply(0, accept([(1, 65_536)].into_iter().chain(holes).chain([(131_072, 196_608)]))).0.unwrap();
    let bytes = run.cursor.bytes();
    assert!((8_192..8_500).contains(&bytes), "{bytes}");
    assert_eq!(run.cursor.counts(0).ready, 32_769);
    // And nothing once the holes are filled, though one message is never acknowledged.
    run.apply(0, accept([(1, 3 * 65_536)])).0.unwrap();
    assert!(run.cursor.bytes() < 3 * 100, "{}", run.cursor.bytes());
    assert_eq!(run.cursor.pinned(0, i64::MAX).collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!(run.restored(), Ok(run.cursor));
}

#[test]
fn what_is_remembered_is_bounded_and_accepting_goes_on() {
    // Bitmaps up to half a MiB below the bound.
    let holes = Value::Chunk(Chunk::Bits(vec![0x5555_5555_5555_5555; 1_024]));
    let chunks = (limits::CURSOR_BYTES_MAX - (1 << 19)) as i64 / (8_192 + 64);
    let state = State { next: 1 << 40, ..State::default() };
    let rows = (1..=chunks).map(|chunk| Row { key: Key::Done(chunk), value: Some(holes.clone()) });
    let first = Row { key: Key::State, value: Some(Value::State(state, Config::default())) };
    let mut run = Run { cursor: AckSet::from_rows(rows.chain([first])).unwrap(), ..Run::default() };
    let release = |count| {
        let verdict = Verdict::Release { counted: true, delay_ms: Some(1) };
        Command::Settle(vec![Settlement { verdict, ranges: Ranges::of([(0, count)]) }])
    };
    assert_eq!(run.apply(0, release(1_000)).0, Ok(Reply::Settled(vec![Ok(1_000)])));
    let (refused, rows) = run.apply(0, release(2_000));
    assert_eq!((refused, rows.len()), (Ok(Reply::Settled(vec![Err(Refusal::Full)])), 1), "but for the counters no row");
    let next = 1 + (1 << 40);
    let facts = (0..2_000).map(|offset| Fact { offset, priority: Some(1), ..Fact::default() }).collect();
    assert_eq!(run.apply(0, Command::Publish { next, facts }).0, Err(Refusal::Full));
    assert_eq!(run.apply(0, Command::Publish { next, facts: vec![] }).0, Ok(Reply::Changed(0)));
    assert!(run.cursor.bytes() <= limits::CURSOR_BYTES_MAX);
    run.apply(0, accept([(0, next)])).0.unwrap();
    assert_eq!((run.cursor.bytes(), run.cursor.state().floor), (0, next));
}

#[test]
fn more_than_a_command_may_say_changes_nothing() {
    let mut run = published(1 << 20, []);
    let before = run.cursor.clone();
    let much = Ranges::of([(0, 1 << 17)]);
    let settle = |verdict| Command::Settle(vec![Settlement { verdict, ranges: much.clone() }]);
    let release = run.apply(0, settle(Verdict::Release { counted: true, delay_ms: None })).0;
    assert_eq!(release, Ok(Reply::Settled(vec![Err(Refusal::TooMany)])));
    let fact = |offset| Fact { offset, ..Fact::default() };
    let facts = (0..=limits::CURSOR_FACTS_MAX as i64).map(fact).collect();
    assert_eq!(run.apply(0, Command::Publish { next: 1 << 20, facts }).0, Err(Refusal::TooMany));
    let backwards = Command::Publish { next: 0, facts: vec![fact(4), fact(3)] };
    assert_eq!(run.apply(0, backwards).0, Err(Refusal::Facts));
    let beyond = Command::Publish { next: 0, facts: vec![fact(1 << 20)] };
    assert_eq!(run.apply(0, beyond).0, Err(Refusal::Facts));
    assert_eq!(run.apply(0, accept([(0, (1 << 20) + 1)])).0, Ok(Reply::Settled(vec![Err(Refusal::Ranges)])));
    assert_eq!(run.cursor, before);
}

/// A cursor that has a row of each kind.
fn rich() -> Run {
    let mut run = Run::default();
    let steps = [
        "configure letters failures=9",
        "publish 20 | 3 priority=5 | 4 due=90 expires=95 | 6 expires=70",
        "accept 8-9",
        "release 10 counted",
        "reject 12 13",
        "resolve 12 2.0 3.1",
    ];
    for step in steps {
        run.apply(1, command(step)).0.unwrap();
    }
    run
}

#[test]
fn rows_that_no_cursor_wrote_are_refused() {
    let run = rich();
    let good: Vec<Row> = run.cursor.rows();
    assert_eq!(AckSet::from_rows(good.clone()), Ok(run.cursor));
    assert_eq!(good.len(), 10, "{good:?}");
    // Without any one of the rows that others lean on.
    for (key, breach) in
        [(Key::State, InvariantId::CursorFloor), (Key::Last(place("2.0")), InvariantId::DeadLetterOnce)]
    {
        let without = good.iter().filter(|row| row.key != key).cloned();
        assert_eq!(AckSet::from_rows(without), Err(breach), "{key:?}");
    }
    let chunk = |list: &[(u16, u16)]| Value::Chunk(Chunk::Runs(list.to_vec()));
    let dead = |number: u64| {
        let letters = Some(vec![Letter { target: place("2.0"), number }]);
        Value::Dead(Dead { reason: Reason::Rejected, failures: 0, letters })
    };
    let none = Dead { reason: Reason::Rejected, failures: 0, letters: Some(vec![]) };
    let bad = [
        (Key::Done(0), chunk(&[(0, 3)])),
        (Key::Done(0), chunk(&[(12, 12)])),
        (Key::Done(0), chunk(&[(19, 20)])),
        (Key::Done(-1), chunk(&[(1, 1)])),
        (Key::Priority(5, 0), chunk(&[(8, 8)])),
        (Key::Priority(6, 0), chunk(&[(3, 3)])),
        (Key::Priority(6, 0), chunk(&[(13, 13)])),
        (Key::Failures(8), Value::Number(1)),
        (Key::Failures(12), Value::Number(1)),
        (Key::Failures(11), Value::Number(0)),
        (Key::Failures(-4), Value::Number(1)),
        (Key::Failures(11), Value::Number(1 << 32)),
        (Key::Failures(11), chunk(&[(1, 1)])),
        (Key::Dead(11), dead(1)),
        (Key::Dead(11), dead(2)),
        (Key::Dead(11), dead(0)),
        (Key::Dead(8), dead(1)),
        (Key::Dead(11), Value::Dead(none)),
        (Key::Last(place("2.0")), Value::Number(0)),
    ];
    for (key, value) in bad {
        let others = good.iter().filter(|row| row.key != key).cloned();
        let rows: Vec<Row> = others.chain([Row { key, value: Some(value) }]).collect();
        assert!(AckSet::from_rows(rows.clone()).is_err(), "{key:?} {:?}", rows.last());
    }
    for row in &good {
        let twice = good.iter().chain([row]).cloned();
        let same = matches!(row.key, Key::State);
        assert_eq!(AckSet::from_rows(twice).is_ok(), same, "{row:?} twice");
    }
}
