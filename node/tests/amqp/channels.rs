//! Channels, what closes them, and what closes the connection; exchanges and bindings.

use bytes::{BufMut, BytesMut};
use wire::amqp::method::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
use wire::amqp::{ContentHeader, Kind, RawProperties, TableBuilder, Value, frame};

use crate::frames::{Frames, short, start};

/// A frame of any payload.
fn framed(kind: Kind, channel: u16, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&frame::head(kind, channel, payload.len()));
    bytes.put_slice(payload);
    bytes.put_u8(frame::END);
    bytes
}

#[tokio::test]
async fn what_is_no_frame_or_comes_out_of_order_closes_the_connection() {
    let node = start().await;
    let mut header = BytesMut::new();
    let content = ContentHeader { body_bytes: 1, properties: RawProperties::default() };
    frame::put_header(&mut header, 1, &content, 4096).expect("a small frame");
    let too_large = frame::head(Kind::Body, 1, 131_065);
    let mut wrong_end = framed(Kind::Method, 1, b"\0\x14\0\x0b\0");
    *wrong_end.last_mut().expect("not empty") = 0;
    let cases: [(&str, u16, &[u8]); 9] = [
        ("a kind that is none", 501, b"\x09\0\x01\0\0\0\0\xce"),
        ("a frame that is too large", 501, &too_large),
        ("a frame without its end", 501, &wrong_end),
        ("a method that ends early", 502, &framed(Kind::Method, 1, b"\0\x3c\0\x14\0\0\x05q")),
        ("a method that is none", 503, &framed(Kind::Method, 1, b"\0\x3c\0\xff")),
        ("a method of the server", 503, &framed(Kind::Method, 1, b"\0\x3c\0\x0b")),
        ("a header without a method", 505, &header),
        ("a body without a method", 505, &framed(Kind::Body, 1, b"x")),
        ("a channel opened twice", 504, &framed(Kind::Method, 1, b"\0\x14\0\x0a\0")),
    ];
    for (what, code, bytes) in cases {
        let mut client = Frames::channel(&node).await;
        client.raw(bytes).await;
        let text = client.closed(code).await;
        println!("{what}: {text}");
    }
    let mut client = Frames::channel(&node).await;
    client.send(2, queue::Purge::default()).await;
    assert!(client.closed(504).await.contains("channel.open"));
}

#[tokio::test]
async fn content_is_expected_where_it_belongs() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.send(1, basic::Publish::default()).await;
    client.send(1, basic::Qos::default()).await;
    client.closed(505).await;
    let mut client = Frames::channel(&node).await;
    client.send(1, basic::Publish::default()).await;
    let mut bytes = BytesMut::new();
    let content = ContentHeader { body_bytes: 1, properties: RawProperties::default() };
    frame::put_header(&mut bytes, 1, &content, 4096).expect("a small frame");
    frame::put_body(&mut bytes, 1, b"two", 4096);
    client.raw(&bytes).await;
    client.closed(505).await;
}

#[tokio::test]
async fn a_channel_that_failed_forgets_what_came_until_it_is_answered() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.open_channel(2).await;
    let missing = exchange::Declare { exchange: short("missing"), passive: true, ..Default::default() };
    client.send(1, missing.clone()).await;
    client.send(1, missing.clone()).await;
    client.publish(basic::Publish::default(), &Default::default(), b"forgotten").await;
    assert_eq!(client.channel_closed(404).await, "NOT_FOUND - no exchange 'missing' in vhost '/'");
    assert_eq!(client.ask(2, basic::Qos::default()).await, basic::QosOk {}.into(), "the other channel lives");
    let close = channel::Close { reply_code: 200, ..Default::default() };
    assert_eq!(client.ask(1, close).await, channel::CloseOk {}.into());
    client.open_channel(1).await;
}

