//! How far the store was durable, in a file beside RocksDB's own. RocksDB takes a damaged record in its write-ahead log
//! for the torn end of it and drops all that follows; this file tells the two apart.
//! Invariant: the number in it is never above what a sync has confirmed. It is not synced itself: after a power failure
//! it may be older (it then proves less), after the death of the process alone it is exact.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;

const NAME: &str = "SYNCED";
const BYTES: usize = 12;

/// The file: sequence number u64, crc32c of it u32, little endian.
pub(super) struct Synced {
    file: File,
}

impl Synced {
    /// Opens the file and compares it with the newest sequence number that RocksDB recovered.
    ///
    /// # Errors
    /// `Corrupt` when confirmed writes are missing. A torn or absent file proves nothing.
    pub(super) fn open(folder: &Path, recovered: u64) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        let mut bytes = [0; BYTES];
        let confirmed = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes).unwrap_or(0),
            Err(_) => 0,
        };
        if recovered < confirmed {
            return Err(Error::Corrupt(format!(
                "the write-ahead log ends at {recovered}, but {confirmed} was confirmed: \
                 set this folder aside and let the node be rebuilt from its peers"
            )));
        }
        Ok(Synced { file })
    }

    /// Notes that everything up to this sequence number is durable.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn note(&self, sequence: u64) -> Result<(), Error> {
        self.file.write_all_at(&encode(sequence), 0).map_err(|error| Error::Io(format!("{NAME}: {error}")))
    }
}

fn encode(sequence: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32c::crc32c(&sequence.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Option<u64> {
    let sequence = u64::from_le_bytes(*bytes.first_chunk()?);
    (encode(sequence) == *bytes).then_some(sequence)
}
