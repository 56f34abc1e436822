//! Field tables: kept as the bytes they came in, walked once for validity, read entry by entry when somebody asks.
//! Invariant: the bytes of a [`Table`] or [`Array`] are well formed and nest at most [`DEPTH_MAX`] deep; recursion is
//! bounded by that. A table that only passes through leaves as it came: order, doubles and tags.

use bytes::{Bytes, BytesMut};

use super::field::{Argument, Reader, ShortStr, Writer};
use super::{Error, Result};

/// A table in an array in a table is three deep. RabbitMQ's own headers (`x-death`) need three.
pub const DEPTH_MAX: usize = 16;

/// A field table, without its length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Table(Bytes);

/// A field array, without its length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Array(Bytes);

/// `value / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// Digits behind the point.
    pub scale: u8,
    /// All digits.
    pub value: u32,
}

/// A value in a table or array, with RabbitMQ's reading of the tags, which differs from the specification's for `s`
/// (a 16-bit number); `U` and `L` are read as the specification has them.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the types say it")]
pub enum Value {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Decimal(Decimal),
    /// A long string: text in most clients.
    Str(Bytes),
    /// A byte array, RabbitMQ's `x`.
    Bytes(Bytes),
    /// Seconds since 1970.
    Timestamp(u64),
    Array(Array),
    Table(Table),
    Void,
}

impl Value {
    /// A long string of this text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Str(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A whole number of whatever width: clients differ in the tag they choose for `x-message-ttl`.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(number) => Some(number.into()),
            Self::U8(number) => Some(number.into()),
            Self::I16(number) => Some(number.into()),
            Self::U16(number) => Some(number.into()),
            Self::I32(number) => Some(number.into()),
            Self::U32(number) => Some(number.into()),
            Self::I64(number) => Some(number),
            Self::U64(number) => i64::try_from(number).ok(),
            _ => None,
        }
    }

    /// After a check that the bytes hold one.
    fn read(from: &mut Reader) -> Result<Self> {
        let what = "table value";
        Ok(match u8::read(from, what)? {
            b't' => Self::Bool(u8::read(from, what)? != 0),
            b'b' => Self::I8(Argument::read(from, what)?),
            b'B' => Self::U8(Argument::read(from, what)?),
            b's' | b'U' => Self::I16(Argument::read(from, what)?),
            b'u' => Self::U16(Argument::read(from, what)?),
            b'I' => Self::I32(Argument::read(from, what)?),
            b'i' => Self::U32(Argument::read(from, what)?),
            b'l' => Self::I64(Argument::read(from, what)?),
            b'L' => Self::U64(Argument::read(from, what)?),
            b'f' => Self::F32(Argument::read(from, what)?),
            b'd' => Self::F64(Argument::read(from, what)?),
            b'D' => Self::Decimal(Decimal { scale: Argument::read(from, what)?, value: Argument::read(from, what)? }),
            b'S' => Self::Str(Argument::read(from, what)?),
            b'x' => Self::Bytes(Argument::read(from, what)?),
            b'T' => Self::Timestamp(Argument::read(from, what)?),
            b'A' => Self::Array(Array(Argument::read(from, what)?)),
            b'F' => Self::Table(Table(Argument::read(from, what)?)),
            b'V' => Self::Void,
            _ => return Err(from.malformed(what, "unknown tag")),
        })
    }

    fn write(&self, to: &mut Writer<'_>) {
        match self {
            Self::Bool(value) => to.put(&[b't', u8::from(*value)]),
            Self::I8(value) => put(to, b'b', value),
            Self::U8(value) => put(to, b'B', value),
            Self::I16(value) => put(to, b's', value),
            Self::U16(value) => put(to, b'u', value),
            Self::I32(value) => put(to, b'I', value),
            Self::U32(value) => put(to, b'i', value),
            Self::I64(value) => put(to, b'l', value),
            Self::U64(value) => put(to, b'L', value),
            Self::F32(value) => put(to, b'f', value),
            Self::F64(value) => put(to, b'd', value),
            Self::Decimal(value) => {
                put(to, b'D', &value.scale);
                value.value.write(to);
            }
            Self::Str(value) => put(to, b'S', value),
            Self::Bytes(value) => put(to, b'x', value),
            Self::Timestamp(value) => put(to, b'T', value),
            Self::Array(value) => put(to, b'A', &value.0),
            Self::Table(value) => put(to, b'F', &value.0),
            Self::Void => to.put(b"V"),
        }
    }
}

