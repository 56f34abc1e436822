//! The replicated entry: a fixed little-endian header, then the producer's batches verbatim.
//! Layout: format u8, tag u8, version u16, flags u16, batch count u16, leader_ts i64, queue u32, count x length u32, crc32c u32.
//! Invariant: the payload is never copied to get its header; one stored value splits into slices of itself.
//! Must never trust a length before it is checked against the bytes present.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits;

/// The one entry format so far.
pub const FORMAT: u8 = 1;
/// Bytes of the header before the lengths.
const FIXED_BYTES: usize = 20;
const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;

/// What an entry is. The numbers are written to disk: never renumber.
/// 7 Expire and 8 Marker are reserved and refused until they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tag {
    /// A new leader's first entry; it means nothing but its log id.
    Blank = 0,
    /// A change of the Raft group's members.
    Membership = 1,
    /// Record batches; in version 1 behind them, as the last part, what messages of a queue say of themselves (`cursor::Note`).
    Append = 2,
    /// Moves the log start offset (Kafka's DeleteRecords).
    LogStart = 3,
    /// A command of the controller machine, encoded by `storage::codec`.
    Controller = 4,
    /// What became of messages (`cursor::Batch`), encoded by `storage::codec`.
    CursorBatch = 5,
    /// Live records of a range of offsets, appended once more (`partition::Relocation`).
    Relocate = 6,
    /// A command of a coordinator shard, encoded by `storage::codec`.
    Coordinator = 9,
}

impl Tag {
    fn from_u8(tag: u8) -> Result<Self, Error> {
        match tag {
            0 => Ok(Tag::Blank),
            1 => Ok(Tag::Membership),
            2 => Ok(Tag::Append),
            3 => Ok(Tag::LogStart),
            4 => Ok(Tag::Controller),
            5 => Ok(Tag::CursorBatch),
            6 => Ok(Tag::Relocate),
            9 => Ok(Tag::Coordinator),
            other => Err(Error::Tag(other)),
        }
    }
}

/// Where the batches of an entry came from; informs, never decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// From a Kafka produce request.
    pub const KAFKA: Flags = Flags(1);
    /// From an AMQP publish.
    pub const AMQP: Flags = Flags(2);
    /// Re-appended by the cluster itself.
    pub const RELOCATED: Flags = Flags(4);
    /// A transaction marker (reserved).
    pub const MARKER: Flags = Flags(8);
}

/// The header of an entry, without the lengths of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the entry is.
    pub tag: Tag,
    /// Version of the tag's body.
    pub version: u16,
    /// Origin of the batches.
    pub flags: Flags,
    /// How many parts follow: batches of an append, else 0 or 1.
    pub parts: u16,
    /// The proposing leader's wall clock, ms since 1970. The only time that apply knows.
    pub leader_ts: i64,
    /// The queue of a queue shard; 0 in a partition.
    pub queue: u32,
}

/// One entry: its encoded header and its parts. Cloning shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The encoded header.
    pub head: Bytes,
    /// Verbatim batches, or the body of a command.
    pub body: Vec<Bytes>,
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the header does, or before the last part, or go on after it.
    #[error("entry has {has} bytes and needs {needs}")]
    Length {
        /// Bytes that the header asks for.
        needs: usize,
        /// Bytes that there are.
        has: usize,
    },
    /// Written by a newer or foreign program.
    #[error("entry has format {0}, only {FORMAT} is known")]
    Format(u8),
    /// The header's checksum is wrong.
    #[error("entry header has crc {has:08x} and claims {claims:08x}")]
    Crc {
        /// The sum of the bytes.
        has: u32,
        /// The sum in the header.
        claims: u32,
    },
    /// A tag that this version does not know, or one reserved for later.
    #[error("entry has tag {0}, which this version cannot apply")]
    Tag(u8),
    /// The header counts other parts than the payload has.
    #[error("entry header and its {0} parts disagree")]
    Parts(usize),
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Error> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(Error::Length { needs: at + N, has: bytes.len() })
}

/// Checks format and checksum, and returns the header with its size in bytes. `bytes` may go on after the header.
fn decode_header(bytes: &[u8]) -> Result<(Header, usize), Error> {
    let [format, tag, v0, v1, f0, f1, c0, c1] = array(bytes, 0)?;
    if format != FORMAT {
        return Err(Error::Format(format));
    }
    let parts = u16::from_le_bytes([c0, c1]);
    let crc_at = FIXED_BYTES + LENGTH_BYTES * parts as usize;
    let claims = u32::from_le_bytes(array(bytes, crc_at)?);
    let has = crc32c::crc32c(&bytes[..crc_at]);
    if has != claims {
        return Err(Error::Crc { has, claims });
    }
    let header = Header {
        tag: Tag::from_u8(tag)?,
        version: u16::from_le_bytes([v0, v1]),
        flags: Flags(u16::from_le_bytes([f0, f1])),
        parts,
        leader_ts: i64::from_le_bytes(array(bytes, 8)?),
        queue: u32::from_le_bytes(array(bytes, 16)?),
    };
    Ok((header, crc_at + CRC_BYTES))
}

