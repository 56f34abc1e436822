//! Frames between nodes: `length u32 | kind u8 | service u8 | id u64 | group u32 | head u32 | parts u32 | part lengths | head | parts`,
//! little-endian. Payload parts are slices on both sides: never copied for the frame, never decoded here.
//! Invariant: every length is checked against the frame's length, and that against a limit, before anything is allocated.
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame between members: a whole entry of the model and its header.
pub const FRAME_BYTES_MAX: usize = model::limits::ENTRY_BYTES_MAX + (1 << 20);
/// The longest frame of someone who is no member yet.
pub const VISITOR_FRAME_BYTES_MAX: usize = 256 << 10;
/// Bytes of the fixed fields after the length.
const FIXED_BYTES: usize = 22;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer with the same id.
    Request,
    /// The answer.
    Answer,
    /// No answer; the head is the reason in words.
    Failure,
    /// Wants no answer.
    Notice,
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A Raft group.
    Raft,
    /// The controller's leader: a forwarded command.
    Control,
    /// Liveness and leadership of a node.
    Heartbeat,
    /// Founding and joining.
    Bootstrap,
    /// A question about the rafts of a member.
    Ask,
    /// Messages of a queue, and what becomes of them.
    Queue,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Whom it is for.
    pub service: Service,
    /// Pairs requests with answers on one connection.
    pub id: u64,
    /// The Raft group, 0 where there is none.
    pub group: u32,
    /// Small, encoded by `storage::codec`.
    pub head: Bytes,
    /// Payload bytes.
    pub body: Vec<Bytes>,
}

impl Frame {
    /// The frame as slices to write; only the head is copied.
    pub fn encode(self) -> Vec<Bytes> {
        let parts: usize = self.body.iter().map(Bytes::len).sum();
        let length = FIXED_BYTES + 4 * self.body.len() + self.head.len() + parts;
        let mut start = BytesMut::with_capacity(4 + length - parts);
        start.put_u32_le(length as u32);
        start.put_u8(self.kind as u8);
        start.put_u8(self.service as u8);
        start.put_u64_le(self.id);
        start.put_u32_le(self.group);
        start.put_u32_le(self.head.len() as u32);
        start.put_u32_le(self.body.len() as u32);
        self.body.iter().for_each(|part| start.put_u32_le(part.len() as u32));
        start.put_slice(&self.head);
        let mut slices = Vec::with_capacity(1 + self.body.len());
        slices.push(start.freeze());
        slices.extend(self.body.into_iter().filter(|part| !part.is_empty()));
        slices
    }

