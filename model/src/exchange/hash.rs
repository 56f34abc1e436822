//! The consistent hash: each binding draws a lot for a message, weighted, and the highest wins (rendezvous hashing). A binding
//! that comes or goes moves only what it wins or had won; nothing is kept beside the bindings.

use super::{Destination, HashOn, Routed};

/// A binding key that is a weight: a whole number from 1 to this.
const WEIGHT_MAX: u32 = 1_000_000;

/// The weight that a binding key names.
pub(crate) fn weight_of(key: &str) -> Option<u32> {
    key.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))
}

/// What the hash is taken of; a message without it is like any other without it.
pub(super) fn subject(on: &HashOn, message: &Routed<'_>) -> Vec<u8> {
    match on {
        HashOn::Key => message.key.as_bytes().to_vec(),
        HashOn::Header(name) => message.headers.get(name).map(|value| value.hashed()).unwrap_or_default(),
        HashOn::Property(name) => message.headers.property(name).unwrap_or_default().into_bytes(),
    }
}

/// FNV-1a, then spread: neighbours in their bytes must be strangers in their hash.
pub(crate) fn spread_hash(parts: [&[u8]; 3]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Where a name lies between 0 and 1: the same on every node, and strangers far apart.
pub fn share_of(name: &[u8]) -> f64 {
    (spread_hash([name, &[], &[]]) >> 11) as f64 / (1u64 << 53) as f64
}

/// The lot of a destination: the highest of `weight` draws between 0 and 1, as its logarithm.
pub(super) fn lot(subject: &[u8], destination: &Destination, weight: u32) -> f64 {
    let kind = matches!(destination, Destination::Exchange(_));
    let drawn = spread_hash([subject, destination.name().as_bytes(), &[u8::from(kind)]]);
    let between = ((drawn >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    between.ln() / f64::from(weight)
}
