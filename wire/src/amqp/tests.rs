//! What a frame, a method, a table must survive, beside a codec that we did not write.

mod differential;
mod killers;
mod round_trip;
pub(crate) mod sample;
mod seeds;

use bytes::BytesMut;

use super::{Method, frame};

/// The frame_max of most clients.
const FRAME_BYTES: usize = 128 << 10;

fn written(method: &Method) -> BytesMut {
    let mut buf = BytesMut::new();
    frame::put_method(&mut buf, 7, method, FRAME_BYTES).unwrap();
    buf
}
