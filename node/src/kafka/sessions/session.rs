//! One fetch session (KIP-227): the partitions that a client follows, and what it was last told of each.
//! Invariant: partitions are read in turn, and one that gave records goes behind all others, so that none starves under
//! `max_bytes`. A partition is left out of an answer only if the client knows all that the answer would say.
//! Never reads, never knows clocks or bounds: the cache's.
use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::planted::{self, Bug};
use wire::kafka::fetch_writer::FetchedPartition;
use wire::kafka::messages::FetchRequest;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic};
use wire::kafka::{ErrorCode, Str, Uuid};

/// A partition as a client names it: by the topic's name up to version 12 of Fetch, by its id from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Topic name; empty if there is an id.
    pub topic: Str,
    /// Topic id; zero if there is a name.
    pub id: Uuid,
    /// Partition number.
    pub partition: i32,
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |key: &Self| (key.id.to_bytes(), key.partition);
        self.topic.as_bytes().cmp(other.topic.as_bytes()).then_with(|| parts(self).cmp(&parts(other)))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which partition.
    pub key: Key,
    /// From here on.
    pub offset: i64,
    /// At most so much, unless it is the first batch of an answer.
    pub bytes_max: i32,
    /// The leader epoch that the client believes in, -1 for none.
    pub leader_epoch: i32,
}

impl Wanted {
    /// All that a request names, in its order.
    pub fn all(request: &FetchRequest) -> Vec<Self> {
        let within = |topic: &FetchTopic, asked: &FetchPartition| Self {
            key: Key { topic: topic.topic.clone(), id: topic.topic_id, partition: asked.partition },
            offset: asked.fetch_offset,
            bytes_max: asked.partition_max_bytes,
            leader_epoch: asked.current_leader_epoch,
        };
        let topics = request.topics.iter();
        topics.flat_map(|topic| topic.partitions.iter().map(move |asked| within(topic, asked))).collect()
    }
}

/// A partition of a session.
#[derive(Debug)]
struct Member {
    wanted: Wanted,
    told: Told,
}

/// What the client was told; an answer that says the same is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

impl Told {
    /// What nobody is ever told, so that the next answer is given.
    const NOTHING: Self = Self { high_watermark: -1, log_start: -1 };

    /// An error is told every time, and what follows it, too.
    fn of(answer: &FetchedPartition) -> Self {
        if answer.error != ErrorCode::None || answer.diverging_epoch.is_some() {
            return Self::NOTHING;
        }
        Self { high_watermark: answer.high_watermark, log_start: answer.log_start_offset }
    }
}

/// See the file header.
#[derive(Debug, Default)]
pub struct Session {
    /// By turn.
    members: BTreeMap<u64, Member>,
    turns: BTreeMap<Key, u64>,
    next_turn: u64,
}

impl Session {
    /// How many partitions it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Takes in what a request names anew or with another offset, then drops what it forgets.
    pub fn update(&mut self, request: &FetchRequest) {
        // Names are slices of a request's frame: a copy for each topic, so that no frame stays in memory for them.
        let mut name = Str::default();
        for mut wanted in Wanted::all(request) {
            if let Some(turn) = self.turns.get(&wanted.key) {
                if let Some(member) = self.members.get_mut(turn)
                    && !planted::is(Bug::SessionKeepsOffset)
                {
                    wanted.key = member.wanted.key.clone();
                    member.wanted = wanted;
                }
                continue;
            }
            if name != wanted.key.topic {
                name = Str::from(wanted.key.topic.as_str().to_owned());
            }
            wanted.key.topic = name.clone();
            self.add(Member { wanted, told: Told::NOTHING });
        }
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                let key = Key { topic: topic.topic.clone(), id: topic.topic_id, partition: *partition };
                self.remove(&key);
            }
        }
    }

    /// What is to be read, in turn.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.members.values().map(|member| member.wanted.clone()).collect()
    }

    /// Notes what the client is told of a partition, and whether it must be: it need not hear what it knows.
    pub fn tell(&mut self, key: &Key, answer: &FetchedPartition) -> bool {
        let Some(turn) = self.turns.get(key).copied() else { return false };
        let Some(member) = self.members.get_mut(&turn) else { return false };
        let told = Told::of(answer);
        let news = std::mem::replace(&mut member.told, told) != told;
        let has_records = !answer.batches.is_empty();
        if has_records && let Some(member) = self.remove(key) {
            self.add(member);
        }
        let forgotten = planted::is(Bug::SessionForgetsChange) && !news;
        has_records && !forgotten || news || answer.error != ErrorCode::None || answer.diverging_epoch.is_some()
    }

    fn add(&mut self, member: Member) {
        self.turns.insert(member.wanted.key.clone(), self.next_turn);
        self.members.insert(self.next_turn, member);
        self.next_turn += 1;
    }

    fn remove(&mut self, key: &Key) -> Option<Member> {
        self.members.remove(&self.turns.remove(key)?)
    }
}
