//! The trace switch: what happens to a message is logged, by its id and its trace, without its body.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value as Json;
use tracing_subscriber::fmt::MakeWriter;
use wire::amqp::method::{basic, confirm};
use wire::amqp::{Properties, Table, TableBuilder, Value};

use crate::frames::{Frames, short, start};
use crate::node::set_config;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn all(&self) -> Vec<Json> {
        let text = String::from_utf8(self.0.lock().expect("nobody panicked").clone()).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[tokio::test]
async fn what_happens_to_a_message_is_logged_where_that_is_switched_on() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone());
    let filtered = subscriber.with_env_filter("flotilla::trace=info").finish();
    let _this_thread = tracing::subscriber::set_default(filtered);
    let node = start().await;
    let mut client = Frames::channel(&node).await;
    client.ask(1, confirm::Select { no_wait: false }).await;
    for queue in ["traced", "quiet"] {
        client.declare(queue, Table::default()).await;
    }
    set_config(&mut node.client().await, (2, "traced"), &[("flotilla.trace", "1")]).await;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = TableBuilder::default().put("traceparent", &Value::text(&parent)).build().expect("flat");
    let properties = Properties { message_id: Some(short("m1")), headers: Some(headers), ..Default::default() };
    for queue in ["traced", "quiet"] {
        let publish = basic::Publish { routing_key: short(queue), ..Default::default() };
        client.publish(publish, &properties, b"a secret").await;
        client.method(1).await;
        client.send(1, basic::Get { queue: short(queue), no_ack: false }).await;
        let (_, content) = client.content(1).await;
        assert_eq!(content.body, Bytes::from_static(b"a secret"));
    }
    client.send(1, basic::Nack { delivery_tag: 1, multiple: false, requeue: true }).await;
    client.declare("traced", Table::default()).await;
    let seen = lines.all();
    let told: Vec<[&str; 5]> = seen
        .iter()
        .map(|line| ["op", "name", "message_id", "trace_id", "result"].map(|key| line[key].as_str().expect(key)))
        .collect();
    assert_eq!(
        told,
        [
            ["publish", "traced", "m1", TRACE, "ok"],
            ["deliver", "traced", "m1", TRACE, "delivered"],
            ["settle", "traced", "m1", TRACE, "failed"]
        ]
    );
    assert!(seen.iter().all(|line| line["latency_ms"].is_i64()), "{seen:?}");
    assert!(!lines.0.lock().expect("nobody panicked").windows(6).any(|word| word == b"secret"));
}
