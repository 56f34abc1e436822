//! The seeds of the fuzz target: each method, a content header, and what has killed others.

use bytes::BytesMut;

use super::super::{ContentHeader, Method, Properties, frame};
use super::{FRAME_BYTES, killers, written};
use crate::bound::generate::Random;
use crate::testing::check_seed;

#[test]
fn methods_and_headers_are_current() {
    let mut random = Random(17);
    for method in Method::samples(&mut random) {
        check_seed("amqp", method.name(), &written(&method));
    }
    for name in ["header-1", "header-2", "header-3", "header-4"] {
        let header = ContentHeader { body_bytes: 11, properties: Properties::sample(&mut random).to_raw() };
        let mut out = BytesMut::new();
        frame::put_header(&mut out, 1, &header, FRAME_BYTES).unwrap();
        frame::put_body(&mut out, 1, b"hello world", FRAME_BYTES);
        frame::put_heartbeat(&mut out);
        check_seed("amqp", name, &out);
    }
}

#[test]
fn killers_are_current() {
    for (name, bytes) in killers::all() {
        check_seed("amqp", &format!("killer-{name}"), &bytes);
    }
}
