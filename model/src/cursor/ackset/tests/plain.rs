//! A plain model of the ack-set cursor: a map of messages and the rules as they read, compared after every step, with the cursor
//! restored from its rows, from a snapshot, and with a replica that did the same.

use proptest::prelude::*;

use super::*;

/// Where the log begins: offsets of two chunks and of several blocks are met.
const BEGIN: i64 = 65_520;

#[derive(Clone, Debug, Default, PartialEq)]
struct Message {
    settled: bool,
    priority: Option<u8>,
    due: Option<i64>,
    expiry: Option<i64>,
    failures: u32,
    dead: Option<(Reason, Option<Vec<Letter>>)>,
}

impl Message {
    fn live(&self) -> bool {
        !self.settled && self.dead.is_none()
    }

    fn settle(&mut self) {
        *self = Message { settled: true, ..Message::default() };
    }
}

#[derive(Clone, Debug, Default)]
struct Plain {
    config: Config,
    start: i64,
    messages: BTreeMap<i64, Message>,
    last: BTreeMap<Place, u64>,
    died: [u64; 4],
}

impl Plain {
    fn next(&self) -> i64 {
        self.messages.last_key_value().map_or(BEGIN, |(offset, _)| offset + 1)
    }

    fn floor(&self) -> i64 {
        let open = self.messages.iter().find(|(_, message)| !message.settled);
        open.map_or(self.next(), |(offset, _)| *offset)
    }

    fn kill(&mut self, offset: i64, reason: Reason) {
        self.died[reason as usize] += 1;
        let message = self.messages.get_mut(&offset).unwrap();
        match self.config.dead_letters {
            true => {
                let failures = message.failures;
                *message = Message { failures, dead: Some((reason, None)), ..Message::default() };
            }
            false => message.settle(),
        }
    }

    fn settle_one(&mut self, ts: i64, offset: i64, verdict: Verdict) -> u64 {
        let config = self.config;
        let message = self.messages.get_mut(&offset).unwrap();
        if !message.live() {
            return 0;
        }
        match verdict {
            Verdict::Accept => message.settle(),
            Verdict::Reject(reason) => self.kill(offset, reason),
            Verdict::Expire if message.expiry.is_some_and(|time| time <= ts) => self.kill(offset, Reason::Expired),
            Verdict::Expire => return 0,
            Verdict::Release { counted, delay_ms } => {
                message.failures += u32::from(counted);
                let rule = config.backoff.filter(|_| counted).map(|backoff| {
                    (1..message.failures).fold(backoff.first_ms, |delay, _| delay * 2).min(backoff.max_ms)
                });
                message.due = delay_ms.or(rule).filter(|delay| *delay > 0).map(|delay| ts + delay);
                if counted && config.failures_max > 0 && message.failures >= config.failures_max {
                    self.kill(offset, Reason::Failed);
                }
            }
        }
        1
    }

    /// Takes the letters to `target` up to a number out; how many there were.
    fn send(&mut self, target: Place, through: u64) -> u64 {
        let mut sent = 0;
        for message in self.messages.values_mut() {
            let Some((_, Some(letters))) = &mut message.dead else { continue };
            let before = letters.len();
            letters.retain(|letter| letter.target != target || letter.number > through);
            sent += (before - letters.len()) as u64;
            if letters.is_empty() {
                message.settle();
            }
        }
        sent
    }

    fn resolve(&mut self, offset: i64, targets: &[Place]) -> Result<Reply, Refusal> {
        let dead = self.messages.get_mut(&offset).and_then(|message| message.dead.as_mut());
        let (_, letters) = dead.ok_or(Refusal::NotDead)?;
        if letters.is_none() && (1..targets.len()).any(|place| targets[..place].contains(&targets[place])) {
            return Err(Refusal::Targets);
        }
        let last = &mut self.last;
        let letter = |target: &Place| {
            let number = last.entry(*target).or_default();
            *number += 1;
            Letter { target: *target, number: *number }
        };
        let letters = letters.get_or_insert_with(|| targets.iter().map(letter).collect()).clone();
        if letters.is_empty() {
            self.messages.get_mut(&offset).unwrap().settle();
        }
        Ok(Reply::Resolved(letters))
    }

