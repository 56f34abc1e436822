//! What a queue takes: once, and not more than it has room for; and how fast it gives.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use wire::amqp::method::{Method, basic, confirm, queue};
use wire::amqp::{Properties, Table, TableBuilder, Value};

use crate::frames::{Frames, short, start};

/// Publishes to `queue`; whether it is confirmed, as the message `tag` of this channel.
async fn is_confirmed(client: &mut Frames, queue: &str, properties: &Properties, tag: u64) -> bool {
    let publish = basic::Publish { routing_key: short(queue), ..Default::default() };
    client.publish(publish, properties, b"body").await;
    let answer = client.method(1).await;
    let confirmed = answer == basic::Ack { delivery_tag: tag, multiple: false }.into();
    let refused = answer == basic::Nack { delivery_tag: tag, ..Default::default() }.into();
    assert!(confirmed || refused, "{answer:?}");
    confirmed
}

fn rules(named: &[(&str, Value)]) -> Table {
    let table = named.iter().fold(TableBuilder::default(), |table, (name, value)| table.put(name, value));
    table.build().expect("flat")
}

#[tokio::test]
async fn a_message_with_a_known_key_is_confirmed_and_not_queued_again() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("any", Table::default()).await;
    client.declare("once", rules(&[("x-dedup-window", Value::I32(60_000))])).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    let of_id = |id: &str| Properties { message_id: Some(short(id)), ..Default::default() };
    let of_key = |key: Value| Properties { headers: Some(rules(&[("x-dedup-key", key)])), ..of_id("a") };
    let all = [
        (of_id("a"), 1),
        (of_id("a"), 1),
        (of_id("b"), 2),
        (of_key(Value::text("b")), 2),
        (of_key(Value::text("c")), 3),
        (of_key(Value::I32(7)), 4),
        (of_key(Value::I32(7)), 4),
        (of_key(Value::text("7")), 5),
        (of_key(Value::U64(u64::MAX)), 6),
        (of_key(Value::U64(u64::MAX - 1)), 7),
        (of_key(Value::U64(u64::MAX)), 7),
        (of_key(Value::Void), 7),
        (Properties::default(), 8),
        (Properties::default(), 9),
        (of_id(""), 10),
        (of_id(""), 11),
    ];
    for (tag, (properties, count)) in (1..).zip(&all) {
        assert!(is_confirmed(&mut client, "once", properties, tag).await);
        assert_eq!(
            client.declare("once", rules(&[("x-dedup-window", Value::I32(60_000))])).await.message_count,
            *count
        );
    }
    for tag in 17..=18 {
        assert!(is_confirmed(&mut client, "any", &of_id("a"), tag).await);
    }
    assert_eq!(client.declare("any", Table::default()).await.message_count, 2, "keys mean nothing to other queues");
}

#[tokio::test]
async fn a_full_queue_refuses_and_may_bury_what_it_refused() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("graves", Table::default()).await;
    let full = |overflow: &str| rules(&[("x-max-length", Value::I32(2)), ("x-overflow", Value::text(overflow))]);
    let graves = [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("graves"))];
    let burying = rules(
        &[&[("x-max-length", Value::I32(2)), ("x-overflow", Value::text("reject-publish-dlx"))], &graves[..]].concat(),
    );
    client.declare("refuses", full("reject-publish")).await;
    client.declare("has nowhere", full("reject-publish-dlx")).await;
    client.declare("buries", burying.clone()).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    let mut tag = 0;
    for queue in ["refuses", "has nowhere", "buries"] {
        for expected in [true, true, false, false] {
            tag += 1;
            assert_eq!(is_confirmed(&mut client, queue, &Properties::default(), tag).await, expected, "{queue} {tag}");
        }
    }
    assert_eq!(client.declare("buries", burying).await.message_count, 2);
    let buried = crate::node::until("two dead letters", || async {
        let mut looks = Frames::channel(&node).await;
        let count = looks.declare("graves", Table::default()).await.message_count;
        (count > 0).then_some(count)
    });
    assert!(buried.await <= 2);
    let consume = basic::Consume { queue: short("graves"), consumer_tag: short("me"), ..Default::default() };
    client.ask(1, consume).await;
    for _ in 0..2 {
        let (_, _, content) = client.delivery().await;
        let headers = content.properties.headers.expect("headers");
        assert_eq!(headers.get("x-first-death-queue"), Some(Value::text("buries")));
        assert_eq!(headers.get("x-first-death-reason"), Some(Value::text("maxlen")));
    }
}

