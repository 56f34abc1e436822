//! What the device and the file system under a store can do, and what they had better not do.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A device that reads further ahead than this holds commits up for milliseconds whenever somebody reads old records. Linux has
/// 128 KiB by default.
const READ_AHEAD_MAX: u64 = 1 << 20;

/// Whether the file system of this folder takes O_DIRECT (tmpfs and some overlays do not).
pub(super) fn takes_direct_io(path: &Path) -> bool {
    let probe = path.join("DIRECT_IO_PROBE");
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&probe);
    // Made by the line above, or not at all.
    drop(fs::remove_file(&probe));
    if let Err(error) = &opened {
        tracing::warn!(path = %path.display(), %error, "no direct i/o on this file system: flushes go through the page cache, at about half the speed");
    }
    opened.is_ok()
}

/// Warns of a device whose read-ahead is not meant for a store that reads and commits at once.
pub(super) fn warn_of_read_ahead(path: &Path) {
    if let Some((setting, bytes)) = read_ahead(path).filter(|(_, bytes)| *bytes > READ_AHEAD_MAX) {
        tracing::warn!(
            path = %path.display(),
            kib = bytes >> 10,
            setting,
            "this device reads far ahead: who reads old records holds commits up; write 256 to the setting"
        );
    }
}

/// Where the kernel has the read-ahead of the device below this folder, and what it is, bytes. `None` where there is none, such as
/// on tmpfs.
fn read_ahead(path: &Path) -> Option<(String, u64)> {
    let device = fs::metadata(path).ok()?.dev();
    let device = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has none of its own, its disk is the folder above.
    ["queue", "../queue"].iter().find_map(|queue| {
        let setting = fs::canonicalize(format!("{device}/{queue}/read_ahead_kb")).ok()?;
        let kib: u64 = fs::read_to_string(&setting).ok()?.trim().parse().ok()?;
        Some((setting.display().to_string(), kib << 10))
    })
}
