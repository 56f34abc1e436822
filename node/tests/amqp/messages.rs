//! Messages through queues of one node: what a client sends, hears and may not do. Several nodes and real clients: `tests/clients`.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;
use wire::amqp::method::{Method, basic, channel, confirm, connection, queue};
use wire::amqp::{ContentHeader, Properties, Table, TableBuilder, Value, frame};

use crate::frames::{Frames, listening, short, start};
use crate::node::start_with;

/// How long nothing may come where nothing is due.
const SILENCE: Duration = Duration::from_millis(300);

fn consume(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { queue: short(queue), consumer_tag: short(tag), ..Default::default() }
}

fn ack(delivery_tag: u64, multiple: bool) -> basic::Ack {
    basic::Ack { delivery_tag, multiple }
}

async fn begin(client: &mut Frames, consume: basic::Consume) {
    let consumer_tag = consume.consumer_tag.clone();
    assert_eq!(client.ask(1, consume).await, basic::ConsumeOk { consumer_tag }.into());
}

async fn hears_nothing(client: &mut Frames) {
    let heard = timeout(SILENCE, client.frame()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// The answer of basic.get: tag, mark, how many are left, content.
async fn get(client: &mut Frames, queue: &str) -> (basic::GetOk, Properties, bytes::Bytes) {
    client.send(1, basic::Get { queue: short(queue), no_ack: false }).await;
    let (method, content) = client.content(1).await;
    let Method::Basic(basic::Method::GetOk(ok)) = method else { panic!("{method:?}") };
    (ok, content.properties, content.body)
}

#[tokio::test]
async fn properties_and_body_arrive_as_they_were_sent() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("whole", Default::default()).await;
    begin(&mut client, consume("whole", "me")).await;
    let headers = TableBuilder::default().put("n", &Value::I16(-3)).put("n", &Value::Void).build().expect("flat");
    let properties = Properties {
        content_type: Some(short("text/plain")),
        headers: Some(headers),
        priority: Some(3),
        timestamp: Some(7),
        kind: Some(short("order")),
        user_id: Some(short("guest")),
        ..Default::default()
    };
    for size in [0, 1, 131_064, 131_065, 700_000] {
        let body: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let publish = basic::Publish { routing_key: short("whole"), ..Default::default() };
        client.publish(publish, &properties, &body).await;
        let (tag, redelivered, content) = client.delivery().await;
        assert!(!redelivered && content.properties == properties && content.body == body, "{size} bytes");
        client.send(1, ack(tag, false)).await;
    }
}

#[tokio::test]
async fn what_a_client_sent_before_it_closed_is_done() {
    const COUNT: u32 = 40;
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("last words", Default::default()).await;
    let mut words = BytesMut::new();
    let publish = basic::Publish { routing_key: short("last words"), ..Default::default() };
    let header = ContentHeader { body_bytes: 0, properties: Properties::default().to_raw() };
    for _ in 0..COUNT {
        frame::put_method(&mut words, 1, &publish.clone().into(), 4_096).expect("a small method");
        frame::put_header(&mut words, 1, &header, 4_096).expect("no properties");
    }
    say_and_close(client, words).await;
    let mut client = Frames::channel(&node).await;
    let arrived = async {
        while client.declare("last words", Default::default()).await.message_count < COUNT {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), arrived).await.expect("all messages arrive");
    begin(&mut client, consume("last words", "me")).await;
    let mut words = BytesMut::new();
    for _ in 0..COUNT {
        let acknowledged = ack(client.delivery().await.0, false);
        frame::put_method(&mut words, 1, &acknowledged.into(), 4_096).expect("a small method");
    }
    say_and_close(client, words).await;
    let mut client = Frames::channel(&node).await;
    begin(&mut client, consume("last words", "me")).await;
    hears_nothing(&mut client).await;
}

/// Sends frames and connection.close at once; close-ok is all that is answered.
async fn say_and_close(mut client: Frames, mut words: BytesMut) {
    let close = connection::Close { reply_code: 200, ..Default::default() };
    frame::put_method(&mut words, 0, &close.into(), 4_096).expect("a small method");
    client.raw(&words).await;
    assert_eq!(client.method(0).await, connection::CloseOk {}.into());
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_message_without_a_queue_comes_back_before_it_is_confirmed() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    let mandatory = basic::Publish { routing_key: short("nowhere"), mandatory: true, ..Default::default() };
    client.publish(mandatory, &Properties::default(), b"back").await;
    let (method, content) = client.content(1).await;
    let Method::Basic(basic::Method::Return(returned)) = method else { panic!("{method:?}") };
    assert_eq!((returned.reply_code, &*returned.routing_key, &*content.body), (312, &b"nowhere"[..], &b"back"[..]));
    assert_eq!(client.method(1).await, ack(1, false).into());
    client.publish_to("nowhere", b"lost").await;
    assert_eq!(client.method(1).await, ack(2, false).into());
}

#[tokio::test]
async fn a_message_may_not_lie_and_not_be_too_long() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("strict", Default::default()).await;
    let publish =
        |exchange| basic::Publish { exchange: short(exchange), routing_key: short("strict"), ..Default::default() };
    let other_user = Properties { user_id: Some(short("root")), ..Default::default() };
    client.publish(publish(""), &other_user, b"").await;
    client.channel_closed(406).await;
    let bad_time = Properties { expiration: Some(short("soon")), ..Default::default() };
    client.publish(publish(""), &bad_time, b"").await;
    client.channel_closed(406).await;
    client.publish(publish("missing"), &Default::default(), b"").await;
    client.channel_closed(404).await;
    client.publish(publish(""), &Default::default(), &vec![0; (16 << 20) + 1]).await;
    let text = client.channel_closed(406).await;
    assert!(text.contains("larger than configured max size 16777216"), "{text}");
    assert_eq!(client.declare("strict", Default::default()).await.message_count, 0);
    let immediate = basic::Publish { immediate: true, ..publish("") };
    client.publish(immediate, &Default::default(), b"").await;
    client.closed(540).await;
}

