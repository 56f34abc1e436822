//! A reader that follows all partitions through fetch sessions (KIP-227), one a node: it lists what changed, and is told what changed.
//! A session must hide nothing: once all is healed, whoever asks again and again is served what was acknowledged before it asked.
//! That nothing comes twice or is left out is checked for every reader, in `read`.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::kafka::ErrorCode;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic, PartitionData};
use wire::kafka::messages::{FetchRequest, FetchResponse};

use super::{FETCH_VERSION, Fetched, NEWS_LATE, NEWS_WAIT_MS, Reader, WAIT_MS};
use crate::history::{Deleted, Partition, Place};
use crate::nemesis::HEAL;
use crate::probe::GRACE;
use crate::workload::client::Leader;
use crate::workload::{Ledger, PAUSE, TOPICS, now, partitions};

/// Small answers, so that partitions must take turns ...
const ANSWER_BYTES: i32 = 12 << 10;
/// ... also when all is read once more, in a third of the time that is left.
const LAST_ANSWER_BYTES: i32 = 64 << 10;
/// What one partition may fill of an answer.
const PARTITION_PART: i32 = 3;
/// Answers in which a partition may come to nothing: others are before it, and a batch may be larger than its share.
const TURNS: u32 = 16;
/// Its number among the readers.
const NUMBER: u32 = 3;

/// The offset to read from and the leader epoch, of each partition.
type Wanted = BTreeMap<Partition, (i64, i32)>;

/// A session as its client sees it.
#[derive(Default)]
struct Session {
    /// 0 before there is one.
    id: i32,
    epoch: i32,
    /// What the node was told last.
    told: Wanted,
}

impl Session {
    /// The request for `wanted`, of which the node knows some already; afterwards it knows all of it.
    fn request(&mut self, wanted: &Wanted, wait_ms: i32, bytes: i32) -> FetchRequest {
        let (mut topics, mut forgotten) = (Vec::new(), Vec::new());
        for (name, _) in TOPICS {
            let of = |map: &Wanted| map.clone().into_iter().filter(move |(partition, _)| partition.topic == name);
            let changed = of(wanted).filter(|(partition, place)| self.told.get(partition) != Some(place));
            let changed: Vec<_> = changed.map(|(partition, place)| asked(partition, place, bytes)).collect();
            let gone = of(&self.told).filter(|(partition, _)| !wanted.contains_key(partition));
            let gone: Vec<_> = gone.map(|(partition, _)| partition.index).collect();
            if !changed.is_empty() {
                topics.push(FetchTopic::default().with_topic(name.to_owned().into()).with_partitions(changed));
            }
            if !gone.is_empty() {
                forgotten.push(ForgottenTopic::default().with_topic(name.to_owned().into()).with_partitions(gone));
            }
        }
        self.told.clone_from(wanted);
        FetchRequest::default()
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(bytes)
            .with_session_id(self.id)
            .with_session_epoch(self.epoch)
            .with_topics(topics)
            .with_forgotten_topics_data(forgotten)
    }

    /// Another one is to begin; a node that still has this one ends it.
    fn begin_anew(&mut self) {
        *self = Self { id: self.id, ..Self::default() };
    }
}

fn asked(partition: Partition, (offset, leader_epoch): (i64, i32), bytes: i32) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition.index)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(leader_epoch)
        .with_partition_max_bytes(bytes / PARTITION_PART)
}

/// What was so when a request was sent.
struct Sent<'a> {
    wanted: &'a Wanted,
    at: Duration,
    ends: BTreeMap<Partition, i64>,
    deleted: BTreeMap<Partition, Deleted>,
}

/// See the file header.
struct Follower {
    reader: Reader,
    sessions: BTreeMap<u32, Session>,
    /// Bytes of an answer.
    bytes: i32,
    /// Answers in a row that had nothing of a partition of which there was something.
    starved: BTreeMap<Partition, u32>,
}

impl Follower {
    fn new(reader: Reader, bytes: i32) -> Self {
        Self { reader, sessions: BTreeMap::new(), bytes, starved: BTreeMap::new() }
    }

    fn from(&self, partition: Partition) -> i64 {
        self.reader.next.get(&partition).copied().unwrap_or(0)
    }

    /// Asks every node that leads something once.
    async fn round(&mut self, wait_ms: i32) {
        let mut by_node: BTreeMap<u32, (Leader, Wanted)> = BTreeMap::new();
        for partition in partitions() {
            let Ok(leader) = self.reader.client.leader(partition).await else { continue };
            let (_, wanted) = by_node.entry(leader.node).or_insert_with(|| (leader, Wanted::new()));
            wanted.insert(partition, (self.from(partition), leader.epoch));
        }
        for (leader, wanted) in by_node.into_values() {
            if self.ask(leader, &wanted, wait_ms).await.is_err() {
                self.sessions.entry(leader.node).or_default().begin_anew();
                self.reader.failed();
            }
        }
    }

