//! How a connection begins and ends, and what is refused on the way.

use std::time::Duration;

use tokio::time::Instant;
use wire::amqp::method::{Method, channel, connection};
use wire::amqp::{Kind, frame};

use crate::frames::{Frames, listening, short, start};

#[tokio::test]
async fn a_client_that_speaks_something_else_is_told_what_is_spoken_here() {
    let node = start().await;
    for other in [&b"AMQP\x00\x01\x00\x00"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"] {
        let mut client = Frames::connect(&node).await;
        client.raw(other).await;
        assert_eq!(client.rest().await[..], frame::PROTOCOL_HEADER);
    }
}

#[tokio::test]
async fn the_server_says_who_it_is_and_what_it_can() {
    let node = start().await;
    let mut client = Frames::connect(&node).await;
    client.raw(&frame::PROTOCOL_HEADER).await;
    let Method::Connection(connection::Method::Start(start)) = client.method(0).await else { panic!("no start") };
    assert_eq!((start.version_major, start.version_minor, &start.mechanisms[..]), (0, 9, &b"PLAIN AMQPLAIN"[..]));
    let product = start.server_properties.get("product");
    assert_eq!(product, Some(wire::amqp::Value::text("Flotilla")));
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let node = start().await;
    let mut client = Frames::connect(&node).await;
    client.begin(b"\0guest\0wrong").await;
    assert!(client.closed(403).await.starts_with("ACCESS_REFUSED"));
}

#[tokio::test]
async fn named_users_replace_guest() {
    use ::node::config::units::{Raw, Setting};
    let users = ::node::config::users::Users::read(&Raw::Text("ann:secret".to_owned())).expect("a user");
    let node = crate::node::start_with(|config| {
        listening(config);
        config.listeners.amqp.users = users;
    })
    .await;
    let mut client = Frames::connect(&node).await;
    client.begin(b"\0guest\0guest").await;
    client.closed(403).await;
    let mut client = Frames::connect(&node).await;
    client.begin(b"\0ann\0secret").await;
    assert!(matches!(client.method(0).await, Method::Connection(connection::Method::Tune(_))));
}

#[tokio::test]
async fn limits_are_negotiated_within_bounds() {
    let node = start().await;
    for (channel_max, frame_max) in [(4000, 131_072), (2047, 131_073), (2047, 4095)] {
        let mut client = Frames::connect(&node).await;
        client.begin(b"\0guest\0guest").await;
        let Method::Connection(connection::Method::Tune(tune)) = client.method(0).await else { panic!("no tune") };
        assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60));
        client.send(0, connection::TuneOk { channel_max, frame_max, heartbeat: 0 }).await;
        client.closed(530).await;
    }
}

#[tokio::test]
async fn an_unknown_virtual_host_is_refused() {
    let node = start().await;
    let mut client = Frames::open_with(&node, "elsewhere", 0).await;
    assert_eq!(client.closed(530).await, "NOT_ALLOWED - vhost elsewhere not found");
}

#[tokio::test]
async fn a_method_before_its_time_is_refused() {
    let node = start().await;
    let mut client = Frames::connect(&node).await;
    client.raw(&frame::PROTOCOL_HEADER).await;
    assert!(matches!(client.method(0).await, Method::Connection(connection::Method::Start(_))));
    client.send(0, connection::Open { virtual_host: short("/") }).await;
    client.closed(503).await;
    let mut client = Frames::connect(&node).await;
    client.begin(b"\0guest\0guest").await;
    assert!(matches!(client.method(0).await, Method::Connection(connection::Method::Tune(_))));
    client.send(1, channel::Open {}).await;
    client.closed(505).await;
}

#[tokio::test]
async fn a_silent_connection_beats_and_a_dead_client_is_noticed() {
    let node = start().await;
    let mut client = Frames::open_with(&node, "/", 1).await;
    assert_eq!(client.method(0).await, connection::OpenOk {}.into());
    let began = Instant::now();
    let mut beats = 0;
    while let Some(frame) = client.frame().await {
        assert_eq!(frame.kind, Kind::Heartbeat);
        beats += 1;
    }
    let lived = began.elapsed();
    assert!((1..=5).contains(&beats), "{beats} heartbeats in {lived:?}");
    assert!((Duration::from_millis(1_900)..Duration::from_secs(20)).contains(&lived), "{lived:?}");
}

#[tokio::test]
async fn a_close_is_answered_and_a_stop_is_told() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    let close = connection::Close { reply_code: 200, ..Default::default() };
    assert_eq!(client.ask(0, close).await, connection::CloseOk {}.into());
    assert_eq!(client.frame().await, None);
    let mut client = Frames::channel(&node).await;
    let stopping = tokio::spawn(node.running.stop());
    assert!(client.closed(320).await.starts_with("CONNECTION_FORCED"));
    stopping.await.expect("a clean stop");
}
