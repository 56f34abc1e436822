//! Bytes from hell: each connection is closed or answered, the node lives, and its memory stays where it was.
//! A process of its own, one test at a time, since it is this process whose memory is measured.
#[path = "../kafka/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the protocol")]
mod client;
#[path = "../kafka/node.rs"]
#[allow(dead_code, reason = "shared with the tests of the protocol")]
mod node;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use wire::kafka::ErrorCode;
use wire::kafka::messages::{ApiVersionsRequest, MetadataRequest};
use wire::kafka::versions;

use crate::client::Client;
use crate::node::{Node, batch, produce, produced, start, start_with, until};

/// Growth of the node's memory that hostile bytes may cause (the bound).
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// One test at a time.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Resident memory of this process, which is the node's too.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("resident memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A frame with a true length in front.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(body.len()).expect("short"));
    frame.put_slice(body);
    frame.to_vec()
}

/// Header v1 with key, version, correlation id and no client id.
fn header(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat()
}

async fn is_alive(node: &Node) {
    let mut client = node.client().await;
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
}

/// Sends bytes, then nothing; the node must close.
async fn must_close(node: &Node, what: &str, bytes: &[u8]) {
    let mut client = node.client().await;
    // The node may close while the bytes are still on their way.
    let _refused_is_fine = client.raw(bytes).await;
    assert!(client.is_closed().await, "{what}: an answer instead of the end");
}

