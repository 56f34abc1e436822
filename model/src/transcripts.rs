//! Runs the text transcripts of `src/transcripts`: commands (`> ...`) and, below each, the trace they must give.
//! `REWRITE=1 cargo test -p model` writes the traces anew; the change is reviewed as a diff.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::command::{Flags, Payload, Tag};
use crate::controller::*;
use crate::cursor::ackset::tests::{command, config, place};
use crate::cursor::{Batch, CursorCommand, LetterNote, Note, Once};
use crate::ids::{GroupId, NodeId, PartitionIndex, ReplicaId, StoreId, TopicId};
use crate::machine::{At, Out, Write};
use crate::partition::{Checkpoint, Mark, MovedBatch, PartitionMachine, Place, Relocation, moved_batches};
use crate::producer::{Producer, ProducerBatch};
use crate::record::{BatchFacts, LiveBatch, NO_HORIZON, sample_batch, sample_facts, thinned_batch};

/// Replays one transcript with `step` and compares, or rewrites it.
pub(crate) fn replay(file: &str, mut step: impl FnMut(&str) -> Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transcripts").join(file);
    let recorded = std::fs::read_to_string(&path).unwrap();
    let mut replayed = String::new();
    for line in recorded.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            replayed += &format!("{line}\n");
            step(command).iter().for_each(|line| replayed += &format!("  {line}\n"));
        } else if line.is_empty() || line.starts_with('#') {
            replayed += &format!("{line}\n");
        }
    }
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &replayed).unwrap();
        return;
    }
    assert!(recorded.contains("\n> "), "{file} has commands");
    let different = recorded.lines().zip(replayed.lines()).position(|(a, b)| a != b);
    assert!(recorded == replayed, "{file} line {:?} gives another trace:\n{replayed}", different.map(|line| line + 1));
}