fn put(to: &mut Writer<'_>, tag: u8, value: &impl Argument) {
    to.put(&[tag]);
    value.write(to);
}

impl Table {
    /// The entries in their order, doubles included.
    pub fn iter(&self) -> impl Iterator<Item = (ShortStr, Value)> + use<> {
        let mut reader = Reader::new(self.0.clone());
        std::iter::from_fn(move || entry(&mut reader).ok())
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.iter().find(|(found, _)| **found == *name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without the length in front.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Of bytes that were [`Table::as_bytes`] once, wherever they have been since.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        check(&bytes, true, 1)?;
        Ok(Self(bytes))
    }
}

impl Array {
    /// Of these values in this order.
    ///
    /// # Errors
    /// [`Error::Encode`] if it nests too deep.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<Self> {
        let mut out = BytesMut::new();
        values.into_iter().for_each(|value| value.write(&mut Writer::new(&mut out)));
        check(&out, false, 1).map_err(|_| TOO_DEEP)?;
        Ok(Self(out.freeze()))
    }

    /// The bytes, without the length in front.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The values in their order.
    pub fn iter(&self) -> impl Iterator<Item = Value> + use<> {
        let mut reader = Reader::new(self.0.clone());
        std::iter::from_fn(move || Value::read(&mut reader).ok())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

const TOO_DEEP: Error = Error::Encode("table nested too deep");

/// Writes a table entry by entry.
#[derive(Debug, Default)]
pub struct TableBuilder {
    out: BytesMut,
    has_long_name: bool,
}

impl TableBuilder {
    /// Appends an entry. Whether the name is there already is the caller's business.
    #[must_use]
    pub fn put(mut self, name: impl AsRef<[u8]>, value: &Value) -> Self {
        let name = name.as_ref();
        self.has_long_name |= name.len() > u8::MAX.into();
        let mut to = Writer::new(&mut self.out);
        to.put(&[name.len() as u8]);
        to.put(name);
        value.write(&mut to);
        self
    }

    /// Appends all entries of another table, byte by byte.
    #[must_use]
    pub fn put_all(mut self, table: &Table) -> Self {
        self.out.extend_from_slice(&table.0);
        self
    }

    /// The table.
    ///
    /// # Errors
    /// [`Error::Encode`] for a name above 255 bytes, or one level too many.
    pub fn build(self) -> Result<Table> {
        if self.has_long_name {
            return Err(Error::Encode("name above 255 bytes in a table"));
        }
        check(&self.out, true, 1).map_err(|_| TOO_DEEP)?;
        Ok(Table(self.out.freeze()))
    }
}

impl Argument for Table {
    fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
        Self::from_bytes(Bytes::read(from, what)?)
    }

    fn write(&self, to: &mut Writer<'_>) {
        self.0.write(to);
    }
}

fn entry(reader: &mut Reader) -> Result<(ShortStr, Value)> {
    Ok((Argument::read(reader, "name in a table")?, Value::read(reader)?))
}

/// Walks the entries (`named`) of a table or the values of an array, which is `depth` deep itself. Allocates nothing.
fn check(mut rest: &[u8], named: bool, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::Malformed { what: "table", problem: "nested too deep", remaining: rest.len() });
    }
    while !rest.is_empty() {
        if named {
            let length = take(&mut rest, 1)?[0];
            take(&mut rest, length.into())?;
        }
        let tag = take(&mut rest, 1)?[0];
        match tag {
            b'V' => {}
            b't' | b'b' | b'B' => skip(&mut rest, 1)?,
            b's' | b'U' | b'u' => skip(&mut rest, 2)?,
            b'I' | b'i' | b'f' => skip(&mut rest, 4)?,
            b'D' => skip(&mut rest, 5)?,
            b'l' | b'L' | b'd' | b'T' => skip(&mut rest, 8)?,
            b'S' | b'x' => take_long(&mut rest).map(|_| ())?,
            b'A' | b'F' => check(take_long(&mut rest)?, tag == b'F', depth + 1)?,
            _ => return Err(malformed("unknown tag", rest)),
        }
    }
    Ok(())
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take(rest, 4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(rest, length)
}

fn skip(rest: &mut &[u8], length: usize) -> Result<()> {
    take(rest, length).map(|_| ())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    rest.split_off(..length).ok_or_else(|| malformed("longer than the bytes present", rest))
}

fn malformed(problem: &'static str, rest: &[u8]) -> Error {
    Error::Malformed { what: "table", problem, remaining: rest.len() }
}