#[tokio::test]
async fn what_is_not_done_is_said() {
    let node = start().await;
    let cases: [(u16, Method); 4] = [
        (540, channel::Flow { active: false }.into()),
        (540, basic::Qos { prefetch_size: 1, ..Default::default() }.into()),
        (540, basic::Recover { requeue: false }.into()),
        (503, connection::OpenOk {}.into()),
    ];
    for (code, method) in cases {
        let mut client = Frames::channel(&node).await;
        client.send(1, method).await;
        client.closed(code).await;
    }
    let mut client = Frames::channel(&node).await;
    let request = access::Request { realm: short("/data"), ..Default::default() };
    assert!(matches!(client.ask(1, request).await, Method::Access(access::Method::RequestOk(_))));
    assert_eq!(client.ask(1, channel::Flow { active: true }).await, channel::FlowOk { active: true }.into());
    let renewed = client.ask(0, connection::UpdateSecret::default()).await;
    assert_eq!(renewed, connection::UpdateSecretOk {}.into());
}

#[tokio::test]
async fn a_channel_confirms_or_transacts_and_never_both() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    assert_eq!(client.ask(1, confirm::Select { no_wait: false }).await, confirm::SelectOk {}.into());
    client.send(1, tx::Select {}).await;
    client.channel_closed(406).await;
    assert_eq!(client.ask(1, tx::Select {}).await, tx::SelectOk {}.into());
    client.send(1, confirm::Select { no_wait: false }).await;
    client.channel_closed(406).await;
    client.send(1, tx::Commit {}).await;
    client.channel_closed(406).await;
}

#[tokio::test]
async fn exchanges_are_declared_bound_and_deleted() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    let declare = |name, kind, arguments| exchange::Declare {
        exchange: short(name),
        kind: short(kind),
        durable: true,
        arguments,
        ..Default::default()
    };
    for (name, kind) in [("one", "topic"), ("two", "fanout"), ("one", "topic")] {
        assert_eq!(client.ask(1, declare(name, kind, Default::default())).await, exchange::DeclareOk {}.into());
    }
    client.send(1, declare("one", "direct", Default::default())).await;
    let text = client.channel_closed(406).await;
    assert!(text.starts_with("PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'one'"), "{text}");
    client.send(1, declare("three", "no-such-type", Default::default())).await;
    client.channel_closed(406).await;
    client.send(1, declare("amq.mine", "direct", Default::default())).await;
    client.channel_closed(403).await;
    let bind = exchange::Bind {
        destination: short("two"),
        source: short("one"),
        routing_key: short("a.*"),
        ..Default::default()
    };
    assert_eq!(client.ask(1, bind).await, exchange::BindOk {}.into());
    let in_use = exchange::Delete { exchange: short("one"), if_unused: true, no_wait: false };
    client.send(1, in_use.clone()).await;
    client.channel_closed(406).await;
    let unbind = exchange::Unbind {
        destination: short("two"),
        source: short("one"),
        routing_key: short("a.*"),
        ..Default::default()
    };
    assert_eq!(client.ask(1, unbind).await, exchange::UnbindOk {}.into());
    assert_eq!(client.ask(1, in_use.clone()).await, exchange::DeleteOk {}.into());
    assert_eq!(client.ask(1, in_use).await, exchange::DeleteOk {}.into(), "what is gone is gone");
}

#[tokio::test]
async fn arguments_are_compared_whatever_the_width_of_a_number() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    let length = |value| TableBuilder::default().put("x-max-length", &value).build().expect("flat");
    client.declare("widths", length(Value::I64(7))).await;
    client.declare("widths", length(Value::U8(7))).await;
    client
        .send(
            1,
            queue::Declare {
                queue: short("widths"),
                durable: true,
                arguments: length(Value::I32(8)),
                ..Default::default()
            },
        )
        .await;
    let text = client.channel_closed(406).await;
    assert!(text.contains("inequivalent arg 'x-max-length' for queue 'widths'"), "{text}");
    let unknown = TableBuilder::default().put("x-no-such", &Value::Bool(true)).build().expect("flat");
    client.send(1, queue::Declare { queue: short("other"), arguments: unknown, ..Default::default() }).await;
    assert!(client.channel_closed(406).await.contains("x-no-such"));
}
