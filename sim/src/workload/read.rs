//! Readers: one follows the topics while faults go on, one replays them from their beginnings again and again, one reads everything
//! when all is over. Each watches what one client may rely on: high watermark and log start never go back, a place once read
//! never is another record, the end is at least what was acknowledged before it was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::kafka::ErrorCode;
use wire::kafka::batch::split_batches;
use wire::kafka::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use wire::kafka::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use wire::kafka::messages::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use wire::kafka::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};

use super::client::Client;
use super::process::Process;
use super::{LEDGER, Ledger, PAUSE, now, partitions};
use crate::checker::end_linearizable::Known;
use crate::history::operation::Action;
use crate::history::{Partition, Place, Serial};
use crate::nemesis::HEAL;
use crate::probe::GRACE;

pub mod follow;

/// Fetch as it is spoken here.
pub const FETCH_VERSION: i16 = 11;
/// ListOffsets and OffsetForLeaderEpoch as they are spoken here.
pub const LIST_OFFSETS_VERSION: i16 = 5;
pub const EPOCH_END_VERSION: i16 = 4;
/// How long a fetch may wait for records, usually and for news.
const WAIT_MS: i32 = 100;
const NEWS_WAIT_MS: i32 = 1_500;
/// How late news may come after their acknowledgement.
const NEWS_LATE: Duration = Duration::from_millis(700);
/// ListOffsets: the log start, the high watermark.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;
/// Largest answer for one partition, bytes: small, so that long logs take several reads.
const FETCH_BYTES: i32 = 64 << 10;
/// Pause between two rounds of a reader.
const PAUSES: u32 = 2;
const REPLAY_PAUSES: u32 = 5;

/// What one fetch of one partition brought.
enum Fetched {
    Records { high_watermark: i64, records: Vec<(i64, Serial)> },
    OutOfRange,
}

/// What a reader was last told of a partition.
#[derive(Clone, Copy, Default)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

struct Reader {
    client: Client,
    process: Process,
    ledger: Ledger,
    told: BTreeMap<Partition, Told>,
    /// The next offset of each partition.
    next: BTreeMap<Partition, i64>,
    /// First and last offset of each leader epoch that was read.
    epochs: BTreeMap<(Partition, i32), (i64, i64)>,
}

impl Reader {
    fn new(number: u32, nodes: u32, ledger: Ledger) -> Self {
        let process = Process::new(100 + number, ledger.clone());
        let (told, next) = (BTreeMap::new(), BTreeMap::new());
        let epochs = BTreeMap::new();
        Self { client: Client::new(nodes, number), process, ledger, told, next, epochs }
    }

    fn violate(&self, violation: String) {
        self.ledger.borrow_mut().violate(now(), violation);
    }

    /// Reads on in `partition`; how many records came.
    async fn read(&mut self, partition: Partition) -> anyhow::Result<usize> {
        let from = self.next.get(&partition).copied().unwrap_or(0);
        let fetched = self.fetch(partition, from).await?;
        self.go_on(partition, from, fetched).await
    }

    /// Notes what came from `from` on and where to read next; how many records came.
    async fn go_on(&mut self, partition: Partition, from: i64, fetched: Fetched) -> anyhow::Result<usize> {
        match fetched {
            Fetched::OutOfRange => {
                self.ledger.borrow_mut().count("reader fell behind the log start");
                let start = self.offset(partition, EARLIEST).await?;
                if start <= from {
                    self.violate(format!(
                        "S5 OffsetsDense: {from} of {partition} is out of range, which begins at {start}"
                    ));
                }
                self.next.insert(partition, start);
                Ok(0)
            }
            Fetched::Records { records, .. } => {
                let mut ledger = self.ledger.borrow_mut();
                for (offset, serial) in &records {
                    ledger.see(now(), Place { partition, offset: *offset }, *serial);
                }
                let next = records.last().map_or(from, |(offset, _)| offset + 1);
                self.next.insert(partition, next);
                Ok(records.len())
            }
        }
    }

