//! `flotilla topic produce NAME [FILE|-]`: each line is a record. Lines that wait are written together; each batch is
//! acknowledged by a majority before the next of its partition is sent.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use wire::compression::Compression;
use wire::kafka::batch::BatchBuilder;

use crate::cli::client::{Client, Producer};
use crate::cli::output::{Format, print};
use crate::config::units::parse_duration;
use crate::seams::{Clock, SystemClock};

const LINES_MAX: usize = 1_000;
const BATCH_BYTES: usize = 512 << 10;

/// Options of `topic produce`.
#[derive(Debug, Args)]
pub struct Produce {
    /// Topic; created if the cluster allows it
    name: String,
    /// File with one record a line; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// What stands between key and value; without it lines have no key
    #[arg(long, short = 'K', value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// Only this partition; otherwise by key, or in turn
    #[arg(long, short)]
    partition: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none", value_parser = compression)]
    compression: Compression,
    /// How long one batch is tried
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

fn compression(name: &str) -> Result<Compression, String> {
    Compression::from_name(name).ok_or_else(|| "none, gzip, snappy, lz4 or zstd is expected".to_owned())
}

/// Runs it.
pub async fn run(client: Client, format: Format, options: Produce) -> anyhow::Result<()> {
    let partitions = client.partitions(&options.name, true).await?;
    let producer = Producer::new(client, options.timeout).await?;
    let input: Box<dyn AsyncRead + Unpin + Send> = match options.file.to_str() {
        Some("-") => Box::new(tokio::io::stdin()),
        _ => {
            let text = std::fs::read(&options.file)?;
            Box::new(std::io::Cursor::new(text))
        }
    };
    let mut session = Session { options, partitions, producer, turn: 0, written: 0, clock: SystemClock::new() };
    let result = session.lines(BufReader::new(input)).await;
    let (written, topic) = (session.written, &session.options.name);
    print(format, &serde_json::json!({ "topic": topic, "records": written }), |_| {
        format!("{written} records written to {topic}\n")
    })?;
    result
}

struct Session {
    options: Produce,
    partitions: Vec<i32>,
    producer: Producer,
    turn: usize,
    written: u64,
    clock: SystemClock,
}

impl Session {
    async fn lines(&mut self, mut input: impl AsyncBufRead + Unpin) -> anyhow::Result<()> {
        let mut waiting: std::collections::BTreeMap<i32, BatchBuilder> = Default::default();
        let (mut line, mut count, mut bytes) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line).await?;
            if read > 0 {
                let end = line.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
                let (key, value) = self.split(&line[..end]);
                let partition = self.partition(key);
                let batch = waiting.entry(partition).or_insert_with(|| BatchBuilder::new(self.options.compression));
                batch.push(self.clock.wall_ms(), key, Some(value));
                (count, bytes) = (count + 1, bytes + read);
            }
            let more_waits = self.more_waits(&mut input, read);
            if count >= LINES_MAX || bytes >= BATCH_BYTES || !more_waits {
                for (partition, batch) in std::mem::take(&mut waiting) {
                    let records = batch.len() as u64;
                    self.producer.send(&self.options.name, partition, batch).await?;
                    self.written += records;
                }
                (count, bytes) = (0, 0);
                self.turn += 1;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// Whether another whole line is already here, so that it is worth going on collecting.
    fn more_waits(&self, input: &mut (impl AsyncBufRead + Unpin), read: usize) -> bool {
        use futures::FutureExt;
        read > 0 && input.fill_buf().now_or_never().is_some_and(|filled| filled.is_ok_and(|rest| rest.contains(&b'\n')))
    }

    fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(separator) = self.options.key_separator.as_deref().map(str::as_bytes).filter(|text| !text.is_empty())
        else {
            return (None, line);
        };
        match line.windows(separator.len()).position(|window| window == separator) {
            Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
            None => (None, line),
        }
    }

    /// Same key, same partition as with the Java client.
    fn partition(&self, key: Option<&[u8]>) -> i32 {
        let turn = match (self.options.partition, key) {
            (Some(partition), _) => return partition,
            (None, Some(key)) => crate::cli::client::murmur2(key) as usize,
            (None, None) => self.turn,
        };
        self.partitions[turn % self.partitions.len()]
    }
}
