//! Whose folder this is and in which format: one row, written when the folder is new, checked at every start.
//! Invariants: a folder of another node, another cluster or a newer format is refused before anything is changed; one that
//! was condemned is refused for ever.

use bytes::Bytes;
use model::{GroupId, NodeId, StoreId};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Op, Table};
use crate::{Error, RowKind, codec, keys};

/// The newest format of a data folder that this program reads and the one it writes.
pub const FORMAT: u32 = 1;

const ROW_BYTES_MAX: usize = 4096;

/// Who opens a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node's configured id.
    pub node: NodeId,
    /// The cluster it is configured for or already a member of; `None` while it does not know.
    pub cluster: Option<String>,
}

/// What a folder says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of keys and values in this folder.
    pub format: u32,
    /// Random, one per folder: a wiped disk has another.
    pub store: StoreId,
    /// The node it was made for.
    pub node: NodeId,
    /// The cluster it belongs to, once known.
    pub cluster: Option<String>,
}

/// Reads what an opened folder says of itself; `None` when it is new. The format is checked first, so that a newer
/// layout of the rest is never misread.
///
/// # Errors
/// `NewerFormat`, `Decode`, or what the engine says.
pub fn read(engine: &dyn Engine) -> Result<Option<Identity>, Error> {
    let Some(row) = engine.get(Table::Meta, &key())? else { return Ok(None) };
    let (format, identity) = match row.split_at_checked(4) {
        Some((format, identity)) => (u32::from_be_bytes([format[0], format[1], format[2], format[3]]), identity),
        None => return Err(Error::Corrupt(format!("identity row of {} bytes", row.len()))),
    };
    if format > FORMAT {
        return Err(Error::NewerFormat { found: format, known: FORMAT });
    }
    codec::decode(identity, ROW_BYTES_MAX).map(Some)
}

/// Checks that the folder is the owner's; a new folder becomes the owner's with `fresh` (random) as its store id, a
/// folder without a cluster takes the owner's. Call it before `open` and before anything else is written.
///
/// # Errors
/// `Foreign`, `NewerFormat`, `Corrupt` when it was condemned, or what the engine says. Nothing is changed on an error.
pub fn claim(engine: &dyn Engine, owner: &Owner, fresh: StoreId) -> Result<Identity, Error> {
    if let Some(words) = engine.get(Table::Meta, &verdict_key())? {
        return Err(Error::Corrupt(String::from_utf8_lossy(&words).into_owned()));
    }
    let mut identity = match read(engine)? {
        Some(identity) => identity,
        None => {
            let identity = Identity { format: FORMAT, store: fresh, node: owner.node, cluster: owner.cluster.clone() };
            write(engine, &identity)?;
            return Ok(identity);
        }
    };
    let same_cluster = match (&identity.cluster, &owner.cluster) {
        (Some(found), Some(expected)) => found == expected,
        _ => true,
    };
    if identity.node != owner.node || !same_cluster {
        return Err(Error::Foreign {
            found: describe(identity.node, identity.cluster.as_deref()),
            expected: describe(owner.node, owner.cluster.as_deref()),
        });
    }
    if identity.cluster.is_none() && owner.cluster.is_some() {
        identity.cluster.clone_from(&owner.cluster);
        write(engine, &identity)?;
    }
    Ok(identity)
}

/// The folder must not be used any more, and `words` say why: it is an old copy of itself, say. Nothing is deleted.
///
/// # Errors
/// What the engine says.
pub fn condemn(engine: &dyn Engine, words: &str) -> Result<(), Error> {
    let parts = vec![Bytes::copy_from_slice(words.as_bytes())];
    engine.write(&[Op::Put { table: Table::Meta, key: verdict_key(), parts }], true)
}

/// Notes that the node stops in order: all that was written here is on disk. Nothing may be under way any more.
///
/// # Errors
/// What the engine says.
pub fn leave(engine: &dyn Engine) -> Result<(), Error> {
    engine.write(&[Op::Put { table: Table::Meta, key: left_key(), parts: Vec::new() }], true)
}

/// Whether the node before stopped in order. Asked once: the note is gone when this returns, since it says nothing of what comes.
///
/// # Errors
/// What the engine says.
pub fn take_left(engine: &dyn Engine) -> Result<bool, Error> {
    let left = engine.get(Table::Meta, &left_key())?.is_some();
    if left {
        engine.write(&[Op::Delete { table: Table::Meta, key: left_key() }], true)?;
    }
    Ok(left)
}

