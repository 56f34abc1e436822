//! What messages of a queue say of themselves when they are appended: the last part of an append entry of version 1.
//! Layout: for each note ordinal u16, fields u8, then of priority u8, not_before i64, expires_at i64, letter (group u32, queue u32,
//! number u64, lowest u64) and once (until i64, key u128) those that `fields` names, all little endian.
//! Invariant: at most one note for a batch, in the order of batches. Must never trust a byte: what is wrong is no note at all.

use bytes::{BufMut, Bytes, BytesMut};

use super::Once;
use super::ackset::{Fact, Place};
use crate::command::{Flags, Header, Payload, Tag};
use crate::ids::GroupId;

/// The version of an append entry whose last part is notes.
const WITH_NOTES: u16 = 1;
const PRIORITY: u8 = 1;
const NOT_BEFORE: u8 = 2;
const EXPIRES_AT: u8 = 4;
const LETTER: u8 = 8;
const ONCE: u8 = 16;
const SURPLUS: u8 = 32;
const ALL: u8 = PRIORITY | NOT_BEFORE | EXPIRES_AT | LETTER | ONCE | SURPLUS;

/// What the first record of a batch says of itself. A message of a queue is a batch of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Which batch of the entry, from 0.
    pub ordinal: u16,
    /// The higher, the sooner.
    pub priority: Option<u8>,
    /// Not to be delivered before, ms since 1970.
    pub not_before: Option<i64>,
    /// Not to be delivered from then on, ms since 1970.
    pub expires_at: Option<i64>,
    /// It is a dead letter of another queue.
    pub letter: Option<LetterNote>,
    /// It is not appended if it came before.
    pub once: Option<Once>,
    /// It is one too many: dead from the beginning.
    pub surplus: bool,
}

/// Which letter it is: `ackset::Sending`, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterNote {
    /// Whose outbox it comes from.
    pub source: Place,
    /// Its number there.
    pub number: u64,
    /// The lowest number that is still to be sent.
    pub lowest: u64,
}

/// The batches of an append entry, and what their records say of themselves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Appended<'a> {
    pub(crate) batches: &'a [Bytes],
    pub(crate) notes: Vec<Note>,
}

impl Note {
    /// What cursors are to know, where the record got this offset; none if it says nothing of the kind.
    pub(crate) fn fact(&self, offset: i64) -> Option<Fact> {
        let Note { priority, not_before, expires_at, .. } = *self;
        let told = priority.is_some() || not_before.is_some() || expires_at.is_some();
        told.then_some(Fact { offset, priority, not_before, expires_at })
    }

