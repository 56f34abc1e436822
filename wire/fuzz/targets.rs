//! What each fuzz target does with its bytes. Included by the targets and by `tests/seeds.rs`, so both run the same.
//! Invariant: no input panics; what decodes encodes, and decodes again to the same.

use bytes::{Bytes, BytesMut};
use wire::amqp;
use wire::compression::Compression;
use wire::kafka::messages::{AnyRequest, AnyResponse};
use wire::kafka::{ApiKey, batch, frame, produce_legacy};

/// Cap of every decompression here.
pub const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// Bytes as a connection receives them: frames, headers, bodies.
pub fn request(bytes: &[u8]) {
    let mut buf = BytesMut::from(bytes);
    while let Ok(Some(frame)) = frame::next_request(&mut buf, frame::MAX_FRAME_BYTES) {
        let _ = produce_legacy::refuse(frame.clone());
        let Ok(request) = frame::parse_request(frame) else { continue };
        let Ok(body) = AnyRequest::decode(request.api, request.version, request.body) else { continue };
        let written = body.encode(request.version, 1, None).expect("what decoded encodes");
        let mut buf = BytesMut::from(&written[..]);
        let frame = frame::next_request(&mut buf, frame::MAX_FRAME_BYTES).unwrap().expect("a whole frame");
        let again = frame::parse_request(frame).expect("our own header");
        let again = AnyRequest::decode(again.api, again.version, again.body).expect("our own body");
        assert_eq!(again, body);
    }
}

/// API key, version, response frame.
pub fn response(bytes: &[u8]) {
    let [key, version, frame @ ..] = bytes else { return };
    let (Some(api), version) = (ApiKey::from_i16(i16::from(*key)), i16::from(*version)) else { return };
    if !api.api().serves(version) {
        return;
    }
    if let Ok((id, body)) = AnyResponse::decode(api, version, Bytes::copy_from_slice(frame)) {
        let written = body.encode(version, id).expect("what decoded encodes");
        assert_eq!(AnyResponse::decode(api, version, written.slice(4..)).expect("our own bytes"), (id, body));
    }
}

/// The records field of a request or response.
pub fn batches(bytes: &[u8]) {
    let field = Bytes::copy_from_slice(bytes);
    let _ = batch::split_batches(field.clone());
    for batch in batch::read_batches(field.clone()).flatten() {
        read_records(&batch);
    }
    // Past the CRC, which a fuzzer cannot guess.
    if let Ok(batch) = batch::Batch::take(&mut field.clone()) {
        assert_eq!(batch.patch_header(batch.header().base_offset, batch.header().leader_epoch)[..], bytes[..61]);
        read_records(&batch);
    }
}

fn read_records(batch: &batch::Batch) {
    let Ok(records) = batch.records(DECOMPRESSED_BYTES_MAX) else { return };
    for record in records.flatten() {
        assert_eq!(record.headers.len(), record.headers.count());
    }
}

/// Codec, compressed bytes.
pub fn decompress(bytes: &[u8]) {
    let [codec, packed @ ..] = bytes else { return };
    let Some(codec) = Compression::from_attributes(i16::from(*codec)) else { return };
    if let Ok(plain) = codec.decompress(packed, DECOMPRESSED_BYTES_MAX) {
        assert!(plain.len() <= DECOMPRESSED_BYTES_MAX);
        let again = codec.compress(&plain).expect("compressible");
        assert_eq!(codec.decompress(&again, plain.len()).expect("our own bytes"), plain);
    }
}

/// Bytes as an AMQP connection receives them: frames, methods, content headers, tables.
pub fn amqp(bytes: &[u8]) {
    let mut buf = BytesMut::from(bytes);
    let _ = amqp::frame::take_protocol_header(&mut buf);
    while let Ok(Some(frame)) = amqp::frame::next_frame(&mut buf, AMQP_FRAME_BYTES) {
        match frame.kind {
            amqp::Kind::Method => amqp_method(&frame),
            amqp::Kind::Header => amqp_header(&frame),
            amqp::Kind::Body | amqp::Kind::Heartbeat => {}
        }
    }
}

const AMQP_FRAME_BYTES: usize = 128 << 10;

fn amqp_method(frame: &amqp::Frame) {
    let Ok(method) = amqp::Method::decode(frame.payload.clone()) else { return };
    assert_eq!(amqp::Method::id_of(&frame.payload), Some(method.id()));
    if let amqp::Method::Queue(amqp::method::queue::Method::Declare(declare)) = &method {
        walk(&declare.arguments);
    }
    let mut written = BytesMut::new();
    amqp::frame::put_method(&mut written, frame.channel, &method, AMQP_FRAME_BYTES).expect("what decoded encodes");
    let again = amqp::frame::next_frame(&mut written, AMQP_FRAME_BYTES).expect("our own frame").expect("a whole frame");
    assert_eq!(amqp::Method::decode(again.payload), Ok(method));
}

fn amqp_header(frame: &amqp::Frame) {
    let Ok(header) = amqp::ContentHeader::decode(frame.payload.clone()) else { return };
    let properties = header.properties.read();
    assert_eq!(properties.to_raw(), header.properties, "properties have one form");
    walk(&properties.headers.unwrap_or_default());
}

/// Reads every value, and writes each entry anew.
fn walk(table: &amqp::Table) {
    let mut builder = amqp::TableBuilder::default();
    for (name, value) in table.iter() {
        match &value {
            amqp::Value::Table(inner) => walk(inner),
            amqp::Value::Array(inner) => assert_eq!(inner.iter().count(), inner.iter().map(drop).count()),
            _ => {}
        }
        builder = builder.put(&*name, &value);
    }
    let again = builder.build().expect("what was read is written");
    assert_eq!(again.iter().count(), table.iter().count());
}
