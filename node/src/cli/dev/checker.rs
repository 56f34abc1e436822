//! The proof in the live view: writes numbered records with acks=all to a topic of its own, one task per partition, reads them
//! back, and counts what was acknowledged and is not there. Owns nothing after it is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use crate::cli::client::{Client, Error, Position, Producer};
use crate::seams::{Clock, SystemClock};

const TOPIC: &str = "__flotilla_load";
const PARTITIONS: i32 = 6;
const PAUSE: Duration = Duration::from_millis(20);
const END_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until dropped.
pub struct Checker {
    tally: Arc<Mutex<Tally>>,
    client: Client,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    acknowledged: u64,
    read_back: u64,
    lost: u64,
    longest_pause: Duration,
    trouble: Option<String>,
    /// Nothing more is to be written.
    ending: bool,
    /// Acknowledged and not read back yet: (partition, offset) -> number.
    open: BTreeMap<(i32, i64), u64>,
    /// Read before its acknowledgement came.
    early: BTreeMap<(i32, i64), u64>,
}

impl Checker {
    /// Starts writing and reading.
    pub fn start(bootstrap: &str) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let client = Client::new(bootstrap);
        let mut tasks = JoinSet::new();
        let work = run(client.clone(), bootstrap.to_owned(), tally.clone());
        let shown = tally.clone();
        tasks.spawn(async move {
            if let Err(error) = work.await {
                with(&shown, |tally| tally.trouble = Some(error.to_string()));
            }
        });
        Self { tally, client, tasks }
    }

    /// Stops writing, waits a moment for the last records to be read back, removes the topic if the cluster answers in
    /// time, and gives the last line.
    pub async fn end(self) -> String {
        with(&self.tally, |tally| tally.ending = true);
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline && !with(&self.tally, |tally| tally.open.is_empty()) {
            sleep(PAUSE).await;
        }
        let report = self.report();
        let Self { client, mut tasks, .. } = self;
        tasks.shutdown().await;
        tokio::time::timeout(END_PATIENCE, client.delete_topic(TOPIC)).await.ok();
        report
    }

    /// One line.
    pub fn report(&self) -> String {
        with(&self.tally, |tally| {
            let pause = tally.longest_pause.as_millis();
            let trouble = tally.trouble.as_deref().map(|text| format!("  ({text})")).unwrap_or_default();
            format!(
                "load: {} acknowledged, {} read back, {} acknowledged records lost, longest pause {pause} ms{trouble}",
                tally.acknowledged, tally.read_back, tally.lost
            )
        })
    }
}

fn with<T>(tally: &Mutex<Tally>, f: impl FnOnce(&mut Tally) -> T) -> T {
    f(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Reading has connections of its own: a fetch that waits would hold back the answers to produce requests behind it.
async fn run(client: Client, bootstrap: String, tally: Arc<Mutex<Tally>>) -> Result<(), Error> {
    let reading = Client::new(&bootstrap);
    match client.create_topic(TOPIC, (PARTITIONS, -1), &[]).await {
        Ok(()) => {}
        Err(Error::Code { code: wire::kafka::ErrorCode::TopicAlreadyExists, .. }) => {}
        Err(error) => return Err(error),
    }
    let mut tasks = JoinSet::new();
    for partition in client.partitions(TOPIC, false).await? {
        tasks.spawn(write(client.clone(), partition, tally.clone()));
        tasks.spawn(read(reading.clone(), partition, tally.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            return Err(error);
        }
    }
    Ok(())
}

async fn write(client: Client, partition: i32, tally: Arc<Mutex<Tally>>) -> Result<(), Error> {
    let mut producer = Producer::new(client, PATIENCE).await?;
    let clock = SystemClock::new();
    let mut last = Instant::now();
    for number in 0u64.. {
        if with(&tally, |tally| tally.ending) {
            break;
        }
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(clock.wall_ms(), None, Some(number.to_string().as_bytes()));
        let offset = producer.send(TOPIC, partition, batch).await?;
        let pause = last.elapsed();
        last = Instant::now();
        with(&tally, |tally| {
            tally.acknowledged += 1;
            match tally.early.remove(&(partition, offset)) {
                Some(read) => tally.count(read == number),
                None => drop(tally.open.insert((partition, offset), number)),
            }
            tally.longest_pause = tally.longest_pause.max(pause.saturating_sub(PAUSE));
        });
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Reads from the first record acknowledged in this run on, always behind the writer.
async fn read(client: Client, partition: i32, tally: Arc<Mutex<Tally>>) -> Result<(), Error> {
    let first =
        |tally: &mut Tally| tally.open.range((partition, 0)..(partition + 1, 0)).next().map(|((_, offset), _)| *offset);
    let mut position = loop {
        match with(&tally, first) {
            Some(offset) => break Position { topic: TOPIC.to_owned(), partition, offset },
            None => sleep(PAUSE).await,
        }
    };
    loop {
        sleep(PAUSE * 5).await;
        match client.fetch(std::slice::from_ref(&position), PAUSE * 5).await {
            Ok(fetched) => {
                for partition in &fetched {
                    let records = partition.records(&mut position)?;
                    with(&tally, |tally| check(tally, &position, &records));
                }
            }
            Err(error) if error.passes() => client.forget_leader(TOPIC, partition),
            Err(error) => return Err(error),
        }
    }
}

/// What was acknowledged below the position and did not come with its number is lost.
fn check(tally: &mut Tally, position: &Position, records: &[wire::kafka::batch::Record]) {
    for record in records {
        let number = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        let key = (position.partition, record.offset);
        match (tally.open.remove(&key), number) {
            (Some(acknowledged), read) => tally.count(read == Some(acknowledged)),
            (None, Some(read)) => drop(tally.early.insert(key, read)),
            (None, None) => {}
        }
    }
    let passed = (position.partition, i64::MIN)..(position.partition, position.offset);
    let gone: Vec<(i32, i64)> = tally.open.range(passed).map(|(key, _)| *key).collect();
    for key in gone {
        tally.open.remove(&key);
        tally.count(false);
    }
}

impl Tally {
    fn count(&mut self, found: bool) {
        if found {
            self.read_back += 1;
        } else {
            self.lost += 1;
        }
    }
}