    fn write(&self, out: &mut BytesMut) {
        let field = |bit: u8, there: bool| if there { bit } else { 0 };
        let fields = field(PRIORITY, self.priority.is_some())
            | field(NOT_BEFORE, self.not_before.is_some())
            | field(EXPIRES_AT, self.expires_at.is_some())
            | field(LETTER, self.letter.is_some())
            | field(ONCE, self.once.is_some())
            | field(SURPLUS, self.surplus);
        out.put_u16_le(self.ordinal);
        out.put_u8(fields);
        self.priority.into_iter().for_each(|priority| out.put_u8(priority));
        self.not_before.into_iter().for_each(|time| out.put_i64_le(time));
        self.expires_at.into_iter().for_each(|time| out.put_i64_le(time));
        if let Some(LetterNote { source, number, lowest }) = self.letter {
            out.put_u32_le(source.group.0);
            out.put_u32_le(source.queue);
            out.put_u64_le(number);
            out.put_u64_le(lowest);
        }
        if let Some(Once { until, key }) = self.once {
            out.put_i64_le(until);
            out.put_u128_le(key);
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let ordinal = u16::from_le_bytes(take(bytes)?);
        let [fields] = take(bytes)?;
        if fields & !ALL != 0 {
            return None;
        }
        let mut note = Note { ordinal, surplus: fields & SURPLUS != 0, ..Note::default() };
        if fields & PRIORITY != 0 {
            let [priority] = take(bytes)?;
            note.priority = Some(priority);
        }
        if fields & NOT_BEFORE != 0 {
            note.not_before = Some(i64::from_le_bytes(take(bytes)?));
        }
        if fields & EXPIRES_AT != 0 {
            note.expires_at = Some(i64::from_le_bytes(take(bytes)?));
        }
        if fields & LETTER != 0 {
            let group = GroupId(u32::from_le_bytes(take(bytes)?));
            let source = Place { group, queue: u32::from_le_bytes(take(bytes)?) };
            let (number, lowest) = (u64::from_le_bytes(take(bytes)?), u64::from_le_bytes(take(bytes)?));
            note.letter = Some(LetterNote { source, number, lowest });
        }
        if fields & ONCE != 0 {
            let until = i64::from_le_bytes(take(bytes)?);
            note.once = Some(Once { until, key: u128::from_le_bytes(take(bytes)?) });
        }
        Some(note)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The notes of `batches` batches, if the bytes are that and nothing else.
fn read_all(mut bytes: &[u8], batches: usize) -> Option<Vec<Note>> {
    let mut notes: Vec<Note> = Vec::new();
    while !bytes.is_empty() {
        let note = Note::read(&mut bytes)?;
        let in_order = notes.last().is_none_or(|last| last.ordinal < note.ordinal);
        if !in_order || note.ordinal as usize >= batches {
            return None;
        }
        notes.push(note);
    }
    Some(notes)
}

impl Payload {
    /// An entry of messages for a queue, each a batch of its own, and what they say of themselves, in the order of batches and at most
    /// one note for each. At most one batch less than [`crate::limits::BATCHES_PER_ENTRY_MAX`].
    pub fn append_queue(leader_ts: i64, flags: Flags, mut batches: Vec<Bytes>, notes: &[Note]) -> Self {
        debug_assert!(notes.is_sorted_by(|a, b| a.ordinal < b.ordinal), "{notes:?}");
        let mut part = BytesMut::new();
        notes.iter().for_each(|note| note.write(&mut part));
        batches.push(part.freeze());
        Self::encode_version(Tag::Append, WITH_NOTES, flags, leader_ts, batches)
    }

    /// What an append entry with this header, which is the payload's own, holds; none if that is not to be understood.
    pub(crate) fn appended(&self, header: &Header) -> Option<Appended<'_>> {
        match (header.tag, header.version) {
            (Tag::Append, 0) => Some(Appended { batches: &self.body, notes: Vec::new() }),
            (Tag::Append, WITH_NOTES) => {
                let (notes, batches) = self.body.split_last()?;
                Some(Appended { batches, notes: read_all(notes, batches.len())? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letter() -> LetterNote {
        LetterNote { source: Place { group: GroupId(1030), queue: 7 }, number: 9, lowest: 8 }
    }

    fn payload(batches: usize, notes: &[Note]) -> Payload {
        Payload::append_queue(5, Flags::AMQP, vec![Bytes::from_static(b"batch"); batches], notes)
    }

    fn notes_of(payload: &Payload) -> Option<Vec<Note>> {
        payload.appended(&payload.header().unwrap()).map(|appended| appended.notes)
    }

    #[test]
    fn golden_notes() {
        let all = Note {
            ordinal: 1,
            priority: Some(3),
            not_before: Some(258),
            expires_at: Some(-1),
            letter: Some(letter()),
            once: Some(Once { until: 259, key: 1 << 127 | 2 }),
            surplus: true,
        };
        let payload = payload(2, &[all]);
        let want = "0100 3f 03 0201000000000000 ffffffffffffffff 06040000 07000000 0900000000000000 0800000000000000 \
                    0301000000000000 02000000000000000000000000000080";
        let hex: String = payload.body[2].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, want.replace(' ', ""));
        assert_eq!(payload.header().unwrap().version, 1);
        assert_eq!(notes_of(&payload), Some(vec![all]));
    }

    #[test]
    fn an_append_without_notes_is_all_batches() {
        let plain = Payload::append(5, vec![Bytes::from_static(b"batch"); 2]);
        let appended = plain.appended(&plain.header().unwrap()).unwrap();
        assert_eq!((appended.batches.len(), appended.notes.len()), (2, 0));
        assert_eq!(payload(0, &[]).appended(&payload(0, &[]).header().unwrap()).map(|a| a.batches.len()), Some(0));
        assert_eq!(notes_of(&Payload::encode_version(Tag::Append, WITH_NOTES, Flags::AMQP, 0, vec![])), None);
        assert_eq!(notes_of(&Payload::blank(0)), None);
    }

    #[test]
    fn notes_that_are_none_are_refused() {
        let with = |bytes: &[u8]| {
            let body = vec![Bytes::from_static(b"batch"), Bytes::copy_from_slice(bytes)];
            notes_of(&Payload::encode_version(Tag::Append, WITH_NOTES, Flags::AMQP, 0, body))
        };
        assert_eq!(with(&[0, 0, PRIORITY, 4]).map(|notes| notes[0].priority), Some(Some(4)));
        assert_eq!(with(&[0, 0, PRIORITY]), None, "cut");
        assert_eq!(with(&[0, 0, PRIORITY, 4, 0]), None, "longer");
        assert_eq!(with(&[0, 0, 64]), None, "an unknown field");
        assert_eq!(with(&[1, 0, 0]), None, "of a batch that is not there");
        assert_eq!(with(&[0, 0, 0, 0, 0, 0]), None, "two of one batch");
    }

    proptest! {
        #![proptest_config(crate::testing::config())]

        #[test]
        fn noise_is_refused_or_comes_back_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(notes) = read_all(&bytes, 1 << 16) {
                let mut again = BytesMut::new();
                notes.iter().for_each(|note| note.write(&mut again));
                prop_assert_eq!(&again[..], &bytes[..]);
            }
        }
    }
}