#[tokio::test]
async fn tags_are_settled_once_and_many_at_a_time() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("tags", Default::default()).await;
    for body in [b"1", b"2", b"3", b"4"] {
        client.publish_to("tags", body).await;
    }
    begin(&mut client, consume("tags", "me")).await;
    for tag in 1..=4 {
        assert_eq!(client.delivery().await.0, tag);
    }
    client.send(1, ack(2, true)).await;
    client.send(1, ack(3, false)).await;
    client.send(1, ack(2, false)).await;
    assert_eq!(client.channel_closed(406).await, "PRECONDITION_FAILED - unknown delivery tag 2");
    // What was not settled goes back with the channel.
    let left = crate::node::until("one message", || async {
        let mut looks = Frames::channel(&node).await;
        let found = looks.declare("tags", Default::default()).await;
        (found.message_count > 0).then_some(found)
    })
    .await;
    assert_eq!((left.message_count, left.consumer_count), (1, 0));
    let (ok, _, body) = get(&mut client, "tags").await;
    assert_eq!((ok.redelivered, ok.message_count, &*body), (true, 0, &b"4"[..]));
    client.send(1, ack(0, true)).await;
    assert_eq!(client.ask(1, basic::Get { queue: short("tags"), no_ack: true }).await, basic::GetEmpty {}.into());
}

#[tokio::test]
async fn a_limit_of_the_channel_counts_all_its_consumers() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    assert_eq!(
        client.ask(1, basic::Qos { prefetch_count: 3, global: true, ..Default::default() }).await,
        basic::QosOk {}.into()
    );
    for queue in ["left", "right"] {
        client.declare(queue, Default::default()).await;
        for _ in 0..4 {
            client.publish_to(queue, b"x").await;
        }
        begin(&mut client, consume(queue, queue)).await;
        // All of the first, then none of the second.
        if queue == "left" {
            for _ in 0..3 {
                client.delivery().await;
            }
        }
        hears_nothing(&mut client).await;
    }
    client.send(1, ack(0, true)).await;
    for _ in 0..3 {
        client.delivery().await;
    }
    hears_nothing(&mut client).await;
    assert_eq!(client.ask(1, basic::Qos { global: true, ..Default::default() }).await, basic::QosOk {}.into());
    client.delivery().await;
    client.delivery().await;
}

#[tokio::test]
async fn a_consumer_that_is_cancelled_settles_what_it_has_and_gets_no_more() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("pause", Default::default()).await;
    client.ask(1, basic::Qos { prefetch_count: 1, ..Default::default() }).await;
    begin(&mut client, consume("pause", "me")).await;
    client.publish_to("pause", b"first").await;
    let (tag, ..) = client.delivery().await;
    let cancel = basic::Cancel { consumer_tag: short("me"), no_wait: false };
    assert_eq!(client.ask(1, cancel).await, basic::CancelOk { consumer_tag: short("me") }.into());
    client.publish_to("pause", b"second").await;
    hears_nothing(&mut client).await;
    // It counts as nobody, although it holds a message still.
    let alone = basic::Consume { exclusive: true, ..consume("pause", "again") };
    begin(&mut client, alone).await;
    let (second, redelivered, content) = client.delivery().await;
    assert_eq!((redelivered, &*content.body), (false, &b"second"[..]));
    client.send(1, ack(tag, false)).await;
    client.send(1, ack(second, false)).await;
    assert_eq!(client.declare("pause", Default::default()).await.message_count, 0);
    client.send(1, consume("pause", "again")).await;
    client.closed(530).await;
}

