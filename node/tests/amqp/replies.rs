//! Direct reply-to: requests that carry an address, replies that come straight to it from any node, and what is refused.

use wire::amqp::method::{Method, basic, confirm, queue};
use wire::amqp::{Array, Properties, ShortStr, TableBuilder, Value};

use crate::frames::{Frames, listening, short, start};
use crate::node::{start_three_with, until};

const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

fn replies(no_ack: bool, tag: &str) -> basic::Consume {
    basic::Consume { queue: short(PSEUDO_QUEUE), consumer_tag: short(tag), no_ack, ..Default::default() }
}

fn request() -> (basic::Publish, Properties) {
    let asks = Properties { reply_to: Some(short(PSEUDO_QUEUE)), ..Default::default() };
    (basic::Publish { routing_key: short("rpc"), ..Default::default() }, asks)
}

/// Requests and gives the address that the responder sees.
async fn ask(requester: &mut Frames, responder: &mut Frames) -> ShortStr {
    let (publish, asks) = request();
    requester.publish(publish, &asks, b"question").await;
    let (_, _, content) = responder.delivery().await;
    content.properties.reply_to.expect("an address")
}

async fn reply(responder: &mut Frames, to: &ShortStr, mandatory: bool, body: &[u8]) {
    let publish = basic::Publish { routing_key: to.clone(), mandatory, ..Default::default() };
    responder.publish(publish, &Properties { correlation_id: Some(short("7")), ..Default::default() }, body).await;
}

fn passive(name: &ShortStr) -> queue::Declare {
    queue::Declare { queue: name.clone(), passive: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_come_from_any_node_in_order_and_end_with_the_channel() {
    let nodes = start_three_with(listening).await;
    let (mut requester, mut responder) = (Frames::channel(&nodes[0]).await, Frames::channel(&nodes[1]).await);
    requester.declare("rpc", Default::default()).await;
    until("the queue everywhere", || async { nodes[1].broker().queue("/", "rpc").map(drop) }).await;
    let consume = basic::Consume { queue: short("rpc"), no_ack: true, ..Default::default() };
    assert!(matches!(responder.ask(1, consume).await, Method::Basic(basic::Method::ConsumeOk(_))));
    requester.ask(1, replies(true, "answers")).await;
    let address = ask(&mut requester, &mut responder).await;
    assert_eq!(ask(&mut requester, &mut responder).await, address);
    let there = queue::DeclareOk { queue: address.clone(), message_count: 0, consumer_count: 1 };
    assert_eq!(responder.ask(1, passive(&address)).await, there.into());
    for number in 0..100_u8 {
        reply(&mut responder, &address, true, &vec![number; 20_000]).await;
    }
    for number in 0..100_u8 {
        let (method, content) = requester.content(1).await;
        let Method::Basic(basic::Method::Deliver(deliver)) = method else { panic!("{method:?}") };
        assert_eq!((&*deliver.consumer_tag, deliver.delivery_tag), (&b"answers"[..], u64::from(number) + 1));
        assert_eq!((&deliver.routing_key, deliver.redelivered, &*deliver.exchange), (&address, false, &b""[..]));
        assert_eq!((content.body.len(), content.body[0]), (20_000, number));
        assert_eq!(content.properties.correlation_id, Some(short("7")));
    }
    requester.ask(1, basic::Cancel { consumer_tag: short("answers"), no_wait: false }).await;
    responder.ask(1, confirm::Select { no_wait: false }).await;
    reply(&mut responder, &address, true, b"too late").await;
    let (method, content) = responder.content(1).await;
    assert!(matches!(method, Method::Basic(basic::Method::Return(ref back)) if back.routing_key == address));
    assert_eq!(&*content.body, b"too late");
    assert_eq!(responder.method(1).await, basic::Ack { delivery_tag: 1, multiple: false }.into());
    responder.send(1, passive(&address)).await;
    responder.channel_closed(404).await;
}

#[tokio::test]
async fn copies_are_sent_and_what_is_no_direct_reply_is_refused() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.send(1, replies(false, "answers")).await;
    client.channel_closed(406).await;
    client.ask(1, replies(true, "answers")).await;
    client.send(1, replies(true, "others")).await;
    client.channel_closed(406).await;
    let (publish, asks) = request();
    client.publish(publish, &asks, b"who hears the answer?").await;
    client.channel_closed(406).await;
    let guessed = short("amq.rabbitmq.reply-to.1.00000000000000000000000000000007");
    let copies = Array::new(&[Value::text("copies")]).expect("short");
    let headers = TableBuilder::default().put("CC", &Value::Array(copies)).build().expect("flat");
    client.declare("copies", Default::default()).await;
    client.ask(1, replies(true, "answers")).await;
    let (publish, asks) = request();
    client.declare("rpc", Default::default()).await;
    client.publish(publish, &asks, b"question").await;
    client.send(1, basic::Get { queue: short("rpc"), no_ack: true }).await;
    let address = client.content(1).await.1.properties.reply_to.expect("an address");
    let to_both = basic::Publish { routing_key: address, ..Default::default() };
    client.publish(to_both, &Properties { headers: Some(headers), ..Default::default() }, b"answer").await;
    assert!(matches!(client.content(1).await.0, Method::Basic(basic::Method::Deliver(_))));
    client.send(1, basic::Get { queue: short("copies"), no_ack: true }).await;
    assert_eq!(&*client.content(1).await.1.body, b"answer");
    let no_node = "amq.rabbitmq.reply-to.99.00000000000000000000000000000007";
    for none in [guessed.to_str().expect("text"), no_node, "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.x"] {
        client.send(1, passive(&short(none))).await;
        client.channel_closed(404).await;
    }
    reply(&mut client, &guessed, true, b"nobody").await;
    let (method, _) = client.content(1).await;
    assert!(matches!(method, Method::Basic(basic::Method::Return(_))), "{method:?}");
    let declare = queue::Declare { queue: short(PSEUDO_QUEUE), ..Default::default() };
    assert!(matches!(client.ask(1, declare).await, Method::Queue(queue::Method::DeclareOk(_))));
}
