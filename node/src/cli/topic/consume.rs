//! `flotilla topic consume NAME`: reads all partitions, or one, without a group, and follows until ctrl-c.
//! Records of one partition come in order; between partitions there is none.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use wire::kafka::batch::Record;

use crate::cli::client::{Client, Error, Patience, Position, Start};
use crate::cli::output::Format;

const WAIT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `topic consume`.
#[derive(Debug, Args)]
pub struct Consume {
    /// Topic
    name: String,
    /// Only this partition
    #[arg(long, short)]
    partition: Option<i32>,
    /// earliest, latest or an offset
    #[arg(long, short = 's', default_value = "earliest", value_parser = start)]
    start: Start,
    /// End after so many records
    #[arg(short = 'n', long = "count")]
    count: Option<u64>,
    /// End at the end of what is there now, instead of following
    #[arg(long, short)]
    exit: bool,
    /// Text around each record: %t topic, %p partition, %o offset, %T timestamp, %k key, %v value, \n, \t
    #[arg(long, short, default_value = "%v\\n")]
    format: String,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        offset => offset.parse().map(Start::Offset).map_err(|_| "earliest, latest or an offset is expected".to_owned()),
    }
}

/// Runs it.
pub async fn run(client: Client, output: Format, options: Consume) -> anyhow::Result<()> {
    tokio::select! {
        result = Box::pin(follow(&client, output, &options)) => match result {
            Err(error) if is_broken_pipe(&error) => Ok(()),
            other => other,
        },
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn follow(client: &Client, output: Format, options: &Consume) -> anyhow::Result<()> {
    let mut patience = Patience::new(PATIENCE);
    let mut partitions = client.partitions(&options.name, false).await?;
    partitions.retain(|partition| options.partition.is_none_or(|only| only == *partition));
    anyhow::ensure!(!partitions.is_empty(), "topic {} has no such partition", options.name);
    let mut reader = Reader { client, output, options, left: options.count.unwrap_or(u64::MAX), open: Vec::new() };
    for partition in partitions {
        let offset = reader.offset(partition, options.start, &mut patience).await?;
        let end = if options.exit { reader.offset(partition, Start::Latest, &mut patience).await? } else { i64::MAX };
        if offset < end {
            reader.open.push((Position { topic: options.name.clone(), partition, offset }, end));
        }
    }
    while reader.left > 0 && !reader.open.is_empty() {
        match reader.round().await {
            Ok(()) => patience = Patience::new(PATIENCE),
            Err(error) => match error.downcast::<Error>() {
                Ok(error) if error.passes() => {
                    reader
                        .open
                        .iter()
                        .for_each(|(position, _)| client.forget_leader(&position.topic, position.partition));
                    patience.pause(error).await?;
                }
                Ok(error) => return Err(error.into()),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(())
}

struct Reader<'a> {
    client: &'a Client,
    output: Format,
    options: &'a Consume,
    left: u64,
    open: Vec<(Position, i64)>,
}

impl Reader<'_> {
    /// Where `at` is now, from whoever leads the partition by then.
    async fn offset(&self, partition: i32, at: Start, patience: &mut Patience) -> Result<i64, Error> {
        loop {
            match self.client.offset(&self.options.name, partition, at).await {
                Ok(offset) => return Ok(offset),
                Err(error) if error.passes() => {
                    self.client.forget_leader(&self.options.name, partition);
                    patience.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One fetch from each leader, all at once.
    async fn round(&mut self) -> anyhow::Result<()> {
        let positions = self.open.iter().map(|(position, _)| position.clone()).collect();
        let groups = self.client.by_leader(positions).await?;
        let fetches = groups.iter().map(|group| self.client.fetch(group, WAIT));
        let outcomes = futures::future::join_all(fetches).await;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Ok(fetched) => {
                    for partition in fetched {
                        self.take(&partition, &mut out)?;
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        out.flush()?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn take(&mut self, fetched: &crate::cli::client::Fetched, out: &mut impl Write) -> anyhow::Result<()> {
        let Some(index) = self.open.iter().position(|(position, _)| position.partition == fetched.partition) else {
            return Ok(());
        };
        let (position, end) = &mut self.open[index];
        let end = *end;
        for record in fetched.records(position)? {
            if self.left == 0 || record.offset >= end {
                break;
            }
            print_record(self.output, self.options, fetched.partition, &record, out)?;
            self.left -= 1;
        }
        if position.offset >= end {
            self.open.remove(index);
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

fn print_record(
    output: Format,
    options: &Consume,
    partition: i32,
    record: &Record,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let text = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if output == Format::Json {
        let header = |header: wire::kafka::batch::Header| {
            (String::from_utf8_lossy(&header.key).into_owned(), text(&header.value))
        };
        let line = Line {
            topic: &options.name,
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: text(&record.key),
            value: text(&record.value),
            headers: record.headers.clone().map(header).collect(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        return Ok(());
    }
    let mut letters = options.format.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next()) {
            ('%', Some('t')) => out.write_all(options.name.as_bytes())?,
            ('%', Some('p')) => write!(out, "{partition}")?,
            ('%', Some('o')) => write!(out, "{}", record.offset)?,
            ('%', Some('T')) => write!(out, "{}", record.timestamp_ms)?,
            ('%', Some('k')) => out.write_all(record.key.as_deref().unwrap_or_default())?,
            ('%', Some('v')) => out.write_all(record.value.as_deref().unwrap_or_default())?,
            ('%', Some('%')) => out.write_all(b"%")?,
            ('\\', Some('n')) => out.write_all(b"\n")?,
            ('\\', Some('t')) => out.write_all(b"\t")?,
            ('\\', Some('\\')) => out.write_all(b"\\")?,
            _ => {
                write!(out, "{letter}")?;
                continue;
            }
        }
        letters.next();
    }
    Ok(())
}