#[tokio::test]
async fn nothing_overtakes_a_message_on_its_way_back() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("order", Default::default()).await;
    for body in [b"first", b"later"] {
        client.publish_to("order", body).await;
    }
    let back = |delivery_tag| basic::Nack { delivery_tag, multiple: false, requeue: true };
    for round in 0..5 {
        let (ok, _, body) = get(&mut client, "order").await;
        assert_eq!((ok.redelivered, &*body), (round > 0, &b"first"[..]), "round {round}");
        client.send(1, back(ok.delivery_tag)).await;
    }
    client.ask(1, basic::Qos { prefetch_count: 1, ..Default::default() }).await;
    begin(&mut client, consume("order", "me")).await;
    for round in 0..5 {
        let (tag, redelivered, content) = client.delivery().await;
        assert_eq!((redelivered, &*content.body), (true, &b"first"[..]), "round {round}");
        client.send(1, back(tag)).await;
    }
    let (tag, ..) = client.delivery().await;
    client.send(1, ack(tag, false)).await;
    assert_eq!(&*client.delivery().await.2.body, b"later");
}

#[tokio::test]
async fn what_a_dead_client_had_is_delivered_to_another() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("heir", Default::default()).await;
    client.publish_to("heir", b"estate").await;
    begin(&mut client, consume("heir", "me")).await;
    client.delivery().await;
    let mut other = Frames::channel(&node).await;
    begin(&mut other, consume("heir", "other")).await;
    drop(client);
    let (tag, redelivered, content) = other.delivery().await;
    assert_eq!((redelivered, &*content.body), (true, &b"estate"[..]));
    other.send(1, ack(tag, false)).await;
}

#[tokio::test]
async fn a_deleted_queue_cancels_its_consumers() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("gone", Default::default()).await;
    begin(&mut client, consume("gone", "me")).await;
    let mut other = Frames::channel(&node).await;
    let delete = queue::Delete { queue: short("gone"), ..Default::default() };
    assert_eq!(other.ask(1, delete).await, queue::DeleteOk { message_count: 0 }.into());
    assert_eq!(client.method(1).await, basic::Cancel { consumer_tag: short("me"), no_wait: true }.into());
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_fill_the_node() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("flood", Default::default()).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    let body = vec![7; 256 << 10];
    let count = 64;
    for sent in 1..=count {
        client.publish_to("flood", &body).await;
        assert_eq!(client.method(1).await, ack(sent, false).into());
    }
    let mut lazy = Frames::channel(&node).await;
    lazy.send(1, consume("flood", "lazy")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Other clients are served meanwhile, and the lazy one gets all when it reads.
    assert!(matches!(client.ask(1, basic::Qos::default()).await, Method::Basic(basic::Method::QosOk(_))));
    assert!(matches!(lazy.method(1).await, Method::Basic(basic::Method::ConsumeOk(_))));
    for tag in 1..=count {
        assert_eq!(lazy.delivery().await.0, tag);
    }
}

#[tokio::test]
async fn frames_of_two_channels_may_mix() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.open_channel(2).await;
    client.declare("mixed", Default::default()).await;
    let publish = basic::Publish { routing_key: short("mixed"), ..Default::default() };
    let mut parts = [1, 2].map(|channel| {
        let mut method = bytes::BytesMut::new();
        frame::put_method(&mut method, channel, &publish.clone().into(), 4096).expect("a small frame");
        let header = wire::amqp::ContentHeader { body_bytes: 3, properties: Default::default() };
        let (mut head, mut body) = (bytes::BytesMut::new(), bytes::BytesMut::new());
        frame::put_header(&mut head, channel, &header, 4096).expect("a small frame");
        frame::put_body(&mut body, channel, if channel == 1 { b"one" } else { b"two" }, 4096);
        [method, head, body].into_iter()
    });
    for _ in 0..3 {
        for channel in &mut parts {
            client.raw(&channel.next().expect("three parts")).await;
        }
    }
    begin(&mut client, consume("mixed", "me")).await;
    let mut bodies = [client.delivery().await.2.body, client.delivery().await.2.body];
    bodies.sort();
    assert_eq!(bodies, [&b"one"[..], b"two"]);
    let close = channel::Close { reply_code: 200, ..Default::default() };
    assert_eq!(client.ask(2, close).await, channel::CloseOk {}.into());
}

#[tokio::test]
async fn a_full_disk_blocks_connections_and_takes_no_messages() {
    let full = |config: &mut ::node::config::Config| {
        listening(config);
        config.storage.disk_free_bytes_min = u64::MAX;
    };
    let node = start_with(full).await;
    let mut client = Frames::open(&node).await;
    assert_eq!(client.method(0).await, connection::OpenOk {}.into());
    assert_eq!(client.method(0).await, connection::Blocked { reason: short("the disk is full") }.into());
    client.open_channel(1).await;
    client.declare("q", Table::default()).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    client.publish_to("q", b"lost").await;
    assert_eq!(client.method(1).await, basic::Nack { delivery_tag: 1, ..Default::default() }.into());
    assert_eq!(client.declare("q", Table::default()).await.message_count, 0);
}
