//! Policies: what they set counts for queues that live, and is gone with them.

use serde_json::json;
use wire::amqp::Table;
use wire::amqp::method::basic;

use crate::frames::{Frames, short, start};
use crate::management::{GUEST, get, import, names, raw};
use crate::node::{Node, until};

/// Waits until the queue has so many messages that are ready.
async fn has(node: &Node, queue: &str, count: u64) {
    let page = format!("/api/queues/%2F/{queue}");
    until("so many are ready", async || (get(node, &page).await["messages_ready"] == count).then_some(())).await;
}

async fn put(node: &Node, policy: &str, body: serde_json::Value) -> u16 {
    raw(node, &format!("PUT /api/policies/%2F/{policy}"), GUEST, &body.to_string()).await.0
}

#[tokio::test]
async fn a_policy_changes_queues_that_live_and_what_they_bury() {
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    for queue in ["jobs", "jobs.dead", "other"] {
        client.declare(queue, Table::default()).await;
    }
    client.ask(1, basic::Qos { prefetch_count: 1, ..Default::default() }).await;
    let consume = basic::Consume { queue: short("jobs"), consumer_tag: short("me"), ..Default::default() };
    client.ask(1, consume).await;
    for queue in ["jobs", "other"] {
        for body in [b"1", b"2", b"3", b"4"] {
            client.publish_to(queue, body).await;
        }
    }
    let (tag, redelivered, content) = client.delivery().await;
    assert_eq!((&*content.body, redelivered), (&b"1"[..], false));
    has(&node, "other", 4).await;
    has(&node, "jobs", 3).await;

    let dead = json!({ "dead-letter-exchange": "", "dead-letter-routing-key": "jobs.dead" });
    let mut short_one = dead.clone();
    short_one["max-length"] = 2.into();
    assert_eq!(put(&node, "short", json!({ "pattern": "^jobs$", "definition": short_one, "priority": 2 })).await, 201);
    assert_eq!(put(&node, "rest", json!({ "pattern": "o", "definition": { "max-length": 3 } })).await, 201);
    has(&node, "jobs", 2).await;
    has(&node, "other", 3).await;
    has(&node, "jobs.dead", 1).await;
    client.send(1, basic::Reject { delivery_tag: tag, requeue: false }).await;
    has(&node, "jobs.dead", 2).await;
    // Its consumer stayed: "2" was one too many, "3" comes.
    let (tag, redelivered, content) = client.delivery().await;
    assert_eq!((&*content.body, redelivered), (&b"3"[..], false));
    let row = get(&node, "/api/queues/%2F/jobs").await;
    assert_eq!((&row["policy"], &row["effective_policy_definition"]), (&json!("short"), &short_one));
    assert_eq!(row["arguments"], json!({}), "what it was declared with stays");

    assert_eq!(put(&node, "short", json!({ "pattern": "^jobs$", "definition": dead, "priority": 2 })).await, 204);
    // Its leader hears of it within moments.
    while get(&node, "/api/queues/%2F/jobs").await["messages_ready"].as_u64() < Some(4) {
        client.publish_to("jobs", b"more").await;
    }
    client.send(1, basic::Ack { delivery_tag: tag, multiple: false }).await;
    assert_eq!(raw(&node, "DELETE /api/policies/%2F/short", GUEST, "").await.0, 204);
    let of_jobs = async || get(&node, "/api/queues/%2F/jobs").await["policy"].as_str().map(str::to_owned);
    assert_eq!(of_jobs().await.as_deref(), Some("rest"), "of lower priority");
    assert!(!client.delivery().await.1);
    has(&node, "jobs", 3).await;
}

#[tokio::test]
async fn policies_are_refused_listed_and_go_through_definitions() {
    let node = start().await;
    let refused = [
        (json!({ "pattern": "(", "definition": {} }), "is no regular expression"),
        (json!({ "pattern": "q", "definition": { "max-lenght": 1 } }), "'max-lenght': is not known"),
        (json!({ "pattern": "q", "definition": { "max-priority": 1 } }), "cannot be set by a policy"),
        (json!({ "pattern": "q", "definition": {}, "apply-to": "exchanges" }), "cannot apply to 'exchanges'"),
        (json!({ "pattern": "q" }), "missing field `definition`"),
    ];
    for (body, why) in refused {
        let (status, _, answer) = raw(&node, "PUT /api/policies/%2F/p", GUEST, &body.to_string()).await;
        assert!(status == 400 && answer["reason"].as_str().is_some_and(|text| text.contains(why)), "{answer}");
    }
    assert_eq!(raw(&node, "DELETE /api/policies/%2F/p", GUEST, "").await.0, 404);
    assert_eq!(raw(&node, "GET /api/policies/nowhere", GUEST, "").await.0, 404);
    let refused =
        json!({ "vhosts": [{ "name": "new" }], "policies": [{ "name": "p", "pattern": "(", "definition": {} }] });
    assert_eq!(import(&node, &refused).await.0, 400);
    assert_eq!(names(&get(&node, "/api/vhosts").await), ["/"], "it is refused before anything is done");
    let policy = json!({
        "vhost": "/", "name": "p", "pattern": "^q", "apply-to": "quorum_queues", "priority": -1,
        "definition": { "message-ttl": 5_000 },
    });
    let queue = json!({ "name": "q", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {} });
    let classic = json!({
        "name": "q.classic", "vhost": "/", "durable": true, "auto_delete": false,
        "arguments": { "x-queue-type": "classic" },
    });
    let definitions = json!({ "policies": [policy], "queues": [queue, classic] });
    assert_eq!(import(&node, &definitions).await, (204, String::new()));
    assert_eq!(get(&node, "/api/policies").await, json!([policy]));
    assert_eq!(get(&node, "/api/policies/%2F/p").await, policy);
    assert_eq!(get(&node, "/api/definitions").await["policies"], json!([policy]));
    let queues = get(&node, "/api/queues").await;
    let of: Vec<&serde_json::Value> = queues.as_array().expect("a list").iter().map(|queue| &queue["policy"]).collect();
    assert_eq!((names(&queues), of), (vec!["q", "q.classic"], vec![&json!("p"), &json!(null)]));
}
