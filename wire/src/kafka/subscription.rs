//! What a consumer says of itself in the opaque metadata of JoinGroup (Kafka's ConsumerProtocolSubscription): the topics that it
//! subscribes to, which all versions have in the same place. Never: refuses; metadata that is none of a consumer's has no topics.

use bytes::{Buf, Bytes};

/// The topics of a subscription, or none if the bytes are no subscription.
#[must_use]
pub fn topics(mut metadata: Bytes) -> Vec<String> {
    read(&mut metadata).unwrap_or_default()
}

fn read(from: &mut Bytes) -> Option<Vec<String>> {
    from.try_get_i16().ok().filter(|version| *version >= 0)?;
    let count = usize::try_from(from.try_get_i32().ok()?).ok()?;
    // Each takes two bytes at least: nothing is allocated that is not there.
    if count > from.remaining() / 2 {
        return None;
    }
    (0..count).map(|_| name(from)).collect()
}

fn name(from: &mut Bytes) -> Option<String> {
    let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
    if length > from.remaining() {
        return None;
    }
    String::from_utf8(from.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_hostile_bytes_are_none() {
        let subscription = [&[0, 1, 0, 0, 0, 2, 0, 1, b't', 0, 2, b'u', b'v'][..], &[0xff; 9]].concat();
        assert_eq!(topics(subscription.clone().into()), ["t", "uv"]);
        for cut in 0..13 {
            assert!(topics(Bytes::copy_from_slice(&subscription[..cut])).is_empty(), "{cut}");
        }
        for hostile in [&[0, 0, 0x7f, 0xff, 0xff, 0xff][..], &[0, 0, 0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0, 0, 0, 0]]
        {
            assert!(topics(Bytes::copy_from_slice(hostile)).is_empty(), "{hostile:?}");
        }
    }
}
