//! Messages through records and back, in both directions, and what a death leaves in the headers.

use super::*;

const NOW_MS: i64 = 1_700_000_000_123;

fn short(text: &str) -> ShortStr {
    ShortStr::shortened(text)
}

fn with_headers(headers: TableBuilder) -> Content {
    let headers = Some(headers.build().expect("a small table"));
    let properties =
        Properties { headers, delivery_mode: Some(2), expiration: Some(short("500")), ..Default::default() };
    let body = Bytes::from_static(b"hello");
    Content { exchange: short("orders"), routing_key: short("eu.new"), properties: properties.to_raw(), body }
}

fn record_of(batch: &Bytes) -> Record {
    let batch = Batch::take(&mut batch.clone()).expect("a batch");
    batch.records(1 << 20).expect("uncompressed").next().expect("one record").expect("well formed")
}

#[test]
fn a_message_comes_back_as_it_was() {
    let headers = TableBuilder::default()
        .put("n", &Value::I32(-7))
        .put("n", &Value::text("twice"))
        .put("amqp.exchange", &Value::text("a liar"))
        .put("list", &Value::Array(Array::new(&[Value::Bool(true)]).expect("flat")))
        .put("nothing", &Value::Void);
    let message = with_headers(headers);
    let batch = message.to_batch(NOW_MS).expect("small");
    assert_eq!(Content::from_batch(&batch, 0, "q"), Some(message));
    assert_eq!(Content::from_batch(&batch, 1, "q"), None);
}

#[test]
fn a_kafka_client_reads_the_headers() {
    let headers = TableBuilder::default().put("n", &Value::I32(-7)).put("amqp.exchange", &Value::text("a liar"));
    let record = record_of(&with_headers(headers).to_batch(NOW_MS).expect("small"));
    let named: Vec<_> = record.headers.filter(|header| header.key != PROPERTIES).collect();
    let read: Vec<_> = named.iter().map(|header| (&*header.key, header.value.as_deref().unwrap_or_default())).collect();
    assert_eq!(read, [(EXCHANGE, &b"orders"[..]), (ROUTING_KEY, b"eu.new"), (b"n", b"-7")]);
    assert_eq!((record.key, record.value.as_deref(), record.timestamp_ms), (None, Some(&b"hello"[..]), NOW_MS));
}

#[test]
fn a_record_of_a_kafka_client_is_a_message() {
    let mut batch = BatchBuilder::new(Compression::Zstd);
    batch.push(NOW_MS, None, Some(b"first"));
    batch.push_with_headers(
        NOW_MS,
        Some(b"key"),
        None,
        &[(b"text", Some(b"t")), (b"raw", Some(b"\xff")), (b"no", None)],
    );
    let message = Content::from_batch(&batch.build().expect("small"), 1, "the-queue").expect("the second record");
    assert_eq!((&*message.exchange, &*message.routing_key, &*message.body), (&b""[..], &b"the-queue"[..], &b""[..]));
    let properties = message.properties.read();
    assert_eq!(properties.timestamp, Some(1_700_000_000));
    let headers: Vec<_> = properties.headers.expect("headers").iter().collect();
    let expected = [
        (short("text"), Value::text("t")),
        (short("raw"), Value::Bytes(Bytes::from_static(b"\xff"))),
        (short("no"), Value::Void),
        (short("kafka.key"), Value::text("key")),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn deaths_are_counted_by_queue_and_reason_with_the_newest_first() {
    let alive = with_headers(TableBuilder::default().put("mine", &Value::I32(1)));
    let death = |queue, reason| Death { queue, reason, at_ms: NOW_MS };
    let once = alive.dead(&death("work", Reason::Rejected), "dlx", Some("dead"));
    assert_eq!(
        (&*once.exchange, &*once.routing_key, once.properties.read().expiration),
        (&b"dlx"[..], &b"dead"[..], None)
    );
    let twice = once.dead(&death("retry", Reason::Expired), "", Some("work"));
    let thrice = twice.dead(&death("work", Reason::Rejected), "dlx", None);
    let headers = thrice.properties.read().headers.expect("headers");
    assert_eq!(headers.get("mine"), Some(Value::I32(1)));
    assert_eq!(headers.get("x-first-death-queue"), Some(Value::text("work")));
    assert_eq!(headers.get("x-first-death-exchange"), Some(Value::text("orders")));
    assert_eq!(headers.get("x-last-death-exchange"), Some(Value::text("")));
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no x-death in {headers:?}") };
    let deaths: Vec<_> = deaths
        .iter()
        .map(|death| match death {
            Value::Table(death) => (death.get("queue"), death.get("reason"), death.get("count")),
            other => panic!("{other:?} is no death"),
        })
        .collect();
    let expected =
        |queue, reason, count| (Some(Value::text(queue)), Some(Value::text(reason)), Some(Value::I64(count)));
    assert_eq!(deaths, [expected("work", "rejected", 2), expected("retry", "expired", 1)]);
    assert_eq!(&*thrice.routing_key, b"work");
}

#[test]
fn a_dead_letter_goes_back_as_it_was_before_its_newest_death() {
    let alive = with_headers(TableBuilder::default());
    let death = |queue, reason| Death { queue, reason, at_ms: NOW_MS };
    let (same, nowhere) = alive.clone().revived();
    assert_eq!((same, nowhere), (alive.clone(), None), "it is no dead letter");
    let once = alive.dead(&death("work", Reason::Rejected), "dlx", Some("dead"));
    let (revived, queue) = once.dead(&death("retry", Reason::Expired), "", Some("work")).revived();
    assert_eq!((&*revived.exchange, &*revived.routing_key), (&b"dlx"[..], &b"dead"[..]));
    assert_eq!(queue.as_deref(), Some("retry"));
    let (revived, queue) = once.revived();
    assert_eq!((revived.exchange, revived.routing_key, revived.body), (alive.exchange, alive.routing_key, alive.body));
    assert_eq!(queue.as_deref(), Some("work"));
    assert!(revived.properties.read().headers.is_some_and(|headers| headers.get("x-death").is_some()), "its history");
}

#[test]
fn the_first_death_keeps_the_expiration_that_it_takes_off() {
    let dead = with_headers(TableBuilder::default()).dead(
        &Death { queue: "q", reason: Reason::Expired, at_ms: NOW_MS },
        "dlx",
        None,
    );
    let headers = dead.properties.read().headers.expect("headers");
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no x-death") };
    let Some(Value::Table(death)) = deaths.iter().next() else { panic!("no death") };
    assert_eq!(death.get("original-expiration"), Some(Value::text("500")));
    assert_eq!(death.get("time"), Some(Value::Timestamp(1_700_000_000)));
    assert_eq!((&*dead.exchange, &*dead.routing_key), (&b"dlx"[..], &b"eu.new"[..]));
}

#[test]
fn carbon_copies_are_routing_keys() {
    let more = |keys: &[&str]| {
        Value::Array(Array::new(&keys.iter().map(|key| Value::text(key)).collect::<Vec<_>>()).expect("flat"))
    };
    let message = with_headers(TableBuilder::default().put("CC", &more(&["a"])).put("BCC", &more(&["b", "c"])));
    assert_eq!(message.routing_keys(), ["eu.new", "a", "b", "c"].map(short));
}