fn describe(node: NodeId, cluster: Option<&str>) -> String {
    match cluster {
        Some(cluster) => format!("node {node} of cluster {cluster}"),
        None => format!("node {node} of no cluster yet"),
    }
}

fn key() -> Bytes {
    keys::meta(RowKind::Identity, GroupId(0), &[])
}

fn left_key() -> Bytes {
    keys::meta(RowKind::Identity, GroupId(0), b"left")
}

fn verdict_key() -> Bytes {
    keys::meta(RowKind::Identity, GroupId(0), b"verdict")
}

fn write(engine: &dyn Engine, identity: &Identity) -> Result<(), Error> {
    let parts = vec![Bytes::copy_from_slice(&identity.format.to_be_bytes()), codec::encode(identity)];
    engine.write(&[Op::Put { table: Table::Meta, key: key(), parts }], true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sim::SimDisk;

    fn owner(node: u32, cluster: Option<&str>) -> Owner {
        Owner { node: NodeId(node), cluster: cluster.map(String::from) }
    }

    #[test]
    fn a_folder_is_claimed_once_and_keeps_its_store_id() {
        let disk = SimDisk::new(1);
        let first = claim(disk.open().as_ref(), &owner(1, None), StoreId(7)).unwrap();
        assert_eq!((first.store, first.node, first.cluster.clone()), (StoreId(7), NodeId(1), None));
        disk.crash(0);
        let again = claim(disk.open().as_ref(), &owner(1, Some("blue")), StoreId(8)).unwrap();
        assert_eq!((again.store, again.cluster.as_deref()), (StoreId(7), Some("blue")));
        assert_eq!(claim(disk.open().as_ref(), &owner(1, None), StoreId(9)).unwrap(), again);
    }

    #[test]
    fn that_a_folder_was_left_in_order_is_said_once() {
        let disk = SimDisk::new(1);
        assert!(!take_left(disk.open().as_ref()).unwrap());
        leave(disk.open().as_ref()).unwrap();
        disk.crash(0);
        assert!(take_left(disk.open().as_ref()).unwrap(), "it is durable");
        disk.crash(0);
        assert!(!take_left(disk.open().as_ref()).unwrap(), "and so is that it was taken");
    }

    #[test]
    fn a_foreign_folder_is_refused_in_clear_words() {
        let disk = SimDisk::new(1);
        let engine = disk.open();
        claim(engine.as_ref(), &owner(1, Some("blue")), StoreId(7)).unwrap();
        let other_node = claim(engine.as_ref(), &owner(2, Some("blue")), StoreId(8)).unwrap_err();
        assert!(matches!(other_node, Error::Foreign { .. }));
        let other_cluster = claim(engine.as_ref(), &owner(1, Some("red")), StoreId(8)).unwrap_err();
        let words = "belongs to node 1 of cluster blue, this is node 1 of cluster red";
        assert!(other_cluster.to_string().contains(words), "{other_cluster}");
    }

    #[test]
    fn a_condemned_folder_is_refused_for_ever() {
        let disk = SimDisk::new(1);
        let engine = disk.open();
        claim(engine.as_ref(), &owner(1, None), StoreId(7)).unwrap();
        condemn(engine.as_ref(), "an old copy").unwrap();
        disk.crash(0);
        let refused = claim(disk.open().as_ref(), &owner(1, None), StoreId(8)).unwrap_err();
        assert!(matches!(&refused, Error::Corrupt(words) if words == "an old copy"), "{refused}");
    }

    #[test]
    fn a_newer_format_is_refused_whatever_follows_it() {
        let disk = SimDisk::new(1);
        let engine = disk.open();
        let parts = vec![Bytes::copy_from_slice(&(FORMAT + 1).to_be_bytes()), Bytes::from_static(b"unknown")];
        engine.write(&[Op::Put { table: Table::Meta, key: key(), parts }], true).unwrap();
        let refused = claim(engine.as_ref(), &owner(1, None), StoreId(7)).unwrap_err();
        assert!(matches!(refused, Error::NewerFormat { found, known } if found == FORMAT + 1 && known == FORMAT));
    }
}