/// `key=value` words of a command.
pub(crate) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Words(text.split_whitespace().collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub(crate) fn number<N: std::str::FromStr>(&self, key: &str, default: N) -> N {
        self.get(key).map_or(default, |value| value.parse().ok().unwrap_or_else(|| panic!("{key}={value}")))
    }

    pub(crate) fn plain(&self) -> Vec<&'a str> {
        self.0.iter().copied().filter(|word| !word.contains('=')).collect()
    }

    fn pairs(&self) -> BTreeMap<String, String> {
        self.0.iter().filter_map(|word| word.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}

#[derive(Default)]
struct PartitionRun {
    machine: PartitionMachine,
    entries: Vec<(u64, Payload)>,
    /// Bodies of cursor batches by index.
    batches: BTreeMap<u64, Batch>,
    term: u64,
    checkpoint: Checkpoint,
}

fn batch(text: &str) -> Bytes {
    let words = Words::of(text);
    if words.plain().contains(&"junk") {
        return Bytes::from_static(b"junk");
    }
    let facts = BatchFacts {
        producer_id: words.number("pid", -1),
        producer_epoch: words.number("epoch", if words.get("pid").is_some() { 0 } else { -1 }),
        base_sequence: words.number("seq", -1),
        attributes: if words.plain().contains(&"txn") { 0x10 } else { 0 },
        ..sample_facts(words.number("n", 1), words.number("time", 0))
    };
    sample_batch(&facts, words.number("body", 0))
}

/// What a message of a queue says of itself: `priority=`, `due=`, `expires=`, `letter=GROUP.QUEUE number= lowest=`, `once=KEY until=`,
/// `surplus`.
fn note((ordinal, text): (usize, &str)) -> Option<Note> {
    let words = Words::of(text);
    let time = |key| words.get(key).map(|time| time.parse().unwrap());
    let letter = |source| {
        let number = words.number("number", 1);
        LetterNote { source: place(source), number, lowest: words.number("lowest", number) }
    };
    let note = Note {
        ordinal: ordinal as u16,
        priority: words.get("priority").map(|priority| priority.parse().unwrap()),
        not_before: time("due"),
        expires_at: time("expires"),
        letter: words.get("letter").map(letter),
        once: words.get("once").map(|key| Once { key: key.parse().unwrap(), until: words.number("until", 0) }),
        surplus: words.plain().contains(&"surplus"),
    };
    (note != Note { ordinal: ordinal as u16, ..Note::default() }).then_some(note)
}

/// `first-last@offset` for each batch remembered.
fn producer_line(producer: &Producer) -> String {
    let Producer { id, epoch, batches, last_ts, .. } = producer;
    let batch = |b: &ProducerBatch| format!(" {}-{}@{}", b.first_sequence, b.last_sequence, b.base_offset);
    format!("producer {id} epoch {epoch} ts {last_ts}:{}", batches.iter().map(batch).collect::<String>())
}

impl PartitionRun {
    fn apply(&mut self, leader_ts: i64, payload: Payload) -> Vec<String> {
        let at = At { index: self.machine.applied().0 + 1, term: self.term, leader_ts };
        let mut out = Out::default();
        let batch = self.batches.get(&at.index).cloned();
        let reply = self.machine.apply_decoded(at, &payload, batch, &mut out);
        self.entries.push((self.term, payload));
        let mut trace = vec![format!("{}: {reply:?}", at.index)];
        let rows = out.writes.iter().filter(|write| !matches!(write, Write::State(_)));
        trace.extend(rows.map(|write| match write {
            Write::Producer(producer) => format!("write {}", producer_line(producer)),
            other => format!("write {other:?}"),
        }));
        trace.extend(out.effects.iter().map(|effect| format!("effect {effect:?}")));
        trace
    }

    fn ask(&mut self, leader_ts: i64, commands: Vec<CursorCommand>) -> Vec<String> {
        self.batches.insert(self.machine.applied().0 + 1, Batch(commands));
        self.apply(leader_ts, Payload::command(Tag::CursorBatch, leader_ts, Bytes::from_static(b"a batch")))
    }

    /// `open`, `close`, or what a cursor is to do.
    fn cursor(&mut self, ts: i64, number: u32, rest: &str) -> Vec<String> {
        let commands = rest.split(';').map(|text| match text.trim().split_once(' ').unwrap_or((text.trim(), "")) {
            ("open", rules) => CursorCommand::Open { cursor: number, config: config(&Words::of(rules)) },
            ("close", _) => CursorCommand::Close { cursor: number },
            ("forget-source", source) => CursorCommand::ForgetSource(place(source)),
            _ => CursorCommand::Run { cursor: number, command: command(text.trim()) },
        });
        self.ask(ts, commands.collect())
    }

    /// Takes a checkpoint, and shows its rows and what the machine writes for it.
    fn checkpoint(&mut self, leader_ts: i64) -> Vec<String> {
        let mut out = Out::default();
        self.checkpoint = self.machine.checkpoint(leader_ts, &mut out);
        let writes = out.writes.iter().map(|write| format!("write {write:?}"));
        let rows = self.checkpoint.rows.iter().map(|row| match row {
            Write::State(state) => format!("row applied {} next {}", state.applied_index, state.next_offset),
            Write::Producer(producer) => format!("row {}", producer_line(producer)),
            other => format!("row {other:?}"),
        });
        writes.chain(rows).collect()
    }

    /// A replica that has nothing but the checkpoint and what came after takes over.
    fn succeed(&mut self) -> Vec<String> {
        let mut machine = match PartitionMachine::from_checkpoint(self.checkpoint.clone()) {
            Ok(machine) => machine,
            Err(breach) => return vec![format!("refused: {}", breach.name())],
        };
        let (from, _) = machine.applied();
        for (index, (term, payload)) in (1..).zip(&self.entries).skip(from as usize) {
            let leader_ts = payload.header().map_or(0, |header| header.leader_ts);
            let (at, batch) = (At { index, term: *term, leader_ts }, self.batches.get(&index).cloned());
            machine.apply_decoded(at, payload, batch, &mut Out::default());
        }
        let equal = machine == self.machine;
        self.machine = machine;
        vec![format!("log start {}, equal {equal}", self.machine.log_start())]
    }

    fn read(&self, from: i64) -> Vec<String> {
        let Some(mut place) = self.machine.place(from) else { return vec!["nothing".to_owned()] };
        let mut trace = vec![format!("from {place:?}")];
        let line = |LiveBatch { base_offset, next_offset, leader_epoch, .. }| {
            format!("offsets {base_offset}..{next_offset} epoch {leader_epoch}")
        };
        while let Some((term, payload)) = self.entries.get(place.index as usize - 1) {
            place = match place.end {
                Some(end) => {
                    let batches = moved_batches(payload, (place.offset, end));
                    trace.extend(batches.into_iter().map(|batch| format!("moved {}", line(batch))));
                    self.machine.place(end).unwrap()
                }
                None => {
                    let mut walk = self.machine.walk(place.index, *term, place.offset, payload);
                    trace.extend(walk.by_ref().map(line));
                    Place { index: place.index + 1, offset: walk.next_offset(), end: None }
                }
            };
        }
        trace
    }

    /// `move FROM TO after=N | base=.. epoch=.. n=.. last=.. | ...`
    fn relocation(&self, text: &str) -> Relocation {
        let words = Words::of(text);
        let range: Vec<i64> = words.plain().iter().take(2).map(|word| word.parse().unwrap()).collect();
        let batches = text.split('|').skip(1).map(|text| {
            let words = Words::of(text);
            let facts = sample_facts(words.number("n", 1), words.number("time", 0));
            let facts = BatchFacts { last_offset_delta: words.number("last", facts.last_offset_delta), ..facts };
            let place = (words.number("base", 0), words.number("epoch", 1));
            let bytes = thinned_batch(&facts, place, words.number("body", 0));
            MovedBatch { bytes, horizon_ms: words.number("horizon", NO_HORIZON) }
        });
        let after = words.number("after", self.machine.clean().moves);
        Relocation { after, from: range[0], to: range[1], batches: batches.collect() }
    }

    fn step(&mut self, command: &str) -> Vec<String> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words = Words::of(rest);
        let first = words.plain().first().and_then(|word| word.parse::<i64>().ok()).unwrap_or_default();
        let ts = words.number("ts", 0);
        match verb {
            "elect" => {
                self.term = first as u64;
                self.apply(ts, Payload::blank(ts))
            }
            "append" => {
                let batches = rest.split('|').skip(1).map(batch).collect();
                self.apply(ts, Payload::append(ts, batches))
            }
            "publish" => {
                let texts: Vec<&str> = rest.split('|').skip(1).collect();
                let notes: Vec<Note> = texts.iter().copied().enumerate().filter_map(note).collect();
                let batches = texts.into_iter().map(batch).collect();
                self.apply(ts, Payload::append_queue(ts, Flags::AMQP, batches, &notes))
            }
            "cursor" => {
                let (number, rest) = rest.split_once(' ').unwrap();
                let ts = Words::of(rest).number("ts", 0);
                self.cursor(ts, number.parse().unwrap(), &rest.replace(&format!("ts={ts}"), ""))
            }
            "needed" => {
                let (from, end) = (self.machine.log_start(), self.machine.next_offset());
                vec![format!("from {:?} {:?}", self.machine.needed_from(), self.machine.needed(from, end))]
            }
            "log-start" => self.apply(ts, Payload::log_start(ts, first)),
            "damaged" => self.apply(ts, Payload { head: Bytes::from_static(b"\x02junk"), body: vec![] }),
            "move" => {
                let relocation = self.relocation(rest);
                self.apply(ts, relocation.payload(ts))
            }
            "read" => self.read(first),
            "covered" => {
                let state = self.checkpoint.state().copied().unwrap_or_default();
                vec![format!("{}", self.machine.is_covered_by(&Mark::of(&state, 0)))]
            }
            "epoch-end" => vec![format!("{:?}", self.machine.epoch_end(first as u64))],
            "time" => vec![format!("{:?}", self.machine.offset_for_timestamp(first))],
            "checkpoint" => self.checkpoint(ts),
            "succeed" => self.succeed(),
            "producers" => self.machine.producers().iter().map(producer_line).collect(),
            "state" => {
                let state = crate::partition::State { digest: 0, ..*self.machine.state() };
                vec![format!("{state:?}")]
            }
            other => panic!("unknown command {other}"),
        }
    }
}

