//! Ours against `amq-protocol`: each reads what the other writes, to the same fields.

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, AMQPHardError, AMQPSoftError, basic::AMQPProperties, queue::AMQPMethod};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldTable};
use bytes::{Bytes, BytesMut};

use super::super::method::{access, basic, queue};
use super::super::{
    Array, ContentHeader, Decimal, Kind, Method, Properties, ReplyCode, ShortStr, Table, TableBuilder, Value, frame,
};
use super::{FRAME_BYTES, written};
use crate::bound::generate::Random;

fn they_read(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).unwrap_or_else(|error| panic!("{error:?}: {}", bytes.escape_ascii()));
    assert!(rest.is_empty());
    frame
}

fn they_write(frame: &AMQPFrame) -> BytesMut {
    BytesMut::from(&gen_frame(frame)(Vec::new().into()).unwrap().into_inner().0[..])
}

fn we_read(mut bytes: BytesMut) -> (Kind, u16, Bytes) {
    let frame = frame::next_frame(&mut bytes, FRAME_BYTES).unwrap().unwrap();
    assert!(bytes.is_empty());
    (frame.kind, frame.channel, frame.payload)
}

/// They know the prefetch size and the ticket as reserved.
fn samples(random: &mut Random) -> Vec<Method> {
    let mut samples = Method::samples(random);
    for method in &mut samples {
        match method {
            Method::Basic(basic::Method::Qos(qos)) => qos.prefetch_size = 0,
            Method::Access(access::Method::RequestOk(ok)) => ok.ticket = 1,
            _ => {}
        }
    }
    samples
}

/// The names of the fields, as the debug form of class, method and struct indents them.
fn fields(debug: &str) -> Vec<String> {
    let inside = debug.lines().filter_map(|line| line.strip_prefix("            "));
    let fields = inside.filter(|rest| !rest.starts_with(' ')).filter_map(|rest| rest.split_once(": "));
    fields.map(|(name, _)| name.replace('_', "")).collect()
}

#[test]
fn every_method_says_the_same_to_both() {
    let mut random = Random(1);
    for _ in 0..300 {
        for method in samples(&mut random) {
            let ours = written(&method);
            let read = they_read(&ours);
            let theirs = they_write(&read);
            assert_eq!(ours, theirs, "{method:?} {read:?}");
            let (kind, channel, payload) = we_read(theirs);
            assert_eq!((kind, channel, Method::decode(payload)), (Kind::Method, 7, Ok(method.clone())));
        }
    }
}

#[test]
fn every_field_has_the_name_that_the_specification_gives_it() {
    for method in samples(&mut Random(2)) {
        let AMQPFrame::Method(7, class) = they_read(&written(&method)) else { panic!("{method:?}: no method") };
        let (mut ours, theirs) = (fields(&format!("{method:#?}")), fields(&format!("{class:#?}")));
        ours.retain(|field| !["prefetchsize", "ticket"].contains(&field.as_str()));
        assert_eq!(ours, theirs, "{}", method.name());
        assert_eq!(method.id(), (class.get_amqp_class_id(), class.get_amqp_method_id()), "{}", method.name());
    }
}

#[test]
fn properties_say_the_same_to_both() {
    let mut random = Random(3);
    for body_bytes in 0..1_000 {
        let header = ContentHeader { body_bytes, properties: Properties::sample(&mut random).to_raw() };
        let mut ours = BytesMut::new();
        frame::put_header(&mut ours, 7, &header, FRAME_BYTES).unwrap();
        let read = they_read(&ours);
        let theirs = they_write(&read);
        assert_eq!(ours, theirs, "{header:?} {read:?}");
        assert_eq!(ContentHeader::decode(we_read(theirs).2).unwrap(), header);
    }
}

