//! What brings other brokers and codecs down, or what they cannot tell apart (reference, queues 3.4).
//! Memory is counted over the same bytes in `tests/seeds.rs`.

use bytes::{Bytes, BytesMut};

use super::super::frame::{self, END, Kind};
use super::super::method::{basic, connection};
use super::super::{ContentHeader, Error, Method, RawProperties, ReplyCode, Table, TableBuilder, Value};
use super::FRAME_BYTES;

fn framed(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [&frame::head(kind, 0, payload.len())[..], payload, &[END]].concat()
}

fn start_ok(table: &[u8]) -> Vec<u8> {
    let length = (table.len() as u32).to_be_bytes();
    framed(Kind::Method, &[&[0, 10, 0, 11][..], &length, table, b"\x05PLAIN\0\0\0\0\0"].concat())
}

/// So many arrays, one in the other, as the value of one entry.
fn nested(levels: u32) -> Vec<u8> {
    let inner = (0..levels).flat_map(|level| [&b"A"[..], &(5 * (levels - 1 - level)).to_be_bytes()].concat());
    [&b"\x01n"[..], &inner.collect::<Vec<_>>()].concat()
}

/// Name and bytes of each, as they would come before login.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nested-arrays", start_ok(&nested(1_600))),
        ("frame-size", vec![1, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        ("table-length", framed(Kind::Method, b"\0\x0a\0\x0b\xff\xff\xff\xff")),
        ("string-length", start_ok(b"\x01nS\xff\xff\xff\xff")),
        ("array-length", start_ok(b"\x01nA\x7f\xff\xff\xff")),
        ("name-length", start_ok(b"\xffn")),
        ("many-voids", start_ok(&b"\0V".repeat(4_000))),
        ("response-length", framed(Kind::Method, b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\xff\xff\xff\xff")),
        ("property-flags", framed(Kind::Header, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0xff; 64]].concat())),
        ("body-size", framed(Kind::Header, b"\0\x3c\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0")),
    ]
}

fn decode(bytes: &[u8]) -> Result<Method, Error> {
    let frame = frame::next_frame(&mut BytesMut::from(bytes), frame::UNTUNED_FRAME_BYTES)?.expect("a whole frame");
    Method::decode(frame.payload)
}

