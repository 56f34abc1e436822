//! S2: a committed entry never changes: a replica that takes it for committed writes the same term and the same bytes, and
//! machines that applied the same index have the same digest. From the Raft paper's Leader Completeness and State Machine
//! Safety; it is what found openraft's leader restore (reference/simulation.md section 2.4). Reads disks, believes no node.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::GroupId;

/// An entry as a disk holds it: term and stored bytes.
pub type Copy = (u64, Bytes);

/// Every entry ever seen committed.
#[derive(Default)]
pub struct CommittedStays {
    entries: BTreeMap<GroupId, BTreeMap<u64, Copy>>,
    digests: BTreeMap<(GroupId, u64), (u32, u64)>,
}

impl CommittedStays {
    /// Whether the entry was seen committed before.
    pub fn knows(&self, group: GroupId, index: u64) -> bool {
        self.entries.get(&group).is_some_and(|entries| entries.contains_key(&index))
    }

    /// The entry is committed, with these bytes.
    pub fn commit(&mut self, group: GroupId, index: u64, copy: Copy) {
        self.entries.entry(group).or_default().insert(index, copy);
    }

    /// What is committed in `group`, in order.
    pub fn entries(&self, group: GroupId) -> impl Iterator<Item = (u64, &Copy)> {
        self.entries.get(&group).into_iter().flatten().map(|(index, copy)| (*index, copy))
    }

    /// Compares what `node` holds at a committed index.
    pub fn compare(&self, group: GroupId, index: u64, node: u32, held: &Copy) -> Option<String> {
        let committed = self.entries.get(&group)?.get(&index)?;
        (held != committed).then(|| {
            format!(
                "entry {index} of group {group} was committed {}, node {node} holds {}",
                words(committed),
                words(held)
            )
        })
    }

    /// Compares the digest of `node`'s machine at an applied index with those seen before.
    pub fn digest(&mut self, group: GroupId, applied: u64, node: u32, digest: u64) -> Option<String> {
        let (first, seen) = *self.digests.entry((group, applied)).or_insert((node, digest));
        (seen != digest).then(|| {
            format!(
                "at entry {applied} of group {group} node {first} has digest {seen:016x}, node {node} {digest:016x}"
            )
        })
    }
}

fn words((term, bytes): &Copy) -> String {
    format!("in term {term} with {} bytes of crc {:08x}", bytes.len(), crc32c::crc32c(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(3);

    #[test]
    fn another_payload_or_term_at_a_committed_index_is_seen() {
        let mut checker = CommittedStays::default();
        let bytes = Bytes::from_static(b"kept");
        checker.commit(GROUP, 5, (2, bytes.clone()));
        assert_eq!(checker.compare(GROUP, 5, 1, &(2, bytes.clone())), None);
        assert!(checker.compare(GROUP, 5, 1, &(2, Bytes::from_static(b"lost"))).is_some());
        assert!(checker.compare(GROUP, 5, 1, &(3, bytes)).is_some());
    }

    #[test]
    fn machines_that_differ_are_seen() {
        let mut checker = CommittedStays::default();
        assert_eq!(checker.digest(GROUP, 7, 1, 42), None);
        assert_eq!(checker.digest(GROUP, 7, 2, 42), None);
        assert!(checker.digest(GROUP, 7, 3, 43).is_some());
    }
}
