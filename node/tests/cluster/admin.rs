//! The HTTP port: it answers what its document says, measures itself, and says in words what is wrong.
use std::net::SocketAddr;
use std::time::Duration;

use model::PartitionIndex;
use model::assign::Spot;
use model::coordinator::{Command, Commit, Offset, Reply, Who};
use node::broker::{Broker, Denied};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, ready};

async fn get(address: SocketAddr, page: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_measured_by_page_and_strange_ones_together() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let admin = node.addresses().admin;
    for _ in 0..2 {
        assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    }
    for page in ["/nowhere", "/metrics/../secret"] {
        let answer = get(admin, page).await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("there are /metrics /livez"), "{answer}");
    }
    let metrics = get(admin, "/metrics").await;
    for (page, count) in [("/readyz", 2), ("other", 2)] {
        let line = format!("flotilla_request_seconds_count{{protocol=\"admin\",api=\"{page}\"}} {count}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    node.stop().await;
}

/// Sends a request and gives status, media type and body.
async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (head[9..12].parse().unwrap(), field("content-type:"), body.to_owned())
}

async fn fetch(address: SocketAddr, page: &str) -> (u16, String, String) {
    ask(address, &format!("GET {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
}

async fn change(address: SocketAddr, page: &str, body: &str) -> (u16, String, String) {
    send(address, "POST", page, body).await
}

async fn send(address: SocketAddr, method: &str, page: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    let head = format!("{method} {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json");
    ask(address, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}")).await
}

/// Whether a value is what a schema of the document says; else where it is not.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{at}: {why}: {value} is not {schema}"));
    if schema.as_object().is_some_and(|anything| anything.is_empty()) {
        return Ok(());
    }
    if let Some(name) = schema["$ref"].as_str() {
        return check(document, document.pointer(&name[1..]).ok_or("no such schema")?, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = choices.iter().any(|choice| check(document, choice, value, at).is_ok());
        return if fits { Ok(()) } else { wrong("fits none") };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    let right = types == kind || types.as_array().is_some_and(|types| types.iter().any(|one| one == kind));
    if !right {
        return wrong("another type");
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}/{place}"))?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap_or_default()) {
            return wrong(&format!("{name} is missing"));
        }
    }
    for (name, field) in fields {
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => check(document, schema, field, &format!("{at}/{name}"))?,
            None => return wrong(&format!("{name} is not described")),
        }
    }
    Ok(())
}

/// Makes a consumer group that has read one partition of `t`.
async fn commit(broker: &Broker) {
    let spot = Spot { topic: broker.image().topic("t").unwrap().id, partition: PartitionIndex(0) };
    let metadata = String::new();
    let offset =
        Offset { offset: 0, leader_epoch: -1, metadata, retention_ms: None, committed_ms: 0, name: "t".to_owned() };
    let who = Who { group: "g".to_owned(), generation: -1, ..Who::default() };
    broker.coordinator("g").await.unwrap();
    let commit = || Command::Commit(Commit { who: who.clone(), offsets: vec![(spot, offset.clone())] });
    let mut committed = broker.group_command("g", commit()).await;
    // A coordinator that has just been made learns what was committed first, as it tells every client.
    while committed == Err(Denied::Loading) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        committed = broker.group_command("g", commit()).await;
    }
    assert_eq!(committed, Ok(Reply::Done(Ok(()))));
}

