//! RabbitMQ's management API, asked as KEDA, health checks and rabbitmqadmin ask it, beside AMQP clients of the same node.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::amqp::method::{basic, queue};

use crate::frames::{Frames, short, start};
use crate::node::{Node, until};

pub const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

/// Sends a request with these headers; gives the status, the head and the body.
pub async fn raw(node: &Node, what: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(node.running.addresses().admin).await.expect("the node listens");
    let head = format!("{what} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap_or(Value::Null) };
    (head[9..12].parse().expect("a status"), head.to_owned(), value)
}

pub async fn get(node: &Node, page: &str) -> Value {
    let (status, _, value) = raw(node, &format!("GET {page}"), GUEST, "").await;
    assert_eq!(status, 200, "{page}: {value}");
    value
}

pub async fn import(node: &Node, definitions: &Value) -> (u16, String) {
    let headers = format!("{GUEST}Content-Type: application/json\r\n");
    let (status, _, value) = raw(node, "POST /api/definitions", &headers, &definitions.to_string()).await;
    (status, value["reason"].as_str().unwrap_or_default().to_owned())
}

pub fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect()
}

#[tokio::test]
async fn only_users_are_answered() {
    let node = start().await;
    for headers in ["", "Authorization: Basic Z3Vlc3Q6d3Jvbmc=\r\n", "Authorization: Bearer guest\r\n"] {
        let (status, head, value) = raw(&node, "GET /api/overview", headers, "").await;
        assert_eq!((status, value["error"].as_str()), (401, Some("not_authorized")), "{headers}");
        assert!(head.to_ascii_lowercase().contains("www-authenticate: basic"), "{head}");
    }
    assert_eq!(get(&node, "/api/whoami").await["name"], "guest");
}

#[tokio::test]
async fn queues_tell_what_scalers_ask() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    for name in ["jobs", "other"] {
        client.declare(name, Default::default()).await;
    }
    client.ask(1, wire::amqp::method::confirm::Select { no_wait: false }).await;
    for tag in 1..=3 {
        client.publish_to("jobs", b"work").await;
        assert_eq!(client.method(1).await, basic::Ack { delivery_tag: tag, multiple: false }.into());
    }
    client.ask(1, basic::Qos { prefetch_count: 1, ..Default::default() }).await;
    client.ask(1, basic::Consume { queue: short("jobs"), consumer_tag: short("me"), ..Default::default() }).await;
    client.delivery().await;
    let jobs = until("its consumer", async || {
        let jobs = get(&node, "/api/queues/%2F/jobs").await;
        (jobs["messages_unacknowledged"] == 1).then_some(jobs)
    })
    .await;
    assert_eq!((&jobs["messages"], &jobs["messages_ready"], &jobs["consumers"]), (&3.into(), &2.into(), &1.into()));
    assert_eq!((&jobs["state"], &jobs["node"], &jobs["vhost"]), (&"running".into(), &"flotilla@1".into(), &"/".into()));
    let stats = &jobs["message_stats"];
    assert_eq!((&stats["publish"], &stats["deliver_get"]), (&3.into(), &1.into()));
    assert!(stats["publish_details"]["rate"].is_f64() && stats["deliver_get_details"]["rate"].is_f64(), "{stats}");

    assert_eq!(names(&get(&node, "/api/queues").await), ["jobs", "other"]);
    assert_eq!(names(&get(&node, "/api/queues/%2F").await), ["jobs", "other"]);
    let keda = "/api/queues/%2F?page=1&use_regex=true&pagination=false&name=%5Ejo&page_size=100";
    let page = get(&node, keda).await;
    assert_eq!((names(&page["items"]), &page["page_count"]), (vec!["jobs"], &1.into()));
    let overview = get(&node, "/api/overview").await;
    assert_eq!(overview["queue_totals"], json!({ "messages": 3, "messages_ready": 2, "messages_unacknowledged": 1 }));
    let totals = &overview["object_totals"];
    assert_eq!((&totals["queues"], &totals["connections"], &totals["consumers"]), (&2.into(), &1.into(), &1.into()));
    for page in ["/api/queues/%2F/none", "/api/queues/none", "/api/nodes/none", "/api/connections/none"] {
        let (status, _, value) = raw(&node, &format!("GET {page}"), GUEST, "").await;
        assert_eq!((status, value["error"].as_str()), (404, Some("Object Not Found")), "{page}");
    }
}

#[tokio::test]
async fn connections_are_listed_and_ended() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.open_channel(2).await;
    let listed = until("two channels", async || {
        let listed = get(&node, "/api/connections").await;
        (listed[0]["channels"] == 2).then_some(listed)
    })
    .await;
    let connection = &listed[0];
    assert_eq!((&connection["user"], &connection["vhost"]), (&"guest".into(), &"/".into()));
    let name = connection["name"].as_str().expect("a name").replace(' ', "%20").replace('>', "%3E");
    let page = format!("/api/connections/{name}");
    assert_eq!(get(&node, &page).await["peer_port"], connection["peer_port"]);
    let reasoned = format!("{GUEST}X-Reason: lunch\r\n");
    assert_eq!(raw(&node, &format!("DELETE {page}"), &reasoned, "").await.0, 204);
    assert_eq!(client.closed(320).await, "CONNECTION_FORCED - lunch");
    until("its end", async || (get(&node, "/api/connections").await == json!([])).then_some(())).await;
    assert_eq!(raw(&node, &format!("DELETE {page}"), GUEST, "").await.0, 404);
}