#[test]
fn partition() {
    let mut run = PartitionRun::default();
    replay("partition.txt", |command| run.step(command));
}

#[test]
fn moved() {
    let mut run = PartitionRun { term: 1, ..PartitionRun::default() };
    replay("moved.txt", |command| run.step(command));
}

#[test]
fn queue() {
    let mut run = PartitionRun { term: 1, ..PartitionRun::default() };
    replay("queue.txt", |command| run.step(command));
}

#[test]
fn producer() {
    let mut run = PartitionRun { term: 1, ..PartitionRun::default() };
    replay("producer.txt", |command| run.step(command));
}

fn resource(text: &str) -> ConfigResource {
    match text.split_once(':') {
        Some(("topic", name)) => ConfigResource::Topic(name.to_owned()),
        Some(("node", id)) => ConfigResource::Node(NodeId(id.parse().unwrap())),
        _ => ConfigResource::Cluster,
    }
}

fn new_topics(words: &Words<'_>, image: &Image) -> Vec<NewTopic> {
    let mut configs = words.pairs();
    for own in ["p", "rf"] {
        configs.remove(own);
    }
    let next = u128::from(image.version) << 64;
    let named = words.plain().into_iter().filter(|word| !matches!(*word, "dry" | "auto"));
    let topic = |(place, name): (usize, &str)| NewTopic {
        partitions: words.number("p", -1),
        replication: words.number("rf", -1),
        configs: configs.clone(),
        ..NewTopic::named(name, TopicId((next + place as u128).to_be_bytes()))
    };
    named.enumerate().map(topic).collect()
}