#[test]
fn every_property_has_its_bit() {
    let short = |text: &'static str| Some(ShortStr::new(text).unwrap());
    let properties = Properties {
        content_type: short("content type"),
        content_encoding: short("content encoding"),
        headers: Some(TableBuilder::default().put("name", &Value::I32(5)).build().unwrap()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: short("correlation id"),
        reply_to: short("reply to"),
        expiration: short("expiration"),
        message_id: short("message id"),
        timestamp: Some(77),
        kind: short("kind"),
        user_id: short("user id"),
        app_id: short("app id"),
        cluster_id: short("cluster id"),
    };
    let mut headers = FieldTable::default();
    headers.insert("name".into(), AMQPValue::LongInt(5));
    let expected = AMQPProperties::default()
        .with_content_type("content type".into())
        .with_content_encoding("content encoding".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("correlation id".into())
        .with_reply_to("reply to".into())
        .with_expiration("expiration".into())
        .with_message_id("message id".into())
        .with_timestamp(77)
        .with_type("kind".into())
        .with_user_id("user id".into())
        .with_app_id("app id".into())
        .with_cluster_id("cluster id".into());
    let header = ContentHeader { body_bytes: 3, properties: properties.to_raw() };
    let mut ours = BytesMut::new();
    frame::put_header(&mut ours, 7, &header, FRAME_BYTES).unwrap();
    let AMQPFrame::Header(7, read) = they_read(&ours) else { panic!("no header") };
    assert_eq!((read.body_size, &read.properties), (3, &expected));
    assert_eq!(header.properties.read(), properties);
}

#[test]
fn bodies_and_heartbeats_are_frames_to_both() {
    let mut ours = BytesMut::new();
    frame::put_body(&mut ours, 7, b"body", FRAME_BYTES);
    assert_eq!(they_read(&ours), AMQPFrame::Body(7, b"body".to_vec()));
    let mut ours = BytesMut::new();
    frame::put_heartbeat(&mut ours);
    assert_eq!(they_read(&ours), AMQPFrame::Heartbeat);
    assert_eq!(we_read(they_write(&AMQPFrame::Heartbeat)), (Kind::Heartbeat, 0, Bytes::new()));
    let header = they_write(&AMQPFrame::ProtocolHeader(amq_protocol::frame::ProtocolVersion::amqp_0_9_1()));
    assert_eq!(header[..], frame::PROTOCOL_HEADER);
}

/// What they read as the arguments of queue.declare.
fn arguments_they_read(arguments: Table) -> FieldTable {
    let declare = queue::Declare { arguments, ..queue::Declare::default() };
    match they_read(&written(&declare.into())) {
        AMQPFrame::Method(_, AMQPClass::Queue(AMQPMethod::Declare(declare))) => declare.arguments,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_value_is_of_the_same_type_to_both() {
    let inner = TableBuilder::default().put("in", &Value::Void).build().unwrap();
    let mut their_inner = FieldTable::default();
    their_inner.insert("in".into(), AMQPValue::Void);
    for (ours, theirs) in [
        (Value::Bool(true), AMQPValue::Boolean(true)),
        (Value::I8(-1), AMQPValue::ShortShortInt(-1)),
        (Value::U8(200), AMQPValue::ShortShortUInt(200)),
        (Value::I16(-2), AMQPValue::ShortInt(-2)),
        (Value::U16(60_000), AMQPValue::ShortUInt(60_000)),
        (Value::I32(-3), AMQPValue::LongInt(-3)),
        (Value::U32(4_000_000_000), AMQPValue::LongUInt(4_000_000_000)),
        (Value::I64(-4), AMQPValue::LongLongInt(-4)),
        (Value::U64(5), AMQPValue::LongLongInt(5)),
        (Value::F32(1.5), AMQPValue::Float(1.5)),
        (Value::F64(-2.5), AMQPValue::Double(-2.5)),
        (
            Value::Decimal(Decimal { scale: 2, value: 314 }),
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 }),
        ),
        (Value::text("text"), AMQPValue::LongString("text".into())),
        (Value::Bytes(Bytes::from_static(b"\xff\0")), AMQPValue::ByteArray(vec![255, 0].into())),
        (Value::Timestamp(u64::MAX), AMQPValue::Timestamp(u64::MAX)),
        (
            Value::Array(Array::new([&Value::U8(1)]).unwrap()),
            AMQPValue::FieldArray(vec![AMQPValue::ShortShortUInt(1)].into()),
        ),
        (Value::Table(inner), AMQPValue::FieldTable(their_inner)),
        (Value::Void, AMQPValue::Void),
    ] {
        let table = TableBuilder::default().put("name", &ours).build().unwrap();
        assert_eq!(table.get("name").as_ref(), Some(&ours));
        assert_eq!(arguments_they_read(table).inner().get("name"), Some(&theirs));
    }
}

/// `L` and `U` are the specification's; they travel as they came, and mean the same to both.
#[test]
fn tags_of_the_specification_are_read_alike() {
    let table = Table::from_bytes(Bytes::from_static(b"\x01aU\xff\xfe\x01bL\0\0\0\0\0\0\0\x05")).unwrap();
    assert_eq!((table.get("a"), table.get("b")), (Some(Value::I16(-2)), Some(Value::U64(5))));
    let read = arguments_they_read(table);
    assert_eq!(read.inner().get("a"), Some(&AMQPValue::ShortInt(-2)));
    assert_eq!(read.inner().get("b"), Some(&AMQPValue::LongLongInt(5)));
}

#[test]
fn reply_codes_are_as_hard_as_theirs() {
    for code in ReplyCode::ALL.iter().filter(|code| !matches!(code, ReplyCode::ReplySuccess)) {
        assert_eq!(AMQPHardError::from_id(code.code()).is_some(), code.is_hard(), "{code}");
        assert_eq!(ReplyCode::from_u16(code.code()), Some(*code));
        let name = code.name().replace('_', "");
        let theirs = AMQPHardError::from_id(code.code()).map(|error| error.to_string());
        let theirs = theirs.or_else(|| AMQPSoftError::from_id(code.code()).map(|error| error.to_string()));
        assert_eq!(theirs.map(|theirs| theirs.replace(['-', '_'], "").to_uppercase()), Some(name), "{code}");
    }
    assert_eq!(ReplyCode::from_u16(999), None);
}