    /// Reads what follows the length.
    ///
    /// # Errors
    /// `InvalidData` when the fields contradict the length.
    pub fn decode(mut bytes: Bytes) -> io::Result<Self> {
        if bytes.len() < FIXED_BYTES {
            return Err(bad("frame is too short"));
        }
        let kind = kind(bytes.get_u8())?;
        let service = service(bytes.get_u8())?;
        let (id, group) = (bytes.get_u64_le(), bytes.get_u32_le());
        let (head, parts) = (bytes.get_u32_le() as usize, bytes.get_u32_le() as usize);
        if parts > bytes.len() / 4 {
            return Err(bad("frame counts more parts than it can hold"));
        }
        let lengths: Vec<usize> = (0..parts).map(|_| bytes.get_u32_le() as usize).collect();
        let total = lengths.iter().try_fold(head, |sum, length| sum.checked_add(*length));
        if total != Some(bytes.len()) {
            return Err(bad("frame parts do not add up to its length"));
        }
        let head = bytes.split_to(head);
        let body = lengths.into_iter().map(|length| bytes.split_to(length)).collect();
        Ok(Self { kind, service, id, group, head, body })
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn kind(byte: u8) -> io::Result<Kind> {
    [Kind::Request, Kind::Answer, Kind::Failure, Kind::Notice]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .ok_or_else(|| bad("unknown frame kind"))
}

fn service(byte: u8) -> io::Result<Service> {
    [Service::Raft, Service::Control, Service::Heartbeat, Service::Bootstrap, Service::Ask, Service::Queue]
        .into_iter()
        .find(|service| *service as u8 == byte)
        .ok_or_else(|| bad("unknown service"))
}

/// Reads the length of the next frame, or `None` at a clean end. Not cancel safe.
///
/// # Errors
/// The connection's, or `InvalidData` for a length above `max`.
pub async fn read_length(io: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    let first = io.read(&mut length).await?;
    if first == 0 {
        return Ok(None);
    }
    io.read_exact(&mut length[first..]).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > max {
        return Err(bad("frame is longer than allowed"));
    }
    Ok(Some(length))
}

/// Reads the `length` bytes that [`read_length`] announced, growing with what really arrives. Not cancel safe.
///
/// # Errors
/// The connection's, or what [`Frame::decode`] finds.
pub async fn read_rest(io: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Frame> {
    let mut bytes = BytesMut::with_capacity(length.min(1 << 20));
    let mut limited = io.take(length as u64);
    while bytes.len() < length {
        bytes.reserve((length - bytes.len()).min(1 << 20));
        if limited.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Frame::decode(bytes.freeze())
}

/// Slices waiting to be written together.
#[derive(Default)]
pub struct Slices {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Slices {
    /// Adds the slices of one frame.
    pub fn push(&mut self, slices: Vec<Bytes>) {
        self.bytes += slices.iter().map(Bytes::len).sum::<usize>();
        self.parts.extend(slices);
    }

    /// Writes everything, many slices at a time, and flushes. Not cancel safe.
    ///
    /// # Errors
    /// The connection's.
    pub async fn write_to(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        io.write_all_buf(self).await?;
        io.flush().await
    }
}

impl Buf for Slices {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slots: &mut [IoSlice<'a>]) -> usize {
        let filled = slots.len().min(self.parts.len());
        for (slot, part) in slots.iter_mut().zip(&self.parts) {
            *slot = IoSlice::new(part);
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        let mut left = count;
        while let Some(front) = self.parts.front_mut() {
            if left < front.len() {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(body: Vec<Bytes>) -> Frame {
        let head = Bytes::from_static(b"head");
        Frame { kind: Kind::Request, service: Service::Control, id: 7, group: 9, head, body }
    }

    #[tokio::test]
    async fn frames_survive_the_wire() {
        let body = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 300_000])];
        let mut slices = Slices::default();
        slices.push(sample(body.clone()).encode());
        slices.push(sample(vec![]).encode());
        let (mut near, mut far) = tokio::io::duplex(1000);
        let writer = tokio::spawn(async move { slices.write_to(&mut near).await });
        for expected in [body, vec![]] {
            let length = read_length(&mut far, FRAME_BYTES_MAX).await.unwrap().unwrap();
            let frame = read_rest(&mut far, length).await.unwrap();
            assert_eq!((frame.kind, frame.service, frame.id, frame.group), (Kind::Request, Service::Control, 7, 9));
            assert_eq!((&frame.head[..], frame.body), (&b"head"[..], expected));
        }
        writer.await.unwrap().unwrap();
        assert!(read_length(&mut far, 10).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn hostile_lengths_are_refused() {
        let huge = u32::MAX.to_le_bytes();
        assert!(read_length(&mut &huge[..], VISITOR_FRAME_BYTES_MAX).await.is_err());
        let whole: Vec<u8> = sample(vec![Bytes::from_static(b"x")]).encode().concat();
        for place in 4..whole.len() - 5 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole[4..].to_vec();
                bytes[place - 4] = value;
                let _decides_without_panic = Frame::decode(bytes.into());
            }
        }
        for cut in 0..whole.len() - 4 {
            assert!(Frame::decode(Bytes::copy_from_slice(&whole[4..4 + cut])).is_err());
        }
    }
}
