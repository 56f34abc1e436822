//! `bench consume`: fills the topics for some seconds, then drains them: every consumer reads everything from the start.
//! Invariant: only whole record batches that came with a good CRC count.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use wire::kafka::batch::read_batches;

use super::cluster::Target;
use super::load::Load;
use super::meter::Meter;
use super::report::Report;
use super::{Topic, produce};
use crate::cli::client::{Client, Error, Fetched, PATIENCE, Patience, Position, Start};

const WAIT: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Runs it.
pub async fn run(load: &Load, target: &Target, topics: &[Topic]) -> anyhow::Result<Report> {
    let ends = fill(load, load.pace.rate, target, topics).await?;
    let meter = Arc::new(Meter::default());
    let window = target.observe(&meter, drain_all(load, &target.bootstrap, topics, &ends, &meter)).await?;
    Ok(Report::new("consume", load, target, window))
}

/// Writes for the seconds of the load, at `rate` or as fast as possible; gives the end of each partition.
pub async fn fill(
    load: &Load,
    rate: Option<u64>,
    target: &Target,
    topics: &[Topic],
) -> anyhow::Result<Arc<Vec<Position>>> {
    let written = Arc::new(Meter::default());
    written.start();
    let mut flow = produce::start(load, rate, target, topics, &written)?;
    // The time counts from the first acknowledgement on: a busy machine may need all of it to get there.
    let filled = async {
        while written.is_empty() {
            sleep(RETRY_PAUSE).await;
        }
        sleep(Duration::from_secs(load.pace.seconds)).await;
    };
    tokio::select! {
        () = filled => {}
        error = flow.failure() => return Err(error),
    }
    flow.stop().await;
    Ok(ends(&Client::new(&target.bootstrap), topics).await?)
}

/// Every consumer of the load reads all up to `ends`.
pub async fn drain_all(
    load: &Load,
    bootstrap: &str,
    topics: &[Topic],
    ends: &Arc<Vec<Position>>,
    meter: &Arc<Meter>,
) -> anyhow::Result<()> {
    let mut readers = JoinSet::new();
    for _ in 0..load.pace.consumers {
        let client = Client::new(bootstrap);
        for group in groups(&client, topics).await? {
            readers.spawn(drain(client.clone(), group, ends.clone(), load.shape.record_size.0, meter.clone()));
        }
    }
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    Ok(())
}

/// The end of each partition.
async fn ends(client: &Client, topics: &[Topic]) -> Result<Arc<Vec<Position>>, Error> {
    let mut ends = Vec::new();
    for (topic, partition) in topics.iter().flat_map(Topic::places) {
        let offset = end(client, &topic, partition).await?;
        ends.push(Position { topic, partition, offset });
    }
    Ok(Arc::new(ends))
}

/// The end of a partition; its leader may not know it yet.
pub async fn end(client: &Client, topic: &str, partition: i32) -> Result<i64, Error> {
    let mut patience = Patience::new(PATIENCE);
    loop {
        match client.offset(topic, partition, Start::Latest).await {
            Err(error) if error.passes() => patience.pause(error).await?,
            outcome => return outcome,
        }
    }
}

/// The beginnings of all partitions, by topic and the node that leads.
pub async fn groups(client: &Client, topics: &[Topic]) -> Result<Vec<Vec<Position>>, Error> {
    let mut groups = Vec::new();
    for topic in topics {
        let position = |(topic, partition)| Position { topic, partition, offset: 0 };
        groups.extend(client.by_leader(topic.places().map(position).collect()).await?);
    }
    Ok(groups)
}

/// One fetch from each leader of these positions, which are of one topic. A failure that passes gives nothing, and has the
/// leaders looked up anew.
pub async fn round(client: &Client, positions: &[Position], wait: Duration) -> Result<Vec<Fetched>, Error> {
    let fetch = async {
        let mut fetched = Vec::new();
        for group in client.by_leader(positions.to_vec()).await? {
            fetched.extend(client.fetch(&group, wait).await?);
        }
        Ok(fetched)
    };
    match fetch.await {
        Err(error) if Error::passes(&error) => {
            positions.iter().for_each(|position| client.forget_leader(&position.topic, position.partition));
            sleep(RETRY_PAUSE).await;
            Ok(Vec::new())
        }
        outcome => outcome,
    }
}

async fn drain(
    client: Client,
    mut left: Vec<Position>,
    ends: Arc<Vec<Position>>,
    record_bytes: u64,
    meter: Arc<Meter>,
) -> Result<(), Error> {
    let is_behind = |at: &Position| {
        let same = |end: &&Position| (&end.topic, end.partition) == (&at.topic, at.partition);
        ends.iter().find(same).is_some_and(|end| at.offset < end.offset)
    };
    loop {
        left.retain(is_behind);
        if left.is_empty() {
            return Ok(());
        }
        for partition in round(&client, &left, WAIT).await? {
            let position = left.iter_mut().find(|position| position.partition == partition.partition);
            let Some(position) = position else { continue };
            for batch in read_batches(partition.batches) {
                let batch = batch?;
                let header = batch.header();
                let records = u64::try_from(header.record_count).unwrap_or(0);
                meter.count(records, records * record_bytes, None);
                position.offset = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
        }
    }
}