fn problem(result: Result<Method, Error>) -> &'static str {
    match result {
        Err(Error::Malformed { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nests_too_deep_is_refused_before_login() {
    let fits = start_ok(&nested(1_600));
    assert!((7_500..=frame::UNTUNED_FRAME_BYTES).contains(&fits.len()), "of the size that kills: {}", fits.len());
    assert_eq!(problem(decode(&fits)), "nested too deep");
    assert!(decode(&start_ok(&nested(15))).is_ok(), "table and 15 arrays");
    assert_eq!(problem(decode(&start_ok(&nested(16)))), "nested too deep");
}

#[test]
fn builders_refuse_what_readers_would() {
    let wrap = |table: Table| TableBuilder::default().put("inner", &Value::Table(table)).build();
    let mut table = Table::default();
    for _ in 1..16 {
        table = wrap(table).unwrap();
    }
    assert_eq!(wrap(table), Err(Error::Encode("table nested too deep")));
    assert!(TableBuilder::default().put([b'n'; 256], &Value::Void).build().is_err());
    assert!(TableBuilder::default().put([b'n'; 255], &Value::Void).build().is_ok());
}

#[test]
fn a_size_is_judged_by_the_seven_bytes_in_front() {
    let (_, size) = all().swap_remove(1);
    let max = frame::UNTUNED_FRAME_BYTES;
    let error = frame::next_frame(&mut BytesMut::from(&size[..]), max).unwrap_err();
    assert_eq!(error, Error::FrameTooLarge { bytes: u64::from(u32::MAX) + 8, max });
    assert_eq!(error.reply_code(), ReplyCode::FrameError);
    for (payload_bytes, fits) in [(max - 8, true), (max - 7, false)] {
        let head = frame::head(Kind::Body, 3, payload_bytes);
        assert_eq!(frame::next_frame(&mut BytesMut::from(&head[..]), max).is_ok(), fits, "{payload_bytes}");
    }
}

#[test]
fn lengths_are_checked_against_the_bytes_present() {
    for (name, bytes) in all() {
        if name.ends_with("-length") {
            assert_eq!(problem(decode(&bytes)), "longer than the bytes present", "{name}");
        }
    }
}

#[test]
fn errors_can_be_told_apart() {
    let code = |payload: &[u8]| decode(&framed(Kind::Method, payload)).map_err(|error| error.reply_code());
    assert_eq!(code(b"\0\x63\0\x0a"), Err(ReplyCode::CommandInvalid), "no such class");
    assert_eq!(code(b"\0\x3c\0\x63"), Err(ReplyCode::CommandInvalid), "no such method");
    assert_eq!(code(b"\0\x3c\0\x50\0\0"), Err(ReplyCode::SyntaxError), "arguments too short");
    assert_eq!(code(b"\0\x14\0\x29\0"), Err(ReplyCode::SyntaxError), "arguments too long");
    assert_eq!(code(b"\0\x0a"), Err(ReplyCode::SyntaxError), "half an id");
    assert_eq!(Method::id_of(b"\0\x3c\0\x50\0\0"), Some((60, 80)));
    let unknown_tag = decode(&start_ok(b"\x01n?\0"));
    assert_eq!(problem(unknown_tag), "unknown tag");
}

#[test]
fn a_routing_key_may_be_any_bytes() {
    let publish = decode(&framed(Kind::Method, b"\0\x3c\0\x28\0\0\0\x02\xff\xfe\x01")).unwrap();
    let Method::Basic(basic::Method::Publish(publish)) = publish else { panic!("{publish:?}") };
    assert_eq!((&*publish.routing_key, publish.routing_key.to_str()), (&[0xff, 0xfe][..], None));
    assert!(publish.mandatory && !publish.immediate);
}

#[test]
fn bodies_are_slices_of_the_input() {
    let mut input = BytesMut::from(&framed(Kind::Body, &[7; 5_000])[..]);
    let inside = input.as_ptr_range();
    let body = frame::next_frame(&mut input, FRAME_BYTES).unwrap().unwrap().payload;
    assert!(inside.contains(&body.as_ptr()));
    assert_eq!(body, vec![7; 5_000]);
}

#[test]
fn tables_and_properties_leave_as_they_came() {
    let bytes = Bytes::from_static(b"\x01zt\x07\x01aU\0\x01\x01zV\x01bL\0\0\0\0\0\0\0\x01\0S\0\0\0\x02\xff\xfe");
    let table = Table::from_bytes(bytes.clone()).unwrap();
    let start = connection::StartOk { client_properties: table.clone(), ..Default::default() };
    let Ok(Method::Connection(connection::Method::StartOk(read))) = decode(&super::written(&start.into())) else {
        panic!("no start-ok");
    };
    assert_eq!(read.client_properties.as_bytes(), &bytes);
    let names: Vec<_> = table.iter().map(|(name, _)| name.to_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["z", "a", "z", "b", ""]);
    assert_eq!((table.get("z"), table.get("b")), (Some(Value::Bool(true)), Some(Value::U64(1))));
    let longer = TableBuilder::default().put_all(&table).put("new", &Value::text("entry")).build().unwrap();
    assert!(longer.as_bytes().starts_with(&bytes));
    assert_eq!(longer.get("new"), Some(Value::text("entry")));

    let length = (bytes.len() as u32).to_be_bytes();
    let properties = Bytes::from([&[0x20, 0][..], &length, &bytes].concat());
    let raw = RawProperties::from_bytes(properties.clone()).unwrap();
    assert_eq!((raw.as_bytes(), raw.read().headers), (&properties, Some(table)));
}

#[test]
fn headers_with_unknown_flags_or_of_other_classes_are_refused() {
    let header = |class: u8, flags: &[u8]| {
        ContentHeader::decode([&[0, class, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], flags].concat().into())
    };
    assert_eq!(header(60, &[0, 0]).unwrap().body_bytes, 5);
    for (class, flags) in [(50, &[0, 0][..]), (60, &[0, 1, 0, 0]), (60, &[0, 2]), (60, &[0, 0, 0]), (60, &[0x10, 0])] {
        assert!(header(class, flags).is_err(), "{class} {flags:?}");
    }
}

#[test]
fn what_is_no_frame_is_refused_at_its_first_byte() {
    for first in [b'G', 0x16, b'A', 0, 4, 255] {
        let error = frame::next_frame(&mut BytesMut::from(&[first][..]), FRAME_BYTES).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::FrameError, "{first}");
    }
    for (problem, bytes) in [
        ("wrong end", [8, 0, 0, 0, 0, 0, 0, 0xcd]),
        ("heartbeat with a channel or a payload", [8, 0, 1, 0, 0, 0, 0, END]),
        ("heartbeat with a channel or a payload", [8, 0, 0, 0, 0, 0, 1, END]),
    ] {
        let error = frame::next_frame(&mut BytesMut::from(&bytes[..]), FRAME_BYTES).unwrap_err();
        assert!(matches!(error, Error::Frame { problem: found, .. } if found == problem), "{error}");
    }
}

#[test]
fn another_protocol_is_refused_at_the_first_byte_that_differs() {
    for cut in 0..8 {
        let mut buf = BytesMut::from(&frame::PROTOCOL_HEADER[..cut]);
        assert_eq!((frame::take_protocol_header(&mut buf), buf.len()), (Ok(false), cut));
    }
    let mut buf = BytesMut::from(&b"AMQP\0\0\x09\x01rest"[..]);
    assert_eq!((frame::take_protocol_header(&mut buf), &buf[..]), (Ok(true), &b"rest"[..]));
    for other in [&b"AMQP\0\x01\0\0"[..], b"AMQP\x03\x01\0\0", b"AMQP\x01\x01\x09\x01", b"GET / HTTP/1.1\r\n", b"\x16"]
    {
        let error = frame::take_protocol_header(&mut BytesMut::from(other)).unwrap_err();
        let Error::ProtocolHeader { received } = error else { panic!("{error}") };
        let shown = other.len().min(8);
        assert_eq!(received[..shown], other[..shown]);
    }
}
