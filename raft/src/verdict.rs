//! The verdict on a replica whose log differs from its leader's (equal log ids, other bytes) or is damaged. It is stored, and the
//! replica takes no part any more, also after a restart: it neither votes nor serves, and nothing is purged.
//! Invariant: only destroying the replica takes a verdict back.

use bytes::Bytes;
use model::GroupId;
use storage::{Reader, Row, RowKind, Writer};

use crate::log_store::unwatched;
use crate::wire::Seal;

/// What was found, in words for the operator.
pub(crate) fn words(here: Seal, told: Seal) -> String {
    let Seal { index, digest } = here;
    format!(
        "its log differs from its leader's at entry {index} or before (digest {digest:016x}, not {:016x})",
        told.digest
    )
}

/// Stores a verdict, behind all that was written before.
pub(crate) fn store(writer: &Writer, group: GroupId, verdict: &str) {
    tracing::error!(%group, verdict, "a replica is quarantined");
    let value = Some(Bytes::copy_from_slice(verdict.as_bytes()));
    writer.put(vec![Row { group, kind: RowKind::Verdict, suffix: Bytes::new(), value }], unwatched());
}

/// The stored verdict. May block on the device.
///
/// # Errors
/// What the engine says.
pub(crate) fn read(reader: &Reader, group: GroupId) -> Result<Option<String>, storage::Error> {
    let row = reader.row(group, RowKind::Verdict)?;
    Ok(row.map(|words| String::from_utf8_lossy(&words).into_owned()))
}