fn length_of_part(head: &[u8], part: usize) -> Result<usize, Error> {
    Ok(u32::from_le_bytes(array(head, FIXED_BYTES + LENGTH_BYTES * part)?) as usize)
}

impl Payload {
    /// An entry of record batches for a partition log, from Kafka. At most [`limits::BATCHES_PER_ENTRY_MAX`] batches
    /// and [`limits::ENTRY_BYTES_MAX`] bytes: the proposer splits; what is over becomes a dead entry.
    pub fn append(leader_ts: i64, batches: Vec<Bytes>) -> Self {
        Self::encode(Tag::Append, Flags::KAFKA, leader_ts, batches)
    }

    /// A command whose body the machine of `tag` decodes.
    pub fn command(tag: Tag, leader_ts: i64, body: Bytes) -> Self {
        Self::encode(tag, Flags::default(), leader_ts, vec![body])
    }

    /// The empty entry of a new leader.
    pub fn blank(leader_ts: i64) -> Self {
        Self::encode(Tag::Blank, Flags::default(), leader_ts, Vec::new())
    }

    /// Moves the log start to `before`, or to the high watermark at apply when `before` is -1 (Kafka's DeleteRecords).
    pub fn log_start(leader_ts: i64, before: i64) -> Self {
        Self::command(Tag::LogStart, leader_ts, Bytes::copy_from_slice(&before.to_le_bytes()))
    }

    /// Encodes a header for `body`.
    pub fn encode(tag: Tag, flags: Flags, leader_ts: i64, body: Vec<Bytes>) -> Self {
        Self::encode_version(tag, 0, flags, leader_ts, body)
    }

    /// The same for another version of the tag's body.
    pub(crate) fn encode_version(tag: Tag, version: u16, flags: Flags, leader_ts: i64, body: Vec<Bytes>) -> Self {
        let parts = u16::try_from(body.len()).unwrap_or(u16::MAX);
        let mut head = BytesMut::with_capacity(FIXED_BYTES + LENGTH_BYTES * parts as usize + CRC_BYTES);
        head.put_u8(FORMAT);
        head.put_u8(tag as u8);
        head.put_u16_le(version);
        head.put_u16_le(flags.0);
        head.put_u16_le(parts);
        head.put_i64_le(leader_ts);
        head.put_u32_le(0);
        for part in body.iter().take(parts as usize) {
            head.put_u32_le(u32::try_from(part.len()).unwrap_or(u32::MAX));
        }
        let crc = crc32c::crc32c(&head);
        head.put_u32_le(crc);
        Payload { head: head.freeze(), body }
    }

    /// The header, checked against its checksum and against the parts.
    pub fn header(&self) -> Result<Header, Error> {
        let (header, header_bytes) = decode_header(&self.head)?;
        if header_bytes != self.head.len() {
            return Err(Error::Length { needs: header_bytes, has: self.head.len() });
        }
        if header.parts as usize != self.body.len() {
            return Err(Error::Parts(self.body.len()));
        }
        for (place, part) in self.body.iter().enumerate() {
            if length_of_part(&self.head, place)? != part.len() {
                return Err(Error::Parts(self.body.len()));
            }
        }
        Ok(header)
    }

    /// Splits one stored value into header and parts, all slices of `stored`. Checks the header's crc and every length.
    pub fn from_bytes(stored: Bytes) -> Result<Self, Error> {
        let (header, header_bytes) = decode_header(&stored)?;
        let mut body = Vec::with_capacity(header.parts as usize);
        let mut at = header_bytes;
        for part in 0..header.parts as usize {
            let end = at + length_of_part(&stored, part)?;
            if end > stored.len() {
                return Err(Error::Length { needs: end, has: stored.len() });
            }
            body.push(stored.slice(at..end));
            at = end;
        }
        if at != stored.len() {
            return Err(Error::Length { needs: at, has: stored.len() });
        }
        Ok(Payload { head: stored.slice(..header_bytes), body })
    }

