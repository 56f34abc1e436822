//! Confirmed publishes to one queue by lapin: `publish-lapin URL WINDOW BYTES WARM_UP SECONDS`. As many tasks as the window is wide
//! publish and wait for the confirmation, over one channel: lapin then writes what they publish together.
//! Prints one JSON object with the names of `flotilla bench`.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, window, bytes, warm_up, seconds] = arguments.as_slice() else {
        return Err("usage: publish-lapin URL WINDOW BYTES WARM_UP SECONDS".into());
    };
    let (warm_up, seconds) = (Duration::from_secs(warm_up.parse()?), Duration::from_secs(seconds.parse()?));
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = format!("bench-lapin-{}", std::process::id());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;

    let body = vec![7; bytes.parse()?];
    let begin = Instant::now() + warm_up;
    let mut publishers = JoinSet::new();
    for _ in 0..window.parse()? {
        publishers.spawn(publish(channel.clone(), queue.clone(), body.clone(), begin..begin + seconds));
    }
    let mut latencies = Vec::new();
    while let Some(publisher) = publishers.join_next().await {
        latencies.extend(publisher??);
    }
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    println!("{}", report(latencies, body.len(), seconds));
    Ok(())
}

/// Publishes one message after the other until the span ends; the latencies of those that were confirmed in it.
async fn publish(
    channel: Channel,
    queue: String,
    body: Vec<u8>,
    span: std::ops::Range<Instant>,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= span.end {
            return Ok(latencies);
        }
        let (options, persistent) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
        let confirmation = channel.basic_publish("".into(), queue.as_str().into(), options, &body, persistent).await?;
        if !matches!(confirmation.await?, Confirmation::Ack(_)) {
            return Err("the broker refused a message".into());
        }
        if span.contains(&Instant::now()) {
            latencies.push(sent.elapsed());
        }
    }
}

fn report(mut latencies: Vec<Duration>, bytes: usize, seconds: Duration) -> String {
    latencies.sort_unstable();
    let quantile = |share: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * share) as usize;
        latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let rate = latencies.len() as f64 / seconds.as_secs_f64();
    format!(
        "{{\"records_per_s\": {rate:.1}, \"mb_per_s\": {:.3}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"max_ms\": {:.3}}}",
        rate * bytes as f64 / 1e6,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    )
}