    /// Settles what is live and fulfils `which`; how many that were.
    fn settle_where(&mut self, which: impl Fn(i64) -> bool) -> u64 {
        let mut settled = 0;
        for (_, message) in self.messages.iter_mut().filter(|(offset, message)| which(**offset) && message.live()) {
            message.settle();
            settled += 1;
        }
        settled
    }

    fn apply(&mut self, ts: i64, command: &Command) -> Result<Reply, Refusal> {
        self.messages.values_mut().for_each(|message| message.due = message.due.filter(|due| *due > ts));
        let changed = match command {
            Command::Publish { next, facts } => {
                (self.next()..*next).for_each(|offset| drop(self.messages.insert(offset, Message::default())));
                let mut learned = 0;
                for fact in facts {
                    let Some(message) = self.messages.get_mut(&fact.offset).filter(|message| message.live()) else {
                        continue;
                    };
                    learned += 1;
                    message.priority = message.priority.or(fact.priority);
                    message.expiry = fact.expires_at.or(message.expiry);
                    let not_before = fact.not_before.filter(|due| *due > ts && message.failures == 0);
                    message.due = not_before.or(message.due);
                }
                learned
            }
            Command::Settle(settlements) => {
                let each = settlements.iter().map(|Settlement { verdict, ranges }| {
                    let ranges = ranges.within(self.next()).ok_or(Refusal::Ranges)?;
                    let offsets = ranges.into_iter().flat_map(|(from, to)| from.max(BEGIN)..to);
                    Ok(offsets.map(|offset| self.settle_one(ts, offset, *verdict)).sum())
                });
                return Ok(Reply::Settled(each.collect()));
            }
            Command::Resolve { offset, targets } => return self.resolve(*offset, targets),
            Command::Sent { target, through } => {
                let known = self.last.get(target).is_some_and(|last| through <= last);
                if known { self.send(*target, *through) } else { return Err(Refusal::Number) }
            }
            Command::ForgetTarget(target) => {
                self.last.remove(target);
                self.send(*target, u64::MAX)
            }
            Command::Purge { to, keep } => {
                let keep = keep.within(self.next()).unwrap();
                self.settle_where(|offset| {
                    offset < *to && !keep.iter().any(|(from, end)| (*from..*end).contains(&offset))
                })
            }
            Command::Seek { to } => {
                let to = *to.max(&self.start);
                let skipped = self.settle_where(|offset| offset < to);
                let mut again = 0;
                for (_, message) in self.messages.range_mut(to..).filter(|(_, message)| message.settled) {
                    *message = Message::default();
                    again += 1;
                }
                skipped + again
            }
            Command::LogStart(start) => {
                self.start = self.start.max(*start);
                for (_, message) in self.messages.range_mut(..self.start).filter(|(_, message)| message.dead.is_some())
                {
                    *message = Message::default();
                }
                let start = self.start;
                self.settle_where(|offset| offset < start)
            }
            Command::Configure(config) => {
                self.config = *config;
                0
            }
        };
        Ok(Reply::Changed(changed))
    }

    /// What is ready, in the order in which it is delivered.
    fn ready(&self, now: i64) -> Vec<i64> {
        let ready = |message: &Message| message.live() && message.due.is_none_or(|due| due <= now);
        let mut ready: Vec<_> = self.messages.iter().filter(|(_, message)| ready(message)).collect();
        ready.sort_by_key(|(offset, message)| (255 - message.priority.unwrap_or(self.config.priority), **offset));
        ready.into_iter().map(|(offset, _)| *offset).collect()
    }
}

fn ready(cursor: &AckSet, now: i64) -> Vec<i64> {
    let of = |priority| {
        let first = cursor.next_ready(priority, 0, now);
        let ranges = std::iter::successors(first, move |(_, end)| cursor.next_ready(priority, *end, now));
        ranges.flat_map(|(from, to)| from..to)
    };
    cursor.priorities().into_iter().flat_map(of).collect()
}

