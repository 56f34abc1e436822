//! What consumers of the classic protocol tell each other in opaque bytes: the topics that one subscribes to (JoinGroup, Kafka's
//! ConsumerProtocolSubscription) and the partitions that it gets (SyncGroup, ConsumerProtocolAssignment), which all versions have
//! in the same place. Never: refuses; bytes that are none of a consumer's say nothing.

use bytes::{Buf, Bytes};

/// The topics of a subscription, or none if the bytes are no subscription.
#[must_use]
pub fn topics(mut metadata: Bytes) -> Vec<String> {
    read(&mut metadata).unwrap_or_default()
}

/// The partitions of an assignment, by topic, or none if the bytes are no assignment.
#[must_use]
pub fn partitions(mut assignment: Bytes) -> Vec<(String, Vec<i32>)> {
    assigned(&mut assignment).unwrap_or_default()
}

fn assigned(from: &mut Bytes) -> Option<Vec<(String, Vec<i32>)>> {
    from.try_get_i16().ok().filter(|version| *version >= 0)?;
    let topic = |from: &mut Bytes| {
        let name = name(from)?;
        let count = count(from, 4)?;
        Some((name, (0..count).map(|_| from.try_get_i32().ok()).collect::<Option<_>>()?))
    };
    // A name and a count take six bytes at least.
    let count = count(from, 6)?;
    (0..count).map(|_| topic(from)).collect()
}

/// A declared count of things that take `each` bytes at least: nothing is allocated that is not there.
fn count(from: &mut Bytes, each: usize) -> Option<usize> {
    let count = usize::try_from(from.try_get_i32().ok()?).ok()?;
    (count <= from.remaining() / each).then_some(count)
}

fn read(from: &mut Bytes) -> Option<Vec<String>> {
    from.try_get_i16().ok().filter(|version| *version >= 0)?;
    let count = count(from, 2)?;
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

    #[test]
    fn assignments_are_read_and_hostile_bytes_are_none() {
        let two = [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7];
        let assignment = [&[0, 1, 0, 0, 0, 1, 0, 1, b't'][..], &two[2..], &[0xff; 4]].concat();
        assert_eq!(partitions(assignment.clone().into()), [("t".to_owned(), vec![0, 7])]);
        for cut in 0..21 {
            assert!(partitions(Bytes::copy_from_slice(&assignment[..cut])).is_empty(), "{cut}");
        }
        let hostile = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff];
        assert!(partitions(Bytes::copy_from_slice(&hostile)).is_empty());
    }
}
