//! What consumers of the classic protocol tell each other in opaque bytes: the topics that one subscribes to (JoinGroup, Kafka's
//! ConsumerProtocolSubscription) and the partitions that it gets (SyncGroup, ConsumerProtocolAssignment), which all versions have
//! in the same place. Never: refuses; bytes that are none of a consumer's say nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Partitions, by the name of their topic.
pub type Partitions = Vec<(String, Vec<i32>)>;

/// From this version on a subscription says what the member goes on reading while it joins.
const OWNED_FROM: i16 = 1;

/// The topics of a subscription, or none if the bytes are no subscription.
#[must_use]
pub fn topics(mut metadata: Bytes) -> Vec<String> {
    read(&mut metadata).unwrap_or_default()
}

/// The partitions of an assignment, by topic, or none if the bytes are no assignment.
#[must_use]
pub fn partitions(mut assignment: Bytes) -> Partitions {
    assigned(&mut assignment).unwrap_or_default()
}

/// The partitions of an assignment that says nothing more: none of no bytes, `None` of bytes that are no assignment or that
/// carry data for the assignor of those who understand it.
#[must_use]
pub fn only_partitions(mut assignment: Bytes) -> Option<Partitions> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let partitions = assigned(&mut assignment)?;
    (user_data(&mut assignment)? == 0).then_some(partitions)
}

/// What a subscription says that its member goes on reading; `None` if the bytes are no subscription.
#[must_use]
pub fn owned(mut metadata: Bytes) -> Option<Partitions> {
    let says = metadata.clone().try_get_i16().ok()? >= OWNED_FROM;
    read(&mut metadata)?;
    user_data(&mut metadata)?;
    if says { listed(&mut metadata) } else { Some(Vec::new()) }
}

/// An assignment in the version that every consumer understands.
#[must_use]
pub fn assignment(partitions: &[(&str, Vec<i32>)]) -> Bytes {
    let mut to = BytesMut::new();
    let count = |of: usize| i32::try_from(of).unwrap_or(i32::MAX);
    to.put_i16(0);
    to.put_i32(count(partitions.len()));
    for (name, indexes) in partitions {
        to.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
        to.put_slice(name.as_bytes());
        to.put_i32(count(indexes.len()));
        indexes.iter().for_each(|index| to.put_i32(*index));
    }
    to.put_i32(-1);
    to.freeze()
}

/// Skips what only assignors understand; gives its length.
fn user_data(from: &mut Bytes) -> Option<usize> {
    let length = usize::try_from(from.try_get_i32().ok()?.max(0)).ok()?;
    (length <= from.remaining()).then(|| from.advance(length))?;
    Some(length)
}

fn assigned(from: &mut Bytes) -> Option<Partitions> {
    from.try_get_i16().ok().filter(|version| *version >= 0)?;
    listed(from)
}

fn listed(from: &mut Bytes) -> Option<Partitions> {
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
        assert_eq!(only_partitions(assignment.into()), Some(vec![("t".to_owned(), vec![0, 7])]));
        assert_eq!(only_partitions(Bytes::new()), Some(Vec::new()));
        assert_eq!(only_partitions(Bytes::copy_from_slice(&hostile)), None);
        assert_eq!(
            only_partitions(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9])),
            None,
            "data of an assignor"
        );
    }

    #[test]
    fn what_is_written_is_read_and_what_is_owned_too() {
        let written = super::assignment(&[("t", vec![0, 7]), ("u", vec![])]);
        let read = vec![("t".to_owned(), vec![0, 7]), ("u".to_owned(), vec![])];
        assert_eq!(only_partitions(written.clone()), Some(read.clone()));
        let subscription = |version: u8| {
            let topics = [0, version, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 8, 9];
            [&topics[..], &written[2..written.len() - 4]].concat()
        };
        assert_eq!(owned(subscription(1).into()), Some(read));
        assert_eq!(owned(subscription(0).into()), Some(Vec::new()));
        for cut in 0..subscription(1).len() {
            assert_eq!(owned(Bytes::copy_from_slice(&subscription(1)[..cut])), None, "{cut}");
        }
    }
}
