//! What each fuzz target does with its bytes. Included by the targets and by `tests/seeds.rs`, so both run the same.
//! Invariant: no input panics; what decodes encodes, and decodes again to the same.

use bytes::{Bytes, BytesMut};
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