fn node(text: &str) -> NodeId {
    NodeId(text.parse().unwrap())
}

/// A command about replicas.
fn replica_command(verb: &str, words: &Words<'_>) -> Command {
    let plain = words.plain();
    if verb == "report" {
        let voter = |text: &str| {
            let (on, revision) = text.split_once('.').unwrap();
            ReplicaId::new(node(on), revision.parse().unwrap())
        };
        let voters = words.get("voters").unwrap().split(',').map(voter).collect();
        let group = GroupId(plain[0].parse().unwrap());
        return Command::ReportReplicas(ReportReplicas { group, revision: words.number("revision", 1), voters });
    }
    let nodes = |key| {
        let list = words.get(key).unwrap_or_default();
        list.split(',').filter(|one| !one.is_empty()).map(node).collect::<Vec<_>>()
    };
    let to = match verb {
        "move" => Wanted::On(nodes("to")),
        "renew" => Wanted::Renewed(NodeId(words.number("node", 0))),
        _ => Wanted::Before,
    };
    let revision = words.get("revision").map(|revision| revision.parse().unwrap());
    let index = PartitionIndex(words.number("p", 0));
    let changes = vec![ReplicaChange { topic: plain[0].to_owned(), index, revision, to }];
    let alter = AlterReplicas { changes, may_change_count: !plain.contains(&"same-count") };
    let dead = nodes("dead").into_iter().collect();
    Command::Place { terms: Terms { dead, ..Terms::default() }, what: Placing::AlterReplicas(alter) }
}

/// A command that takes a node out of the cluster.
fn farewell(verb: &str, words: &Words<'_>) -> Command {
    let id = words.plain().first().map_or(NodeId(0), |id| node(id));
    let start = |kind| Operate::Start { token: u64::from(id.0), kind, moves: Vec::new(), total: 0 };
    match verb {
        "decommission" => Command::Operate(start(OperationKind::Decommission(id))),
        "finish" => {
            let (to, note) = (OperationState::Finished, String::new());
            Command::Operate(Operate::Steer { id: words.number("operation", 1), to, note })
        }
        _ => {
            let terms = Terms { dead: words.get("dead").map(node).into_iter().collect(), ..Terms::default() };
            Command::Place { terms, what: Placing::RemoveNode(id) }
        }
    }
}