/// Makes a queue with an argument, an exchange and a binding.
async fn declare(admin: SocketAddr) {
    for (page, body) in [
        ("/v1/queues", "{\"name\":\"q\",\"arguments\":{\"x-message-ttl\":5}}"),
        ("/v1/exchanges", "{\"name\":\"x\",\"type\":\"topic\",\"arguments\":{\"alternate-exchange\":\"y\"}}"),
        ("/v1/bindings", "{\"source\":\"x\",\"destination\":\"q\",\"key\":\"a.#\"}"),
    ] {
        let (status, _, answer) = change(admin, page, body).await;
        assert_eq!(status, 200, "{page}: {answer}");
    }
    let described = fetch(admin, "/v1/queues").await.2;
    assert!(described.contains("\"x-message-ttl\":5") && described.contains("\"topic\":\"q\""), "{described}");
    let standing =
        async || serde_json::from_str::<Value>(&fetch(admin, "/v1/queues").await.2).unwrap()[0]["standing"].clone();
    while standing().await.is_null() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(standing().await["counts"]["ready"], 0);
    let bindings = fetch(admin, "/v1/bindings").await.2;
    assert!(bindings.contains("\"key\":\"a.#\"") && bindings.contains("\"destination_type\":\"queue\""), "{bindings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_the_document_says() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    crate::world::topic(&[node.broker()], "t", 2, 1).await;
    commit(node.broker()).await;
    let admin = node.addresses().admin;
    declare(admin).await;
    let document: Value = serde_json::from_str(&fetch(admin, "/v1/openapi.json").await.2).unwrap();
    assert_eq!(change(admin, "/v1/topics/t/partitions/0/replicas", "{\"nodes\":[1]}").await.0, 200);
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled =
            path.replace("{topic}", "t").replace("{partition}", "1").replace("{node}", "1").replace("{id}", "1");
        let filled = filled.replace("{verb}", "pause").replace("{group}", "g");
        let filled = filled
            .replace("{queue}", if path.ends_with("{queue}") { "none" } else { "q" })
            .replace("{exchange}", "none")
            .replace("{vhost}", "none");
        for (method, described) in methods.as_object().unwrap() {
            let (status, media, body) = match method.as_str() {
                "get" => fetch(admin, &filled).await,
                "delete" => send(admin, "DELETE", &filled, "{}").await,
                // A cluster of one has nobody to hand anything to, so that some are refused: in the form described.
                _ if path.ends_with("/seek") => change(admin, &filled, "{\"to\":\"start\"}").await,
                _ if path.ends_with("/leader") => change(admin, &filled, "{\"node\":1}").await,
                _ if path == "/v1/configs" => change(admin, &filled, "{\"set\":{\"num.partitions\":\"5\"}}").await,
                _ if path.ends_with("/replicas") => change(admin, &filled, "{\"nodes\":[1]}").await,
                _ => change(admin, &filled, "{}").await,
            };
            assert!(status < 500, "{method} {path}: {status} {body}");
            let answer = &described["responses"];
            let answer = answer.get(status.to_string()).unwrap_or(&answer["default"]);
            let (media, _) = media.split_once(';').unwrap_or((&media, ""));
            let schema = &answer["content"][media]["schema"];
            assert!(schema.is_object(), "{method} {path}: {status} {media} is not described");
            if media.ends_with("json") {
                let value: Value = serde_json::from_str(&body).unwrap();
                check(&document, schema, &value, path).unwrap();
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 50, "a page more or less: say so here");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_problem_in_words() {
    let world = World::new(1, 1);
    let node = world.start(1).await;
    ready(node.broker()).await;
    let admin = node.addresses().admin;
    let plain =
        |page: &str| format!("POST {page} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let answers = [
        (404, fetch(admin, "/v1/operations/7").await),
        (400, fetch(admin, "/v1/operations/many").await),
        (404, fetch(admin, "/nowhere").await),
        (405, ask(admin, &plain("/v1/nodes")).await),
        (415, ask(admin, &plain("/v1/nodes/1/drain")).await),
        (422, change(admin, "/v1/nodes/1/drain", "{\"dry\":true}").await),
        (400, change(admin, "/v1/nodes/1/drain", "{").await),
        (404, change(admin, "/v1/nodes/9/drain", "{}").await),
        (404, send(admin, "DELETE", "/v1/nodes/9", "{}").await),
        (409, send(admin, "DELETE", "/v1/nodes/1", "{}").await),
        (409, change(admin, "/v1/nodes/1/drain", "{}").await),
        (409, change(admin, "/v1/nodes/1/undrain", "{}").await),
        (404, change(admin, "/v1/groups/none/rebalance", "{}").await),
        (404, send(admin, "DELETE", "/v1/queues/none", "{}").await),
        (404, fetch(admin, "/v1/queues/none/messages").await),
        (400, fetch(admin, "/v1/queues/none/messages?limit=many").await),
        (404, change(admin, "/v1/queues/none/purge", "{}").await),
        (422, change(admin, "/v1/queues/none/seek", "{\"to\":\"there\"}").await),
        (404, change(admin, "/v1/queues/none/redrive", "{\"limit\":1}").await),
        (403, send(admin, "DELETE", "/v1/exchanges/amq.topic", "{}").await),
        (404, send(admin, "DELETE", "/v1/exchanges/none", "{\"vhost\":\"/\"}").await),
        (404, change(admin, "/v1/queues", "{\"vhost\":\"other\",\"name\":\"q\"}").await),
        (422, change(admin, "/v1/queues", "{\"name\":\"q\",\"arguments\":{\"x-message-ttl\":\"1\"}}").await),
        (409, change(admin, "/v1/exchanges", "{\"name\":\"amq.topic\",\"type\":\"direct\"}").await),
        (404, change(admin, "/v1/bindings", "{\"source\":\"amq.topic\",\"destination\":\"none\"}").await),
        (404, change(admin, "/v1/topics/none/partitions/0/leader", "{}").await),
        (404, change(admin, "/v1/configs", "{\"node\":9,\"set\":{\"num.partitions\":\"5\"}}").await),
        (422, change(admin, "/v1/configs", "{\"set\":{\"num.partitions\":\"many\"}}").await),
        (422, change(admin, "/v1/features", "{\"set\":{\"group.version\":7}}").await),
        (
            422,
            change(admin, "/v1/configs", "{\"set\":{\"num.partitions\":\"5\"},\"unset\":[\"num.partitions\"]}").await,
        ),
        (422, change(admin, "/v1/configs", "{\"unset\":[\"nonsense\"]}").await),
    ];
    for (expected, (status, media, body)) in answers {
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!((status, media.as_str()), (expected, "application/problem+json"), "{body}");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|words| !words.is_empty()), "{body}");
    }
    let drain: Value = serde_json::from_str(&change(admin, "/v1/nodes/1/drain", "{}").await.2).unwrap();
    assert_eq!(drain["causes"][0], "__cluster_metadata-0: 0 replica(s) in sync would be left, 1 are needed");
    node.stop().await;
}