/// A command from a few numbers, most of them about messages that there are.
fn command_of(kind: u8, (a, b, c): (u8, u8, u8), ts: i64, plain: &Plain) -> Command {
    let next = plain.next();
    let offset = BEGIN + i64::from(a) % (next - BEGIN + 1).min(60);
    let end = (offset + 1 + i64::from(b % 4)).min(next + i64::from(b == 255)).max(offset + 1);
    let target = |number: u8| Place { group: GroupId(u32::from(number % 3)), queue: 7 };
    let fact = |offset, bits: u8| Fact {
        offset,
        priority: (bits & 1 > 0).then_some(bits % 7),
        not_before: (bits & 2 > 0).then_some(ts + i64::from(bits % 23)),
        expires_at: (bits & 4 > 0).then_some(ts + i64::from(bits % 31)),
    };
    let settle = |verdict| Command::Settle(vec![Settlement { verdict, ranges: Ranges::of([(offset, end)]) }]);
    match kind {
        0..=3 => {
            let more = if next < BEGIN + 60 { i64::from(a % 6) } else { 0 };
            Command::Publish {
                next: next + more,
                facts: (next..next + more).map(|offset| fact(offset, b ^ c)).collect(),
            }
        }
        4 => Command::Publish { next: 0, facts: Vec::from_iter((offset < next).then(|| fact(offset, b))) },
        5..=8 => settle(Verdict::Accept),
        9..=11 => settle(Verdict::Release { counted: c % 3 > 0, delay_ms: (c % 4 == 0).then_some(i64::from(c) - 20) }),
        12..=13 => settle(Verdict::Reject(Reason::ALL[usize::from(c % 4)])),
        14..=15 => settle(Verdict::Expire),
        16..=18 => {
            let dead = plain.messages.iter().filter(|(_, message)| message.dead.is_some()).map(|(offset, _)| *offset);
            let dead: Vec<i64> = dead.collect();
            let offset = dead.get(usize::from(a) % dead.len().max(1)).copied().unwrap_or(offset);
            Command::Resolve { offset, targets: (0..b % 4).map(|place| target(place + c / 100 * place)).collect() }
        }
        19..=21 => {
            let last = plain.last.get(&target(a)).copied().unwrap_or_default();
            Command::Sent { target: target(a), through: last.saturating_sub(u64::from(b % 3)) + u64::from(c == 255) }
        }
        22 if a > 200 => Command::ForgetTarget(target(a)),
        22 => Command::Purge { to: offset, keep: Ranges::of([(BEGIN + 2, (BEGIN + 4).min(next))]) },
        23 => Command::Seek { to: offset },
        24 if a > 180 => Command::LogStart(offset.min(BEGIN + i64::from(c % 16)).min(next)),
        _ => Command::Configure(Config {
            priority: c % 3,
            failures_max: u32::from(a % 4),
            backoff: (b % 2 > 0).then_some(Backoff { first_ms: i64::from(b % 5), max_ms: 12 }),
            dead_letters: b % 5 > 0,
        }),
    }
}

fn compare(run: &Run, plain: &Plain, now: i64) {
    let cursor = &run.cursor;
    let State { floor, next, start, dead } = *cursor.state();
    assert_eq!((floor, next, start, dead), (plain.floor(), plain.next(), plain.start, plain.died));
    assert_eq!(ready(cursor, now), plain.ready(now));
    assert_eq!(ready(cursor, i64::MAX), plain.ready(i64::MAX));
    let mut counts = Counts { dead, ..Counts::default() };
    let mut sendings: BTreeMap<Place, BTreeMap<u64, i64>> = BTreeMap::new();
    for (offset, message) in &plain.messages {
        let shown = cursor.exception(*offset);
        let dead = shown.dead.map(|dead| (dead.reason, dead.letters));
        assert_eq!(
            (shown.failures, shown.not_before, dead),
            (message.failures, message.due, message.dead.clone()),
            "{offset}"
        );
        assert_eq!(cursor.expires_at(*offset), message.expiry, "{offset}");
        assert_eq!(cursor.needed_in(*offset, offset + 1), u64::from(!message.settled));
        counts.delayed += u64::from(message.due.is_some_and(|due| due > now));
        counts.dead_pending += u64::from(message.dead.is_some());
        counts.ready += u64::from(message.live() && message.due.is_none_or(|due| due <= now));
        for letter in message.dead.iter().flat_map(|(_, letters)| letters.iter().flatten()) {
            sendings.entry(letter.target).or_default().insert(letter.number, *offset);
        }
    }
    assert_eq!(cursor.counts(now), counts);
    for target in cursor.targets() {
        let want = sendings.remove(&target).unwrap_or_default();
        let lowest = want.keys().next().copied().unwrap_or_default();
        let want: Vec<_> = want.into_iter().map(|(number, offset)| Sending { offset, number, lowest }).collect();
        assert_eq!(cursor.sendings(target).collect::<Vec<_>>(), want);
    }
    assert_eq!(sendings, BTreeMap::new());
    let pinned: Vec<i64> = cursor.pinned(0, i64::MAX).flat_map(|(from, to)| from..to).collect();
    let open = plain.messages.iter().filter(|(_, message)| !message.settled).map(|(offset, _)| *offset);
    assert_eq!(pinned, open.collect::<Vec<_>>());
}