    /// Bytes of header and parts together, which is what storing the entry costs.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there are no bytes at all; an encoded entry never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices in the order they are stored, for a vectored write.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.head).chain(&self.body)
    }

    /// Whether the payload is within what one entry may hold.
    pub fn fits(&self) -> bool {
        self.body.len() <= limits::BATCHES_PER_ENTRY_MAX && self.len() <= limits::ENTRY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(payload: &Payload) -> Bytes {
        Bytes::from(payload.parts().flat_map(|part| part.to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn golden_header() {
        let payload = Payload::append(0x0102, vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let mut want = vec![1, 2, 0, 0, 1, 0, 2, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0];
        let crc = crc32c::crc32c(&want);
        want.extend(crc.to_le_bytes());
        assert_eq!(payload.head, want);
        assert_eq!(payload.len(), want.len() + 3);
    }

    #[test]
    fn stored_value_splits_into_slices_of_itself() {
        let payload = Payload::append(-5, vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")]);
        let stored = joined(&payload);
        let split = Payload::from_bytes(stored.clone()).unwrap();
        assert_eq!(split, payload);
        assert!(stored.as_ptr_range().contains(&split.body[2].as_ptr()), "no copy");
        let header = split.header().unwrap();
        assert_eq!((header.tag, header.parts, header.leader_ts, header.flags), (Tag::Append, 3, -5, Flags::KAFKA));
        assert_eq!(Payload::from_bytes(joined(&Payload::blank(1))).unwrap().header().unwrap().tag, Tag::Blank);
    }

    #[test]
    fn every_damaged_byte_of_the_header_is_seen() {
        let payload = Payload::append(9, vec![Bytes::from_static(b"one")]);
        let stored = joined(&payload);
        for at in 0..payload.head.len() {
            for bit in 0..8 {
                let mut bytes = stored.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(Payload::from_bytes(Bytes::from(bytes)).is_err(), "bit {bit} of byte {at}");
            }
        }
        for end in 0..stored.len() {
            assert!(Payload::from_bytes(stored.slice(..end)).is_err(), "cut at {end}");
        }
        let longer = [&stored[..], b"x"].concat();
        assert!(matches!(Payload::from_bytes(Bytes::from(longer)), Err(Error::Length { .. })));
    }

    #[test]
    fn reserved_tags_are_refused() {
        for tag in (7..=255u8).filter(|tag| *tag != Tag::Coordinator as u8) {
            let mut head = Payload::blank(0).head[..20].to_vec();
            head[1] = tag;
            let crc = crc32c::crc32c(&head);
            head.extend(crc.to_le_bytes());
            assert_eq!(Payload::from_bytes(Bytes::from(head)), Err(Error::Tag(tag)));
        }
    }

    #[test]
    fn header_and_body_must_agree() {
        let mut payload = Payload::append(0, vec![Bytes::from_static(b"one")]);
        payload.body.push(Bytes::from_static(b"two"));
        assert_eq!(payload.header(), Err(Error::Parts(2)));
        payload.body = vec![Bytes::from_static(b"longer")];
        assert_eq!(payload.header(), Err(Error::Parts(1)));
    }

    /// A header of hostile fields under a right checksum, and bytes after it.
    fn forged(head: &[u8], lengths: &[u32], rest: &[u8]) -> Bytes {
        let mut bytes = head.to_vec();
        bytes[0] = FORMAT;
        bytes[1] %= 8;
        bytes[6..8].copy_from_slice(&(lengths.len() as u16).to_le_bytes());
        bytes.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(rest);
        Bytes::from(bytes)
    }

    proptest! {
        #![proptest_config(crate::testing::config())]

        #[test]
        fn whatever_is_split_is_whole(
            head in proptest::collection::vec(any::<u8>(), FIXED_BYTES),
            lengths in proptest::collection::vec(prop_oneof![3 => 0u32..9, 1 => any::<u32>()], 0..5),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
            fitting in any::<bool>(),
        ) {
            let wanted: usize = lengths.iter().map(|length| *length as usize).sum();
            let rest = if fitting && wanted < 64 { vec![7; wanted] } else { rest };
            let stored = forged(&head, &lengths, &rest);
            let split = Payload::from_bytes(stored.clone());
            prop_assert_eq!(split.is_ok(), wanted == rest.len() && head[1] % 8 < 7);
            if let Ok(payload) = split {
                prop_assert_eq!(joined(&payload), stored);
                prop_assert!(payload.header().is_ok());
            }
        }

        #[test]
        fn noise_is_never_an_entry(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Payload::from_bytes(Bytes::from(bytes)).is_err());
        }
    }
}