fn controller_command(line: &str, image: &Image) -> Command {
    let (verb, rest) = line.split_once(' ').unwrap();
    let words = Words::of(rest);
    let plain = words.plain();
    let dry = plain.contains(&"dry");
    match verb {
        "found" => Command::Found { cluster_id: plain[0].to_owned(), founders: words.number("founders", 1) },
        "register" | "replace-store" => {
            let registration = Registration {
                id: node(plain[0]),
                store: StoreId(words.number("store", 0)),
                listeners: BTreeMap::from([("kafka".to_owned(), Endpoint { host: String::new(), port: 9092 })]),
                rack: words.get("rack").map(str::to_owned),
            };
            let dead = words.get("dead").map(node).into_iter().collect();
            match verb {
                "register" => Command::RegisterNode(registration),
                _ => Command::Place {
                    terms: Terms { dead, ..Terms::default() },
                    what: Placing::ReplaceStore(registration),
                },
            }
        }
        "create" => Command::CreateTopics(CreateTopics {
            topics: new_topics(&words, image),
            validate_only: dry,
            auto: plain.contains(&"auto"),
        }),
        "delete" => Command::DeleteTopics(DeleteTopics {
            topics: plain.iter().map(|n| TopicRef::Name((*n).to_owned())).collect(),
        }),
        "grow" => Command::CreatePartitions(CreatePartitions {
            topics: vec![MorePartitions { topic: plain[0].to_owned(), count: words.number("p", 0), assignments: None }],
            validate_only: dry,
        }),
        "configs" => Command::AlterConfigs(AlterConfigs {
            changes: vec![(resource(plain[0]), words.pairs())],
            validate_only: dry,
        }),
        "set" | "append" | "subtract" | "unset" => {
            let kind = match verb {
                "set" => OpKind::Set,
                "append" => OpKind::Append,
                "subtract" => OpKind::Subtract,
                _ => OpKind::Delete,
            };
            let ops =
                words.pairs().into_iter().map(|(key, value)| ConfigOp { key, kind, value: Some(value) }).collect();
            let changes = vec![IncrementalChange { resource: resource(plain[0]), ops }];
            Command::IncrementalAlterConfigs(IncrementalAlterConfigs { changes, validate_only: dry })
        }
        "move" | "cancel" | "renew" | "report" => replica_command(verb, &words),
        "decommission" | "finish" | "remove" => farewell(verb, &words),
        "producer-ids" => Command::AllocateProducerIds(AllocateProducerIds {
            node: NodeId(plain[0].parse().unwrap()),
            count: words.number("count", crate::limits::PRODUCER_ID_BLOCK),
        }),
        other => panic!("unknown command {other}"),
    }
}

fn outcome_lines(outcome: &Outcome) -> Vec<String> {
    fn each<T: std::fmt::Debug>(results: &[Result<T, Error>]) -> Vec<String> {
        results.iter().map(one).collect()
    }
    fn one<T: std::fmt::Debug>(result: &Result<T, Error>) -> String {
        match result {
            Ok(done) => format!("ok {done:?}"),
            Err(error) => format!("{:?} ({}): {error}", error.code, error.code.kafka()),
        }
    }
    match outcome {
        Outcome::Cluster(name) => vec![format!("cluster {name}")],
        Outcome::Node(result) => vec![one(result)],
        Outcome::Created(results) => each(results),
        Outcome::Deleted(results) => each(results),
        Outcome::Each(results) => each(results),
        Outcome::ProducerIds(result) => vec![one(result)],
        Outcome::Operation(result) => vec![one(result)],
        Outcome::Topology(result) => vec![format!("{result:?}")],
    }
}

fn show(image: &Image, name: &str) -> Vec<String> {
    let Some(topic) = image.topic(name) else { return vec!["no such topic".to_owned()] };
    let mut trace = vec![format!("{} {:?}", topic.id, topic.configs)];
    trace.extend(topic.partitions.iter().enumerate().map(|(index, partition)| {
        let list = |replicas: Vec<ReplicaId>| replicas.iter().map(ReplicaId::to_string).collect::<Vec<_>>().join(",");
        let placed = |revision| partition.replicas.iter().all(|replica| replica.revision() == revision);
        let all = match placed(1) {
            true => partition.nodes().iter().map(NodeId::to_string).collect::<Vec<_>>().join(","),
            false => list(partition.replicas.clone()),
        };
        let mut line = format!("{index}: group {} revision {} on {all}", partition.group, partition.revision);
        for (what, some) in [("adding", &partition.adding), ("removing", &partition.removing)] {
            if !some.is_empty() {
                line += &format!(" {what} {}", list(some.iter().copied().collect()));
            }
        }
        if partition.is_changing && partition.adding.is_empty() && partition.removing.is_empty() {
            line += " changing";
        }
        line
    }));
    trace
}

#[test]
fn controller() {
    let mut machine = ControllerMachine::new();
    replay("controller.txt", |line| {
        let image = machine.image();
        if let Some(name) = line.strip_prefix("show ") {
            return show(&image, name);
        }
        let mut out = Out::default();
        let reply = machine.apply(At { index: 1, term: 1, leader_ts: 0 }, controller_command(line, &image), &mut out);
        let mut trace = outcome_lines(&reply.outcome);
        trace.push(format!("version {} effects {:?}", reply.version, out.effects));
        trace
    });
}
