//! How far the store was durable, in a file beside RocksDB's own, which is also the lock of the folder. RocksDB takes a
//! damaged record in its write-ahead log for the torn end of it and drops all that follows; the number tells them apart.
//! Invariant: the number is never above what a sync has confirmed. It is not synced itself: after a power failure it may
//! be older (it then proves less), after the death of the process alone it is exact.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

const NAME: &str = "SYNCED";
const BYTES: usize = 12;

/// The file: sequence number u64, crc32c of it u32, little endian.
pub(super) struct Synced {
    file: File,
    /// What the file says; 0 for a torn or new one, which proves nothing.
    reached: AtomicU64,
}

impl Synced {
    /// Takes the folder until this is dropped. RocksDB has a lock too, but moves and deletes files before it takes it.
    ///
    /// # Errors
    /// `Locked`, `Io`.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(folder.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut bytes = [0; BYTES];
        let confirmed = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| decode(&bytes)).unwrap_or(0);
        Ok(Synced { file, reached: AtomicU64::new(confirmed) })
    }

    /// Compares with the newest sequence number that RocksDB recovered.
    ///
    /// # Errors
    /// `Corrupt` when confirmed writes are missing.
    pub(super) fn check(&self, recovered: u64) -> Result<(), Error> {
        let confirmed = self.reached();
        if recovered >= confirmed {
            return Ok(());
        }
        Err(Error::Corrupt(format!(
            "the write-ahead log ends at {recovered}, but {confirmed} was confirmed: \
             set this folder aside and let the node be rebuilt from its peers"
        )))
    }

    /// Everything up to this sequence number is durable.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Notes that everything up to this sequence number is durable.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn note(&self, sequence: u64) -> Result<(), Error> {
        self.reached.fetch_max(sequence, Ordering::AcqRel);
        self.file.write_all_at(&encode(sequence), 0).map_err(|error| Error::Io(format!("{NAME}: {error}")))
    }
}

/// Whether some process has the folder.
pub(super) fn is_open(folder: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(folder.join(NAME));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
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