#[tokio::test]
async fn the_measured_killers() {
    let _turn = turn().await;
    let node = start().await;
    let before = resident_kib();
    // reference/kafka.md section 3.1: a Metadata request whose array length makes a codec reserve hundreds of GB.
    let v1 = [header(3, 1), 0x7fff_ffffi32.to_be_bytes().to_vec()].concat();
    let v9 = [header(3, 9), vec![0, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    must_close(&node, "Metadata v1", &framed(&v1)).await;
    must_close(&node, "Metadata v9", &framed(&v9)).await;
    for api in versions::APIS {
        for version in api.min..=api.max {
            let tags: &[u8] = if api.request_header_version(version) >= 2 { &[0] } else { &[] };
            for fill in [0x7f, 0xff, 0x80] {
                let body = [&header(api.key as i16, version)[..], tags, &[fill; 40]].concat();
                // A few of these mean something; what matters is that there is an answer or the end.
                let mut client = node.client().await;
                client.raw(&framed(&body)).await.unwrap();
                drop(client.frame().await);
            }
        }
    }
    is_alive(&node).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grew by {grown} KiB");
}

#[tokio::test]
async fn a_batch_that_lies_about_its_records_is_refused() {
    let _turn = turn().await;
    let node = start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let mut lie = BytesMut::from(&batch(&["a"])[..]);
    lie[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    lie[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    let crc = crc32c::crc32c(&lie[21..]);
    lie[17..21].copy_from_slice(&crc.to_be_bytes());
    let answer = client.call(9, &produce("t", 0, lie.freeze())).await;
    assert_eq!(ErrorCode::from_i16(produced(&answer).error_code), Some(ErrorCode::InvalidRecord));
}

#[tokio::test]
async fn lengths_that_cannot_be() {
    let _turn = turn().await;
    let node = start().await;
    let before = resident_kib();
    for length in [i32::MAX, i32::MIN, -1, 101 << 20] {
        let bytes = [&length.to_be_bytes()[..], &header(0, 9)].concat();
        must_close(&node, &format!("length {length}"), &bytes).await;
    }
    // A small API may not have a large frame, and a key nobody knows has none at all.
    must_close(&node, "a large Metadata", &[&(50i32 << 20).to_be_bytes()[..], &header(3, 9)].concat()).await;
    must_close(&node, "a large nothing", &[&(50i32 << 20).to_be_bytes()[..], &header(999, 9)].concat()).await;
    must_close(&node, "an empty frame", &[0, 0, 0, 0, 0, 0]).await;
    must_close(&node, "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    must_close(&node, "TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]).await;
    is_alive(&node).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grew by {grown} KiB");
}

#[tokio::test]
async fn megabytes_of_garbage_that_do_come() {
    let _turn = turn().await;
    let node = start().await;
    let garbage = framed(&[header(0, 9), vec![0xa5; 30 << 20]].concat());
    let before = resident_kib();
    let senders = (0..6).map(|_| must_close(&node, "garbage", &garbage));
    let mut most = 0;
    let watch = async {
        loop {
            most = most.max(resident_kib());
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = futures::future::join_all(senders) => {}
        () = watch => {}
    }
    let grown = most.saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grew by {grown} KiB");
    is_alive(&node).await;
}

#[tokio::test]
async fn promised_bytes_that_never_come_cost_nothing() {
    let _turn = turn().await;
    let node = start().await;
    node.topic("t", 1).await;
    let before = resident_kib();
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let mut client = node.client().await;
        client.raw(&[&(30i32 << 20).to_be_bytes()[..], &header(0, 9)].concat()).await.unwrap();
        waiting.push(client);
    }
    sleep(Duration::from_millis(300)).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grew by {grown} KiB");
    let mut client = node.client().await;
    let answer = client.call(9, &produce("t", 0, batch(&["small requests do not wait behind them"]))).await;
    assert_eq!(produced(&answer).error_code, 0);
    drop(waiting);
}

#[tokio::test]
async fn random_frames() {
    let _turn = turn().await;
    let node = start().await;
    let before = resident_kib();
    // A fixed sequence (xorshift), so that a failure is the same failure again.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let api = versions::APIS[usize::try_from(next()).unwrap_or(0) % versions::APIS.len()];
        let version = i16::try_from(next() % 16).expect("small");
        let length = usize::try_from(next() % 200).expect("small");
        let noise: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        let mut client = node.client().await;
        let body = if round % 3 == 0 { noise } else { [header(api.key as i16, version), noise].concat() };
        client.raw(&framed(&body)).await.unwrap();
        // Either an answer or the end, in time; what it says is tested elsewhere.
        let mut second = node.client().await;
        drop(client);
        second.call(0, &ApiVersionsRequest::default()).await;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grew by {grown} KiB");
}

#[tokio::test]
async fn half_a_frame_and_gone() {
    let _turn = turn().await;
    let node = start().await;
    for cut in [0, 1, 3, 4, 5, 6, 10, 20] {
        let whole = framed(&[header(3, 1), 0i32.to_be_bytes().to_vec(), vec![0; 16]].concat());
        let mut client = node.client().await;
        client.raw(&whole[..cut]).await.unwrap();
    }
    is_alive(&node).await;
}

#[tokio::test]
async fn an_old_produce_is_refused_in_its_own_words() {
    let _turn = turn().await;
    let node = start().await;
    let mut client = node.client().await;
    let body = [&header(0, 2)[..], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    client.raw(&framed(&body)).await.unwrap();
    assert_eq!(&client.frame().await.expect("an answer")[..4], 7i32.to_be_bytes());
    must_close(&node, "an unknown version", &framed(&[header(1, 3), vec![0; 40]].concat())).await;
}

#[tokio::test]
async fn a_thousand_reconnects() {
    let _turn = turn().await;
    let node = start().await;
    let connect = || async {
        let mut client = node.client().await;
        client.call(0, &ApiVersionsRequest::default()).await;
    };
    for _ in 0..100 {
        connect().await;
    }
    let before = resident_kib();
    for _ in 0..1000 {
        connect().await;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "grew by {grown} KiB");
}

#[tokio::test]
async fn connections_over_the_bound_are_closed_at_once() {
    let _turn = turn().await;
    let node = start_with(|config| config.limits.connections_max = 5).await;
    let mut first: Vec<Client> = Vec::new();
    for _ in 0..5 {
        let mut client = node.client().await;
        client.call(0, &ApiVersionsRequest::default()).await;
        first.push(client);
    }
    assert!(node.client().await.is_closed().await);
    drop(first.pop());
    until("a place for another", || async {
        let mut client = node.client().await;
        client.raw(&framed(&header(18, 0))).await.ok()?;
        client.frame().await.map(drop)
    })
    .await;
    is_alive(&node).await;
    first[0].call(9, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() }).await;
}
