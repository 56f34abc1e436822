//! The one binary encoding of structured values, on disk and between nodes: a format byte, then bincode 2 (varint,
//! little endian). Every decode has a size limit, and allocates at most a fixed multiple of the bytes present.
//! The encoding of published types is pinned by golden files (`src/golden`).
//! Never used for payload bytes: they travel beside it.

use bincode::config::{self, Config};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The first byte of every encoded value; another one is refused.
pub const FORMAT: u8 = 1;

/// No value above this is ever decoded, whatever limit the caller names, bytes: the checkpoint of a log with the fullest cursor fits.
pub const LIMIT_MAX: usize = model::limits::ENTRY_BYTES_MAX;

/// Encodes a value.
///
/// # Panics
/// When the type cannot be encoded by bincode at all (a sequence of unknown length): a mistake in our own types.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut out = vec![FORMAT];
    match bincode::serde::encode_into_std_write(value, &mut out, config::standard()) {
        Ok(_) => Bytes::from(out),
        Err(error) => panic!("a type of ours cannot be encoded: {error}"),
    }
}

/// Decodes a value that must fill `bytes` exactly. `limit`: the most bytes the caller expects of such a value.
///
/// # Errors
/// `Decode`: too long, another format, malformed, or bytes left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, Error> {
    if bytes.len() > limit.min(LIMIT_MAX) {
        return Err(Error::Decode(format!("{} bytes, limit {}", bytes.len(), limit.min(LIMIT_MAX))));
    }
    match bytes.split_first() {
        None => Err(Error::Decode("empty".into())),
        Some((&FORMAT, rest)) => decode_bounded(rest),
        Some((other, _)) => Err(Error::Decode(format!("format {other}, this program knows {FORMAT}"))),
    }
}

/// bincode's own limit is a constant of the configuration: one step for small values, one for medium, one for all, so
/// that a length field in a short value cannot make us allocate much.
fn decode_bounded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match bytes.len() {
        0..=1_024 => decode_as(bytes, config::standard().with_limit::<{ 64 << 10 }>()),
        1_025..=65_536 => decode_as(bytes, config::standard().with_limit::<{ 4 << 20 }>()),
        _ => decode_as(bytes, config::standard().with_limit::<{ 16 * LIMIT_MAX }>()),
    }
}

fn decode_as<T: DeserializeOwned, C: Config>(bytes: &[u8], config: C) -> Result<T, Error> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|error| Error::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(Error::Decode(format!("{left} bytes left over"))),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
