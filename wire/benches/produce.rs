//! What a produce request costs on its way through `wire`, part by part: `cargo bench -p wire`.
#![allow(clippy::disallowed_methods, reason = "measures real time")]

use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};
use wire::compression::Compression;
use wire::kafka::batch::{BatchBuilder, split_batches};
use wire::kafka::messages::produce::{PartitionProduceData, TopicProduceData, TopicProduceResponse};
use wire::kafka::messages::{self, ProduceRequest, ProduceResponse};
use wire::kafka::{Str, frame};

const VERSION: i16 = 12;
/// Records of a batch, and bytes of each: one small record, one of 1 KiB, a batch of 16 KiB.
const FORMS: [(usize, usize); 3] = [(1, 100), (1, 1 << 10), (16, 1 << 10)];

fn main() {
    divan::main();
}

fn batch((records, bytes): (usize, usize)) -> Bytes {
    let value: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    let mut batch = BatchBuilder::new(Compression::None);
    (0..records).for_each(|_| batch.push(1, None, Some(&value)));
    batch.build().expect("a batch")
}

fn request(form: (usize, usize)) -> Bytes {
    let data = PartitionProduceData { records: Some(batch(form)), ..Default::default() };
    let topic_data = vec![TopicProduceData {
        name: Str::from("topic".to_owned()),
        partition_data: vec![data],
        ..Default::default()
    }];
    let request = ProduceRequest { acks: -1, topic_data, ..Default::default() };
    messages::encode_request(VERSION, 1, Some("bench"), &request).expect("a request")
}

#[divan::bench(args = FORMS)]
fn build_batch(bencher: Bencher, form: (usize, usize)) {
    bencher.counter(BytesCount::new(form.0 * form.1)).bench(|| batch(form));
}

#[divan::bench(args = FORMS)]
fn check_batch(bencher: Bencher, form: (usize, usize)) {
    let bytes = batch(form);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let batches = split_batches(bytes.clone()).expect("batches");
        batches.iter().for_each(|batch| batch.check_crc().expect("whole"));
        batches
    });
}

#[divan::bench(args = FORMS)]
fn patch_header(bencher: Bencher, form: (usize, usize)) {
    let batch = split_batches(batch(form)).expect("batches").remove(0);
    bencher.bench(|| batch.patch_header(divan::black_box(7), 3));
}

#[divan::bench(args = FORMS)]
fn decode_request(bencher: Bencher, form: (usize, usize)) {
    let bytes = request(form);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        let mut buffer = bytes::BytesMut::from(&bytes[..]);
        let frame = frame::next_request(&mut buffer, usize::MAX).expect("a frame").expect("whole");
        let request = frame::parse_request(frame).expect("a header");
        messages::decode_request::<ProduceRequest>(VERSION, request.body).expect("a body")
    });
}

#[divan::bench]
fn encode_response(bencher: Bencher) {
    let topic = TopicProduceResponse {
        name: Str::from("topic".to_owned()),
        partition_responses: vec![Default::default()],
        ..Default::default()
    };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
    bencher.bench(|| messages::encode_response(1, VERSION, &response).expect("a response"));
}
