//! lapin against FLOTILLA_AMQP (amqp://host:port,...): what applications do with queues. Publishers and consumers are connected to different
//! nodes. FLOTILLA_PEER=1 leaves out what only Flotilla has, so that the program can be checked against RabbitMQ.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures_lite::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::time::{sleep, timeout};

const NAME: &str = "lapin 4.12.3";
const PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing may come where nothing is due.
const SILENCE: Duration = Duration::from_millis(700);
const TIME_LIMIT: Duration = Duration::from_secs(120);

type Failure = Box<dyn std::error::Error>;
type Checked = Result<usize, Failure>;

/// A connection with one channel that confirms, and the queue of the check.
struct Session {
    connection: Connection,
    channel: Channel,
    queue: String,
}

impl Session {
    async fn open(node: usize, queue: &str) -> Result<Self, Failure> {
        let nodes = std::env::var("FLOTILLA_AMQP").unwrap_or_else(|_| "amqp://127.0.0.1:5672".to_owned());
        let nodes: Vec<&str> = nodes.split(',').collect();
        let address = format!("{}/%2f", nodes[node % nodes.len()]);
        let connection = Connection::connect(&address, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, queue: queue.to_owned() })
    }

    async fn declare(&self, queue: &str, arguments: &FieldTable) -> Result<(), Failure> {
        self.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments.clone()).await?;
        Ok(())
    }

    /// Publishes one after the other and waits for the confirmations behind the last.
    async fn publish(&self, queue: &str, bodies: &[String], properties: BasicProperties) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for body in bodies {
            waiting.push(self.send("", queue, body, false, properties.clone()).await?);
        }
        for confirm in waiting {
            same("confirmed", &confirm.await?, &Confirmation::Ack(None))?;
        }
        Ok(())
    }

    async fn send(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        mandatory: bool,
        properties: BasicProperties,
    ) -> lapin::Result<lapin::PublisherConfirm> {
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, Failure> {
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        Ok(self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
    }

    /// Consumes one by one: each step is the body, whether it came before, and what becomes of it.
    async fn play(&self, queue: &str, steps: &[(&str, bool, Then)]) -> Checked {
        let mut consumer = self.consume(queue, 1).await?;
        for (body, redelivered, then) in steps {
            let delivery = next(&mut consumer).await?;
            same("delivery", &(text(&delivery).as_str(), delivery.redelivered), &(*body, *redelivered))?;
            match then {
                Then::Ack => delivery.ack(BasicAckOptions::default()).await?,
                Then::Nack => delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await?,
                Then::Reject => delivery.reject(BasicRejectOptions { requeue: false }).await?,
            };
        }
        nothing(&mut consumer).await?;
        Ok(steps.len())
    }
}

#[derive(Clone, Copy)]
enum Then {
    Ack,
    Nack,
    Reject,
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failure> {
    let delivery = timeout(PATIENCE, consumer.next()).await.map_err(|_| format!("no delivery for {PATIENCE:?}"))?;
    Ok(delivery.ok_or("the consumer ended")??)
}

async fn nothing(consumer: &mut Consumer) -> Result<(), Failure> {
    match timeout(SILENCE, consumer.next()).await {
        Ok(Some(Ok(delivery))) => Err(format!("{} is one too many", text(&delivery)).into()),
        Ok(other) => Err(format!("the consumer ended: {other:?}").into()),
        Err(_elapsed) => Ok(()),
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

fn same<T: Debug + PartialEq>(what: &str, got: &T, want: &T) -> Result<(), Failure> {
    if got == want { Ok(()) } else { Err(format!("{what}: got {got:?}, want {want:?}").into()) }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:06}")).collect()
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    entries.into_iter().map(|(key, value)| (ShortString::from(key), value)).collect::<BTreeMap<_, _>>().into()
}

/// Two workers share the work; each message is done once.
async fn work_queue(publisher: Session, consumer: Session) -> Checked {
    const COUNT: usize = 500;
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    for worker in [&publisher, &consumer] {
        let (mut deliveries, sender) = (worker.consume(&worker.queue, 20).await?, sender.clone());
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = deliveries.next().await {
                if delivery.ack(BasicAckOptions::default()).await.is_err() || sender.send(text(&delivery)).is_err() {
                    return;
                }
            }
        });
    }
    publisher.publish(&publisher.queue, &numbered(COUNT), BasicProperties::default().with_delivery_mode(2)).await?;
    let mut got = Vec::new();
    while got.len() < COUNT {
        let body = timeout(PATIENCE, done.recv()).await.map_err(|_| format!("{} of {COUNT} done", got.len()))?;
        got.extend(body);
    }
    got.sort_unstable();
    same("messages done", &got, &numbered(COUNT))?;
    Ok(COUNT)
}

/// What is given back comes again, marked, in its place; what is rejected does not.
async fn requeue(publisher: Session, consumer: Session) -> Checked {
    publisher.publish(&publisher.queue, &strings(&["a", "b"]), BasicProperties::default()).await?;
    let steps = [("a", false, Then::Nack), ("a", true, Then::Reject), ("b", false, Then::Ack)];
    consumer.play(&consumer.queue, &steps).await
}

/// No more than the limit; an acknowledgement of all lets as many through.
async fn prefetch(publisher: Session, consumer: Session) -> Checked {
    publisher.publish(&publisher.queue, &numbered(10), BasicProperties::default()).await?;
    let mut deliveries = consumer.consume(&consumer.queue, 3).await?;
    for _ in 0..2 {
        next(&mut deliveries).await?;
        next(&mut deliveries).await?;
        let last = next(&mut deliveries).await?;
        nothing(&mut deliveries).await?;
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(6)
}

/// Many at a time; all are there when the last is confirmed.
async fn confirms(publisher: Session, _: Session) -> Checked {
    const COUNT: usize = 1000;
    publisher.publish(&publisher.queue, &numbered(COUNT), BasicProperties::default()).await?;
    let purged = publisher.channel.queue_purge(publisher.queue.as_str().into(), QueuePurgeOptions::default()).await?;
    same("purged", &(purged as usize), &COUNT)?;
    Ok(COUNT)
}

/// A message without a queue comes back before it is confirmed.
async fn mandatory(publisher: Session, _: Session) -> Checked {
    let confirm = publisher.send("amq.topic", "nobody", "back", true, BasicProperties::default()).await?.await?;
    same("confirmed", &confirm.is_ack(), &true)?;
    let returned = confirm.take_message().ok_or("nothing came back")?;
    let told = (returned.reply_code, returned.delivery.routing_key.as_str(), text(&returned.delivery));
    same("returned", &told, &(312, "nobody", "back".to_owned()))?;
    Ok(1)
}

/// Words, stars and hashes.
async fn topic_exchange(publisher: Session, consumer: Session) -> Checked {
    let (channel, exchange) = (&publisher.channel, publisher.queue.as_str());
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await?;
    for pattern in ["*.orange.*", "lazy.#"] {
        let options = QueueBindOptions::default();
        channel.queue_bind(exchange.into(), exchange.into(), pattern.into(), options, FieldTable::default()).await?;
    }
    for key in ["quick.orange.fox", "lazy.orange.fox", "lazy", "quick.brown.fox"] {
        let confirm = publisher.send(exchange, key, key, false, BasicProperties::default()).await?.await?;
        same("confirmed", &confirm, &Confirmation::Ack(None))?;
    }
    let steps = ["quick.orange.fox", "lazy.orange.fox", "lazy"].map(|key| (key, false, Then::Ack));
    let count = consumer.play(&consumer.queue, &steps).await?;
    channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    Ok(count + 1)
}

/// What expires or is rejected goes where its queue says, with its history.
async fn dead_letters(publisher: Session, consumer: Session) -> Checked {
    let mortal = format!("{}-mortal", publisher.queue);
    let target = AMQPValue::LongString(publisher.queue.as_str().into());
    let arguments = table([
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", target),
        ("x-message-ttl", AMQPValue::LongInt(600)),
    ]);
    publisher.declare(&mortal, &arguments).await?;
    let mut letters = consumer.consume(&consumer.queue, 0).await?;
    for (reason, least) in [("expired", 550), ("rejected", 0)] {
        let start = Instant::now();
        publisher.publish(&mortal, &strings(&[reason]), BasicProperties::default()).await?;
        if reason == "rejected" {
            let mut deliveries = publisher.consume(&mortal, 1).await?;
            next(&mut deliveries).await?.reject(BasicRejectOptions { requeue: false }).await?;
        }
        let letter = next(&mut letters).await?;
        if start.elapsed() < Duration::from_millis(least) {
            return Err(format!("{reason} after {:?}", start.elapsed()).into());
        }
        same("death", &(text(&letter).as_str(), death(&letter)), &(reason, Some((reason.to_owned(), mortal.clone()))))?;
    }
    publisher.channel.queue_delete(mortal.as_str().into(), QueueDeleteOptions::default()).await?;
    Ok(2)
}

/// Reason and queue of the newest death.
fn death(letter: &Delivery) -> Option<(String, String)> {
    let deaths = letter.properties.headers().as_ref()?.inner().get("x-death")?.as_array()?;
    let newest = deaths.as_slice().first()?.as_field_table()?;
    let word = |name: &str| Some(newest.inner().get(name)?.as_long_string()?.to_string());
    Some((word("reason")?, word("queue")?))
}

/// The highest first; of one priority the oldest.
async fn priorities(publisher: Session, consumer: Session) -> Checked {
    for (number, priority) in [1, 9, 0, 5, 9].into_iter().enumerate() {
        let properties = BasicProperties::default().with_priority(priority);
        publisher.publish(&publisher.queue, &[format!("{priority}-{number}")], properties).await?;
    }
    let steps = ["9-1", "9-4", "5-3", "1-0", "0-2"].map(|body| (body, false, Then::Ack));
    consumer.play(&consumer.queue, &steps).await
}

/// What fails waits, longer each time.
async fn delayed_retry(publisher: Session, consumer: Session) -> Checked {
    let start = Instant::now();
    publisher.publish(&publisher.queue, &strings(&["again"]), BasicProperties::default()).await?;
    let steps = [("again", false, Then::Nack), ("again", true, Then::Nack), ("again", true, Then::Ack)];
    let count = consumer.play(&consumer.queue, &steps).await?;
    let waited = start.elapsed() - SILENCE;
    if waited < Duration::from_millis(580) {
        return Err(format!("done after {waited:?} instead of 600 ms").into());
    }
    Ok(count)
}

/// Runs one check with a queue of its own; whether it passed.
async fn check<F: Future<Output = Checked>>(
    label: &str,
    node: usize,
    arguments: FieldTable,
    run: impl Fn(Session, Session) -> F,
) -> bool {
    let start = Instant::now();
    let all = async {
        let queue = format!("lapin-{label}-{}-{}", std::process::id(), start.elapsed().as_nanos());
        let publisher = Session::open(node, &queue).await?;
        publisher.declare(&queue, &arguments).await?;
        let consumer = Session::open(node + 1, &queue).await?;
        let count = run(publisher, consumer).await?;
        let last = Session::open(node, &queue).await?;
        last.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        last.connection.close(200, "".into()).await?;
        Ok(count)
    };
    let late = async {
        sleep(TIME_LIMIT).await;
        Err(format!("not done after {TIME_LIMIT:?}").into())
    };
    let outcome: Checked = all.or(late).await;
    match &outcome {
        Ok(count) => println!("ok {NAME} {label} {count} {:.2}", start.elapsed().as_secs_f64()),
        Err(error) => println!("FAIL {NAME} {label}: {}", error.to_string().replace('\n', " ")),
    }
    outcome.is_ok()
}

#[tokio::main]
async fn main() {
    let is_peer = std::env::var("FLOTILLA_PEER").is_ok_and(|peer| peer == "1");
    let plain = FieldTable::default;
    let mut passed = check("work-queue", 0, plain(), work_queue).await;
    passed &= check("requeue", 1, plain(), requeue).await;
    passed &= check("prefetch", 2, plain(), prefetch).await;
    passed &= check("confirms", 0, plain(), confirms).await;
    passed &= check("mandatory", 1, plain(), mandatory).await;
    passed &= check("topic-exchange", 2, plain(), topic_exchange).await;
    passed &= check("dead-letters", 0, plain(), dead_letters).await;
    passed &= check("priorities", 1, table([("x-max-priority", AMQPValue::LongInt(10))]), priorities).await;
    if !is_peer {
        let (min, max) = (AMQPValue::LongInt(200), AMQPValue::LongInt(5000));
        let arguments = table([("x-delayed-retry-min", min), ("x-delayed-retry-max", max)]);
        passed &= check("delayed-retry", 2, arguments, delayed_retry).await;
    }
    std::process::exit(i32::from(!passed));
}
