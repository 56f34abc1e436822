//! What a folder remembers of its cluster besides the id: one row whose type the node chooses, written at the founding
//! or joining and read at every start.
//! Invariant: written and synced before anybody is told that it is.

use bytes::Bytes;
use model::GroupId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Engine, Op, Table};
use crate::{Error, RowKind, codec, keys};

const ROW_BYTES_MAX: usize = 1 << 20;

fn key() -> Bytes {
    keys::meta(RowKind::Identity, GroupId(0), b"roster")
}

/// The row, if there is one.
///
/// # Errors
/// `Decode`, or what the engine says.
pub fn read<T: DeserializeOwned>(engine: &dyn Engine) -> Result<Option<T>, Error> {
    engine.get(Table::Meta, &key())?.map(|row| codec::decode(&row, ROW_BYTES_MAX)).transpose()
}

/// Writes the row; it is durable when this returns.
///
/// # Errors
/// What the engine says.
pub fn write<T: Serialize>(engine: &dyn Engine, roster: &T) -> Result<(), Error> {
    engine.write(&[Op::Put { table: Table::Meta, key: key(), parts: vec![codec::encode(roster)] }], true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sim::SimDisk;

    #[test]
    fn survives_a_power_failure() {
        let disk = SimDisk::new(1);
        let engine = disk.open();
        assert_eq!(read::<String>(engine.as_ref()).unwrap(), None);
        write(engine.as_ref(), &"three founders").unwrap();
        disk.crash(0);
        assert_eq!(read::<String>(disk.open().as_ref()).unwrap().as_deref(), Some("three founders"));
    }
}
