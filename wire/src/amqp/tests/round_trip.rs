//! Each direction against the other, cut at every byte, split into frames.

use bytes::{Bytes, BytesMut};

use super::super::method::{basic, channel, connection};
use super::super::{ContentHeader, Error, Kind, Method, Properties, ShortStr, Table, TableBuilder, Value, frame};
use super::{FRAME_BYTES, written};
use crate::bound::generate::Random;

#[test]
fn every_method_comes_back() {
    let mut random = Random(4);
    for _ in 0..100 {
        let methods = Method::samples(&mut random);
        let mut stream: BytesMut = methods.iter().flat_map(written).collect();
        for method in methods {
            let frame = frame::next_frame(&mut stream, FRAME_BYTES).unwrap().unwrap();
            assert_eq!((frame.kind, frame.channel), (Kind::Method, 7));
            assert_eq!(Method::decode(frame.payload), Ok(method));
        }
        assert!(stream.is_empty());
    }
}

#[test]
fn every_method_is_known_by_its_own_id_and_name() {
    let methods = Method::samples(&mut Random(5));
    let mut ids: Vec<_> = methods.iter().map(Method::id).collect();
    let mut names: Vec<_> = methods.iter().map(Method::name).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    names.sort_unstable();
    names.dedup();
    assert_eq!((ids.len(), names.len(), methods.len()), (66, 66, 66));
    let with_content: Vec<_> = methods.iter().filter(|method| method.has_content()).map(Method::name).collect();
    assert_eq!(with_content, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
}

#[test]
fn a_frame_cut_anywhere_is_incomplete_and_a_payload_cut_anywhere_malformed() {
    let mut random = Random(6);
    for method in Method::samples(&mut random) {
        let whole = written(&method);
        for cut in 0..whole.len() {
            let mut buf = BytesMut::from(&whole[..cut]);
            assert_eq!((frame::next_frame(&mut buf, FRAME_BYTES), buf.len()), (Ok(None), cut), "{method:?}");
        }
        let payload = payload_of(whole);
        for cut in 0..payload.len() {
            let error = Method::decode(payload.slice(..cut)).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{method:?} cut at {cut}: {error}");
        }
    }
}

#[test]
fn a_header_cut_anywhere_is_malformed() {
    let mut random = Random(7);
    for _ in 0..200 {
        let header = ContentHeader { body_bytes: 1, properties: Properties::sample(&mut random).to_raw() };
        let mut out = BytesMut::new();
        frame::put_header(&mut out, 1, &header, FRAME_BYTES).unwrap();
        let payload = payload_of(out);
        assert_eq!(ContentHeader::decode(payload.clone()), Ok(header));
        for cut in 0..payload.len() {
            assert!(
                matches!(ContentHeader::decode(payload.slice(..cut)), Err(Error::Malformed { .. })),
                "cut at {cut}"
            );
        }
    }
}

fn payload_of(frame: BytesMut) -> Bytes {
    let end = frame.len() - 1;
    frame.freeze().slice(frame::HEAD_BYTES..end)
}

#[test]
fn bits_share_an_octet_as_long_as_only_bits_follow() {
    let nack = basic::Nack { delivery_tag: 1, multiple: false, requeue: true };
    assert_eq!(&written(&nack.into())[7..], b"\0\x3c\0\x78\0\0\0\0\0\0\0\x01\x02\xce");
    let deliver = basic::Deliver { delivery_tag: 2, redelivered: true, ..basic::Deliver::default() };
    assert_eq!(&written(&deliver.into())[7..], b"\0\x3c\0\x3c\0\0\0\0\0\0\0\0\x02\x01\0\0\xce");
    let open = connection::Open { virtual_host: ShortStr::new("/").unwrap() };
    assert_eq!(&written(&open.into())[7..], b"\0\x0a\0\x28\x01/\0\0\xce");
    assert_eq!(&written(&channel::OpenOk {}.into())[7..], b"\0\x14\0\x0b\0\0\0\0\xce");
}

#[test]
fn a_body_is_split_by_frame_max() {
    for (length, max, frames) in [(0, 4096, 0), (1, 4096, 1), (4088, 4096, 1), (4089, 4096, 2), (1 << 20, 131_072, 9)] {
        let body: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let mut stream = BytesMut::new();
        frame::put_body(&mut stream, 9, &body, max);
        let (mut count, mut whole) = (0, Vec::new());
        while let Some(frame) = frame::next_frame(&mut stream, max).unwrap() {
            assert_eq!((frame.kind, frame.channel), (Kind::Body, 9));
            whole.extend_from_slice(&frame.payload);
            count += 1;
        }
        assert_eq!((count, whole), (frames, body), "{length} bytes by {max}");
    }
}

#[test]
fn what_a_peer_does_not_take_is_not_written() {
    let long = Value::Str(vec![b'x'; 5_000].into());
    let headers = TableBuilder::default().put("long", &long).build().unwrap();
    let properties = Properties { headers: Some(headers.clone()), ..Properties::default() };
    let header = ContentHeader { body_bytes: 0, properties: properties.to_raw() };
    let mut buf = BytesMut::from(&b"before"[..]);
    assert!(matches!(frame::put_header(&mut buf, 1, &header, 4096), Err(Error::FrameTooLarge { max: 4096, .. })));
    assert_eq!(&buf[..], b"before");
    let start = connection::Start { server_properties: headers, ..connection::Start::default() };
    assert!(frame::put_method(&mut buf, 0, &start.clone().into(), frame::FRAME_MIN_BYTES).is_err());
    assert_eq!(&buf[..], b"before");
    assert!(frame::put_method(&mut buf, 0, &start.into(), frame::UNTUNED_FRAME_BYTES).is_ok());
}

#[test]
fn strings_keep_to_255_bytes() {
    assert!(ShortStr::new(vec![b'x'; 255]).is_ok());
    assert!(ShortStr::new(vec![b'x'; 256]).is_err());
    let cut = ShortStr::shortened(&"ä".repeat(200));
    assert_eq!((cut.len(), cut.to_str().map(|text| text.chars().count())), (254, Some(127)));
}

#[test]
fn whole_numbers_are_read_whatever_their_width() {
    let five = [
        Value::I8(5),
        Value::U8(5),
        Value::I16(5),
        Value::U16(5),
        Value::I32(5),
        Value::U32(5),
        Value::I64(5),
        Value::U64(5),
    ];
    assert!(five.iter().all(|value| value.as_integer() == Some(5)));
    assert_eq!((Value::U64(u64::MAX).as_integer(), Value::text("5").as_integer()), (None, None));
    assert!(Table::default().is_empty());
}
