//! What stands between a method with content and the body: the body's size and the properties.
//! Invariant: [`RawProperties`] are well formed, and go out as the bytes that came in unless somebody rewrites them.

use bytes::{Bytes, BytesMut};

use super::field::{Argument, Reader, ShortStr, Writer};
use super::{Result, Table, method};

/// A content header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// Bytes of the body, in as many frames as it takes.
    pub body_bytes: u64,
    /// The properties, unread.
    pub properties: RawProperties,
}

impl ContentHeader {
    /// Reads the payload of a header frame.
    ///
    /// # Errors
    /// [`super::Error::Malformed`], also for a class other than basic: no other has content.
    pub fn decode(payload: Bytes) -> Result<Self> {
        let mut from = Reader::new(payload);
        if u16::read(&mut from, "class of the content")? != method::basic::CLASS {
            return Err(from.malformed("class of the content", "not basic"));
        }
        u16::read(&mut from, "weight")?;
        let body_bytes = u64::read(&mut from, "body size")?;
        Ok(Self { body_bytes, properties: RawProperties::from_bytes(from.rest())? })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        method::basic::CLASS.write(to);
        0u16.write(to);
        self.body_bytes.write(to);
        to.put(&self.properties.0);
    }
}

/// Properties as they lie on the wire: flags, then those that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawProperties(Bytes);

/// None.
impl Default for RawProperties {
    fn default() -> Self {
        Self(Bytes::from_static(&[0, 0]))
    }
}

impl RawProperties {
    /// Of bytes that were [`RawProperties::as_bytes`] once, wherever they have been since.
    ///
    /// # Errors
    /// [`super::Error::Malformed`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        Properties::read(bytes.clone())?;
        Ok(Self(bytes))
    }

    /// Each property by its name; slices of the same bytes.
    #[must_use]
    pub fn read(&self) -> Properties {
        Properties::read(self.0.clone()).unwrap_or_default()
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Flags come in words of 16; the lowest bit says that another word follows, and basic needs only one.
const KNOWN_FLAGS: u16 = 0xfffc;

macro_rules! properties {
    ($($(#[$meta:meta])* $name:ident: $type:ty = $bit:literal;)*) => {
        /// The properties of a message, each if it was given.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Properties {
            $($(#[$meta])* pub $name: Option<$type>,)*
        }

        impl Properties {
            fn read(bytes: Bytes) -> Result<Self> {
                let mut from = Reader::new(bytes);
                let flags = u16::read(&mut from, "property flags")?;
                if flags & !KNOWN_FLAGS != 0 {
                    return Err(from.malformed("property flags", "unknown flag"));
                }
                let properties = Self {
                    $($name: if flags & 1 << $bit == 0 { None } else {
                        Some(Argument::read(&mut from, stringify!($name))?)
                    },)*
                };
                from.finish("properties")?;
                Ok(properties)
            }

            /// The properties as they lie on the wire.
            #[must_use]
            pub fn to_raw(&self) -> RawProperties {
                let mut out = BytesMut::new();
                let mut to = Writer::new(&mut out);
                let flags = 0u16 $(| u16::from(self.$name.is_some()) << $bit)*;
                flags.write(&mut to);
                $(if let Some(property) = &self.$name {
                    property.write(&mut to);
                })*
                RawProperties(out.freeze())
            }

            #[cfg(test)]
            pub(crate) fn sample(random: &mut crate::bound::generate::Random) -> Self {
                use super::tests::sample::Sample;
                Self { $($name: (random.below(2) == 0).then(|| Sample::sample(random)),)* }
            }
        }
    };
}

properties! {
    /// MIME type.
    content_type: ShortStr = 15;
    /// MIME encoding.
    content_encoding: ShortStr = 14;
    /// What the application likes; the headers exchange routes by it.
    headers: Table = 13;
    /// 2 is persistent.
    delivery_mode: u8 = 12;
    /// 0 to 255.
    priority: u8 = 11;
    /// Which request this answers.
    correlation_id: ShortStr = 10;
    /// Where to answer.
    reply_to: ShortStr = 9;
    /// Milliseconds to live, in decimal digits.
    expiration: ShortStr = 8;
    /// The application's name of it.
    message_id: ShortStr = 7;
    /// Seconds since 1970.
    timestamp: u64 = 6;
    /// The application's kind of message: `type`.
    kind: ShortStr = 5;
    /// Must be the user that publishes.
    user_id: ShortStr = 4;
    /// Which application made it.
    app_id: ShortStr = 3;
    /// Deprecated, and carried.
    cluster_id: ShortStr = 2;
}
