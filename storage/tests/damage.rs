//! RocksDB on a disk that lies or is full: flipped bits and cut files are errors and never other data, a full device
//! closes the committer with clear words and loses nothing that was confirmed.
#![cfg(feature = "rocks")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use storage::engine::rocks::wait_closed;
use storage::{Error, Options, Reader, Writer};
use support::rocks::{CLOSED_WITHIN, RocksDisk, open, try_open};
use support::{GROUP, append, entries};

fn start(folder: &Path) -> Result<(Writer, Reader), Error> {
    storage::open(try_open(folder)?, Options { tail_bytes: 0, ..Options::default() })
}

/// A folder with 60 entries of 10 kB in files, closed.
async fn written() -> RocksDisk {
    let disk = RocksDisk::new();
    let engine = disk.engine();
    let (writer, reader) = storage::open(engine.clone(), Options::default()).expect("open");
    append(&writer, GROUP, entries(1..=60, 1, 10_000)).await.expect("append");
    engine.flush().expect("flush");
    drop((writer, reader, engine));
    // Opened once more, so that nothing holds it any longer.
    drop(disk.engine());
    disk
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).expect("folder").map(|file| file.expect("file").path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|found| found == end)).collect();
    found.sort();
    found
}

/// What is read after a damage must be what was written, as far as there is no error.
async fn outcome(folder: &Path) -> Result<usize, Error> {
    let (_writer, reader) = start(folder)?;
    let mut sound = 0;
    for index in 1..=60 {
        for found in reader.entries(GROUP, index, index + 1, usize::MAX).await? {
            assert_eq!(found, support::entry(index, 1, 10_000), "damaged bytes were served");
            sound += 1;
        }
    }
    Ok(sound)
}

#[tokio::test]
async fn flipped_bits_in_files_are_errors() {
    for end in ["blob", "sst"] {
        let disk = written().await;
        let files = files(disk.folder.path(), end);
        assert!(!files.is_empty(), "no {end} files");
        for path in files {
            let sound = std::fs::read(&path).expect("read");
            let mut damaged = sound.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x10;
            std::fs::write(&path, &damaged).expect("write");
            let result = outcome(disk.folder.path()).await;
            // A flip in padding or in a table of rows is not met by these reads: then all must be there.
            assert!(matches!(result, Err(Error::Corrupt(_)) | Ok(60)), "{}: {result:?}", path.display());
            assert!(end == "sst" || result.is_err(), "{}: a flip in a value went unseen", path.display());
            std::fs::write(&path, &sound).expect("restore");
            drop(open(disk.folder.path()));
        }
        assert_eq!(outcome(disk.folder.path()).await.expect("restored"), 60);
    }
}

#[tokio::test]
async fn cut_and_missing_files_are_errors() {
    for cut in [true, false] {
        let disk = written().await;
        let path = files(disk.folder.path(), "blob").pop().expect("a blob file");
        match cut {
            true => {
                let file = std::fs::OpenOptions::new().write(true).open(&path).expect("open");
                file.set_len(file.metadata().expect("metadata").len() / 2).expect("cut");
            }
            false => std::fs::remove_file(&path).expect("remove"),
        }
        let result = outcome(disk.folder.path()).await;
        assert!(matches!(result, Err(Error::Corrupt(_) | Error::Io(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_write_ahead_log_is_an_error() {
    let disk = RocksDisk::new();
    let (writer, reader) = start(disk.folder.path()).expect("open");
    for index in 1..=40 {
        append(&writer, GROUP, entries(index..=index, 1, 10_000)).await.expect("append");
    }
    let wal = files(disk.folder.path(), "log").pop().expect("a write-ahead log");
    // The folder as it is now, as if the process had died here.
    let image = tempfile::tempdir().expect("folder");
    for file in std::fs::read_dir(disk.folder.path()).expect("folder").map(|file| file.expect("file")) {
        std::fs::copy(file.path(), image.path().join(file.file_name())).expect("copy");
    }
    drop((writer, reader));
    let wal = image.path().join(wal.file_name().expect("name"));
    let mut bytes = std::fs::read(&wal).expect("read");
    bytes[200_000] ^= 1;
    std::fs::write(&wal, &bytes).expect("write");
    let refused = outcome(image.path()).await;
    assert!(matches!(&refused, Err(Error::Corrupt(why)) if why.contains("was confirmed")), "{refused:?}");
    let again = outcome(image.path()).await;
    assert!(again.is_err(), "the first start must not have made the loss look right: {again:?}");
}

/// A device of 24 MiB.
struct SmallDevice {
    folder: tempfile::TempDir,
}

impl SmallDevice {
    /// `None`, said aloud, where mounting is not allowed.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(folder.path()).status();
        if mounted.as_ref().is_ok_and(|status| status.success()) {
            return Some(SmallDevice { folder });
        }
        println!("skipped: cannot mount a small device here ({mounted:?})");
        None
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Drop for SmallDevice {
    fn drop(&mut self) {
        let is_closed = wait_closed(&self.store(), CLOSED_WITHIN);
        assert!(is_closed || std::thread::panicking(), "the test left its store open");
        // Lazily: a test that failed may have left it open.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small device stays mounted");
    }
}

#[tokio::test]
async fn a_full_device_closes_the_committer_and_loses_nothing() {
    let Some(device) = SmallDevice::new() else { return };
    let ballast = device.folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).expect("ballast");
    let store = device.store();
    let (writer, reader) = start(&store).expect("open");
    let mut confirmed = 0;
    let closed = loop {
        match append(&writer, GROUP, entries(confirmed + 1..=confirmed + 1, 1, 50_000)).await {
            Ok(()) => confirmed += 1,
            Err(closed) => break closed,
        }
        assert!(confirmed < 1_000, "50 MB fit into 24");
    };
    assert!(closed.why.contains("no space left"), "{closed}");
    let still_readable = reader.entries(GROUP, 1, confirmed + 1, usize::MAX).await.expect("reads go on");
    assert_eq!(still_readable.len() as u64, confirmed);
    drop((writer, reader, still_readable));
    std::fs::remove_file(ballast).expect("make room");
    drop(open(&store));
    let (writer, reader) = start(&store).expect("open again");
    let (last, _) = reader.last(GROUP).expect("last").expect("entries");
    assert!(last >= confirmed, "{last} of {confirmed} confirmed entries came back");
    append(&writer, GROUP, entries(last + 1..=last + 1, 1, 50_000)).await.expect("writes go on");
}
