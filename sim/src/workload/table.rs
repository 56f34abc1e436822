//! A compacted topic: producers write and delete keys, one reader follows all of it and keeps the newest value of each key, one reads
//! everything when all is over. What may be missing then is for `checker::compacted_newest` to say; here is watched that offsets rise,
//! and that a place never holds another record.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use wire::compression::Compression;
use wire::kafka::batch::{BatchBuilder, Record, read_batches};

use super::client::Client;
use super::produce::{PRODUCE_VERSION, outcome, request};
use super::read::{EARLIEST, FETCH_VERSION, LIST_OFFSETS_VERSION, fetch_request, offsets_request};
use super::{Ledger, PAUSE, TABLE, now};
use crate::history::{Partition, Place};

/// How long tombstones are kept, ms: short, so that some go in a run.
pub const TOMBSTONE_MS: u64 = 4_000;
/// Keys that are written again and again; others are written once.
const KEYS: u32 = 9;
/// One record in so many has a key of its own.
const LONELY_EVERY: u64 = 12;
/// One record in so many is a tombstone.
const TOMBSTONE_EVERY: u32 = 6;
/// Records in a batch: 1 to this.
const BATCH_RECORDS_MAX: u64 = 4;
/// Bytes of a value, about.
const VALUE_BYTES: usize = 300;

/// What a producer wrote: a value, known by its number, or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The number in the value; none of a tombstone.
    pub number: Option<u64>,
}

/// What became of the records of the compacted topic.
#[derive(Default)]
pub struct Table {
    /// What was acknowledged, and when.
    pub acknowledged: BTreeMap<Place, (Entry, Duration)>,
    /// Tombstones that may be in the log or not.
    pub unknown: Vec<(Partition, String)>,
    /// What anybody read.
    pub seen: BTreeMap<Place, Entry>,
    /// What a full read finds at the end.
    pub found: BTreeMap<Place, Entry>,
    /// Where the reader that followed has the newest record of each key.
    pub followed: BTreeMap<(Partition, String), (i64, Option<u64>)>,
    /// Records ever written.
    written: u64,
    /// Producers that are not done.
    writers: u32,
}

/// Parts small enough that there is something to do every second or two.
pub fn configs() -> Vec<(&'static str, String)> {
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("segment.bytes", "4096".to_owned()),
        ("delete.retention.ms", TOMBSTONE_MS.to_string()),
        ("min.cleanable.dirty.ratio", "0.3".to_owned()),
    ];
    configs.into()
}

/// The partitions of the topic.
pub fn partitions() -> impl Iterator<Item = Partition> {
    (0..TABLE.1).map(|index| Partition { topic: TABLE.0, index })
}

/// Writes until `until`, each batch once.
pub async fn write(nodes: u32, ledger: Ledger, mut rng: SmallRng, until: Duration) {
    let mut client = Client::new(nodes, 2);
    ledger.borrow_mut().table.writers += 1;
    while now() < until {
        tokio::time::sleep(PAUSE * rng.random_range(1..4)).await;
        let partition = Partition { topic: TABLE.0, index: rng.random_range(0..TABLE.1) };
        let Ok(leader) = client.leader(partition).await else { continue };
        let count = rng.random_range(1..=BATCH_RECORDS_MAX);
        let entries: Vec<Entry> = (0..count).map(|_| ledger.borrow_mut().table.entry(&mut rng)).collect();
        let mut builder = BatchBuilder::new(Compression::ALL[rng.random_range(0..Compression::ALL.len())]);
        for entry in &entries {
            let value = entry.number.map(|number| format!("{number}:{}", ".".repeat(VALUE_BYTES)));
            builder.push(1, Some(entry.key.as_bytes()), value.as_ref().map(String::as_bytes));
        }
        let Ok(batch) = builder.build() else { continue };
        let answer = client.call_leader(leader, PRODUCE_VERSION, &request(partition, batch)).await;
        match answer.map(|answer| outcome(&answer)) {
            Ok((0, base)) => {
                let placed = (base..).zip(entries).map(|(offset, entry)| (Place { partition, offset }, (entry, now())));
                ledger.borrow_mut().table.acknowledged.extend(placed);
            }
            _ => {
                client.forget_leaders();
                let gone = entries.into_iter().filter(|entry| entry.number.is_none());
                ledger.borrow_mut().table.unknown.extend(gone.map(|entry| (partition, entry.key)));
            }
        }
    }
    ledger.borrow_mut().table.writers -= 1;
}

impl Table {
    fn entry(&mut self, rng: &mut SmallRng) -> Entry {
        self.written += 1;
        if self.written.is_multiple_of(LONELY_EVERY) {
            return Entry { key: format!("lonely-{}", self.written), number: Some(self.written) };
        }
        let deletes = rng.random_range(0..TOMBSTONE_EVERY) == 0;
        Entry { key: format!("key-{}", rng.random_range(0..KEYS)), number: (!deletes).then_some(self.written) }
    }
}

