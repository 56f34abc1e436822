//! Virtual hosts: what has the same name in two of them is two things, and what is deleted takes its connections with it.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use wire::amqp::Table;
use wire::amqp::method::{basic, connection, queue};

use crate::frames::{Frames, short, start};
use crate::management::{GUEST, get, import, names, raw};
use crate::node::until;

#[tokio::test]
async fn queues_of_one_name_in_two_virtual_hosts_are_two() {
    let node = start().await;
    let mut here = Frames::channel(&node).await;
    let mut nowhere = Frames::open_with(&node, "tests", 0).await;
    let refused = nowhere.closed(530).await;
    assert!(refused.contains("vhost tests not found"), "{refused}");
    assert_eq!(raw(&node, "PUT /api/vhosts/tests", GUEST, "").await.0, 201);
    assert_eq!(raw(&node, "PUT /api/vhosts/tests", GUEST, "").await.0, 204);
    assert_eq!(names(&get(&node, "/api/vhosts").await), ["/", "tests"]);
    let mut there = Frames::open_with(&node, "tests", 0).await;
    assert_eq!(there.method(0).await, connection::OpenOk {}.into());
    there.open_channel(1).await;
    for client in [&mut here, &mut there] {
        client.declare("jobs", Table::default()).await;
    }
    there.ask(1, queue::Declare { queue: short("mine"), exclusive: true, ..Default::default() }).await;
    here.publish_to("jobs", b"here").await;
    let get_one = basic::Get { queue: short("jobs"), no_ack: true };
    assert_eq!(there.ask(1, get_one.clone()).await, basic::GetEmpty {}.into());
    let consume = basic::Consume { queue: short("jobs"), consumer_tag: short("me"), ..Default::default() };
    there.ask(1, consume).await;
    there.publish_to("jobs", b"there").await;
    assert_eq!(&*there.delivery().await.2.body, b"there");
    there.ask(1, basic::Cancel { consumer_tag: short("me"), no_wait: false }).await;
    here.send(1, get_one).await;
    assert_eq!(&*here.content(1).await.1.body, b"here");
    let rows = get(&node, "/api/queues/tests").await;
    assert_eq!((names(&rows), rows[0]["vhost"].as_str()), (vec!["jobs", "mine"], Some("tests")));

    assert_eq!(raw(&node, "DELETE /api/vhosts/tests", GUEST, "").await.0, 204);
    let end = timeout(Duration::from_secs(10), there.closed(320)).await.expect("its connections end");
    assert_eq!(end, "CONNECTION_FORCED - vhost 'tests' is deleted");
    assert_eq!(raw(&node, "DELETE /api/vhosts/tests", GUEST, "").await.0, 404);
    assert_eq!(raw(&node, "DELETE /api/vhosts/%2F", GUEST, "").await.0, 400);
    until("the topic of its queue is gone", async || (node.broker().image().topics.len() == 1).then_some(())).await;
    // The clean-up of exclusive queues goes on.
    let mut other = Frames::channel(&node).await;
    other.ask(1, queue::Declare { queue: short("other"), exclusive: true, ..Default::default() }).await;
    drop(other);
    until("its queue is gone", async || (node.broker().image().topics.len() == 1).then_some(())).await;
    let passive = queue::Declare { queue: short("jobs"), passive: true, ..Default::default() };
    let ok = queue::DeclareOk { queue: short("jobs"), message_count: 0, consumer_count: 0 };
    assert_eq!(here.ask(1, passive).await, ok.into());
}

#[tokio::test]
async fn definitions_bring_their_virtual_hosts() {
    let node = start().await;
    let definitions = json!({
        "vhosts": [{ "name": "a" }, { "name": "b c" }],
        "queues": [{ "name": "q", "vhost": "b c", "durable": true, "auto_delete": false, "arguments": {} }],
        "bindings": [{ "source": "amq.topic", "vhost": "b c", "destination": "q", "destination_type": "queue", "routing_key": "#" }],
    });
    assert_eq!(import(&node, &definitions).await, (204, String::new()));
    assert_eq!(names(&get(&node, "/api/vhosts").await), ["/", "a", "b c"]);
    assert_eq!(get(&node, "/api/bindings/b%20c").await[1]["routing_key"], "#");
    let exported = get(&node, "/api/definitions/b%20c").await;
    assert_eq!((names(&exported["vhosts"]), names(&exported["queues"])), (vec!["b c"], vec!["q"]));
}
