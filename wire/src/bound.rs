//! The guard before the codec: walks a request by its schema and checks every length, count and null against the
//! bytes present, without allocating. Owns the limits on what one request may expand to.
//! Invariant: recursion follows the static schema only (depth <= 5), never the input; time is linear in the bytes.

#[cfg(test)]
pub(crate) mod generate;

use crate::{Error, Result};

/// Array elements plus tagged fields in one request. A decoded element takes about 100 bytes (a tagged field 40, twice
/// while it is read), so a request of any size expands by some 10 MB at most. Kafka 4.4 allows 1,000,000 per array.
pub(crate) const MAX_ELEMENTS: usize = 100_000;
/// The same for a response, which our own clients read: Metadata of a large cluster has many small arrays.
const MAX_RESPONSE_ELEMENTS: usize = 4_000_000;
/// Kafka's own limit of a string, also in its compact form.
const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// How a value lies on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A number, bool or uuid of so many bytes.
    Fixed(usize),
    /// UTF-8; its validity is the codec's business.
    Str,
    /// Opaque bytes.
    Bytes,
    /// Elements of one kind.
    Array(&'static Kind),
    /// Fields in order, then tagged fields in flexible versions.
    Struct(&'static [Field]),
}

/// One field of a schema and the versions it is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    nullable_since: i16,
    tag: Option<u32>,
}

/// A field present in all versions and never null; narrowed by the methods of [`Field`].
pub(crate) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, nullable_since: i16::MAX, tag: None }
}

impl Field {
    pub(crate) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    pub(crate) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    pub(crate) const fn nullable(mut self, since: i16) -> Self {
        self.nullable_since = since;
        self
    }

    pub(crate) const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    fn is_in(&self, version: i16) -> bool {
        self.since <= version && version <= self.until
    }
}

/// Checks that `bytes` begin with a request of this schema and version. Bytes after it are let be, as Kafka lets them:
/// librdkafka 2.12 to 2.16 sends three of them after its Metadata request for all topics.
pub(crate) fn check(schema: &'static [Field], version: i16, flexible: bool, bytes: &[u8]) -> Result<()> {
    Scan { rest: bytes, version, flexible, elements_left: MAX_ELEMENTS }.fields(schema)
}

/// Checks that `bytes` are exactly one response of this schema and version.
pub(crate) fn check_response(schema: &'static [Field], version: i16, flexible: bool, bytes: &[u8]) -> Result<()> {
    let mut scan = Scan { rest: bytes, version, flexible, elements_left: MAX_RESPONSE_ELEMENTS };
    scan.fields(schema)?;
    scan.finish("message")
}

struct Scan<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl<'a> Scan<'a> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<()> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                let nullable = self.version >= field.nullable_since;
                self.value(field.name, &field.kind, nullable)?;
            }
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn value(&mut self, name: &'static str, kind: &'static Kind, nullable: bool) -> Result<()> {
        match kind {
            Kind::Fixed(size) => self.skip(name, *size),
            Kind::Str => match self.string_length(name)? {
                Some(length) if length > MAX_STRING_BYTES => Err(self.malformed(name, "string too long")),
                Some(length) => self.skip(name, length),
                None => self.null(name, nullable),
            },
            Kind::Bytes => match self.length(name)? {
                Some(length) => self.skip(name, length),
                None => self.null(name, nullable),
            },
            Kind::Array(element) => match self.length(name)? {
                Some(count) => self.array(name, element, count),
                None => self.null(name, nullable),
            },
            Kind::Struct(fields) if nullable => match self.byte(name)? as i8 {
                ..0 => Ok(()),
                _ => self.fields(fields),
            },
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn array(&mut self, name: &'static str, element: &'static Kind, count: usize) -> Result<()> {
        if count > self.rest.len() {
            return Err(self.malformed(name, "array longer than the bytes present"));
        }
        self.charge(name, count)?;
        if let Kind::Fixed(size) = element {
            return self.skip(name, count.saturating_mul(*size));
        }
        (0..count).try_for_each(|_| self.value(name, element, false))
    }

    fn tagged_fields(&mut self, known: &'static [Field]) -> Result<()> {
        let count = self.varint("tagged fields")? as usize;
        if count > self.rest.len() / 2 {
            return Err(self.malformed("tagged fields", "more than the bytes present"));
        }
        self.charge("tagged fields", count)?;
        let mut next_tag = 0u64;
        for _ in 0..count {
            let tag = self.varint("tag")?;
            if u64::from(tag) < next_tag {
                return Err(self.malformed("tag", "out of order"));
            }
            next_tag = u64::from(tag) + 1;
            let size = self.varint("tag size")? as usize;
            let content = self.take("tagged field", size)?;
            if let Some(field) = known.iter().find(|f| f.tag == Some(tag) && f.is_in(self.version)) {
                self.tagged_content(field, content)?;
            }
        }
        Ok(())
    }

    fn tagged_content(&mut self, field: &'static Field, content: &'a [u8]) -> Result<()> {
        let after = std::mem::replace(&mut self.rest, content);
        self.value(field.name, &field.kind, self.version >= field.nullable_since)?;
        self.finish(field.name)?;
        self.rest = after;
        Ok(())
    }

    fn charge(&mut self, what: &'static str, count: usize) -> Result<()> {
        let left = self.elements_left.checked_sub(count);
        self.elements_left = left.ok_or(Error::TooManyElements { what })?;
        Ok(())
    }

    /// Length of a string: i16, or compact.
    fn string_length(&mut self, name: &'static str) -> Result<Option<usize>> {
        if self.flexible {
            return self.compact_length(name);
        }
        let raw = self.take(name, 2)?;
        self.signed_length(name, i64::from(i16::from_be_bytes([raw[0], raw[1]])))
    }

    /// Length of bytes or an array: i32, or compact.
    fn length(&mut self, name: &'static str) -> Result<Option<usize>> {
        if self.flexible {
            return self.compact_length(name);
        }
        let raw = self.take(name, 4)?;
        self.signed_length(name, i64::from(i32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]])))
    }

    fn signed_length(&self, name: &'static str, length: i64) -> Result<Option<usize>> {
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(self.malformed(name, "negative length")),
        }
    }

    fn compact_length(&mut self, name: &'static str) -> Result<Option<usize>> {
        Ok((self.varint(name)? as usize).checked_sub(1))
    }

    fn varint(&mut self, name: &'static str) -> Result<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte(name)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| self.malformed(name, "varint above 32 bits"));
            }
        }
        Err(self.malformed(name, "varint longer than 5 bytes"))
    }

    fn byte(&mut self, name: &'static str) -> Result<u8> {
        Ok(self.take(name, 1)?[0])
    }

    fn skip(&mut self, name: &'static str, length: usize) -> Result<()> {
        self.take(name, length).map(|_| ())
    }

    fn take(&mut self, name: &'static str, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.malformed(name, "longer than the bytes present"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn null(&self, name: &'static str, nullable: bool) -> Result<()> {
        if nullable { Ok(()) } else { Err(self.malformed(name, "null where none may be")) }
    }

    fn finish(&self, what: &'static str) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed(what, "ended early")) }
    }

    fn malformed(&self, what: &'static str, problem: &'static str) -> Error {
        Error::Malformed { what, problem, remaining: self.rest.len() }
    }
}