    async fn fetch(&mut self, partition: Partition, from: i64) -> anyhow::Result<Fetched> {
        self.fetch_within(partition, from, WAIT_MS).await
    }

    async fn fetch_within(&mut self, partition: Partition, from: i64, wait_ms: i32) -> anyhow::Result<Fetched> {
        let leader = self.client.leader(partition).await?;
        let request = fetch_request(partition, from, leader.epoch).with_max_wait_ms(wait_ms);
        let deleted = self.ledger.borrow().deleted.get(&partition).copied().unwrap_or_default();
        let answer = self.client.call_leader(leader, FETCH_VERSION, &request).await?;
        let answer = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| anyhow::anyhow!("fetch answer without the partition"))?;
        self.fetched(partition, from, deleted.known_to(leader.epoch), answer)
    }

    fn fetched(
        &mut self,
        partition: Partition,
        from: i64,
        deleted: i64,
        answer: PartitionData,
    ) -> anyhow::Result<Fetched> {
        if answer.error_code == ErrorCode::OffsetOutOfRange as i16 {
            return Ok(Fetched::OutOfRange);
        }
        if answer.error_code != 0 {
            self.client.forget_leaders();
            anyhow::bail!("fetch error {}", answer.error_code);
        }
        let told = Told { high_watermark: answer.high_watermark, log_start: answer.log_start_offset };
        let before = self.told.insert(partition, told).unwrap_or_default();
        if told.high_watermark < before.high_watermark {
            let (before, now) = (before.high_watermark, told.high_watermark);
            self.violate(format!("S5 OffsetsDense: the high watermark of {partition} went from {before} to {now}"));
        }
        if told.log_start < before.log_start.max(deleted) {
            let (before, now) = (before.log_start.max(deleted), told.log_start);
            self.violate(format!("S5 OffsetsDense: the log start of {partition} went from {before} to {now}"));
        }
        let (mut records, mut due) = (Vec::new(), from);
        let batches = split_batches(answer.records.unwrap_or_default());
        let batches =
            batches.inspect_err(|error| self.violate(format!("S4 RecordsIntact: {partition} at {from}: {error}")))?;
        for batch in batches {
            let header = batch.header();
            if header.base_offset + i64::from(header.last_offset_delta) < due {
                let base = header.base_offset;
                self.violate(format!("S5 OffsetsDense: {base} of {partition:?} was served again, {due} was due"));
            }
            for record in batch.records(1 << 20)? {
                let record = record?;
                // The batch that holds the offset comes whole: what stands before is the client's to drop.
                if record.offset < from {
                    continue;
                }
                if record.offset != due {
                    let skipped = record.offset;
                    self.violate(format!("S5 OffsetsDense: {skipped} of {partition:?} was served, {due} was due"));
                }
                due = record.offset + 1;
                match Serial::of(record.key.as_deref(), record.value.as_deref()) {
                    Some(serial) => {
                        let epoch = self.epochs.entry((partition, header.leader_epoch));
                        epoch.or_insert((record.offset, record.offset)).1 = record.offset;
                        records.push((record.offset, serial));
                    }
                    None => self
                        .violate(format!("S4 RecordsIntact: nobody wrote what is at {} of {partition}", record.offset)),
                }
            }
        }
        if !records.is_empty() {
            let action = |records| Action::Poll { topic: partition.topic, partition: partition.index, from, records };
            self.process.invoke(action(Vec::new()));
            self.process.ok(action(records.clone()));
        }
        Ok(Fetched::Records { high_watermark: told.high_watermark, records })
    }

    /// The offset at a position of `partition`.
    async fn offset(&mut self, partition: Partition, position: i64) -> anyhow::Result<i64> {
        let leader = self.client.leader(partition).await?;
        let request = offsets_request([partition], position);
        let answer = self.client.call_leader(leader, LIST_OFFSETS_VERSION, &request).await?;
        let answer = answer.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| anyhow::anyhow!("offsets without the partition"))?;
        if answer.error_code != 0 {
            self.client.forget_leaders();
            anyhow::bail!("offsets error {}", answer.error_code);
        }
        Ok(answer.offset)
    }

    /// Asks for the end, which is linearizable: behind all that was acknowledged before.
    async fn ask_end(&mut self, partition: Partition) -> anyhow::Result<()> {
        let known = Known::of(&self.ledger.borrow(), partition, now());
        let end = self.offset(partition, LATEST).await?;
        let words = known.end(&self.ledger.borrow(), "its leader", end);
        words.into_iter().for_each(|words| self.violate(format!("S5 EndLinearizable: {words}")));
        Ok(())
    }

    /// Asks where the leader epochs end that were read: behind their last record, and not behind the next one's first (KIP-279).
    async fn ask_epochs(&mut self, partition: Partition) -> anyhow::Result<()> {
        let read: Vec<_> = self.epochs.range((partition, 0)..=(partition, i32::MAX)).collect();
        let read: Vec<_> = read.into_iter().map(|((_, epoch), offsets)| (*epoch, *offsets)).collect();
        for (place, (epoch, (_, last))) in read.iter().enumerate() {
            let next = read.get(place + 1).map_or(i64::MAX, |(_, (first, _))| *first);
            let (found, end) = self.epoch_end(partition, *epoch).await?;
            if found != *epoch || end <= *last || end > next {
                let words = format!("epoch {epoch} of {partition} was read to {last}, the next from {next}");
                self.violate(format!("S5 OffsetsDense: {words}, but epoch {found} is said to end at {end}"));
            }
        }
        Ok(())
    }

    async fn epoch_end(&mut self, partition: Partition, epoch: i32) -> anyhow::Result<(i32, i64)> {
        let leader = self.client.leader(partition).await?;
        let request = epoch_request([(partition, epoch)], leader.epoch);
        let answer = self.client.call_leader(leader, EPOCH_END_VERSION, &request).await?;
        let answer = answer.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| anyhow::anyhow!("an epoch without the partition"))?;
        if answer.error_code != 0 {
            self.client.forget_leaders();
            anyhow::bail!("epoch error {}", answer.error_code);
        }
        Ok((answer.leader_epoch, answer.end_offset))
    }

    /// In a healed cluster whoever waits at the end of a log is told of new records when they come, not when the wait is over.
    async fn wait_for_news(&mut self, partition: Partition) -> anyhow::Result<()> {
        let from = self.next.get(&partition).copied().unwrap_or(0);
        let begun = now();
        let Fetched::Records { records, .. } = self.fetch_within(partition, from, NEWS_WAIT_MS).await? else {
            return Ok(());
        };
        let Some((offset, _)) = records.first() else { return Ok(()) };
        let acknowledged = self.ledger.borrow().times.get(&Place { partition, offset: *offset }).copied();
        let late = acknowledged.map_or(Duration::ZERO, |at| now().saturating_sub(at.max(begun)));
        if late > NEWS_LATE {
            self.violate(format!(
                "L2 OperationsEnd: {offset} of {partition} was served {late:?} after its acknowledgement"
            ));
        }
        Ok(())
    }

    /// The log start has passed `next`: forgets what was found below it, and says where the partition begins now.
    async fn begin_anew(&mut self, partition: Partition, next: i64) -> i64 {
        loop {
            match self.offset(partition, EARLIEST).await {
                Ok(start) if start > next => {
                    let mut ledger = self.ledger.borrow_mut();
                    ledger.read.found.retain(|(place, _)| place.partition != partition);
                    ledger.read.starts.insert(partition, start);
                    return start;
                }
                Ok(start) => {
                    let words = format!("{next} of {partition:?} is out of range, which begins at {start}");
                    self.violate(format!("S5 OffsetsDense: {words}"));
                    return start;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn failed(&self) {
        self.ledger.borrow_mut().count("fetch errors");
    }
}

/// Follows all partitions until `until`.
pub async fn tail(nodes: u32, ledger: Ledger, until: Duration) {
    let mut reader = Reader::new(0, nodes, ledger);
    while now() < until {
        for partition in partitions() {
            if reader.read(partition).await.is_err() || reader.ask_end(partition).await.is_err() {
                reader.failed();
            }
            let news = now() >= HEAL + GRACE && partition.topic == LEDGER;
            if news && reader.wait_for_news(partition).await.is_err() {
                reader.failed();
            }
        }
        tokio::time::sleep(PAUSES * PAUSE).await;
    }
}

/// From `from` to `until` reads all partitions from their beginnings to where nothing new comes, and begins anew.
pub async fn replay(nodes: u32, ledger: Ledger, from: Duration, until: Duration) {
    tokio::time::sleep(from.saturating_sub(now())).await;
    let mut reader = Reader::new(1, nodes, ledger);
    while now() < until {
        let mut read = 0;
        for partition in partitions() {
            if reader.ask_end(partition).await.is_err() {
                reader.failed();
            }
            match reader.read(partition).await {
                Ok(records) => read += records,
                Err(_) => reader.failed(),
            }
        }
        if read == 0 {
            reader.next.clear();
        }
        tokio::time::sleep(REPLAY_PAUSES * PAUSE).await;
    }
}

/// Reads every partition from its log start to its high watermark. Retries until it could.
pub async fn everything(nodes: u32, ledger: Ledger) {
    for partition in partitions() {
        let mut reader = Reader::new(2, nodes, ledger.clone());
        let start = loop {
            match reader.offset(partition, EARLIEST).await {
                Ok(start) => break start,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        ledger.borrow_mut().read.starts.insert(partition, start);
        let mut next = start;
        loop {
            let (high_watermark, records) = match reader.fetch(partition, next).await {
                Ok(Fetched::Records { high_watermark, records }) => (high_watermark, records),
                // Retention goes on: what was found of this partition is not its beginning any more.
                Ok(Fetched::OutOfRange) => {
                    next = reader.begin_anew(partition, next).await;
                    continue;
                }
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            next = records.last().map_or(next, |(offset, _)| offset + 1);
            let ended = records.is_empty();
            let found = records.into_iter().map(|(offset, serial)| (Place { partition, offset }, serial));
            ledger.borrow_mut().read.found.extend(found);
            if ended && next >= high_watermark {
                break;
            }
        }
        while partition.topic == LEDGER && reader.ask_epochs(partition).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Asks one leader for one partition.
pub fn fetch_request(partition: Partition, from: i64, leader_epoch: i32) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition.index)
        .with_fetch_offset(from)
        .with_current_leader_epoch(leader_epoch)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic = FetchTopic::default().with_topic(partition.topic.to_owned().into()).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_max_wait_ms(WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Asks for the offset at a position of each of `partitions`, whatever epoch its leader has.
pub fn offsets_request(partitions: impl IntoIterator<Item = Partition>, position: i64) -> ListOffsetsRequest {
    let topics = partitions.into_iter().map(|Partition { topic, index }| {
        let wanted = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(position);
        let wanted = vec![wanted.with_current_leader_epoch(-1)];
        ListOffsetsTopic::default().with_name(topic.to_owned().into()).with_partitions(wanted)
    });
    ListOffsetsRequest::default().with_replica_id(-1).with_topics(topics.collect())
}

/// Asks where each of `epochs` ends, of leaders in epoch `current`.
pub fn epoch_request(epochs: impl IntoIterator<Item = (Partition, i32)>, current: i32) -> OffsetForLeaderEpochRequest {
    let topics = epochs.into_iter().map(|(Partition { topic, index }, epoch)| {
        let wanted = OffsetForLeaderPartition::default().with_partition(index).with_leader_epoch(epoch);
        let wanted = vec![wanted.with_current_leader_epoch(current)];
        OffsetForLeaderTopic::default().with_topic(topic.to_owned().into()).with_partitions(wanted)
    });
    OffsetForLeaderEpochRequest::default().with_replica_id(-1).with_topics(topics.collect())
}