#[tokio::test]
async fn definitions_are_taken_in_and_given_out() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    let exclusive = queue::Declare { queue: short("mine"), exclusive: true, ..Default::default() };
    client.ask(1, exclusive).await;
    let definitions = json!({
        "rabbit_version": "4.1.0",
        "users": [{ "name": "ann", "password_hash": "x" }],
        "permissions": [],
        "vhosts": [{ "name": "/" }],
        "queues": [{ "name": "orders", "vhost": "/", "durable": true, "auto_delete": false, "type": "quorum",
            "arguments": { "x-queue-type": "quorum", "x-message-ttl": 60000 } }],
        "exchanges": [{ "name": "events", "vhost": "/", "type": "topic", "durable": true, "auto_delete": false,
            "internal": false, "arguments": {} }],
        "bindings": [{ "source": "events", "vhost": "/", "destination": "orders", "destination_type": "queue",
            "routing_key": "order.#", "arguments": {} }],
    });
    for again in 0..2 {
        assert_eq!(import(&node, &definitions).await, (204, String::new()), "import {again}");
    }
    let exported = get(&node, "/api/definitions").await;
    assert_eq!(names(&exported["queues"]), ["orders"], "an exclusive queue ends with its connection");
    assert_eq!(exported["queues"][0]["arguments"], definitions["queues"][0]["arguments"]);
    assert_eq!((&exported["exchanges"], &exported["bindings"]), (&definitions["exchanges"], &definitions["bindings"]));
    assert_eq!(get(&node, "/api/definitions/%2F").await, exported);
    assert_eq!(import(&node, &exported).await.0, 204);

    let bindings = get(&node, "/api/queues/%2F/orders/bindings").await;
    let sources: Vec<_> = bindings.as_array().expect("rows").iter().map(|row| row["source"].as_str()).collect();
    assert_eq!(sources, [Some(""), Some("events")]);
    for (what, why) in [
        (json!({ "policies": [{ "name": "ha", "pattern": "", "definition": { "ha-mode": "all" } }] }), "ha-mode"),
        (json!({ "parameters": [{}] }), "no parameters"),
        (json!({ "vhosts": [{ "name": "" }] }), "needs a name"),
        (
            json!({ "queues": [{ "name": "q", "durable": true, "auto_delete": false, "arguments": { "x-new": 1 } }] }),
            "x-new",
        ),
        (json!({ "queues": [{ "name": "orders", "durable": false, "auto_delete": false }] }), "durable"),
        (
            json!({ "bindings": [{ "source": "none", "destination": "orders", "destination_type": "queue", "routing_key": "" }] }),
            "none",
        ),
        (json!({ "queues": 7 }), "queues"),
    ] {
        let (status, reason) = import(&node, &what).await;
        assert!((400..500).contains(&status) && reason.contains(why), "{what}: {status} {reason}");
    }
}

#[tokio::test]
async fn every_page_answers_and_is_measured() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.declare("q", Default::default()).await;
    let pages = [
        "overview",
        "whoami",
        "vhosts",
        "vhosts/{name}",
        "nodes",
        "nodes/{name}",
        "queues",
        "queues/{vhost}",
        "queues/{vhost}/{name}",
        "queues/{vhost}/{name}/bindings",
        "exchanges",
        "exchanges/{vhost}",
        "exchanges/{vhost}/{name}",
        "bindings",
        "bindings/{vhost}",
        "connections",
        "definitions",
        "definitions/{vhost}",
        "health/checks/alarms",
        "health/checks/local-alarms",
        "health/checks/virtual-hosts",
        "health/checks/ready-to-serve-clients",
    ];
    for page in pages {
        let name = match page.split('/').next() {
            Some("queues") => "q",
            Some("exchanges") => "amq.topic",
            Some("vhosts") => "%2F",
            _ => "flotilla@1",
        };
        get(&node, &format!("/api/{}", page.replace("{vhost}", "%2F").replace("{name}", name))).await;
    }
    assert_eq!(get(&node, "/api/exchanges/%2F/amq.default").await["type"], "direct");
    assert_eq!(get(&node, "/api/nodes").await[0]["running"], true);
    let critical = raw(&node, "GET /api/health/checks/node-is-quorum-critical", GUEST, "").await;
    assert_eq!((critical.0, &critical.2["status"]), (503, &"failed".into()), "it is alone");
    assert!(names(&critical.2["queues"]).contains(&"q"), "{critical:?}");
    let measured = node.broker().metrics().encode();
    for page in pages.iter().chain(&["health/checks/node-is-quorum-critical"]) {
        assert!(measured.contains(&format!("protocol=\"admin\",api=\"/api/{page}\"")), "{page} has no label");
    }
}
