//! Records of one batch, read one by one from decompressed bytes. Slices only: nothing is copied or collected.
//! Invariant: every length is checked against the bytes present; iteration ends at the first bad record.

use bytes::{Buf, Bytes};

use super::{BatchError, BatchHeader, Result};

/// One record. Key, value and headers are slices of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in the log, given the batch's base offset.
    pub offset: i64,
    /// Milliseconds since 1970; the append time if the batch is stamped so.
    pub timestamp_ms: i64,
    /// Key; null is not the same as empty.
    pub key: Option<Bytes>,
    /// Value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, read when iterated.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name; not checked to be UTF-8.
    pub key: Bytes,
    /// Its value, which may be null.
    pub value: Option<Bytes>,
}

/// Iterator over the headers of one record. They were checked when the record was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    rest: Bytes,
    left: i32,
}

impl Headers {
    /// Number of headers left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Headers {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        take_header(&mut self.rest)
    }
}

/// Iterator over the records of one batch.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    rest: Bytes,
    next: i32,
}

impl Records {
    pub(super) const fn new(header: &BatchHeader, body: Bytes) -> Self {
        Self { header: *header, rest: body, next: 0 }
    }

    /// What is not read yet.
    pub(super) const fn rest(&self) -> &Bytes {
        &self.rest
    }

    fn read(&mut self) -> std::result::Result<Record, &'static str> {
        let length = take_varint(&mut self.rest).ok_or("no length")?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len()).ok_or("bad length")?;
        let mut bytes = self.rest.split_to(length);
        if !bytes.has_remaining() {
            return Err("no attributes");
        }
        bytes.advance(1);
        let timestamp_delta = take_varlong(&mut bytes).ok_or("no timestamp")?;
        let offset_delta = take_varint(&mut bytes).ok_or("no offset")?;
        let key = take_nullable(&mut bytes).ok_or("bad key")?;
        let value = take_nullable(&mut bytes).ok_or("bad value")?;
        let headers = take_headers(&mut bytes).ok_or("bad headers")?;
        let timestamp_ms = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.wrapping_add(timestamp_delta)
        };
        let offset = self.header.base_offset.wrapping_add(offset_delta.into());
        Ok(Record { offset, timestamp_ms, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let index = self.next;
        if index >= self.header.record_count {
            let trailing = index == self.header.record_count && !self.rest.is_empty();
            self.next = i32::MAX;
            self.rest.clear();
            return trailing.then_some(Err(BatchError::Record { index, problem: "bytes after the last record" }));
        }
        let record = self.read().map_err(|problem| BatchError::Record { index, problem });
        self.next = if record.is_ok() { index + 1 } else { i32::MAX };
        Some(record)
    }
}

/// Walks the headers once to check them; what remains must be exactly them.
fn take_headers(bytes: &mut Bytes) -> Option<Headers> {
    let left = take_varint(bytes).filter(|count| *count >= 0)?;
    let mut walk = bytes.clone();
    (0..left).try_for_each(|_| take_header(&mut walk).map(|_| ()))?;
    walk.is_empty().then(|| Headers { rest: std::mem::take(bytes), left })
}

fn take_header(bytes: &mut Bytes) -> Option<Header> {
    let key = take_nullable(bytes)??;
    let value = take_nullable(bytes)?;
    Some(Header { key, value })
}

/// Outer `None`: malformed. Inner `None`: null.
fn take_nullable(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    match take_varint(bytes)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
            Some(Some(bytes.split_to(length)))
        }
    }
}

fn take_varint(bytes: &mut Bytes) -> Option<i32> {
    i32::try_from(take_varlong(bytes)?).ok()
}

fn take_varlong(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = bytes.has_remaining().then(|| bytes.get_u8())?;
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