#[tokio::test]
async fn what_a_full_queue_has_already_is_confirmed() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("graves", Table::default()).await;
    let rules = |overflow| {
        rules(&[
            ("x-max-length", Value::I32(1)),
            ("x-overflow", Value::text(overflow)),
            ("x-dedup-window", Value::I32(60_000)),
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("graves")),
        ])
    };
    client.ask(1, confirm::Select { no_wait: false }).await;
    let mut tag = 0;
    for overflow in ["reject-publish", "reject-publish-dlx"] {
        client.declare(overflow, rules(overflow)).await;
        for (id, expected) in [("a", true), ("b", false), ("a", true), ("b", false)] {
            tag += 1;
            let of_id = Properties { message_id: Some(short(id)), ..Default::default() };
            assert_eq!(is_confirmed(&mut client, overflow, &of_id, tag).await, expected, "{overflow} {id}");
        }
        client.ask(1, queue::Purge { queue: short(overflow), no_wait: false }).await;
        tag += 1;
        let refused_before = Properties { message_id: Some(short("b")), ..Default::default() };
        assert!(is_confirmed(&mut client, overflow, &refused_before, tag).await, "{overflow}");
        client.ask(1, queue::Purge { queue: short(overflow), no_wait: false }).await;
        let twice = Properties { message_id: Some(short("c")), ..Default::default() };
        for _ in 0..2 {
            let publish = basic::Publish { routing_key: short(overflow), ..Default::default() };
            client.publish(publish, &twice, b"body").await;
        }
        let mut open = BTreeSet::from([tag + 1, tag + 2]);
        while !open.is_empty() {
            let answer = client.method(1).await;
            let Method::Basic(basic::Method::Ack(ack)) = answer else { panic!("{overflow}: {answer:?}") };
            open.retain(|tag| *tag != ack.delivery_tag && !(ack.multiple && *tag < ack.delivery_tag));
        }
        tag += 2;
    }
    crate::node::until("both refusals of one queue", async || {
        let mut looks = Frames::channel(&node).await;
        (looks.declare("graves", Table::default()).await.message_count == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_queue_and_a_consumer_get_so_many_a_second_and_no_more() {
    const COUNT: u32 = 30;
    const RATE: i32 = 20;
    // Three come at once.
    let least = Duration::from_millis(1_000 * (u64::from(COUNT) - 4) / RATE as u64);
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    let rate = rules(&[("x-max-rate", Value::I32(RATE))]);
    for (queue, of_queue, of_consumer) in [("slow", rate.clone(), Table::default()), ("fast", Table::default(), rate)] {
        client.declare(queue, of_queue).await;
        for _ in 0..COUNT {
            client.publish_to(queue, b"x").await;
        }
        let (queue, consumer_tag) = (short(queue), short(queue));
        let consume = basic::Consume { queue, consumer_tag, arguments: of_consumer, ..Default::default() };
        let begun = Instant::now();
        client.ask(1, consume).await;
        for _ in 0..COUNT {
            client.delivery().await;
        }
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    }
    for wrong in [Value::I32(0), Value::text("fast"), Value::I32(1_000_001)] {
        let (queue, arguments) = (short("fast"), rules(&[("x-max-rate", wrong)]));
        client.send(1, basic::Consume { queue, arguments, ..Default::default() }).await;
        assert!(client.channel_closed(406).await.contains("x-max-rate"));
    }
}
