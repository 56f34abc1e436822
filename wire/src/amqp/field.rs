//! The elementary domains of AMQP: how an argument lies on the wire, in both directions.
//! Invariant: a length is checked against the bytes present before they are taken; what is taken is a slice of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Error, Result};

/// A short string: at most 255 bytes, by convention UTF-8, by RabbitMQ's practice any bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr(Bytes);

impl ShortStr {
    /// Of any bytes.
    ///
    /// # Errors
    /// [`Error::Encode`] above 255 bytes: names of another protocol may be longer.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.len() > u8::MAX.into() { Err(Error::Encode("short string above 255 bytes")) } else { Ok(Self(bytes)) }
    }

    /// Of a text for people, such as a reply text: what does not fit is cut off, between characters.
    #[must_use]
    pub fn shortened(text: &str) -> Self {
        Self(Bytes::copy_from_slice(&text.as_bytes()[..text.floor_char_boundary(u8::MAX.into())]))
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes, a slice of the frame they came in: a copy of a few bytes that is kept holds the whole frame.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl std::ops::Deref for ShortStr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Bits lie in one octet as long as only bits follow; `8` is a full one, or none.
const NO_OCTET: u8 = 8;

/// Takes arguments off the front of a payload.
pub(crate) struct Reader {
    rest: Bytes,
    octet: u8,
    bits_taken: u8,
}

impl Reader {
    pub fn new(payload: Bytes) -> Self {
        Self { rest: payload, octet: 0, bits_taken: NO_OCTET }
    }

    pub fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes> {
        self.bits_taken = NO_OCTET;
        if length > self.rest.len() {
            return Err(self.malformed(what, "longer than the bytes present"));
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.bits_taken = NO_OCTET;
        let array = *self.rest.first_chunk().ok_or_else(|| self.malformed(what, "longer than the bytes present"))?;
        self.rest.advance(N);
        Ok(array)
    }

    fn bit(&mut self, what: &'static str) -> Result<bool> {
        if self.bits_taken == NO_OCTET {
            [self.octet] = self.array(what)?;
            self.bits_taken = 0;
        }
        self.bits_taken += 1;
        Ok(self.octet >> (self.bits_taken - 1) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(&self) -> Bytes {
        self.rest.clone()
    }

    /// Nothing may follow the last argument.
    pub fn finish(&self, what: &'static str) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed(what, "ended early")) }
    }

    pub fn malformed(&self, what: &'static str, problem: &'static str) -> Error {
        Error::Malformed { what, problem, remaining: self.rest.len() }
    }
}

/// Appends arguments to a payload.
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    bits_put: u8,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut BytesMut) -> Self {
        Self { out, bits_put: NO_OCTET }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.bits_put = NO_OCTET;
        self.out.put_slice(bytes);
    }

    fn bit(&mut self, bit: bool) {
        if self.bits_put == NO_OCTET {
            self.out.put_u8(0);
            self.bits_put = 0;
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.bits_put;
        }
        self.bits_put += 1;
    }
}

/// A domain of the specification.
pub(crate) trait Argument: Sized {
    fn read(from: &mut Reader, what: &'static str) -> Result<Self>;

    /// What is longer than its length field can say is longer than any frame: refused there.
    fn write(&self, to: &mut Writer<'_>);
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Argument for $number {
            fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
                from.array(what).map(<$number>::from_be_bytes)
            }

            fn write(&self, to: &mut Writer<'_>) {
                to.put(&self.to_be_bytes());
            }
        }
    )*};
}

numbers! { u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 }

/// A bit.
impl Argument for bool {
    fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
        from.bit(what)
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.bit(*self);
    }
}

impl Argument for ShortStr {
    fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
        let length = u8::read(from, what)?;
        from.take(what, length.into()).map(Self)
    }

    fn write(&self, to: &mut Writer<'_>) {
        (self.0.len() as u8).write(to);
        to.put(&self.0);
    }
}

/// A long string.
impl Argument for Bytes {
    fn read(from: &mut Reader, what: &'static str) -> Result<Self> {
        let length = u32::read(from, what)?;
        from.take(what, length as usize)
    }

    fn write(&self, to: &mut Writer<'_>) {
        (self.len() as u32).write(to);
        to.put(self);
    }
}
