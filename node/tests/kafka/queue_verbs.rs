//! What operators do to queues, through the facade of any node: peek, purge, seek, redrive.
use std::collections::BTreeSet;
use std::sync::Arc;

use model::controller::topology::{Arguments, Queue};
use model::cursor::ackset::{Reason, Verdict};
use node::broker::Broker;
use node::broker::queues::{MessageReport, PeekState, QueueCounts, Saying, SeekTo};

use crate::node::{start, start_three, until};
use crate::queues::{Consumer, content, declare, leader_and_other, numbers, publish, says, text, texts};

fn offsets(messages: &[MessageReport]) -> Vec<i64> {
    messages.iter().map(|message| message.offset).collect()
}

async fn when(broker: &Broker, queue: &Arc<Queue>, holds: impl Fn(&QueueCounts) -> bool) -> QueueCounts {
    until("these counts", || async { broker.counts(queue).await.ok().filter(|counts| holds(counts)) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_messages_takes_none() {
    let nodes = start_three().await;
    let queue = declare(nodes[0].broker(), "looked-at", Arguments::default()).await;
    let (_, other) = leader_and_other(&nodes, &queue).await;
    let broker = other.broker();
    publish(broker, &queue, numbers(0..4)).await;
    broker
        .publish(&queue, says(Saying { delay_ms: Some(60_000), ..Saying::default() }, "late"))
        .await
        .expect("confirmed");
    let mut holder = Consumer::of(broker, &queue, 1).await;
    let held = holder.next().await;
    let seen = broker.peek(&queue, 0, 10, true).await.expect("a look");
    let states: Vec<PeekState> = seen.iter().map(|message| message.state).collect();
    use PeekState::{Delayed, Ready, Unacked};
    assert_eq!(states, [Unacked, Ready, Ready, Ready, Delayed]);
    let bodies: Vec<_> = seen.iter().map(|message| message.body.as_deref().unwrap_or_default()).collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "late"]);
    let late = &seen[4];
    assert_eq!((&*late.routing_key, late.body_bytes, late.published_ms), ("key", 4, 1));
    assert!(late.not_before_ms.is_some() && late.body_encoding.as_deref() == Some("string"), "{late:?}");
    let some = broker.peek(&queue, 2, 2, false).await.expect("a look");
    assert_eq!((offsets(&some), some[0].body.clone()), (vec![2, 3], None));
    holder.settle(&held, Verdict::Accept);
    let next = holder.next().await;
    assert!(!next.redelivered, "a look is no delivery: {next:?}");
    let left = async || Some(offsets(&broker.peek(&queue, 0, 10, false).await.ok()?)).filter(|left| left.len() < 5);
    assert_eq!(until("the end of the first", left).await, [1, 2, 3, 4]);
    assert!(broker.peek(&queue, 77, 10, false).await.expect("a look").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_delivers_again_and_leaves_consumers_what_they_hold() {
    let node = start().await;
    let broker = node.broker();
    let queue = declare(broker, "replayed", Arguments::default()).await;
    publish(broker, &queue, numbers(0..10)).await;
    let mut consumer = Consumer::of(broker, &queue, 7).await;
    let first = consumer.take(7).await;
    first[..6].iter().for_each(|delivered| consumer.settle(delivered, Verdict::Accept));
    let rest = consumer.take(3).await;
    rest.iter().for_each(|delivered| consumer.settle(delivered, Verdict::Accept));
    when(broker, &queue, |counts| counts.unacked == 1).await;

    let change = broker.seek(&queue, SeekTo::Offset(2)).await.expect("a seek");
    assert_eq!((change.before.ready, change.before.unacked, change.changed), (0, 1, 7));
    let again = consumer.take(6).await;
    assert_eq!(texts(&again), ["2", "3", "4", "5", "7", "8"], "6 is with its consumer still");
    assert!(again.iter().all(|delivered| delivered.redelivered), "{again:?}");
    consumer.settle(&first[6], Verdict::Accept);
    let last = consumer.next().await;
    assert_eq!(text(&last), "9");
    again.iter().chain([&last]).for_each(|delivered| consumer.settle(delivered, Verdict::Accept));
    when(broker, &queue, |counts| counts.unacked == 0).await;
    drop(consumer);

    for (to, ready) in [(SeekTo::Start, 10), (SeekTo::End, 0), (SeekTo::TimeMs(1), 10), (SeekTo::TimeMs(2), 0)] {
        let change = broker.seek(&queue, to).await.expect("a seek");
        assert_eq!((change.after.ready, change.changed), (ready, 10), "{to:?}");
    }
    broker.seek(&queue, SeekTo::Offset(8)).await.expect("a seek");
    let change = broker.purge_and_tell(&queue).await.expect("a purge");
    assert_eq!((change.before.ready, change.after.ready, change.changed), (2, 0, 2));
    publish(broker, &queue, numbers(10..11)).await;
    let got = broker.get(&queue).await.expect("an answer").expect("a message");
    assert_eq!((text(&got.delivered), got.delivered.redelivered), ("10".to_owned(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_go_back_to_where_they_died() {
    let nodes = start_three().await;
    let broker = nodes[0].broker();
    let (exchange, key) = (Some(String::new()), Some("graves".to_owned()));
    let arguments = Arguments { dead_letter_exchange: exchange, dead_letter_routing_key: key, ..Arguments::default() };
    let graves = declare(broker, "graves", Arguments::default()).await;
    let work = declare(broker, "work", arguments).await;
    publish(broker, &work, numbers(0..5)).await;
    let mut consumer = Consumer::of(broker, &work, 5).await;
    for delivered in consumer.take(5).await {
        consumer.settle(&delivered, Verdict::Reject(Reason::Rejected));
    }
    when(broker, &graves, |counts| counts.ready == 5).await;
    publish(broker, &graves, ["stranger".to_owned()]).await;

    let first = broker.redrive(&graves, None, 3).await.expect("a redrive");
    assert_eq!((first.before.ready, first.after.ready, first.moved), (6, 3, 3));
    assert!(first.stayed.is_empty() && first.after.unacked == 0, "{first:?}");
    let second = broker.redrive(&graves, None, 100).await.expect("a redrive");
    assert_eq!((second.after.ready, second.moved), (1, 2), "{second:?}");
    let stays: Vec<_> = second.stayed.iter().collect();
    assert!(matches!(stays[..], [(why, 1)] if why.contains("no dead letter")), "{stays:?}");
    let back = consumer.take(5).await;
    assert_eq!(texts(&back).into_iter().collect::<BTreeSet<_>>(), numbers(0..5).into_iter().collect());
    for delivered in &back {
        let content = content(delivered);
        assert_eq!((&*content.exchange, &*content.routing_key), (&b""[..], &b"key"[..]), "as it was published");
        assert!(content.properties.read().headers.is_some_and(|headers| headers.get("x-death").is_some()));
        consumer.settle(delivered, Verdict::Accept);
    }
    let none = broker.redrive(&graves, Some(&graves), 100).await.expect("a redrive");
    assert_eq!((none.moved, none.after.ready), (0, 1), "{none:?}");
    let other = broker.redrive(&graves, Some(&work), 100).await.expect("a redrive");
    assert_eq!((other.moved, other.after.ready), (1, 0), "{other:?}");
    assert_eq!(text(&consumer.next().await), "stranger");
}
