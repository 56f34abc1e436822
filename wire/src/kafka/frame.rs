//! Frames and headers: a length, a header, a body. Owns the size limits, which hold before anything is allocated.
//! Never: decodes a body.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Api, ApiKey, Str};
use crate::{Error, Result};

/// Kafka's `socket.request.max.bytes`, the default limit of a frame.
pub const MAX_FRAME_BYTES: usize = 100 << 20;
/// Longest client id accepted. Kafka has no limit but the length field; ids end up in logs and metrics.
pub const MAX_CLIENT_ID_BYTES: usize = 1024;
/// Key, version and correlation id: in every request header.
const FIXED_HEADER_BYTES: usize = 8;
/// The length in front of a frame.
pub const LENGTH_BYTES: usize = 4;
/// Length and API key: enough to know the limit of a request.
pub const FRAME_HEAD_BYTES: usize = 6;

/// Takes one request frame (without its length) off the front of `buf`; `None` until it is there whole.
/// The limit is that of the frame's API: [`Api::max_request_bytes`].
///
/// # Errors
/// [`Error::FrameTooLarge`] for a negative or too large length, as soon as the length (and API key) can be read.
pub fn next_request(buf: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<Bytes>> {
    let limit = match buf.first_chunk::<FRAME_HEAD_BYTES>() {
        None => max_frame_bytes,
        Some([.., a, b]) => request_limit(i16::from_be_bytes([*a, *b]), max_frame_bytes),
    };
    next_frame(buf, limit)
}

/// Bytes of the request that begins so, its length not counted, for who makes room before reading it.
///
/// # Errors
/// As [`next_request`].
pub fn request_bytes(head: [u8; FRAME_HEAD_BYTES], max_frame_bytes: usize) -> Result<usize> {
    let [length @ .., a, b] = head;
    checked_length(i32::from_be_bytes(length), request_limit(i16::from_be_bytes([a, b]), max_frame_bytes))
}

fn request_limit(key: i16, max_frame_bytes: usize) -> usize {
    match ApiKey::from_i16(key) {
        Some(known) => known.api().max_request_bytes(max_frame_bytes),
        None => super::versions::MAX_SMALL_REQUEST_BYTES.min(max_frame_bytes),
    }
}

fn checked_length(length: i32, max: usize) -> Result<usize> {
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= max);
    bytes.ok_or(Error::FrameTooLarge { bytes: length.into(), max })
}

/// Takes one response frame (without its length) off the front of `buf`: the client's side.
///
/// # Errors
/// [`Error::FrameTooLarge`].
pub fn next_response(buf: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<Bytes>> {
    next_frame(buf, max_frame_bytes)
}

/// How many bytes to make room for before the next read: what the frame at the front lacks, in steps, so that memory
/// follows the bytes that came and not the length that was claimed.
#[must_use]
pub fn read_hint(buf: &[u8]) -> usize {
    const STEP_MIN: usize = 8 << 10;
    const STEP_MAX: usize = 256 << 10;
    let declared = buf.first_chunk().map_or(0, |length| i32::from_be_bytes(*length).max(0) as usize);
    (declared + LENGTH_BYTES).saturating_sub(buf.len()).clamp(STEP_MIN, STEP_MAX)
}

fn next_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>> {
    let Some(length) = buf.first_chunk().map(|length| i32::from_be_bytes(*length)) else { return Ok(None) };
    let bytes = checked_length(length, max)?;
    if buf.len() < LENGTH_BYTES + bytes {
        return Ok(None);
    }
    buf.advance(LENGTH_BYTES);
    Ok(Some(buf.split_to(bytes).freeze()))
}

/// A request whose header is read and whose API and version are served. The body is still bytes.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which API.
    pub api: ApiKey,
    /// Which version of it; within the table's range.
    pub version: i16,
    /// To be repeated in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// For [`super::messages::decode_request`]. A slice of the frame.
    pub body: Bytes,
}