/// With 5,000 cases of 400 steps at most, a million steps.
fn steps_max() -> usize {
    if std::env::var_os("FLOTILLA_LONG").is_some() { 400 } else { 60 }
}

proptest! {
    #![proptest_config(crate::testing::config())]

    #[test]
    fn the_cursor_is_the_plain_model(
        steps in proptest::collection::vec((0u8..26, any::<(u8, u8, u8)>(), -3i64..12), 1..steps_max()),
    ) {
        let (mut run, mut plain) = (Run::default(), Plain { start: BEGIN, ..Plain::default() });
        run.apply(0, Command::Publish { next: BEGIN, facts: vec![] }).0.unwrap();
        run.apply(0, Command::LogStart(BEGIN)).0.unwrap();
        let mut replica = run.cursor.clone();
        let mut ts = 0;
        for (kind, numbers, later) in steps {
            ts += later;
            let command = command_of(kind, numbers, ts, &plain);
            let (result, rows) = run.apply(ts, command.clone());
            prop_assert_eq!(&result, &plain.apply(ts, &command), "{:?}", &command);
            compare(&run, &plain, ts);
            prop_assert_eq!(run.cursor.breach(), None);
            prop_assert!(run.restored().as_ref() == Ok(&run.cursor), "after {:?}", &command);
            prop_assert!(AckSet::from_rows(run.cursor.rows()).as_ref() == Ok(&run.cursor), "after {:?}", &command);
            let mut again = Vec::new();
            prop_assert_eq!(replica.apply(at(ts), command, &mut again), result);
            prop_assert_eq!((&replica, again), (&run.cursor, rows));
        }
    }

    /// Letters are lost on the way, come twice and late, and leaders forget what they sent: each arrives once, in order.
    #[test]
    fn every_letter_arrives_once(
        steps in proptest::collection::vec((0u8..5, any::<u8>()), 1..120),
    ) {
        let (source, target) = (place("9.1"), place("2.0"));
        let mut run = published(40, []);
        run.apply(0, command("configure letters")).0.unwrap();
        let (mut wire, mut taken, mut resolved) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, number) in steps {
            let offset = i64::from(number % 40);
            match kind {
                0 => drop(run.apply(0, command(&format!("reject {offset}")))),
                1 => {
                    let offset = run.cursor.unresolved().nth(usize::from(number % 3));
                    if let Some(offset) = offset {
                        run.apply(0, command(&format!("resolve {offset} 2.0"))).0.unwrap();
                        resolved.push(offset);
                    }
                }
                2 => wire.extend(run.cursor.sendings(target).take(usize::from(number % 4))),
                3 => {
                    let Some(sending) = (!wire.is_empty()).then(|| wire[usize::from(number) % wire.len()]) else { continue };
                    match run.inbox.take(source, sending.number, sending.lowest) {
                        Taking::New => taken.push(sending.offset),
                        Taking::Duplicate => prop_assert!(taken.contains(&sending.offset)),
                        Taking::Early => prop_assert!(!taken.contains(&sending.offset)),
                    }
                }
                _ => {
                    let through = run.inbox.sources().next().map_or(0, |(_, last)| last);
                    drop(run.apply(0, command(&format!("sent 2.0 through={through}"))));
                }
            }
        }
        let first = |run: &Run| run.cursor.sendings(target).next();
        while let Some(sending) = first(&run) {
            if run.inbox.take(source, sending.number, sending.lowest) == Taking::New {
                taken.push(sending.offset);
            }
            run.apply(0, command(&format!("sent 2.0 through={}", sending.number))).0.unwrap();
        }
        prop_assert_eq!(taken, resolved);
    }
}