    async fn ask(&mut self, leader: Leader, wanted: &Wanted, wait_ms: i32) -> anyhow::Result<()> {
        let request = self.sessions.entry(leader.node).or_default().request(wanted, wait_ms, self.bytes);
        let sent = {
            let ledger = self.reader.ledger.borrow();
            let end = |partition: &Partition| (*partition, ledger.acknowledged_end(*partition));
            Sent { wanted, at: now(), ends: wanted.keys().map(end).collect(), deleted: ledger.deleted.clone() }
        };
        let answer = self.reader.client.call_leader(leader, FETCH_VERSION, &request).await?;
        let answer = self.admit(leader.node, &request, answer)?;
        let mut served = BTreeMap::new();
        for topic in answer.responses {
            for answer in topic.partitions {
                let Some((partition, records)) = self.take(&sent, topic.topic.as_str(), answer).await else { continue };
                served.insert(partition, records);
            }
        }
        for (partition, end) in &sent.ends {
            let nothing = served.get(partition).is_none_or(|records| *records == 0);
            self.look_at_turns(*partition, nothing && sent.wanted[partition].0 < *end);
        }
        Ok(())
    }

    /// Takes in what is told of one partition; how many records that is. An error ends nothing but this partition's turn.
    async fn take(&mut self, sent: &Sent<'_>, topic: &str, answer: PartitionData) -> Option<(Partition, usize)> {
        let asked = |partition: &&Partition| partition.topic == topic && partition.index == answer.partition_index;
        let Some(partition) = sent.wanted.keys().find(asked).copied() else {
            let index = answer.partition_index;
            self.reader.violate(format!("L2 OperationsEnd: a session answers {index} of {topic}, which is not in it"));
            return None;
        };
        let (from, epoch) = sent.wanted[&partition];
        let deleted = sent.deleted.get(&partition).copied().unwrap_or_default().known_to(epoch);
        let fetched = self.reader.fetched(partition, from, deleted, answer).ok()?;
        self.look_at_news(partition, sent.at, &fetched);
        Some((partition, self.reader.go_on(partition, from, fetched).await.ok()?))
    }

    /// Looks at what the answer says of the session itself.
    fn admit(&mut self, node: u32, request: &FetchRequest, answer: FetchResponse) -> anyhow::Result<FetchResponse> {
        let session = self.sessions.entry(node).or_default();
        let mut ledger = self.reader.ledger.borrow_mut();
        if answer.error_code == ErrorCode::FetchSessionIdNotFound as i16 {
            ledger.count("fetch sessions gone");
            anyhow::bail!("the session is gone");
        }
        // Its requests come in order, and always by name: nothing else can be wrong with one.
        let same = request.session_epoch == 0 || answer.session_id == request.session_id;
        if answer.error_code != 0 || answer.session_id == 0 || !same {
            let (code, id) = (answer.error_code, answer.session_id);
            let asked = (request.session_id, request.session_epoch);
            ledger.violate(now(), format!("L2 OperationsEnd: session {asked:?} is answered {code}, session {id}"));
            anyhow::bail!("no session");
        }
        ledger.count(if request.session_epoch == 0 { "fetch sessions" } else { "incremental fetches" });
        (session.id, session.epoch) = (answer.session_id, session.epoch + 1);
        Ok(answer)
    }

    /// In a healed cluster a session that waits is told of new records when they come.
    fn look_at_news(&self, partition: Partition, begun: Duration, fetched: &Fetched) {
        let Fetched::Records { records, .. } = fetched else { return };
        let Some((offset, _)) = records.first() else { return };
        let acknowledged = self.reader.ledger.borrow().times.get(&Place { partition, offset: *offset }).copied();
        let late = acknowledged.map_or(Duration::ZERO, |at| now().saturating_sub(at.max(begun)));
        if late > NEWS_LATE && begun >= HEAL + GRACE {
            self.reader.violate(format!(
                "L2 OperationsEnd: a session served {offset} of {partition:?} {late:?} after its acknowledgement"
            ));
        }
    }

    /// In a healed cluster nothing that was acknowledged is kept back for long.
    fn look_at_turns(&mut self, partition: Partition, starved: bool) {
        let answers = self.starved.entry(partition).or_default();
        *answers = if starved && now() >= HEAL + GRACE { *answers + 1 } else { 0 };
        if *answers == TURNS {
            let from = self.from(partition);
            self.reader.violate(format!(
                "L2 OperationsEnd: {from} of {partition:?} is acknowledged, and {TURNS} answers of a session kept it back"
            ));
        }
    }

    /// Whether all is read that was acknowledged.
    fn is_at_the_end(&self) -> bool {
        let ledger = self.reader.ledger.borrow();
        partitions().all(|partition| self.from(partition) >= ledger.acknowledged_end(partition))
    }
}

/// Follows all partitions until `until`.
pub async fn tail(nodes: u32, ledger: Ledger, until: Duration) {
    let mut follower = Follower::new(Reader::new(NUMBER, nodes, ledger), ANSWER_BYTES);
    while now() < until {
        let wait_ms = if now() < HEAL + GRACE { WAIT_MS } else { NEWS_WAIT_MS };
        follower.round(wait_ms).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads everything once more, through sessions, when nothing new comes: ends when it is read, or was kept back too often.
pub async fn everything(nodes: u32, ledger: Ledger) {
    let mut follower = Follower::new(Reader::new(NUMBER + 1, nodes, ledger), LAST_ANSWER_BYTES);
    while !follower.is_at_the_end() && follower.starved.values().all(|answers| *answers < TURNS) {
        follower.round(WAIT_MS).await;
    }
}
