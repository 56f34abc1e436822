//! Which replica the data of a group on this disk belongs to: one row, written before anything else of that replica.
//! Invariant: nothing of one replica is ever taken for another's. What an earlier one left is destroyed before a later one of the
//! same node begins; an earlier one never begins again.

use model::{GroupId, ReplicaId};
use storage::{Reader, Row, RowKind, Writer, codec};

use crate::Error;
use crate::log_store::{awaited, failed, unwatched};
use crate::types::{SMALL_BYTES_MAX, invalid};

/// The replica that a stored row ([`storage::RowKind::Local`]) names. For whoever reads a disk.
///
/// # Errors
/// Not a replica id.
pub fn owner(row: &[u8]) -> Result<ReplicaId, storage::Error> {
    codec::decode(row, SMALL_BYTES_MAX)
}

fn decode(value: &[u8]) -> std::io::Result<ReplicaId> {
    owner(value).map_err(|error| invalid("replica id", error))
}

/// The groups that a disk holds something of, and as which replica. May block on the device.
pub(crate) fn all(reader: &Reader) -> std::io::Result<Vec<(GroupId, ReplicaId)>> {
    let rows = reader.every_row(RowKind::Local).map_err(|error| failed(&error))?;
    rows.into_iter().map(|(group, value)| Ok((group, decode(&value)?))).collect()
}

fn read(reader: &Reader, group: GroupId) -> std::io::Result<Option<ReplicaId>> {
    let row = reader.row(group, RowKind::Local).map_err(|error| failed(&error))?;
    row.map(|value| decode(&value)).transpose()
}

fn stopped(group: GroupId) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Stopped { group, reason: error.to_string() }
}

async fn wipe(writer: &Writer, group: GroupId) -> Result<(), Error> {
    let (done, wait) = awaited();
    writer.destroy(group, done);
    wait.await.map_err(stopped(group))
}

/// Destroys what the group has on this disk, unless it is a later replica's than `replica`.
pub(crate) async fn destroy(writer: &Writer, reader: &Reader, group: GroupId, replica: ReplicaId) -> Result<(), Error> {
    match read(reader, group).map_err(stopped(group))? {
        Some(owner) if owner.revision() > replica.revision() => Ok(()),
        Some(_) | None => wipe(writer, group).await,
    }
}

/// Makes the group's data `replica`'s. Without a row it is that of the first replica here: earlier builds wrote none.
pub(crate) async fn claim(writer: &Writer, reader: &Reader, group: GroupId, replica: ReplicaId) -> Result<(), Error> {
    match read(reader, group).map_err(stopped(group))? {
        Some(owner) if owner == replica => return Ok(()),
        Some(owner) if owner.revision() > replica.revision() => return Err(Error::Superseded { group, by: owner }),
        None if replica.revision() == 1 => {}
        Some(_) | None => wipe(writer, group).await?,
    }
    let value = Some(codec::encode(&replica));
    writer.put(vec![Row { group, kind: RowKind::Local, suffix: bytes::Bytes::new(), value }], unwatched());
    Ok(())
}
