//! Frames: kind, channel, size, payload, end. Owns the protocol header and the limit on a frame, which holds as soon as
//! the seven bytes in front of it are there.
//! Never: knows in which order frames may come.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::field::Writer;
use super::{ContentHeader, Error, Method, Result};

/// What a client sends first, and what it is answered with if it sends anything else.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// The smallest frame_max that may be negotiated: until then no peer may send more (clause 4.2.3 of the specification).
pub const FRAME_MIN_BYTES: usize = 4096;
/// Limit of a frame from a client before connection.tune-ok, as RabbitMQ has it: client properties and SASL responses
/// of some clients pass 4096.
pub const UNTUNED_FRAME_BYTES: usize = 8192;
/// Of a frame, beside its payload.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + 1;
/// In front of the payload: kind, channel, size of the payload.
pub const HEAD_BYTES: usize = 7;
/// Behind the payload.
pub const END: u8 = 0xce;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// For [`Method::decode`].
    Method = 1,
    /// For [`ContentHeader::decode`].
    Header = 2,
    /// A part of a message's body.
    Body = 3,
    /// Nothing, on channel 0.
    Heartbeat = 8,
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// 0 is the connection itself.
    pub channel: u16,
    /// A slice of the input.
    pub payload: Bytes,
}

/// Takes the protocol header off the front of `buf`; false until it is there whole.
///
/// # Errors
/// [`Error::ProtocolHeader`] at the first byte that differs.
pub fn take_protocol_header(buf: &mut BytesMut) -> Result<bool> {
    let present = buf.len().min(PROTOCOL_HEADER.len());
    if buf[..present] != PROTOCOL_HEADER[..present] {
        let mut received = [0; 8];
        received[..present].copy_from_slice(&buf[..present]);
        return Err(Error::ProtocolHeader { received });
    }
    let whole = present == PROTOCOL_HEADER.len();
    if whole {
        buf.advance(present);
    }
    Ok(whole)
}

/// Takes one frame off the front of `buf`; `None` until it is there whole. `max_frame_bytes` counts the whole frame, as
/// the negotiated frame_max does.
///
/// # Errors
/// [`Error::Frame`] or [`Error::FrameTooLarge`], as soon as the bytes that show it are there.
pub fn next_frame(buf: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<Frame>> {
    let Some(kind) = buf.first().map(|kind| kind_of(*kind)).transpose()? else { return Ok(None) };
    let Some(&[_, c1, c0, s3, s2, s1, s0]) = buf.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let (channel, size) = (u16::from_be_bytes([c1, c0]), u32::from_be_bytes([s3, s2, s1, s0]) as usize);
    let bytes = size as u64 + OVERHEAD_BYTES as u64;
    if bytes > max_frame_bytes as u64 {
        return Err(Error::FrameTooLarge { bytes, max: max_frame_bytes });
    }
    if kind == Kind::Heartbeat && (channel, size) != (0, 0) {
        return Err(Error::Frame { problem: "heartbeat with a channel or a payload", byte: c0 });
    }
    let Some(&end) = buf.get(HEAD_BYTES + size) else { return Ok(None) };
    if end != END {
        return Err(Error::Frame { problem: "wrong end", byte: end });
    }
    buf.advance(HEAD_BYTES);
    let payload = buf.split_to(size).freeze();
    buf.advance(1);
    Ok(Some(Frame { kind, channel, payload }))
}

fn kind_of(byte: u8) -> Result<Kind> {
    match byte {
        1 => Ok(Kind::Method),
        2 => Ok(Kind::Header),
        3 => Ok(Kind::Body),
        8 => Ok(Kind::Heartbeat),
        _ => Err(Error::Frame { problem: "unknown kind", byte }),
    }
}

/// Appends a method's frame.
///
/// # Errors
/// [`Error::FrameTooLarge`]; `buf` is as before then.
pub fn put_method(buf: &mut BytesMut, channel: u16, method: &Method, max_frame_bytes: usize) -> Result<()> {
    put(buf, Kind::Method, channel, max_frame_bytes, |out| method.write(&mut Writer::new(out)))
}

/// Appends a content header's frame.
///
/// # Errors
/// [`Error::FrameTooLarge`], if the properties are longer than this peer takes; `buf` is as before then.
pub fn put_header(buf: &mut BytesMut, channel: u16, header: &ContentHeader, max_frame_bytes: usize) -> Result<()> {
    put(buf, Kind::Header, channel, max_frame_bytes, |out| header.write(&mut Writer::new(out)))
}

/// Appends a body, split into as many frames as it needs: none for an empty one.
pub fn put_body(buf: &mut BytesMut, channel: u16, body: &[u8], max_frame_bytes: usize) {
    for part in body.chunks(body_part_bytes(max_frame_bytes)) {
        buf.put_slice(&head(Kind::Body, channel, part.len()));
        buf.put_slice(part);
        buf.put_u8(END);
    }
}

/// Appends a heartbeat.
pub fn put_heartbeat(buf: &mut BytesMut) {
    buf.put_slice(&head(Kind::Heartbeat, 0, 0));
    buf.put_u8(END);
}

/// How many bytes of a body fit into one frame: for who writes parts from where they are, between [`head`] and [`END`].
#[must_use]
pub fn body_part_bytes(max_frame_bytes: usize) -> usize {
    max_frame_bytes.clamp(FRAME_MIN_BYTES, u32::MAX as usize) - OVERHEAD_BYTES
}

/// What stands in front of a payload of so many bytes.
#[must_use]
pub fn head(kind: Kind, channel: u16, payload_bytes: usize) -> [u8; HEAD_BYTES] {
    let ([c1, c0], [s3, s2, s1, s0]) = (channel.to_be_bytes(), (payload_bytes as u32).to_be_bytes());
    [kind as u8, c1, c0, s3, s2, s1, s0]
}

fn put(buf: &mut BytesMut, kind: Kind, channel: u16, max: usize, write: impl FnOnce(&mut BytesMut)) -> Result<()> {
    let start = buf.len();
    buf.put_bytes(0, HEAD_BYTES);
    write(buf);
    let payload_bytes = buf.len() - start - HEAD_BYTES;
    if payload_bytes + OVERHEAD_BYTES > max.min(u32::MAX as usize) {
        buf.truncate(start);
        return Err(Error::FrameTooLarge { bytes: (payload_bytes + OVERHEAD_BYTES) as u64, max });
    }
    buf[start..start + HEAD_BYTES].copy_from_slice(&head(kind, channel, payload_bytes));
    buf.put_u8(END);
    Ok(())
}