/// Reads the header of a request frame.
///
/// # Errors
/// [`Error::UnknownApi`] and [`Error::UnsupportedVersion`] carry the correlation id for an answer;
/// [`Error::Malformed`] for a bad header.
pub fn parse_request(mut frame: Bytes) -> Result<Request> {
    let (key, version, correlation_id) = take_fixed_header(&mut frame)?;
    let api = ApiKey::from_i16(key).ok_or(Error::UnknownApi { key, correlation_id })?;
    if !api.api().serves(version) {
        return Err(Error::UnsupportedVersion { api, version, correlation_id });
    }
    let client_id = take_client_id(&mut frame)?;
    if api.api().request_header_version(version) >= 2 {
        skip_tagged_fields(&mut frame)?;
    }
    Ok(Request { api, version, correlation_id, client_id, body: frame })
}

pub(crate) fn take_fixed_header(frame: &mut Bytes) -> Result<(i16, i16, i32)> {
    if frame.len() < FIXED_HEADER_BYTES {
        return Err(malformed("request header", "too short", frame));
    }
    Ok((frame.get_i16(), frame.get_i16(), frame.get_i32()))
}

/// The client id is an i16-length string also in the flexible header.
pub(crate) fn take_client_id(frame: &mut Bytes) -> Result<Option<Str>> {
    if frame.len() < 2 {
        return Err(malformed("client id", "missing", frame));
    }
    let length = match frame.get_i16() {
        -1 => return Ok(None),
        length => length as usize,
    };
    if length > MAX_CLIENT_ID_BYTES || length > frame.len() {
        return Err(malformed("client id", "too long", frame));
    }
    let id = Str::new(frame.split_to(length)).map_err(|_| malformed("client id", "not UTF-8", frame))?;
    Ok(Some(id))
}

/// No tagged field of a header is defined; they are passed over.
fn skip_tagged_fields(frame: &mut Bytes) -> Result<()> {
    let count = take_varint(frame)?;
    for _ in 0..count {
        take_varint(frame)?;
        let size = take_varint(frame)? as usize;
        if size > frame.len() {
            return Err(malformed("header tag", "too long", frame));
        }
        frame.advance(size);
    }
    Ok(())
}

fn take_varint(frame: &mut Bytes) -> Result<u32> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        if frame.is_empty() {
            return Err(malformed("header tag", "too short", frame));
        }
        let byte = frame.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| malformed("header tag", "varint above 32 bits", frame));
        }
    }
    Err(malformed("header tag", "varint longer than 5 bytes", frame))
}

pub(crate) fn malformed(what: &'static str, problem: &'static str, rest: &Bytes) -> Error {
    Error::Malformed { what, problem, remaining: rest.len() }
}

/// Bytes in front of a response body: length, correlation id, and the empty tag buffer of header version 1.
pub(crate) const fn response_head_bytes(api: &Api, version: i16) -> usize {
    LENGTH_BYTES + 4 + api.response_header_version(version) as usize
}

/// Writes length and header of a response whose body takes `body_bytes`.
pub(crate) fn put_response_head(
    buf: &mut BytesMut,
    correlation_id: i32,
    api: &Api,
    version: i16,
    body_bytes: usize,
) -> Result<()> {
    put_length(buf, response_head_bytes(api, version) - LENGTH_BYTES + body_bytes)?;
    buf.put_i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        buf.put_u8(0);
    }
    Ok(())
}

/// Writes length and header of a request whose body takes `body_bytes`.
pub(crate) fn put_request_head(
    buf: &mut BytesMut,
    (api, version): (&Api, i16),
    correlation_id: i32,
    client_id: Option<&str>,
    body_bytes: usize,
) -> Result<()> {
    let tags = usize::from(api.request_header_version(version) >= 2);
    let id = client_id.unwrap_or_default();
    let id_length = i16::try_from(id.len()).map_err(|_| Error::Encode("client id too long".into()))?;
    put_length(buf, FIXED_HEADER_BYTES + 2 + id.len() + tags + body_bytes)?;
    buf.put_i16(api.key as i16);
    buf.put_i16(version);
    buf.put_i32(correlation_id);
    buf.put_i16(if client_id.is_some() { id_length } else { -1 });
    buf.put_slice(id.as_bytes());
    buf.put_bytes(0, tags);
    Ok(())
}