fn entry_of(record: &Record) -> Option<Entry> {
    let key = String::from_utf8(record.key.as_ref()?.to_vec()).ok()?;
    let number = match &record.value {
        Some(value) => Some(std::str::from_utf8(value).ok()?.split_once(':')?.0.parse().ok()?),
        None => None,
    };
    Some(Entry { key, number })
}

struct Reader {
    client: Client,
    ledger: Ledger,
}

impl Reader {
    /// Reads one partition from `from` on: what came, where to go on, and where the partition ends.
    async fn read(&mut self, partition: Partition, from: i64) -> anyhow::Result<(BTreeMap<i64, Entry>, i64, i64)> {
        let leader = self.client.leader(partition).await?;
        let answer =
            self.client.call_leader(leader, FETCH_VERSION, &fetch_request(partition, from, leader.epoch)).await?;
        let answer = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| anyhow::anyhow!("fetch answer without the partition"))?;
        if answer.error_code != 0 {
            self.client.forget_leaders();
            anyhow::bail!("fetch error {}", answer.error_code);
        }
        let (mut entries, mut next) = (BTreeMap::new(), from);
        for batch in read_batches(answer.records.unwrap_or_default()) {
            let batch = batch.inspect_err(|error| self.violate(format!("{partition} at {next}: {error}")))?;
            let header = *batch.header();
            if header.last_offset() < next {
                self.violate(format!("{} of {partition} was served again, {next} was due", header.base_offset));
            }
            if header.base_offset > next || header.record_count <= header.last_offset_delta {
                self.ledger.borrow_mut().count("reader crossed moved records");
            }
            for record in batch.records(1 << 20)? {
                let record = record?;
                if record.offset < from {
                    continue;
                }
                let place = Place { partition, offset: record.offset };
                match entry_of(&record) {
                    Some(entry) => {
                        self.see(place, &entry);
                        entries.insert(record.offset, entry);
                    }
                    None => self.violate(format!("nobody wrote what is at {place}")),
                }
            }
            next = header.last_offset() + 1;
        }
        Ok((entries, next, answer.high_watermark))
    }

    fn see(&self, place: Place, entry: &Entry) {
        let mut ledger = self.ledger.borrow_mut();
        let acknowledged = ledger.table.acknowledged.get(&place).map(|(entry, _)| entry.clone());
        let before = ledger.table.seen.insert(place, entry.clone());
        for other in [acknowledged, before].into_iter().flatten().filter(|other| other != entry) {
            ledger.violate(now(), format!("S4 CompactedNewest: at {place} is {entry:?}, where {other:?} was"));
        }
    }

    fn violate(&self, words: String) {
        self.ledger.borrow_mut().violate(now(), format!("S4 CompactedNewest: {words}"));
    }

    async fn start(&mut self, partition: Partition) -> anyhow::Result<i64> {
        let leader = self.client.leader(partition).await?;
        let request = offsets_request([partition], EARLIEST);
        let answer = self.client.call_leader(leader, LIST_OFFSETS_VERSION, &request).await?;
        let answer = answer.topics.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| anyhow::anyhow!("offsets without the partition"))?;
        anyhow::ensure!(answer.error_code == 0, "offsets error {}", answer.error_code);
        Ok(answer.offset)
    }
}

/// Follows the topic until nobody writes any more, then to its end; begins behind, so that it reads what was moved.
pub async fn follow(nodes: u32, ledger: Ledger, from: Duration, until: Duration) {
    tokio::time::sleep(from.saturating_sub(now())).await;
    let mut reader = Reader { client: Client::new(nodes, 3), ledger: ledger.clone() };
    let mut next: BTreeMap<Partition, i64> = partitions().map(|partition| (partition, 0)).collect();
    let mut at_the_end = false;
    while !at_the_end {
        at_the_end = now() >= until && ledger.borrow().table.writers == 0;
        for partition in partitions() {
            match reader.read(partition, next[&partition]).await {
                Ok((entries, after, end)) => {
                    at_the_end &= after >= end;
                    next.insert(partition, after);
                    let places = entries.into_iter().map(|(at, entry)| ((partition, entry.key), (at, entry.number)));
                    ledger.borrow_mut().table.followed.extend(places);
                }
                Err(_) => at_the_end = false,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads every partition from its beginning again and again until `until`, and once more when all is over.
pub async fn everything(nodes: u32, ledger: Ledger, until: Duration) {
    let mut reader = Reader { client: Client::new(nodes, 4), ledger: ledger.clone() };
    loop {
        let last = now() >= until;
        for partition in partitions() {
            let mut next = reader.start(partition).await.unwrap_or_default();
            loop {
                match reader.read(partition, next).await {
                    Ok((entries, after, end)) => {
                        next = after;
                        if last {
                            let found = entries.into_iter().map(|(at, entry)| (Place { partition, offset: at }, entry));
                            ledger.borrow_mut().table.found.extend(found);
                        }
                        if after >= end {
                            break;
                        }
                    }
                    Err(_) if now() < until || last => tokio::time::sleep(PAUSE).await,
                    Err(_) => break,
                }
            }
        }
        if last {
            return;
        }
        tokio::time::sleep(10 * PAUSE).await;
    }
}
