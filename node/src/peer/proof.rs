//! Proof that the other side of a connection knows the cluster's secret, without telling it: HMAC-SHA256 over what both
//! sides have said, their random numbers included, so that a proof is good for one connection and one direction.
//! Proves who speaks; encrypts nothing, and does not protect what is said later from someone on the way.
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Which side proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who connected.
    Caller,
    /// Who listens.
    Called,
}

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof([u8; 32]);

/// What both sides have said, the caller first.
pub(super) fn transcript(caller: &impl Serialize, called: &impl Serialize) -> Vec<u8> {
    [storage::codec::encode(caller), storage::codec::encode(called)].concat()
}

impl Proof {
    /// The proof of one side that it knows `secret`.
    pub(super) fn of(secret: &Secret, side: Side, transcript: &[u8]) -> Self {
        Self(mac(secret, side, transcript).finalize().into_bytes().into())
    }

    /// Whether it is the proof of that side. Takes the same time wherever it differs.
    pub(super) fn holds(&self, secret: &Secret, side: Side, transcript: &[u8]) -> bool {
        mac(secret, side, transcript).verify_slice(&self.0).is_ok()
    }
}

/// The key is one block of the hash that begins with the secret's own hash, so that any length will do.
fn mac(secret: &Secret, side: Side, transcript: &[u8]) -> Hmac<Sha256> {
    let mut key = [0; 64];
    key[..32].copy_from_slice(&Sha256::digest(secret.bytes()));
    let mut mac = <Hmac<Sha256> as Mac>::new((&key).into());
    mac.update(match side {
        Side::Caller => b"flotilla caller",
        Side::Called => b"flotilla called",
    });
    mac.update(transcript);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_secret_one_side_and_one_talk() {
        let (secret, talk) = (Secret::new("one of many"), transcript(&1_u32, &2_u32));
        let proof = Proof::of(&secret, Side::Caller, &talk);
        assert!(proof.holds(&secret, Side::Caller, &talk));
        assert!(!proof.holds(&Secret::new("another"), Side::Caller, &talk));
        assert!(!proof.holds(&Secret::default(), Side::Caller, &talk));
        assert!(!proof.holds(&secret, Side::Called, &talk), "sent back to whoever made it");
        assert!(!proof.holds(&secret, Side::Caller, &transcript(&1_u32, &3_u32)), "heard on another connection");
    }
}
