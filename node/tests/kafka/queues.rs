//! Queues through the facade: any node is a gateway to any queue, whoever leads it.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use model::controller::topology::{Arguments, ExchangeSpec, Queue, QueueSpec};
use model::cursor::ackset::Verdict;
use model::exchange::{Binding, Destination, ExchangeKind};
use node::broker::Broker;
use node::broker::queues::message::Content;
use node::broker::queues::{
    ConsumeError, ConsumerSpec, Delivered, Message, PublishError, QueueEvent, QueueStanding, Saying, Subscription,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use wire::amqp::{Properties, ShortStr};

use crate::node::{Node, start, start_three, until};

const PATIENCE: Duration = Duration::from_secs(15);
pub const AGAIN: Verdict = Verdict::Release { counted: true, delay_ms: None };

pub fn message(text: &str) -> Message {
    let content = Content {
        exchange: ShortStr::default(),
        routing_key: ShortStr::shortened("key"),
        properties: Properties::default().to_raw(),
        body: Bytes::copy_from_slice(text.as_bytes()),
    };
    let batch = content.to_batch(1).expect("a small message");
    Message { batch, saying: Saying::default() }
}

pub fn says(saying: Saying, text: &str) -> Message {
    Message { saying, ..message(text) }
}

pub fn content(delivered: &Delivered) -> Content {
    Content::from_batch(&delivered.record, delivered.offset, "q").expect("a message")
}

pub fn text(delivered: &Delivered) -> String {
    String::from_utf8(content(delivered).body.to_vec()).expect("text")
}

pub async fn declare(broker: &Broker, name: &str, arguments: Arguments) -> Arc<Queue> {
    let spec = QueueSpec { durable: true, arguments, ..QueueSpec::default() };
    until("the controller", || async { broker.declare_queue("/", name, spec.clone()).await.ok() }).await
}

pub async fn publish(broker: &Broker, queue: &Arc<Queue>, texts: impl IntoIterator<Item = String>) {
    let outcomes = texts.into_iter().map(|text| broker.publish(queue, message(&text)));
    for outcome in join_all(outcomes.collect::<Vec<_>>()).await {
        outcome.expect("a confirmed message");
    }
}

/// A consumer, and what it has heard.
pub struct Consumer {
    subscription: Subscription,
    events: mpsc::Receiver<QueueEvent>,
    heard: std::collections::VecDeque<Delivered>,
}

fn spec(credit: u32) -> ConsumerSpec {
    ConsumerSpec { credit, ..ConsumerSpec::default() }
}

impl Consumer {
    pub async fn of(broker: &Broker, queue: &Arc<Queue>, credit: u32) -> Self {
        let (told, events) = mpsc::channel(4);
        let subscription = broker.consume(queue, spec(credit), told).await.expect("a subscription");
        Self { subscription, events, heard: Default::default() }
    }

    pub async fn next(&mut self) -> Delivered {
        while self.heard.is_empty() {
            match timeout(PATIENCE, self.events.recv()).await.expect("a message in time") {
                Some(QueueEvent::Delivered(delivered)) => self.heard.extend(delivered),
                other => panic!("{other:?}"),
            }
        }
        self.heard.pop_front().expect("it was heard")
    }

    pub async fn take(&mut self, count: usize) -> Vec<Delivered> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.next().await);
        }
        taken
    }

    pub fn settle(&self, delivered: &Delivered, verdict: Verdict) {
        self.subscription.settle(delivered.offset, verdict);
    }

    pub async fn hears_nothing(&mut self) {
        assert!(self.heard.is_empty(), "{:?}", self.heard);
        let heard = timeout(Duration::from_millis(200), self.events.recv()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

pub fn texts(delivered: &[Delivered]) -> Vec<String> {
    delivered.iter().map(text).collect()
}

pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// The node that leads the queue, and one that does not.
pub async fn leader_and_other<'a>(nodes: &'a [Node], queue: &Queue) -> (&'a Node, &'a Node) {
    let leads = |node: &&Node| node.broker().leader(queue.partition_group).node.map(|id| id.0 as i32) == Some(node.id);
    let leader = until("a leader", || async { nodes.iter().find(leads) }).await;
    (leader, nodes.iter().find(|node| node.id != leader.id).expect("three nodes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_in_order_and_back_to_their_places() {
    let node = start().await;
    let broker = node.broker();
    let queue = declare(broker, "orders", Arguments::default()).await;
    publish(broker, &queue, numbers(0..20)).await;
    let mut one = Consumer::of(broker, &queue, 5).await;
    let first = one.take(5).await;
    assert_eq!(texts(&first), numbers(0..5));
    assert!(first.iter().all(|delivered| !delivered.redelivered && delivered.failures == 0));
    one.hears_nothing().await;
    one.settle(&first[1], AGAIN);
    one.settle(&first[3], Verdict::Accept);
    // Others may be there before the release is committed.
    let later = loop {
        let next = one.next().await;
        if next.offset <= 1 {
            break next;
        }
        one.settle(&next, Verdict::Accept);
    };
    assert_eq!((later.offset, later.redelivered, later.failures), (1, true, 1));
    drop(one);
    // Whoever is there before it is all given back would get the others first.
    until("all back", || async { broker.counts(&queue).await.ok().filter(|counts| counts.unacked == 0) }).await;
    let mut two = Consumer::of(broker, &queue, 100).await;
    let counts = until("all", || async { broker.counts(&queue).await.ok().filter(|counts| counts.ready == 0) }).await;
    assert_eq!(counts.consumers, 1);
    let rest = two.take(counts.unacked as usize).await;
    assert_eq!(text(&rest[0]), "0");
    assert!(rest[0].redelivered && rest.is_sorted_by_key(|delivered| delivered.offset));
    rest.iter().for_each(|delivered| two.settle(delivered, Verdict::Accept));
    until("an empty queue", || async { broker.counts(&queue).await.ok().filter(|counts| counts.unacked == 0) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_is_a_gateway() {
    let nodes = start_three().await;
    let queue = declare(nodes[0].broker(), "jobs", Arguments::default()).await;
    let (leader, other) = leader_and_other(&nodes, &queue).await;
    publish(other.broker(), &queue, numbers(0..50)).await;
    let mut far = Consumer::of(other.broker(), &queue, 10).await;
    let mut near = Consumer::of(leader.broker(), &queue, 10).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        let (consumer, delivered) = tokio::select! {
            delivered = far.next() => (&far, delivered),
            delivered = near.next() => (&near, delivered),
        };
        assert!(!delivered.redelivered && seen.insert(delivered.offset), "{delivered:?}");
        consumer.settle(&delivered, Verdict::Accept);
    }
    let counts =
        until("an end", || async { other.broker().counts(&queue).await.ok().filter(|c| c.unacked == 0) }).await;
    assert_eq!((counts.ready, counts.consumers), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_lets_consumers_keep_what_they_hold() {
    let mut nodes = start_three().await;
    let queue = declare(nodes[0].broker(), "work", Arguments::default()).await;
    let (leader, other) = leader_and_other(&nodes, &queue).await;
    let (leader, other) = (leader.id, other.id);
    let place = |nodes: &[Node], id| nodes.iter().position(|node| node.id == id).expect("it is there");
    let gateway = place(&nodes, other);
    let gateway = nodes.remove(gateway);
    publish(gateway.broker(), &queue, numbers(0..30)).await;
    let mut holds = Consumer::of(gateway.broker(), &queue, 10).await;
    let held = holds.take(10).await;
    nodes.remove(place(&nodes, leader));
    let began = Instant::now();
    held[..5].iter().for_each(|delivered| holds.settle(delivered, Verdict::Accept));
    let mut eager = Consumer::of(gateway.broker(), &queue, 100).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let (consumer, delivered) = tokio::select! {
            delivered = holds.next() => (&holds, delivered),
            delivered = eager.next() => (&eager, delivered),
        };
        let fresh = delivered.offset >= 10 && delivered.failures == 0;
        assert!(fresh && seen.insert(delivered.offset), "{delivered:?}");
        consumer.settle(&delivered, Verdict::Accept);
    }
    eprintln!("all was delivered {:?} after the leader went", began.elapsed());
    held[5..].iter().for_each(|delivered| holds.settle(delivered, Verdict::Accept));
    let counts =
        until("an end", || async { gateway.broker().counts(&queue).await.ok().filter(|c| c.unacked == 0) }).await;
    assert_eq!((counts.ready, counts.consumers), (0, 2));
    holds.hears_nothing().await;
    eager.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_expire_and_come_by_priority() {
    let node = start().await;
    let broker = node.broker();
    let arguments = Arguments { max_priority: Some(5), ..Arguments::default() };
    let queue = declare(broker, "timed", arguments).await;
    let late = says(Saying { delay_ms: Some(400), ..Saying::default() }, "late");
    let short = says(Saying { ttl_ms: Some(50), ..Saying::default() }, "short");
    let high = says(Saying { priority: Some(9), ..Saying::default() }, "high");
    for message in [message("plain"), late, short, high] {
        broker.publish(&queue, message).await.expect("confirmed");
    }
    sleep(Duration::from_millis(100)).await;
    let mut consumer = Consumer::of(broker, &queue, 1).await;
    let mut came = Vec::new();
    for _ in 0..3 {
        let delivered = consumer.next().await;
        came.push(text(&delivered));
        consumer.settle(&delivered, Verdict::Accept);
    }
    assert_eq!(came, ["high", "plain", "late"]);
    let counts = until("an end", || async { broker.counts(&queue).await.ok().filter(|c| c.unacked == 0) }).await;
    assert_eq!((counts.ready, counts.delayed, counts.dead_pending), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queues_drop_or_refuse() {
    let node = start().await;
    let broker = node.broker();
    let bounded = Arguments { max_length: Some(3), ..Arguments::default() };
    let drops = declare(broker, "drops", bounded.clone()).await;
    publish(broker, &drops, numbers(0..10)).await;
    until("three", || async { broker.counts(&drops).await.ok().filter(|counts| counts.ready == 3) }).await;
    let mut consumer = Consumer::of(broker, &drops, 9).await;
    assert_eq!(texts(&consumer.take(3).await), numbers(7..10));
    let overflow = model::controller::topology::Overflow::RejectPublish;
    let refuses = declare(broker, "refuses", Arguments { overflow, ..bounded }).await;
    publish(broker, &refuses, numbers(0..3)).await;
    assert_eq!(broker.publish(&refuses, message("one too many")).await, Err(PublishError::Rejected));
    assert_eq!(broker.purge(&refuses).await, Ok(3));
    publish(broker, &refuses, numbers(3..4)).await;
    let got = broker.get(&refuses).await.expect("an answer").expect("a message");
    assert_eq!((text(&got.delivered), got.remaining), ("3".to_owned(), 0));
    assert!(broker.get(&refuses).await.expect("an answer").is_none());
    drop(got);
    let again = until("it back", || async { broker.get(&refuses).await.expect("an answer") }).await;
    assert!(again.delivered.redelivered);
    again.subscription.settle(again.delivered.offset, Verdict::Accept);
    drop(again);
    let empty = until("an end", || async { broker.counts(&refuses).await.ok().filter(|c| c.unacked == 0) }).await;
    assert_eq!(empty.ready, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_arrive_once_with_their_history() {
    let nodes = start_three().await;
    let broker = nodes[0].broker();
    let exchange = ExchangeSpec { kind: ExchangeKind::Fanout, durable: true, ..ExchangeSpec::default() };
    until("the controller", || async { broker.declare_exchange("/", "dlx", exchange.clone()).await.ok() }).await;
    let graves = [
        declare(broker, "grave-1", Arguments::default()).await,
        declare(broker, "grave-2", Arguments::default()).await,
    ];
    for grave in &graves {
        let binding = Binding {
            source: "dlx".to_owned(),
            destination: Destination::Queue(grave.name.clone()),
            key: String::new(),
            arguments: Default::default(),
        };
        broker.bind("/", binding).await.expect("bound");
    }
    let arguments =
        Arguments { dead_letter_exchange: Some("dlx".to_owned()), delivery_limit: Some(1), ..Arguments::default() };
    let queue = declare(broker, "mortal", arguments).await;
    let (leader, _) = leader_and_other(&nodes, &queue).await;
    publish(leader.broker(), &queue, numbers(0..40)).await;
    let mut consumer = Consumer::of(leader.broker(), &queue, 100).await;
    for delivered in consumer.take(40).await {
        let verdict = match delivered.offset % 2 {
            0 => Verdict::Reject(model::cursor::ackset::Reason::Rejected),
            _ => AGAIN,
        };
        consumer.settle(&delivered, verdict);
    }
    for again in consumer.take(20).await {
        assert_eq!(again.failures, 1);
        consumer.settle(&again, AGAIN);
    }
    for grave in &graves {
        let mut mourner = Consumer::of(broker, grave, 100).await;
        let dead = mourner.take(40).await;
        assert_eq!(texts(&dead).into_iter().collect::<BTreeSet<_>>().len(), 40, "each once");
        for delivered in &dead {
            let headers = content(delivered).properties.read().headers.expect("headers");
            let first = headers.get("x-first-death-queue");
            assert!(matches!(first, Some(wire::amqp::Value::Str(name)) if name == "mortal"));
        }
        mourner.hears_nothing().await;
    }
    let counts = until("an end", || async { broker.counts(&queue).await.ok().filter(|c| c.dead_pending == 0) }).await;
    assert_eq!((counts.ready, counts.unacked), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_end_by_their_own_rules() {
    let node = start().await;
    let broker = node.broker();
    let spec = QueueSpec { auto_delete: true, ..QueueSpec::default() };
    let queue = until("one", || async { broker.declare_queue("/", "brief", spec.clone()).await.ok() }).await;
    let first = Consumer::of(broker, &queue, 1).await;
    let mut second = Consumer::of(broker, &queue, 1).await;
    drop(first);
    second.hears_nothing().await;
    drop(second);
    until("its end", || async { broker.queue("/", "brief").is_none().then_some(()) }).await;
    let (told, _events) = mpsc::channel(1);
    let refused = broker.consume(&queue, self::spec(1), told).await;
    assert_eq!(refused.err(), Some(ConsumeError::NotFound));

    let idle = declare(broker, "idle", Arguments { expires_ms: Some(2_000), ..Arguments::default() }).await;
    let mut consumer = Consumer::of(broker, &idle, 1).await;
    sleep(Duration::from_millis(2_500)).await;
    consumer.hears_nothing().await;
    drop(consumer);
    until("its end", || async { broker.queue("/", "idle").is_none().then_some(()) }).await;

    let gone = declare(broker, "gone", Arguments::default()).await;
    let mut consumer = Consumer::of(broker, &gone, 1).await;
    broker.delete_queue("/", "gone").await.expect("deleted");
    let heard = timeout(PATIENCE, consumer.events.recv()).await.expect("in time");
    assert!(matches!(heard, Some(QueueEvent::Cancelled(_))), "{heard:?}");
    assert_eq!(broker.publish(&gone, message("late")).await, Err(PublishError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_tells_how_a_queue_stands() {
    let mut nodes = start_three().await;
    let queue = declare(nodes[0].broker(), "seen", Arguments::default()).await;
    let (leader, other) = leader_and_other(&nodes, &queue).await;
    let broker = other.broker().clone();
    publish(&broker, &queue, numbers(0..10)).await;
    broker
        .publish(&queue, says(Saying { delay_ms: Some(60_000), ..Saying::default() }, "late"))
        .await
        .expect("confirmed");
    let mut consumer = Consumer::of(&broker, &queue, 4).await;
    let first = consumer.next().await;
    consumer.settle(&first, Verdict::Reject(model::cursor::ackset::Reason::Rejected));
    consumer.take(4).await;
    // What is committed and what the leader does not count as taken any more come one after the other.
    let dropped = |standing: &QueueStanding| standing.dead.rejected == 1 && standing.counts.ready == 5;
    let standing = until("one dead", || async { broker.queue_standing(&queue).await.filter(dropped) }).await;
    let counts = standing.counts;
    assert_eq!((counts.unacked, counts.delayed, counts.consumers, counts.dead_pending), (4, 1, 1, 0));
    assert_eq!((standing.dead.all(), standing.traffic.published), (1, 11));
    assert_eq!((standing.traffic.delivered, standing.traffic.redelivered), (5, 0));
    sleep(Duration::from_millis(50)).await;
    let all = broker.queue_standings().await;
    let oldest = all[&queue.partition_group].counts.oldest_unacked_ms.expect("it holds four");
    assert!((50..15_000).contains(&oldest), "{oldest} ms");

    until("a rate", || async {
        publish(&broker, &queue, numbers(0..1)).await;
        broker.queue_standing(&queue).await.filter(|standing| standing.traffic.publish_rate > 0.1)
    })
    .await;
    drop(consumer);
    let free = |standing: &QueueStanding| standing.counts.unacked == 0 && standing.counts.oldest_unacked_ms.is_none();
    let before = until("all back", || async { broker.queue_standing(&queue).await.filter(free) }).await;
    let leader = leader.id;
    nodes.retain(|node| node.id != leader);
    let after = until("another leader", || async { broker.queue_standing(&queue).await }).await;
    assert_eq!((after.counts.ready, after.dead), (before.counts.ready, before.dead), "what is replicated stays");
}