/// Takes the header off a response frame and gives the correlation id.
pub(crate) fn take_response_head(frame: &mut Bytes, api: &Api, version: i16) -> Result<i32> {
    if frame.len() < 4 {
        return Err(malformed("response header", "too short", frame));
    }
    let correlation_id = frame.get_i32();
    if api.response_header_version(version) >= 1 {
        skip_tagged_fields(frame)?;
    }
    Ok(correlation_id)
}

fn put_length(buf: &mut BytesMut, bytes: usize) -> Result<()> {
    buf.put_i32(i32::try_from(bytes).map_err(|_| Error::Encode("frame above 2 GiB".into()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(parts: &[&[u8]]) -> BytesMut {
        BytesMut::from(&parts.concat()[..])
    }

    #[test]
    fn a_frame_comes_out_whole_or_not_at_all() {
        let mut buf = buffer(&[&9i32.to_be_bytes(), &[0, 3, 0, 1, 0, 0, 0, 7]]);
        assert_eq!(next_request(&mut buf, MAX_FRAME_BYTES).unwrap(), None);
        buf.put_slice(&[1, 2]);
        assert_eq!(&next_request(&mut buf, MAX_FRAME_BYTES).unwrap().unwrap()[..], &[0, 3, 0, 1, 0, 0, 0, 7, 1]);
        assert_eq!(&buf[..], &[2]);
    }

    #[test]
    fn lengths_are_refused_before_the_bytes_come() {
        for (length, key, ok) in [
            (-1, 0i16, false),
            (i32::MIN, 0, false),
            (i32::MAX, 0, false),
            (MAX_FRAME_BYTES as i32, 0, true),
            (MAX_FRAME_BYTES as i32 + 1, 0, false),
            (MAX_FRAME_BYTES as i32, 3, false),
            (MAX_FRAME_BYTES as i32, 999, false),
            (4 << 20, 3, true),
        ] {
            let mut buf = buffer(&[&length.to_be_bytes(), &key.to_be_bytes()]);
            assert_eq!(next_request(&mut buf, MAX_FRAME_BYTES).is_ok(), ok, "length {length} key {key}");
            assert!(read_hint(&buf) <= 256 << 10);
        }
    }

    #[test]
    fn headers_are_parsed_by_version() {
        let body = [9u8, 9];
        let v1 = [&[0, 3, 0, 8, 0, 0, 0, 5, 0, 2][..], b"me", &body].concat();
        let request = parse_request(v1.into()).unwrap();
        assert_eq!((request.api, request.version, request.correlation_id), (ApiKey::Metadata, 8, 5));
        assert_eq!((request.client_id.unwrap().as_str(), &request.body[..]), ("me", &body[..]));
        let v2 = [&[0, 3, 0, 9, 0, 0, 0, 5, 0xff, 0xff, 1, 77, 3, 1, 2, 3][..], &body].concat();
        let request = parse_request(v2.into()).unwrap();
        assert_eq!((request.client_id, &request.body[..]), (None, &body[..]));
    }

    #[test]
    fn unserved_requests_keep_their_correlation_id() {
        let unknown = parse_request(Bytes::from_static(&[0, 99, 0, 0, 0, 0, 0, 5]));
        assert_eq!(unknown.unwrap_err(), Error::UnknownApi { key: 99, correlation_id: 5 });
        let newer = parse_request(Bytes::from_static(&[0, 18, 0, 5, 0, 0, 0, 6]));
        let expected = Error::UnsupportedVersion { api: ApiKey::ApiVersions, version: 5, correlation_id: 6 };
        assert_eq!(newer.unwrap_err(), expected);
    }
}
