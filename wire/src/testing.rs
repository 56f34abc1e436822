//! Tests only: the seeds of the fuzz targets, which are what the tests make today.

use std::path::{Path, PathBuf};

/// Compares a stored seed; `REWRITE=1` writes it anew.
pub(crate) fn check_seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let path: PathBuf = folder.join(name);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; REWRITE=1", path.display()));
    assert_eq!(stored, bytes, "{}; REWRITE=1", path.display());
}
